// Samples of the ops on gradients: indices that repeat, that are left out, and none at all.

import type { gradOps } from "../../lib/ops/grads.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

function indices(values: readonly number[], dtype: "int32" | "int64" = "int64"): TensorSpec {
  return { shape: [values.length], values, dtype };
}

const many = Array.from({ length: 700 }, (_, i) => (i * 7919) % 311);

const cases: readonly { index: TensorSpec; width: number; skip: number }[] = [
  { index: indices([2, 0, 2, 5, 0]), width: 3, skip: -1 },
  { index: indices([4, 1, 4, 1], "int32"), width: 17, skip: 1 },
  { index: indices([3]), width: 1, skip: -1 },
  { index: indices([3, 3]), width: 5, skip: 3 },
  { index: indices([]), width: 4, skip: -1 },
  { index: { shape: [2, 3], values: [5, 4, 5, 0, 4, 5], dtype: "int64" }, width: 2, skip: -1 },
  { index: indices(many), width: 131, skip: 5 },
];

const rowsOf = (index: TensorSpec, width: number): TensorSpec => ({
  shape: [index.values!.length, width],
});

/** A row for every op on gradients. */
export const gradSamples = {
  mergeRows: cases.map(({ index, width, skip }) => ({
    inputs: [rowsOf(index, width), index],
    attrs: { skip },
  })),
  addRows: cases.map(({ index, width, skip }) => ({
    inputs: [{ shape: [313, width] }, rowsOf(index, width), index],
    attrs: { skip, alpha: -0.3 },
  })),
  limitNorm: [[3, 5], [], [0, 4], [20011]].flatMap((shape) =>
    [0.5, 1, 7, Infinity].map((maxNorm) => ({
      inputs: [{ shape }, { shape: [], values: [2] }],
      attrs: { maxNorm },
    }))
  ),
} satisfies Record<keyof typeof gradOps, readonly OpSample[]>;
