// Reads golden/nn.json: modules and tensors from their descriptions, which golden/make_nn.py reads in the same way.

import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import type { Tensor } from "../lib/tensor/mod.ts";

/** A shape and its elements in row-major order; what JSON cannot say stands as text. */
export interface Golden {
  readonly shape: number[];
  readonly values: (number | string)[];
}

/** A tensor given by its elements, or by a seed and a kind. */
export type TensorText =
  | Golden & { readonly dtype: DType; readonly grad: boolean }
  | { readonly shape: number[]; readonly seed: number; readonly kind: Kind };

type Kind = "wide" | "positive" | "unit";

/** A module of nn: its class and what it is constructed with. */
export interface ModuleText {
  readonly module: string;
  readonly args: unknown[];
  readonly options: Record<string, unknown>;
}

/** A module that was run. */
export interface Case extends ModuleText {
  readonly training: boolean;
  readonly steps: number;
  readonly state: Record<string, TensorText>;
  readonly inputs: TensorText[];
  readonly parameters: string[];
  readonly output: Golden;
  readonly grads: (Golden | null)[];
  readonly buffers: Record<string, Golden>;
}

interface Statistics {
  readonly shape: number[];
  readonly mean: number;
  readonly std: number;
  readonly max: number;
}

interface GoldenFile {
  readonly cases: Case[];
  readonly initial: (ModuleText & { readonly parameters: Record<string, Statistics> })[];
  readonly inits: Record<string, Statistics>;
  readonly clips: {
    readonly name: string;
    readonly value: number;
    readonly options: Record<string, number | string>;
    readonly total: number | null;
    readonly grads: Golden[];
  }[];
}

/** What PyTorch answered. */
export const golden: GoldenFile = JSON.parse(
  Deno.readTextFileSync(new URL("golden/nn.json", import.meta.url)),
);

/** Elements as numbers. */
export function numbers(values: readonly (number | string)[]): number[] {
  return values.map(Number);
}

/** Numbers that float32 holds exactly; the same as in make_nn.py. */
export function floats(shape: readonly number[], seed: number, kind: Kind): Float32Array {
  const length = shape.reduce((n, s) => n * s, 1);
  return Float32Array.from({ length }, (_, i) => {
    const k = (i * 7919 + seed * 5557) % 199 - 99;
    return kind === "wide" ? k / 64 : kind === "unit" ? (k + 100) / 256 : Math.abs(k) / 64 + 0.5;
  });
}

/** The tensor of a description. */
export function makeTensor(text: TensorText, device: Device): Tensor {
  const { shape } = text;
  if (!("values" in text)) {
    return ndl.tensor(floats(shape, text.seed, text.kind), { shape, device });
  }
  return ndl.tensor(Float64Array.from(numbers(text.values)), { shape, dtype: text.dtype, device });
}

/** Any module of the library, as a test calls it. */
export type TestModule = ndl.nn.Module<Tensor[], Tensor>;

/** Constructor arguments and options with descriptions replaced by what they stand for. */
export function makeValue(value: unknown, device: Device): unknown {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  if ("module" in value) return makeModule(value as ModuleText, device);
  return makeTensor(value as TensorText, device);
}

/** The module of a description. */
export function makeModule(text: ModuleText, device: Device): TestModule {
  const classes = ndl.nn as unknown as Record<string, new (...args: unknown[]) => TestModule>;
  const args = text.args.map((v) => makeValue(v, device));
  const options = Object.entries(text.options).map(([k, v]) => [k, makeValue(v, device)]);
  if (options.length > 0) args.push(Object.fromEntries(options));
  return new classes[text.module]!(...args).to(device);
}
