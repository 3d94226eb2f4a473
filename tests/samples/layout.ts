// Samples of views and of the kernels that fill, pad and cut. Shapes of `view` only add or drop sizes of 1 (or split a
// single dim), so that it works in every layout.

import type { layoutOps, PadMode } from "../../lib/ops/layout.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

const every = [
  "float32",
  "float64",
  "float16",
  "bfloat16",
  "int32",
  "int64",
  "uint8",
  "bool",
] as const;

function one(shape: readonly number[], attrs: unknown, more: Partial<OpSample> = {}): OpSample {
  return { inputs: [{ shape }], attrs, ...more };
}

function range(start: number, length: number, step = 1): unknown {
  return { start, length, step };
}

function padded(
  shape: readonly number[],
  before: readonly number[],
  after: readonly number[],
  mode: PadMode = "constant",
  more: Partial<OpSample> = {},
  input: Partial<TensorSpec> = {},
): OpSample {
  const value = mode === "constant" ? 3 : 0;
  return { inputs: [{ shape, ...input }], attrs: { before, after, mode, value }, ...more };
}

const kinds = { dtypes: every } as const;

/** Rows of the op test table. */
export const layoutSamples = {
  view: [
    one([3, 4], { shape: [3, 1, 4] }, kinds),
    one([12], { shape: [3, 4] }),
    one([2, 3, 4], { shape: [1, 2, 3, 4, 1] }),
    one([1, 5, 1], { shape: [5] }),
    one([3, 0], { shape: [0, 5] }),
    one([1], { shape: [] }),
  ],
  permute: [
    one([3, 4], { dims: [1, 0] }, kinds),
    one([2, 3, 5], { dims: [2, 0, 1] }),
    one([2, 3, 1, 5], { dims: [0, 2, 3, 1] }),
    one([2, 0, 3], { dims: [1, 2, 0] }),
    one([], { dims: [] }),
    one([67, 131], { dims: [1, 0] }, { large: true }),
  ],
  expand: [
    one([3, 1], { shape: [3, 4] }, kinds),
    one([1, 5], { shape: [2, 3, 5] }),
    one([2, 1, 3], { shape: [-1, 4, -1] }),
    one([], { shape: [2, 2] }),
    one([1], { shape: [0] }),
    one([2, 0], { shape: [3, 2, 0] }),
  ],
  window: [
    one([7], { dims: [range(1, 3, 2)] }, kinds),
    one([5, 6], { dims: [range(0, 5), range(2, 2, 3)] }),
    one([3, 4], { dims: [range(1, 0), range(0, 4)] }),
    one([2, 3, 4, 5], { dims: [range(1, 1), range(0, 2, 2), range(0, 4), range(4, 1)] }),
  ],
  select: [
    one([5], { dim: 0, index: 3 }, kinds),
    one([3, 4], { dim: 1, index: -1 }),
    one([2, 3, 4], { dim: 1, index: 0 }),
  ],
  reverse: [
    one([5], { dims: [0] }, kinds),
    one([3, 4], { dims: [0, 1] }),
    one([2, 3, 5], { dims: [1] }),
    one([2, 3, 2, 3], { dims: [0, 2, 3] }),
    one([0, 3], { dims: [0] }),
    one([37, 101], { dims: [1] }, { large: true }),
  ],
  diagonal: [
    one([3, 4], { offset: 0, dim1: 0, dim2: 1 }, kinds),
    one([3, 4], { offset: 2, dim1: 0, dim2: 1 }),
    one([2, 4, 3], { offset: -1, dim1: 1, dim2: 2 }),
    one([2, 4, 3], { offset: 0, dim1: 2, dim2: 0 }),
    one([3, 3], { offset: 5, dim1: 0, dim2: 1 }),
  ],
  fill: every.flatMap((dtype): OpSample[] =>
    [[3, 4], [], [0, 2], [1031]].map((shape) => ({
      inputs: [],
      attrs: { shape, dtype, value: dtype === "bool" ? 1 : 3 },
      dtypes: [dtype],
    }))
  ),
  pad: [
    padded([4], [2], [1], "constant", kinds),
    padded([3, 5], [0, 2], [1, 0]),
    padded([2, 3, 4, 5], [0, 0, 1, 2], [0, 0, 2, 1]),
    padded([2, 3, 4], [1, 0, 0], [0, 1, 0]),
    padded([2, 3, 4], [0, 0, 0], [0, 0, 0]),
    padded([0, 3], [1, 0], [1, 2]),
    padded([], [], []),
    padded([5], [4], [2], "reflect", kinds),
    padded([2, 3, 4], [0, 1, 3], [0, 2, 2], "reflect"),
    padded([2, 3], [1, 2], [3, 4], "replicate", kinds),
    padded([2, 2, 3, 4], [0, 0, 1, 0], [0, 0, 0, 2], "replicate"),
    padded([3, 4], [3, 1], [0, 4], "circular", kinds),
    padded([2, 1, 3], [1, 1, 0], [1, 0, 2], "circular"),
    padded([8, 3, 32, 32], [0, 0, 4, 4], [0, 0, 4, 4], "constant", { large: true }),
    padded([3, 257, 65], [0, 2, 3], [0, 1, 5], "reflect", { large: true }),
  ],
  triangle: [
    one([3, 4], { diagonal: 0, upper: false }, kinds),
    one([4, 3], { diagonal: 1, upper: true }, kinds),
    one([2, 5, 5], { diagonal: -2, upper: false }),
    one([2, 2, 3, 3], { diagonal: -1, upper: true }),
    one([3, 3], { diagonal: 9, upper: true }),
    one([3, 3], { diagonal: -9, upper: false }),
    one([0, 3], { diagonal: 0, upper: false }),
    one([3, 0], { diagonal: 0, upper: true }),
    one([3, 129, 131], { diagonal: 3, upper: false }, { large: true }),
  ],
} satisfies Record<keyof typeof layoutOps, readonly OpSample[]>;
