// Samples of norms: every rank and both places of the channels, with and without scale and shift, far means.

import type { normOps } from "../../lib/ops/norm.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

type Shape = readonly number[];

interface Batch {
  readonly x: Shape;
  readonly axis: number;
  readonly affine: boolean;
  readonly large?: boolean;
  readonly half?: boolean;
  /** A half x beside float32 statistics and parameters. */
  readonly mixed?: boolean;
}

const batches: readonly Batch[] = [
  { x: [4, 3], axis: 1, affine: true },
  { x: [5, 1], axis: 1, affine: false },
  { x: [2, 3, 5], axis: 1, affine: true },
  { x: [2, 3, 2, 3], axis: 1, affine: true },
  { x: [2, 2, 3, 3], axis: 3, affine: true },
  { x: [2, 1, 2, 2], axis: 1, affine: false },
  { x: [0, 3, 2, 2], axis: 1, affine: true },
  { x: [3, 4, 2], axis: 1, affine: true, half: true },
  { x: [3, 5, 2, 3], axis: 1, affine: true, mixed: true },
  { x: [2, 3, 3, 16], axis: 3, affine: true, mixed: true },
  { x: [37, 67], axis: 1, affine: true, large: true },
  { x: [3, 5, 13, 11], axis: 1, affine: true, large: true },
  { x: [3, 13, 11, 35], axis: 3, affine: true, large: true },
  { x: [16, 16, 16, 32], axis: 3, affine: true, large: true },
  { x: [16, 32, 16, 16], axis: 1, affine: true, large: true },
];

function trait(
  c: { large?: boolean; half?: boolean; mixed?: boolean },
): Partial<OpSample> {
  return {
    ...(c.large ? { large: true } : {}),
    ...(c.half || c.mixed ? { dtypes: ["float16", "bfloat16"] } : {}),
  };
}

const positive = [0.5, 2] as const;

/** Both without relu, and (without finite differences across its kink) with it. */
function both(rows: (relu: boolean) => OpSample[]): OpSample[] {
  return [...rows(false), ...rows(true).map((s) => ({ ...s, large: true }))];
}

/** The dtype of what stands beside x. */
function beside(c: Batch): { dtype?: "float32" } {
  return c.mixed ? { dtype: "float32" } : {};
}

function perChannel(c: Batch): TensorSpec | null {
  return c.affine ? { shape: [c.x[c.axis]!], ...beside(c) } : null;
}

function statistics(c: Batch): [TensorSpec, TensorSpec] {
  const shape = [c.x[c.axis]!];
  return [
    { shape, range: [-0.5, 0.5], ...beside(c) },
    { shape, range: positive, ...beside(c) },
  ];
}

function attrs(c: Batch, relu: boolean): object {
  return { axis: c.axis, eps: 1e-5, relu };
}

/** With one value in a set the derivative is zero beside a huge 1 / √eps: differences only see noise. */
const farMean: OpSample = {
  inputs: [{ shape: [64, 3], range: [999, 1001] }, { shape: [3] }, { shape: [3] }],
  attrs: { axis: 1, eps: 1e-5, relu: false },
  large: true,
  slack: 200, // x itself is rounded to 6e-5 of its spread
};

const rows: readonly { x: Shape; dims: number; large?: boolean; half?: boolean }[] = [
  { x: [3, 5], dims: 1 },
  { x: [2, 3, 4], dims: 2 },
  { x: [7], dims: 1 },
  { x: [2, 2, 3], dims: 1 },
  { x: [0, 4], dims: 1 },
  { x: [3, 6], dims: 1, half: true },
  { x: [33, 131], dims: 1, large: true },
  { x: [40, 512], dims: 1, large: true },
];

const groups: readonly {
  x: Shape;
  axis: number;
  groups: number;
  large?: boolean;
  half?: boolean;
}[] = [
  { x: [2, 4, 3], axis: 1, groups: 2 },
  { x: [2, 6, 2, 2], axis: 1, groups: 3 },
  { x: [2, 2, 2, 6], axis: 3, groups: 3 },
  { x: [3, 4], axis: 1, groups: 2 },
  { x: [2, 3, 4], axis: 1, groups: 1 },
  { x: [2, 3, 2, 2], axis: 1, groups: 3 },
  { x: [0, 4, 3], axis: 1, groups: 2 },
  { x: [2, 4, 3], axis: 1, groups: 2, half: true },
  { x: [3, 20, 13, 11], axis: 1, groups: 5, large: true },
  { x: [3, 13, 11, 40], axis: 3, groups: 5, large: true },
];

const plain: { grad: false } = { grad: false };

/** Rows of the op test table. */
export const normSamples = {
  batchNorm: [
    ...both((relu) =>
      batches.map((c) => ({
        inputs: [{ shape: c.x }, perChannel(c), perChannel(c)],
        attrs: attrs(c, relu),
        ...trait(c),
      }))
    ),
    farMean,
  ],
  batchNormBackward: both((relu) =>
    batches.map((c) => ({
      inputs: [{ shape: c.x }, { shape: c.x }, ...statistics(c), perChannel(c), perChannel(c)],
      attrs: attrs(c, relu),
      ...trait(c),
    }))
  ),
  batchNormStats: batches.map((c) => ({
    inputs: [{ shape: c.x }],
    attrs: attrs(c, false),
    ...trait(c),
  })),
  batchNormEval: [
    ...both((relu) =>
      batches.map((c) => ({
        inputs: [{ shape: c.x }, ...statistics(c), perChannel(c), perChannel(c)],
        attrs: { ...attrs(c, relu), own: false },
        ...trait(c),
      }))
    ),
    // Own statistics: the derivative is that of batchNorm, which differences at fixed statistics do not give.
    ...batches.map((c) => ({
      inputs: [{ shape: c.x }, ...statistics(c), perChannel(c), perChannel(c)],
      attrs: { ...attrs(c, false), own: true },
      ...trait(c),
      large: true,
    })),
  ],
  updateRunningStats: [3, 1, 70].map((c) => ({
    inputs: [
      { shape: [c], ...plain },
      { shape: [c], range: positive, ...plain },
      { shape: [c], ...plain },
      { shape: [c], range: positive, ...plain },
    ],
    attrs: { momentum: 0.1, count: 7 },
  })),
  layerNorm: rows.flatMap((c) => {
    const shape = c.x.slice(c.x.length - c.dims), attrs = { dims: c.dims, eps: 1e-5 };
    return [
      { inputs: [{ shape: c.x }, { shape }, { shape }], attrs, ...trait(c) },
      { inputs: [{ shape: c.x }, null, null], attrs, ...trait(c) },
    ];
  }),
  layerNormBackward: rows.map((c) => {
    const shape = c.x.slice(c.x.length - c.dims), attrs = { dims: c.dims, eps: 1e-5 };
    const per = c.x.slice(0, c.x.length - c.dims).reduce((a, b) => a * b, 1);
    return {
      inputs: [
        { shape: c.x },
        { shape: c.x },
        { shape: [per] },
        { shape: [per], range: positive },
        { shape },
      ],
      attrs,
      ...trait(c),
    };
  }),
  rmsNorm: rows.flatMap((c) => {
    const shape = c.x.slice(c.x.length - c.dims), attrs = { dims: c.dims, eps: 1e-5 };
    return [
      { inputs: [{ shape: c.x }, { shape }], attrs, ...trait(c) },
      { inputs: [{ shape: c.x }, null], attrs, ...trait(c) },
    ];
  }),
  rmsNormBackward: rows.map((c) => {
    const shape = c.x.slice(c.x.length - c.dims), attrs = { dims: c.dims, eps: 1e-5 };
    const per = c.x.slice(0, c.x.length - c.dims).reduce((a, b) => a * b, 1);
    return {
      inputs: [{ shape: c.x }, { shape: c.x }, { shape: [per], range: positive }, { shape }],
      attrs,
      ...trait(c),
    };
  }),
  groupNorm: groups.flatMap((c) => {
    const shape = [c.x[c.axis]!], attrs = { axis: c.axis, groups: c.groups, eps: 1e-5 };
    return [
      { inputs: [{ shape: c.x }, { shape }, { shape }], attrs, ...trait(c) },
      { inputs: [{ shape: c.x }, null, null], attrs, ...trait(c) },
    ];
  }),
  groupNormBackward: groups.map((c) => {
    const shape = [c.x[c.axis]!], attrs = { axis: c.axis, groups: c.groups, eps: 1e-5 };
    const per = c.x[0]! * c.groups;
    return {
      inputs: [
        { shape: c.x },
        { shape: c.x },
        { shape: [per] },
        { shape: [per], range: positive },
        { shape },
      ],
      attrs,
      ...trait(c),
    };
  }),
} satisfies Record<keyof typeof normOps, readonly OpSample[]>;
