// What make_rnn.py fills tensors with and how it shortens gradients, for the tests that compare with rnn.json.

import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import type { AnyModule } from "../lib/nn/module.ts";
import { numel, type Shape } from "../lib/shape.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose } from "./harness.ts";

/** Where and in which dtype a case runs. */
export interface Place {
  readonly device: Device;
  readonly dtype: DType;
}

/** What PyTorch computed. */
export interface Expected {
  readonly outputs: readonly { shape: number[]; values: number[] }[];
  readonly params: Readonly<Record<string, number>>;
  readonly inputs: readonly number[];
}

/** size sin(0.7 i + phase) at position i. */
export function wave(shape: Shape, phase: number, size: number, place: Place): Tensor {
  const values = Float64Array.from(
    { length: numel(shape) },
    (_, i) => size * Math.sin(0.7 * i + phase),
  );
  return ndl.tensor(values, { shape: [...shape], ...place });
}

/** A wave that gradients are asked for. */
export function leaf(shape: Shape, phase: number, size: number, place: Place): Tensor {
  return wave(shape, phase, size, place).requiresGrad_();
}

/** Fills each parameter with a wave of its own. */
export function fill(module: AnyModule, place: Place): void {
  ndl.noGrad(() => {
    [...module.parameters()].forEach((p, i) => p.copy_(wave(p.shape, i, 0.5, place)));
  });
}

function digest(g: Tensor): number {
  const values = g.toTypedArray();
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Number(values[i]) * Math.cos(i);
  return sum;
}

/** Throws unless outputs and gradients are those of PyTorch. */
export function check(
  what: string,
  expected: Expected,
  outputs: readonly Tensor[],
  module: AnyModule | null,
  inputs: readonly Tensor[],
): void {
  const float64 = outputs[0]!.dtype === "float64";
  // Stored with nine digits; float32 sums of tens of terms near 1.
  const tolerance = float64 ? { rtol: 1e-8, atol: 1e-8 } : { rtol: 1e-5, atol: 2e-5 };
  if (outputs.length !== expected.outputs.length) {
    throw new Error(`${what}: ${outputs.length} outputs instead of ${expected.outputs.length}`);
  }
  outputs.forEach((y, i) => {
    const { shape, values } = expected.outputs[i]!;
    if (String(y.shape) !== String(shape)) {
      throw new Error(`${what}: output ${i} has shape [${y.shape}] instead of [${shape}]`);
    }
    assertClose(y.toTypedArray(), values, tolerance, `${what}: output ${i}`);
  });
  const { device, dtype } = outputs[0]!;
  const losses = outputs.map((y, i) => y.mul(wave(y.shape, 10 + i, 1, { device, dtype })).sum());
  losses.reduce((a, b) => a.add(b)).backward();
  const params = module === null ? {} : Object.fromEntries(module.namedParameters());
  const names = Object.keys(expected.params);
  if (String(Object.keys(params)) !== String(names)) {
    throw new Error(`${what}: parameters ${Object.keys(params)} instead of ${names}`);
  }
  const wide = { rtol: 20 * tolerance.rtol, atol: 20 * tolerance.atol };
  for (const name of names) {
    const got = digest(params[name]!.grad!);
    assertClose([got], [expected.params[name]!], wide, `${what}: gradient of ${name}`);
  }
  inputs.forEach((x, i) => {
    assertClose([digest(x.grad!)], [expected.inputs[i]!], wide, `${what}: gradient of input ${i}`);
  });
}
