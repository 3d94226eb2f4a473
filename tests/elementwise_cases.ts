// Rows of the elementwise test table as runs: operands and results. Used by elementwise_test.ts and by the conformance
// table.

import { binary, ternary, unary } from "../lib/dispatch.ts";
import type { Operand } from "../lib/backend.ts";
import type { Device } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import type { ElementwiseOp } from "../lib/ops/op.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import type { ElementwiseSample } from "./samples/sample.ts";
import { type LayoutName, place, seeded, valuesOf } from "./harness.ts";

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
