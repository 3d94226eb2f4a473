// Samples of reading and writing at positions. Positions repeat where sums must add up, and only there.

import type { DType } from "../../lib/dtype.ts";
import type { indexOps } from "../../lib/ops/index.ts";
import { numel } from "../../lib/shape.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

const moved = [
  "float32",
  "float64",
  "float16",
  "bfloat16",
  "int32",
  "int64",
  "uint8",
  "bool",
] as const;
const added = ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8"] as const;

/** Positions below `size`: a fixed sequence that repeats and skips. */
function positions(shape: readonly number[], size: number, dtype: DType = "int64"): TensorSpec {
  const values = Array.from({ length: numel(shape) }, (_, i) => (i * 7 + (i >> 2) * 5 + 3) % size);
  return { shape, values, dtype };
}

/** Positions along `dim`, each at most once in its column (11 divides no size here). */
function distinct(
  shape: readonly number[],
  dim: number,
  size: number,
  dtype: DType = "int64",
): TensorSpec {
  const inner = numel(shape.slice(dim + 1)), count = shape[dim] ?? 1;
  const values = Array.from({ length: numel(shape) }, (_, i) => {
    const k = Math.floor(i / inner) % count;
    return (k * 11 + i % inner + 2) % size;
  });
  return { shape, values, dtype };
}

function columns(
  x: readonly number[],
  index: readonly number[],
  dim: number,
  more: Partial<OpSample> = {},
): OpSample {
  const size = x[dim] ?? 1;
  return { inputs: [{ shape: x }, positions(index, size)], attrs: { dim, size }, ...more };
}

function scattered(
  x: readonly number[],
  index: TensorSpec,
  dim: number,
  src: boolean,
  more: Partial<OpSample> = {},
): OpSample {
  return {
    inputs: [{ shape: x }, index, src ? { shape: index.shape } : null],
    attrs: { dim, size: x[dim] ?? 1, value: 2.5 },
    ...more,
  };
}

function summed(
  index: TensorSpec,
  dim: number,
  size: number,
  x: boolean,
  more: Partial<OpSample> = {},
): OpSample {
  const shape = index.shape.map((s, d) => d === dim ? size : s);
  return {
    inputs: [index, { shape: index.shape }, x ? { shape } : null],
    attrs: { dim, size },
    ...more,
  };
}

function selected(
  x: readonly number[],
  index: TensorSpec,
  dim: number,
  count = 1,
  more: Partial<OpSample> = {},
): OpSample {
  const sizes = x.slice(dim, dim + count);
  return { inputs: [{ shape: x }, index], attrs: { dim, sizes }, ...more };
}

function sliced(
  x: readonly number[],
  index: TensorSpec,
  dim: number,
  how: { count?: number; x?: boolean; skip?: number },
  more: Partial<OpSample> = {},
): OpSample {
  const count = how.count ?? 1, sizes = x.slice(dim, dim + count);
  const src = [...x.slice(0, dim), ...index.shape, ...x.slice(dim + count)];
  return {
    inputs: [index, { shape: src }, how.x ?? false ? { shape: x } : null],
    attrs: { dim, sizes, skip: how.skip ?? -1 },
    ...more,
  };
}

function copied(
  x: readonly number[],
  index: TensorSpec,
  dim: number,
  how: { count?: number; src?: boolean },
  more: Partial<OpSample> = {},
): OpSample {
  const count = how.count ?? 1, sizes = x.slice(dim, dim + count);
  const src = [...x.slice(0, dim), ...index.shape, ...x.slice(dim + count)];
  return {
    inputs: [{ shape: x }, index, how.src ?? true ? { shape: src } : null],
    attrs: { dim, sizes, value: 2 },
    ...more,
  };
}

const large = { large: true } as const;

/** Rows of the op test table. */
export const indexSamples = {
  gather: [
    columns([5], [3], 0, { dtypes: moved }),
    columns([3, 5], [3, 2], 1),
    columns([3, 5], [7, 5], 0),
    columns([2, 3, 4], [2, 6, 4], 1, { dtypes: moved }),
    columns([2, 3, 4], [2, 3, 1], 2),
    columns([], [], 0),
    columns([3, 5], [3, 0], 1),
    columns([0, 5], [0, 2], 1),
    { inputs: [{ shape: [4, 3] }, positions([2, 3], 4, "int32")], attrs: { dim: 0, size: 4 } },
    columns([257, 131], [257, 67], 1, large),
    columns([3, 129, 65], [3, 131, 65], 1, large),
  ],
  scatter: [
    scattered([5], distinct([3], 0, 5), 0, true, { dtypes: moved }),
    scattered([3, 7], distinct([3, 4], 1, 7), 1, true),
    scattered([7, 3], distinct([4, 3], 0, 7), 0, false, { dtypes: moved }),
    scattered([2, 7, 3], distinct([2, 3, 3], 1, 7, "int32"), 1, true),
    scattered([3, 7], distinct([3, 0], 1, 7), 1, true),
    scattered([0, 7], distinct([0, 2], 1, 7), 1, false),
    scattered([], distinct([], 0, 1), 0, true),
    scattered([211, 131], distinct([211, 67], 1, 131), 1, true, large),
    scattered([20011], distinct([17011], 0, 20011), 0, true, large),
  ],
  scatterAdd: [
    summed(positions([6], 4), 0, 4, true, { dtypes: added }),
    summed(positions([3, 5], 2), 1, 2, false, { dtypes: added }),
    summed(positions([5, 3], 7), 0, 7, true),
    summed(positions([2, 4, 3], 3, "int32"), 1, 3, false),
    summed(positions([3, 0], 4), 1, 4, true),
    summed(positions([], 1), 0, 1, true),
    summed(positions([211, 131], 67), 1, 67, true, large),
    summed(positions([40009], 1013), 0, 1013, false, { ...large, slack: 20 }),
    summed(positions([3, 129, 257], 65), 1, 65, false, large),
  ],
  indexSelect: [
    selected([5], positions([3], 5), 0, 1, { dtypes: moved }),
    selected([3, 5], positions([7], 5, "int32"), 1),
    selected([4, 3, 2], positions([2, 3], 4), 0),
    selected([2, 3, 4, 2], positions([5], 12), 1, 2, { dtypes: moved }),
    selected([2, 3], positions([], 3), 1),
    selected([2, 3], positions([0], 3), 1),
    selected([0, 3], positions([2], 3), 1),
    selected([3, 4], positions([2, 2], 12), 0, 2),
    selected([127, 257], positions([301], 127), 0, 1, large),
    selected([3, 127, 65], positions([301], 127), 1, 1, large),
  ],
  indexAdd: [
    sliced([5], positions([7], 5), 0, { x: true }, { dtypes: added }),
    sliced([3, 5], positions([4], 5, "int32"), 1, {}, { dtypes: added }),
    sliced([4, 3], positions([2, 3], 4), 0, { x: true }),
    sliced([4, 3], positions([9], 4), 0, { skip: 2 }),
    sliced([2, 3, 4, 2], positions([5], 12), 1, { count: 2, x: true }),
    sliced([3, 2], positions([0], 3), 0, { x: true }),
    sliced([3, 2], positions([], 3), 0, {}),
    sliced([101, 257], positions([301], 101), 0, {}, large),
    sliced([307, 3], positions([20011], 307), 0, {}, { ...large, slack: 20 }),
    sliced([3, 127, 65], positions([301], 127), 1, { x: true, skip: 5 }, large),
  ],
  indexCopy: [
    copied([5], distinct([3], 0, 5), 0, {}, { dtypes: moved }),
    copied([3, 7], distinct([4], 0, 7, "int32"), 1, {}),
    copied([7, 3], distinct([4], 0, 7), 0, { src: false }, { dtypes: moved }),
    copied([2, 3, 4, 2], distinct([5], 0, 12), 1, { count: 2 }),
    copied([3, 2], distinct([0], 0, 3), 0, {}),
    copied([307, 129], distinct([101], 0, 307), 0, {}, large),
  ],
  embedding: [
    {
      inputs: [{ shape: [5, 3] }, positions([4], 5)],
      attrs: { rows: 5, padding: -1 },
      dtypes: moved,
    },
    // Finite differences see the rows whose gradient is left out: kernels against reference only.
    {
      inputs: [{ shape: [5, 3] }, positions([2, 4], 5, "int32")],
      attrs: { rows: 5, padding: 3 },
      large: true,
    },
    { inputs: [{ shape: [5, 1] }, positions([], 5)], attrs: { rows: 5, padding: -1 } },
    { inputs: [{ shape: [5, 3] }, positions([0, 2], 5)], attrs: { rows: 5, padding: 0 } },
    {
      inputs: [{ shape: [1009, 67] }, positions([20, 35], 1009)],
      attrs: { rows: 1009, padding: 7 },
      large: true,
    },
  ],
  index: [
    {
      inputs: [{ shape: [5], values: [0, -1, 3, -4, 1], dtype: "int64" }, null],
      attrs: { size: 4, dim: 0 },
      dtypes: ["int64"],
    },
    {
      inputs: [
        { shape: [2, 2], values: [0, -1, 2, -3], dtype: "int32" },
        positions([2, 2], 9),
      ],
      attrs: { size: 3, dim: 1 },
      dtypes: ["int64"],
    },
    { inputs: [positions([0], 3), null], attrs: { size: 0, dim: 1 }, dtypes: ["int64"] },
    { inputs: [positions([20011], 77), null], attrs: { size: 77, dim: 1 }, dtypes: ["int64"] },
  ],
  oneHot: [
    { inputs: [positions([4], 3)], attrs: { classes: 3 }, dtypes: ["int64"] },
    { inputs: [positions([2, 3], 7, "int32")], attrs: { classes: 7 }, dtypes: ["int64"] },
    { inputs: [positions([], 3)], attrs: { classes: 3 }, dtypes: ["int64"] },
    { inputs: [positions([0, 2], 3)], attrs: { classes: 3 }, dtypes: ["int64"] },
    { inputs: [positions([1031], 17)], attrs: { classes: 17 }, dtypes: ["int64"] },
  ],
  countNonzero: [
    { inputs: [{ shape: [6], values: [0, 1, -0, 3, 0, NaN] }], attrs: {} },
    {
      inputs: [{ shape: [3, 4], values: [0, 1, 0, 3, 0, 5, 0, 0, 1, 1, 2, 0] }],
      attrs: {},
      dtypes: moved,
    },
    { inputs: [{ shape: [0, 3] }], attrs: {} },
    { inputs: [{ shape: [] }], attrs: {} },
    { inputs: [{ shape: [67, 1031] }], attrs: {}, dtypes: ["bool", "int64", "float32"] },
  ],
  nonzero: [
    { inputs: [{ shape: [6], values: [0, 1, -0, 3, 0, NaN] }], attrs: { count: 3 } },
    {
      inputs: [{ shape: [3, 4], values: [0, 1, 0, 3, 0, 5, 0, 0, 1, 1, 2, 0] }],
      attrs: { count: 6 },
      dtypes: moved,
    },
    { inputs: [{ shape: [2, 1, 2], values: [1, 0, 1, 1] }], attrs: { count: 3 }, dtypes: moved },
    { inputs: [{ shape: [0, 3] }], attrs: { count: 0 } },
    { inputs: [{ shape: [], values: [2] }], attrs: { count: 1 } },
    {
      inputs: [{ ...positions([67, 1031], 2), dtype: "int64" }],
      attrs: { count: 34538 },
      dtypes: ["int64"],
    },
  ],
} satisfies Record<keyof typeof indexOps, readonly OpSample[]>;
