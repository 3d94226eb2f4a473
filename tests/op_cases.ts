// Samples of the op test table as runs: inputs, outputs and gradients of kernel ops and views. Used by ops_test.ts and
// by the conformance table.

import * as ndl from "../mod.ts";
import { call, makeView } from "../lib/dispatch.ts";
import type { Device } from "../lib/device.ts";
import { type DType, isFloat } from "../lib/dtype.ts";
import { ops } from "../lib/ops/mod.ts";
import type { AnyOp, KernelOp, TypedKernelOp, ViewOp } from "../lib/ops/op.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import type { OpSample } from "./samples/sample.ts";
import { assertClose, type LayoutName, place, seeded, tolerance, valuesOf } from "./harness.ts";

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

/** Throws unless dtype, shape and elements of `got` are those of `want`. */
export function compare(got: Tensor, want: Tensor, slack: number, what: string): void {
  if (got.dtype !== want.dtype) {
    throw new Error(`${what}: dtype ${got.dtype} instead of ${want.dtype}`);
  }
  if (String(got.shape) !== String(want.shape)) {
    throw new Error(`${what}: shape [${got.shape}] instead of [${want.shape}]`);
  }
  const expected = want.toTypedArray();
  assertClose(got.toTypedArray(), expected, tolerance(got.dtype, slack), what, magnitude(expected));
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
