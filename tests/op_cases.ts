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

/**
 * Throws unless `device` computes every sample of an op as the reference does, in all memory layouts: outputs, inputs
 * written in place, gradients.
 *
 * @param guarded runs a function with guarded memory
 * @param derivatives whether gradients are compared too
 */
export function agreesWithReference(
  name: string,
  rows: readonly OpSample[],
  device: Device,
  guarded: (fn: () => void) => void,
  derivatives = true,
): void {
  const op = opOf(name);
  rows.forEach((sample, row) => {
    for (const dtype of sample.dtypes ?? ["float32", "float64"]) {
      for (const layout of sample.large ? (["contiguous", "channelsLast"] as const) : layouts) {
        const seed = seedOf(`${name} ${row} ${dtype} ${layout}`);
        const what = `${name} sample ${row} ${dtype} ${layout} seed ${seed}`;
        const slack = 4 * (sample.slack ?? 1);
        guarded(() => {
          const reference = ndl.reference();
          const mine = inputsOf(sample, dtype, device, layout, seed);
          const theirs = inputsOf(sample, dtype, reference, layout, seed);
          const free = leaves(op, sample, mine), other = leaves(op, sample, theirs);
          for (const t of [...free, ...other]) t.requiresGrad_();
          const got = runSample(op, mine, sample, device),
            want = runSample(op, theirs, sample, reference);
          got.forEach((y, i) => compare(y, want[i]!, slack, `${what} output ${i}`));
          if (op.kind === "kernel") {
            for (const m of op.mutates) {
              const i = op.inputs.indexOf(m);
              compare(mine[i]!, theirs[i]!, slack, `${what} ${m}`);
            }
          }
          if (!derivatives) return;
          const g = gradients(got, free, seed), h = gradients(want, other, seed);
          g.forEach((t, i) => {
            if ((t === null) !== (h[i] === null)) {
              throw new Error(`${what}: one gradient ${i} is missing`);
            }
            if (t !== null) compare(t, h[i]!, 2 * slack, `${what} gradient ${i}`);
          });
        });
      }
    }
  });
}
