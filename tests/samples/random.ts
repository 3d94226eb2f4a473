// Samples of random ops: the same seed must give the same numbers on every device, at any position in the stream.

import type { DType } from "../../lib/dtype.ts";
import type { randomOps } from "../../lib/ops/random.ts";
import type { OpSample } from "./sample.ts";

const starts = [
  { seed: 0, offset: 0 },
  { seed: 2 ** 53, offset: 2 ** 32 - 3 },
  { seed: 8675309, offset: 5 },
];
const shapes = [[1], [2, 3], [], [0, 4], [257], [67, 1021]];

/** A row per dtype and shape, from different places in the stream. */
function draws(dtypes: readonly DType[], attrs: Record<string, unknown>): OpSample[] {
  return dtypes.flatMap((dtype) =>
    shapes.map((shape, i): OpSample => ({
      inputs: [],
      attrs: { ...starts[i % starts.length], shape, dtype, ...attrs },
      dtypes: [dtype],
    }))
  );
}

const floats = ["float32", "float64", "float16", "bfloat16"] as const;

/** Rows of the op test table. */
export const randomSamples = {
  uniform: [
    ...draws(floats, { low: 0, high: 1 }),
    ...draws(["float32", "float64"], { low: -0.3, high: 1.7 }),
    ...draws(["float32"], { low: 0, high: 0.1 }),
  ],
  normal: [
    ...draws(floats, { mean: 0, std: 1 }),
    ...draws(["float32", "float64"], { mean: -1.5, std: 0.25 }),
  ],
  randomIntegers: [
    ...draws([...floats, "int64", "int32", "uint8", "bool"], { low: 0, high: 100 }),
    ...draws(["int64", "int32"], { low: -7, high: 8 }),
    ...draws(["int64", "float64"], { low: -(2 ** 52), high: 2 ** 52 }),
  ],
  bernoulli: [
    ...draws([...floats, "bool", "int64", "int32", "uint8"], { p: 0.3 }).map((s) => ({
      ...s,
      inputs: [null],
    })),
    ...[0, 1, 1e-9].flatMap((p) =>
      draws(["float32"], { p }).map((s) => ({ ...s, inputs: [null] }))
    ),
    ...floats.flatMap((dtype) =>
      shapes.map((shape): OpSample => ({
        inputs: [{ shape, range: [0, 1] }],
        attrs: { seed: 3, offset: 9, shape, dtype, p: 0 },
        dtypes: [dtype],
      }))
    ),
  ],
  dropout: [0.5, 0.1, 0, 1].flatMap((p, i) =>
    [[7], [3, 5], [2, 3, 2, 2], [], [0, 3], [67, 1021]].map((shape): OpSample => ({
      inputs: [{ shape }],
      attrs: { ...starts[i % starts.length], p },
      dtypes: ["float32", "float64", "bfloat16"],
      large: shape[0] === 67,
    }))
  ),
  maskedScale: [[7], [3, 5], [2, 3, 2, 2], [], [0, 3], [67, 1021]].map((shape): OpSample => ({
    inputs: [{ shape }, { shape, dtype: "bool" }],
    attrs: { scale: 1.25 },
    dtypes: ["float32", "float64", "float16"],
    large: shape[0] === 67,
  })),
} satisfies Record<keyof typeof randomOps, readonly OpSample[]>;
