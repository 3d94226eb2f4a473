// Samples of matrix products: plain, batched, broadcast, empty, large enough for every kernel path.

import type { matmulOps } from "../../lib/ops/matmul.ts";
import type { OpSample } from "./sample.ts";

function product(
  a: readonly number[],
  b: readonly number[],
  more: Partial<OpSample> = {},
): OpSample {
  return { inputs: [{ shape: a }, { shape: b }], attrs: {}, ...more };
}

const ints = { dtypes: ["int32", "int64", "uint8"] } as const;

/** Rows of the op test table. */
export const matmulSamples = {
  matmul: [
    product([3, 4], [4, 5]),
    product([1, 1], [1, 1]),
    product([1, 7], [7, 1]),
    product([7, 1], [1, 5]),
    product([2, 0], [0, 3]),
    product([0, 3], [3, 2]),
    product([2, 3, 4], [2, 4, 3]),
    product([2, 3, 4], [4, 5]),
    product([3, 1, 4], [4, 5]),
    product([4, 5], [3, 5, 2]),
    product([2, 1, 3, 4], [3, 4, 2]),
    product([2, 3, 2, 2], [1, 3, 2, 2]),
    product([0, 2, 3], [3, 4]),
    product([3, 4], [4, 5], ints),
    product([2, 3, 4], [4, 2], ints),
    product([3, 4], [4, 5], { dtypes: ["float16", "bfloat16"] }),
    product([67, 131], [131, 71], { large: true }),
    product([1, 300], [300, 65], { large: true }),
    product([39, 70], [70, 36], { large: true }), // 4 columns beyond whole vectors
    product([10, 401], [401, 2], { large: true }),
    product([5, 33, 17], [5, 17, 29], { large: true }),
    product([5, 16, 32], [32, 16], { large: true }),
    product([67, 131], [131, 71], { large: true, dtypes: ["float16", "bfloat16"] }),
    product([3, 33, 17], [3, 17, 29], { large: true, dtypes: ["float16", "bfloat16"] }),
  ],
  linear: [
    { inputs: [{ shape: [3, 4] }, { shape: [5, 4] }, { shape: [5] }], attrs: {} },
    { inputs: [{ shape: [3, 4] }, { shape: [5, 4] }, null], attrs: {} },
    { inputs: [{ shape: [4] }, { shape: [2, 4] }, { shape: [2] }], attrs: {} },
    { inputs: [{ shape: [2, 3, 4] }, { shape: [5, 4] }, { shape: [5] }], attrs: {} },
    { inputs: [{ shape: [1, 1] }, { shape: [1, 1] }, { shape: [1] }], attrs: {} },
    { inputs: [{ shape: [0, 4] }, { shape: [5, 4] }, { shape: [5] }], attrs: {} },
    { inputs: [{ shape: [2, 0] }, { shape: [3, 0] }, { shape: [3] }], attrs: {} },
    {
      inputs: [{ shape: [3, 4] }, { shape: [5, 4] }, { shape: [5] }],
      attrs: {},
      dtypes: ["float16", "bfloat16"],
    },
    {
      inputs: [{ shape: [67, 131] }, { shape: [71, 131] }, { shape: [71] }],
      attrs: {},
      large: true,
    },
    {
      inputs: [{ shape: [13, 405] }, { shape: [51, 405] }, { shape: [51] }],
      attrs: {},
      large: true,
    },
    {
      inputs: [{ shape: [67, 131] }, { shape: [71, 131] }, { shape: [71] }],
      attrs: {},
      large: true,
      dtypes: ["float16", "bfloat16"],
    },
  ],
} satisfies Record<keyof typeof matmulOps, readonly OpSample[]>;
