// Samples of the op test table as runs: inputs, outputs and gradients of kernel ops and views. Used by ops_test.ts and
// by the conformance table.

import * as ndl from "../mod.ts";
import { call, makeView } from "../lib/dispatch.ts";
import type { Device } from "../lib/device.ts";
import { type DType, isFloat, type TypedArray } from "../lib/dtype.ts";
import { ops } from "../lib/ops/mod.ts";
import type { AnyOp, KernelOp, TypedKernelOp, ViewOp } from "../lib/ops/op.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import type { OpSample } from "./samples/sample.ts";
import {
  assertClose,
  type LayoutName,
  layouts,
  place,
  seeded,
  seedOf,
  tolerance,
  valuesOf,
} from "./harness.ts";

/** The declaration of a kernel op or view. */
export function opOf(name: string): KernelOp | ViewOp<unknown> {
  return (ops as unknown as Record<string, AnyOp>)[name] as KernelOp | ViewOp<unknown>;
}

/** The inputs of a sample, drawn from the stream of `seed`. */
export function inputsOf(
  sample: OpSample,
  dtype: DType,
  device: Device,
  layout: LayoutName,
  seed: number,
): (Tensor | null)[] {
  const random = seeded(seed);
  return sample.inputs.map((spec) => {
    if (spec === null) return null;
    const own = spec.dtype ?? dtype;
    return place(valuesOf(spec, own, random), spec.shape, own, device, layout);
  });
}

/** The outputs of `op` on `inputs`. */
export function runSample(
  op: KernelOp | ViewOp<unknown>,
  inputs: readonly (Tensor | null)[],
  sample: OpSample,
  device: Device,
): Tensor[] {
  if (op.kind === "view") return [makeView(op, inputs[0]!, sample.attrs)];
  return call(op as TypedKernelOp<unknown>, inputs, sample.attrs, device);
}

/** The inputs that gradients are asked for. */
export function leaves(
  op: KernelOp | ViewOp<unknown>,
  sample: OpSample,
  inputs: readonly (Tensor | null)[],
): Tensor[] {
  if (op.kind === "kernel" && op.vjp === "nondifferentiable") return [];
  return inputs.filter((t, i): t is Tensor =>
    t !== null && isFloat(t.dtype) && sample.inputs[i]!.dtype === undefined &&
    sample.inputs[i]!.grad !== false
  );
}

function magnitude(values: ArrayLike<number | bigint>): number {
  let m = 1;
  for (let i = 0; i < values.length; i++) {
    const v = Math.abs(Number(values[i]));
    if (v > m && v < Infinity) m = v;
  }
  return m;
}

/** What a tensor must be. */
interface Expected {
  readonly dtype: DType;
  readonly shape: string;
  readonly values: TypedArray;
  readonly magnitude: number;
}

function expectedOf(t: Tensor): Expected {
  const values = t.toTypedArray();
  return { dtype: t.dtype, shape: String(t.shape), values, magnitude: magnitude(values) };
}

function check(got: Tensor, want: Expected, slack: number, what: string): void {
  if (got.dtype !== want.dtype) {
    throw new Error(`${what}: dtype ${got.dtype} instead of ${want.dtype}`);
  }
  if (String(got.shape) !== want.shape) {
    throw new Error(`${what}: shape [${got.shape}] instead of [${want.shape}]`);
  }
  const bounds = tolerance(got.dtype, slack);
  assertClose(got.toTypedArray(), want.values, bounds, what, want.magnitude);
}

/** Throws unless dtype, shape and elements of `got` are those of `want`. */
export function compare(got: Tensor, want: Tensor, slack: number, what: string): void {
  check(got, expectedOf(want), slack, what);
}

/** Gradients with a fixed cotangent, so that errors cannot cancel in a plain sum. */
export function gradients(
  ys: readonly Tensor[],
  xs: readonly Tensor[],
  seed: number,
): (Tensor | null)[] {
  const used = ys.filter((y) => y.requiresGrad);
  if (used.length === 0) return [];
  const random = seeded(seed + 1);
  const gradOutputs = used.map((y) =>
    ndl.tensor(Float64Array.from({ length: y.numel() }, () => 2 * random() - 1), {
      shape: y.shape,
      dtype: y.dtype,
      device: y.device,
    })
  );
  return ndl.grad(used, xs, { gradOutputs, allowUnused: true });
}

/** Results of a sample: outputs, inputs after the op wrote some of them, and gradients. */
interface Results {
  readonly outputs: readonly Tensor[];
  readonly written: readonly Tensor[];
  readonly gradients: readonly (Tensor | null)[];
}

function resultsOf(
  name: string,
  sample: OpSample,
  dtype: DType,
  device: Device,
  layout: LayoutName,
  seed: number,
): Results {
  const op = opOf(name);
  const inputs = inputsOf(sample, dtype, device, layout, seed);
  const free = leaves(op, sample, inputs);
  for (const t of free) t.requiresGrad_();
  const outputs = runSample(op, inputs, sample, device);
  const mutates = op.kind === "kernel" ? op.mutates : [];
  const written = mutates.map((m) => inputs[(op as KernelOp).inputs.indexOf(m)]!);
  return { outputs, written, gradients: gradients(outputs, free, seed) };
}

/** Of each sample in each dtype, the reference's results on contiguous inputs: every device and layout needs them. */
const known = new Map<string, Record<keyof Results, readonly (Expected | null)[]>>();

/**
 * Throws unless `device` computes every sample of an op as the reference does on contiguous inputs, in all memory
 * layouts: outputs, inputs written in place, gradients. On the reference itself, large samples are left out.
 *
 * @param guarded runs a function with guarded memory
 */
export function agreesWithReference(
  name: string,
  rows: readonly OpSample[],
  device: Device,
  guarded: (fn: () => void) => void,
): void {
  rows.forEach((sample, row) => {
    if (sample.large && device.name === "reference") return;
    for (const dtype of sample.dtypes ?? ["float32", "float64"]) {
      const label = `${name} sample ${row} ${dtype}`, seed = seedOf(label);
      let expected = known.get(label);
      if (expected === undefined) {
        const on = ndl.reference();
        const { outputs, written, gradients } = resultsOf(
          name,
          sample,
          dtype,
          on,
          "contiguous",
          seed,
        );
        expected = {
          outputs: outputs.map(expectedOf),
          written: written.map(expectedOf),
          gradients: gradients.map((g) => g && expectedOf(g)),
        };
        known.set(label, expected);
      }
      for (const layout of sample.large ? (["contiguous", "channelsLast"] as const) : layouts) {
        const slack = 4 * (sample.slack ?? 1);
        guarded(() => {
          const got = resultsOf(name, sample, dtype, device, layout, seed);
          for (const part of ["outputs", "written", "gradients"] as const) {
            got[part].forEach((t, i) => {
              const want = expected[part][i] ?? null;
              const what = `${label} ${layout} seed ${seed} ${part} ${i}`;
              if ((t === null) !== (want === null)) throw new Error(`${what}: one is missing`);
              if (t !== null) check(t, want!, part === "gradients" ? 2 * slack : slack, what);
            });
          }
        });
      }
    }
  });
}
