// Samples of reductions and scans.

import type { reduceOps } from "../../lib/ops/reduce.ts";
import type { scanOps } from "../../lib/ops/scan.ts";
import type { DType } from "../../lib/dtype.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

type Shape = readonly number[];

/** Shapes and the dims reduced: all, rows, columns, middles, several, none, sizes of 1, primes and nothing. */
const cases: readonly (readonly [Shape, readonly number[]])[] = [
  [[], []],
  [[1], [0]],
  [[7], [0]],
  [[3, 5], [1]],
  [[3, 5], [0]],
  [[3, 5], [0, 1]],
  [[2, 3, 4], [1]],
  [[2, 3, 4], [2, 0]],
  [[2, 3, 4, 5], [0, 2, 3]],
  [[2, 1, 3], [1]],
  [[3, 0], [0]],
];

/** Sizes that reach the vector loops, tiles and threads of kernels. */
const large: readonly (readonly [Shape, readonly number[]])[] = [
  [[40009], [0]],
  [[11, 1031], [1]],
  [[1031, 17], [0]],
  [[13, 2203], [0]],
  [[2, 5, 31, 37], [0, 2, 3]],
  [[2, 32, 13, 19], [0, 2, 3]],
  [[3, 129, 65], [1]],
  [[3, 101, 3, 31], [1, 3]],
];

function rows(
  range: readonly [number, number],
  more: {
    slack?: number;
    dtypes?: readonly DType[];
    attrs?: object;
    empty?: boolean;
    vast?: boolean;
  } = {},
): OpSample[] {
  const { slack = 1, empty = true, vast = true } = more;
  const sample = (shape: Shape, dims: readonly number[], keepdim: boolean): OpSample => ({
    inputs: [{ shape, range }],
    attrs: { dims, keepdim, shape, ...more.attrs },
    slack,
    ...(more.dtypes === undefined ? {} : { dtypes: more.dtypes }),
  });
  return [
    ...cases.map(([shape, dims], i) => sample(shape, dims, i % 2 === 1)),
    ...(empty ? [sample([0, 3], [0], false), sample([0], [0], true)] : []),
    ...large.slice(0, vast ? undefined : 2).map(([shape, dims]) => ({
      ...sample(shape, dims, false),
      large: true,
    })),
  ];
}

const integers: readonly DType[] = ["int64"];
const halves: readonly DType[] = ["float16", "bfloat16"];
const ordered: readonly DType[] = ["int32", "int64", "uint8", "bool"];

/** Values with ties and NaN, where the order of elements decides. */
const ties: TensorSpec = {
  shape: [2, 3, 2],
  values: [1, 5, 5, 5, 5, 2, -1, 0, -1, 0, -1, 3],
  grad: false,
};
const nans: TensorSpec = { shape: [2, 4], values: [1, NaN, 3, NaN, 2, 4, 4, 0], grad: false };
const infinities: TensorSpec = {
  shape: [2, 3],
  values: [-Infinity, -Infinity, -Infinity, 1, Infinity, Infinity],
  grad: false,
};

function extremes(): OpSample[] {
  return [
    ...rows([-2, 2], { empty: false }),
    ...rows([-50, 50], { dtypes: ordered, empty: false, vast: false }),
    ...[ties, nans, infinities].map((x) => ({
      inputs: [x],
      attrs: { dims: [1], keepdim: false, shape: x.shape },
    })),
  ];
}

/** One dim of each kind of shape. */
const lines: readonly (readonly [Shape, number])[] = [
  [[], 0],
  [[1], 0],
  [[7], 0],
  [[3, 5], 1],
  [[3, 5], 0],
  [[2, 3, 4], 1],
  [[2, 1, 3], 1],
  [[0, 3], 1],
];
const largeLines: readonly (readonly [Shape, number])[] = [
  [[20011], 0],
  [[7, 1031], 1],
  [[1031, 7], 0],
  [[3, 129, 67], 1],
  [[2, 7, 1033], 1],
];

/** A sample for each line. */
export function lineRows(
  attrs: (dim: number, size: number, i: number) => object,
  spec: Partial<TensorSpec> = {},
  dtypes?: readonly DType[],
): OpSample[] {
  const sample = ([shape, dim]: readonly [Shape, number], i: number): OpSample => ({
    inputs: [{ shape, ...spec }],
    attrs: attrs(dim, shape[dim] ?? 1, i),
    ...(dtypes === undefined ? {} : { dtypes }),
  });
  return [
    ...lines.map(sample),
    ...largeLines.map((line, i) => ({ ...sample(line, i), large: true })),
  ];
}

/** The samples with ties, NaN and infinities. */
export function specialRows(attrs: object): OpSample[] {
  return [ties, nans, infinities].map((x) => ({ inputs: [x], attrs }));
}

function positions(): OpSample[] {
  const attrs = (dim: number, size: number, i: number): object => ({
    dim,
    size,
    keepdim: i % 2 === 1,
  });
  return [
    ...lineRows(attrs),
    ...lineRows(attrs, { range: [-5, 5] }, ordered),
    ...specialRows({ dim: 1, size: 3, keepdim: false }).slice(0, 1),
    ...specialRows({ dim: 1, size: 4, keepdim: true }).slice(1, 2),
    ...specialRows({ dim: 1, size: 3, keepdim: false }).slice(2),
  ];
}

const withZeros: OpSample[] = [[3, 0, 2, -1], [0, 2, 0, 3], [0, 0, 0, 0]].map((values) => ({
  inputs: [{ shape: [1, 4], values }],
  attrs: { dims: [1], keepdim: false, shape: [1, 4] },
}));

/** Samples of reductions and scans. */
export const reduceSamples = {
  sum: [
    ...rows([-2, 2]),
    ...rows([-9, 9], { dtypes: integers }),
    ...rows([-2, 2], { dtypes: halves, vast: false }),
  ],
  mean: [...rows([-2, 2]), ...rows([-2, 2], { dtypes: halves, vast: false })],
  // A product of 70,000 factors keeps few digits.
  prod: [...rows([0.9, 1.1], { slack: 50 }), ...rows([-3, 3], { dtypes: integers }), ...withZeros],
  prodBackward: [
    { inputs: [{ shape: [2] }, { shape: [2, 3] }] },
    { inputs: [{ shape: [3] }, { shape: [3, 4], values: [0, 1, 2, 3, 0, 0, 1, 2, 4, 3, 2, 1] }] },
    { inputs: [{ shape: [2] }, { shape: [2, 0] }] },
    { inputs: [{ shape: [300] }, { shape: [300, 101], range: [0.9, 1.1] }], large: true },
  ],
  amax: extremes(),
  amin: extremes(),
  max: positions(),
  min: positions(),
  argmax: positions(),
  argmin: positions(),
  any: rows([-20, 1], { dtypes: ["bool"] }),
  all: rows([-1, 20], { dtypes: ["bool"] }),
  var: [
    ...rows([-2, 2], { attrs: { correction: 0 }, empty: false }),
    ...[[[3, 5], [1]], [[2, 3, 4], [0, 2]], [[900, 41], [0]]].map(([shape, dims], i) => ({
      inputs: [{ shape: shape!, range: [99, 101] as const }],
      attrs: { dims, keepdim: i === 1, shape, correction: i + 0.5 },
      large: i === 2,
      slack: 20, // the mean is a hundred times the deviation
    })),
    {
      inputs: [{ shape: [2, 1], grad: false }],
      attrs: { dims: [1], keepdim: false, shape: [2, 1], correction: 1 },
    },
  ],
  l2Norm: [
    ...rows([0.5, 2]),
    {
      inputs: [{ shape: [2, 2], values: [0, 0, 3, 4], grad: false }],
      attrs: { dims: [1], keepdim: false, shape: [2, 2] },
    },
  ],
  cumsum: [
    ...lineRows((dim, _, i) => ({ dim, reverse: i % 2 === 1 })),
    ...lineRows((dim, _, i) => ({ dim, reverse: i % 2 === 0 }), { range: [-9, 9] }, integers),
  ],
  cumprod: [
    // Short enough not to overflow, long enough for the vector loops.
    ...lineRows((dim) => ({ dim }), { range: [0.98, 1.02] }).slice(0, -5),
    {
      inputs: [{ shape: [37, 301], range: [0.98, 1.02] }],
      attrs: { dim: 1 },
      slack: 20,
      large: true,
    },
    {
      inputs: [{ shape: [5, 257, 67], range: [0.98, 1.02] }],
      attrs: { dim: 1 },
      slack: 20,
      large: true,
    },
    ...lineRows((dim) => ({ dim }), { range: [-3, 3] }, integers),
    { inputs: [{ shape: [2, 4], values: [3, 0, 2, 0, 0, 1, 2, 4] }], attrs: { dim: 1 } },
  ],
  cumprodBackward: [
    {
      inputs: [{ shape: [2, 4] }, { shape: [2, 4], values: [3, 0, 2, 0, 0, 1, 2, 4] }],
      attrs: { dim: 1 },
    },
    { inputs: [{ shape: [5, 3] }, { shape: [5, 3] }], attrs: { dim: 0 } },
    { inputs: [{ shape: [] }, { shape: [] }], attrs: { dim: 0 } },
  ],
} satisfies Record<keyof typeof reduceOps | keyof typeof scanOps, readonly OpSample[]>;
