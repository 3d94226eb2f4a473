// Rows of the elementwise test table as runs: operands and results. Used by elementwise_test.ts and by the conformance
// table.

import { binary, ternary, unary } from "../lib/dispatch.ts";
import type { Operand } from "../lib/backend.ts";
import type { Device } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import type { ElementwiseOp } from "../lib/ops/op.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import type { ElementwiseSample } from "./samples/sample.ts";
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
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import { elementwiseSamples } from "./samples/elementwise.ts";
import * as ndl from "../mod.ts";

/** The result of an elementwise op. */
export function runElementwise(op: ElementwiseOp, x: readonly Operand[]): Tensor {
  if (op.arity === 1) {
    return op.name === "cast" ? (x[0] as Tensor).to("float64") : unary(op, x[0] as Tensor);
  }
  return op.arity === 2 ? binary(op, x[0]!, x[1]!) : ternary(op, x[0]!, x[1]!, x[2]!);
}

/** The dtypes that an op computes in. */
export function dtypesOf(op: ElementwiseOp): DType[] {
  const all: DType[] = ["float32", "float64", "float16", "bfloat16"];
  if (op.domain !== "float") all.push("int32", "int64", "uint8");
  if (op.domain === "any") all.push("bool");
  return all;
}

/** The operands of one try on `device`: tensors, or the sample's fixed numbers after the first. */
export function operands(
  op: ElementwiseOp,
  sample: ElementwiseSample,
  shapes: readonly (readonly number[])[],
  dtype: DType,
  device: Device,
  layout: LayoutName,
  seed: number,
): Operand[] {
  const random = seeded(seed);
  return Array.from({ length: op.arity }, (_, i) => {
    if (sample.numbers !== undefined && i > 0) return sample.numbers[i - 1]!;
    const range = sample.ranges[Math.min(i, sample.ranges.length - 1)]!;
    const own: DType = op.condition && i === 0 ? "bool" : dtype;
    const shape = shapes[i % shapes.length]!;
    let values = valuesOf(
      { shape, range, ...(sample.avoid ? { avoid: sample.avoid } : {}) },
      own,
      random,
    );
    if (own !== "bool" && ["floorDivide", "remainder"].includes(op.name) && i === 1) {
      values = values.map((v) => v === 0 ? 1 : v);
    }
    if (op.name === "pow" && i === 1) values = values.map(Math.abs);
    return place(values, shape, own, device, layout);
  });
}

/** Throws unless `got` is `want`, within `slack` times the tolerance of the dtype. */
export function compare(
  op: ElementwiseOp,
  got: Tensor,
  want: Tensor,
  slack: number,
  what: string,
): void {
  if (got.dtype !== want.dtype) {
    throw new Error(`${what}: dtype ${got.dtype} instead of ${want.dtype}`);
  }
  assertClose(
    got.toTypedArray(),
    want.toTypedArray(),
    tolerance(got.dtype, slack),
    `${op.name} ${what}`,
  );
}

const shapeSets: readonly (readonly (readonly number[])[])[] = [
  [[2, 3, 4, 5]],
  [[31]],
  [[]],
  [[0, 3]],
  [[3, 1, 5], [4, 1], [5]],
  [[1], [7, 3]],
];

/** Throws unless `device` computes an op as the reference does: layouts, broadcasting, dtypes, special values. */
export function agreesWithReference(name: keyof typeof elementwiseOps, device: Device): void {
  const op: ElementwiseOp = elementwiseOps[name],
    sample: ElementwiseSample = elementwiseSamples[name];
  for (const dtype of dtypesOf(op)) {
    for (const shapes of shapeSets) {
      for (const layout of layouts) {
        const seed = seedOf(`${name} ${dtype} ${layout} ${JSON.stringify(shapes)}`);
        const make = (on: Device) => operands(op, sample, shapes, dtype, on, layout, seed);
        const what = `${dtype} ${layout} ${JSON.stringify(shapes)} seed ${seed}`;
        compare(
          op,
          runElementwise(op, make(device)),
          runElementwise(op, make(ndl.reference())),
          sample.slack ?? 1,
          what,
        );
      }
    }
  }
  // Long enough for several tiles and threads, with special values spread in.
  for (const dtype of ["float32", "float64"] as const) {
    const random = seeded(seedOf(name)), n = 5003;
    const specials = sample.specials ??
      [NaN, Infinity, -Infinity, 0, -0, 1e-40, 88.5, 90, -90, -104, 1e30, -1e30];
    const values = Array.from(
      { length: n },
      (_, i) => i % 7 === 0 ? specials[(i / 7) % specials.length]! : -3 + 6 * random(),
    );
    const make = (on: Device): Operand[] =>
      Array.from({ length: op.arity }, (_, i) => {
        if (sample.numbers !== undefined && i > 0) return sample.numbers[i - 1]!;
        const own = op.condition && i === 0 ? values.map((v) => v > 0 ? 1 : 0) : values;
        const shifted = i === 0 ? own : [...own.slice(i * 13), ...own.slice(0, i * 13)];
        return ndl.tensor(Float64Array.from(shifted), {
          dtype: op.condition && i === 0 ? "bool" : dtype,
          device: on,
        });
      });
    compare(
      op,
      runElementwise(op, make(device)),
      runElementwise(op, make(ndl.reference())),
      (sample.slack ?? 1) * 2,
      `${dtype} specials`,
    );
  }
}

/** Throws unless the gradients of an op on `device` are those of the reference. */
export function gradientsAgree(name: keyof typeof elementwiseOps, device: Device): void {
  const op: ElementwiseOp = elementwiseOps[name],
    sample: ElementwiseSample = elementwiseSamples[name];
  if (op.grads === "nondifferentiable" || op.result !== "same") return;
  const grads = (on: Device): (Tensor | null)[] => {
    const x = operands(
      op,
      sample,
      [[3, 1, 5], [4, 1]],
      "float32",
      on,
      "contiguous",
      seedOf(name),
    );
    const free = x.filter((t, i): t is Tensor =>
      typeof t !== "number" && t.dtype === "float32" && op.grads[i] !== null
    );
    free.forEach((t) => t.requiresGrad_());
    const y = runElementwise(op, x);
    return ndl.grad(y, free, { gradOutputs: y._full(0.7), allowUnused: true });
  };
  const want = grads(ndl.reference());
  grads(device).forEach((g, i) => {
    if (g !== null) compare(op, g, want[i]!, (sample.slack ?? 1) * 8, `gradient ${i}`);
  });
}
