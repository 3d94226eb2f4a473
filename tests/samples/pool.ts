// Samples of pooling, each in both orders of dims: overlapping and ceil-mode windows, padding, dilation, ties, NaN.

import type { poolOps } from "../../lib/ops/pool.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

type Sizes = readonly [number, number];

const halves = ["float16", "bfloat16"] as const;

interface Case {
  /** N, C, H, W. */
  readonly x: readonly [number, number, number, number];
  readonly kernel: Sizes;
  readonly stride?: Sizes;
  readonly padding?: Sizes;
  readonly dilation?: Sizes;
  readonly ceilMode?: boolean;
  readonly countIncludePad?: boolean;
  readonly divisorOverride?: number;
  readonly large?: boolean;
  readonly half?: boolean;
}

const cases: readonly Case[] = [
  { x: [2, 3, 4, 6], kernel: [2, 2] },
  { x: [1, 1, 1, 1], kernel: [1, 1] },
  { x: [1, 2, 5, 7], kernel: [3, 2], stride: [1, 2], padding: [1, 1] },
  { x: [1, 2, 5, 5], kernel: [3, 3], stride: [2, 2], padding: [1, 1], countIncludePad: false },
  { x: [1, 2, 6, 6], kernel: [3, 3], stride: [2, 2], ceilMode: true },
  { x: [1, 2, 6, 5], kernel: [3, 3], stride: [2, 2], padding: [1, 1], ceilMode: true },
  { x: [1, 1, 5, 5], kernel: [2, 3], stride: [2, 2], divisorOverride: 5 },
  { x: [0, 2, 4, 4], kernel: [2, 2] },
  { x: [2, 3, 5, 4], kernel: [3, 2], stride: [2, 1], padding: [1, 1], half: true },
  { x: [1, 16, 4, 5], kernel: [3, 3], stride: [1, 2], half: true },
  { x: [2, 35, 9, 8], kernel: [2, 2], large: true },
  { x: [2, 32, 12, 12], kernel: [3, 3], stride: [2, 2], padding: [1, 1], large: true },
];

const maxCases: readonly Case[] = [
  ...cases,
  { x: [1, 2, 7, 7], kernel: [2, 2], stride: [1, 1], padding: [1, 1], dilation: [2, 3] },
];

type Images = readonly [number, number, number, number];

function outputOf(c: Case): Images {
  const along = (i: 0 | 1): number => {
    const k = c.kernel[i],
      s = c.stride?.[i] ?? k,
      p = c.padding?.[i] ?? 0,
      d = c.dilation?.[i] ?? 1;
    const span = c.x[i + 2]! + 2 * p - d * (k - 1) - 1;
    if (!c.ceilMode) return Math.floor(span / s) + 1;
    const out = Math.ceil(span / s) + 1;
    return (out - 1) * s >= c.x[i + 2]! + p ? out - 1 : out;
  };
  return [c.x[0], c.x[1], along(0), along(1)];
}

function ordered([n, c, h, w]: Images, channelsLast: boolean): number[] {
  return channelsLast ? [n, h, w, c] : [n, c, h, w];
}

/** One sample per case and order of dims; `inputs` gets the shapes of x and of the pooled images. */
function rows(
  from: readonly Case[],
  inputs: (x: number[], y: number[], c: Case, channelsLast: boolean) => TensorSpec[],
): OpSample[] {
  return from.flatMap((c) =>
    [false, true].map((channelsLast) => ({
      inputs: inputs(
        ordered(c.x, channelsLast),
        ordered(outputOf(c), channelsLast),
        c,
        channelsLast,
      ),
      attrs: {
        size: c.x.slice(2),
        kernel: c.kernel,
        stride: c.stride ?? c.kernel,
        padding: c.padding ?? [0, 0],
        dilation: c.dilation ?? [1, 1],
        ceilMode: c.ceilMode ?? false,
        countIncludePad: c.countIncludePad ?? true,
        divisorOverride: c.divisorOverride ?? 0,
        channelsLast,
      },
      ...(c.large ? { large: true } : {}),
      ...(c.half ? { dtypes: halves } : {}),
    }))
  );
}

/** Distinct values in a scattered order: no two maxima compete within a finite difference. */
function distinct(shape: readonly number[]): TensorSpec {
  const n = shape.reduce((a, b) => a * b, 1);
  return { shape, values: Array.from({ length: n }, (_, i) => ((i * 7919) % 10007) / 5000 - 1) };
}

/** Positions that maxima of pooling may have: for each pooled element, one of its window, or -1 if that is empty. */
function positions([n, c, h, w]: Images, y: Images, channelsLast: boolean, p: Case): TensorSpec {
  const along = (i: 0 | 1, size: number, at: number): number[] =>
    Array.from(
      { length: p.kernel[i] },
      (_, tap) =>
        at * (p.stride ?? p.kernel)[i] - (p.padding?.[i] ?? 0) + tap * (p.dilation?.[i] ?? 1),
    ).filter((position) => position >= 0 && position < size);
  const [, , rows, columns] = y;
  const planes = channelsLast ? n : n * c, repeat = channelsLast ? c : 1;
  const values = Array.from({ length: planes * rows * columns * repeat }, (_, i) => {
    const pixel = Math.floor(i / repeat) % (rows * columns);
    const window = along(0, h, Math.floor(pixel / columns)).flatMap((row) =>
      along(1, w, pixel % columns).map((column) => row * w + column)
    );
    return window.length === 0 ? -1 : window[(i * 13) % window.length]!;
  });
  return { shape: ordered(y, channelsLast), dtype: "int64", values };
}

const whole = { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1] } as const;
const plain = {
  ...whole,
  ceilMode: false,
  countIncludePad: true,
  divisorOverride: 0,
  channelsLast: false,
};
const ties: OpSample = {
  inputs: [{
    shape: [1, 1, 2, 8],
    values: [1, 1, 0, NaN, -1, -1, NaN, 2, 1, 1, 5, 7, -1, -3, 2, NaN],
  }],
  attrs: { ...plain, size: [2, 8] },
  large: true, // no finite differences at ties and NaN
};

function adaptive(): OpSample[] {
  const sizes: readonly [Images, Sizes, boolean | "half"][] = [
    [[2, 3, 4, 6], [2, 3], false],
    [[1, 2, 5, 7], [3, 4], false],
    [[1, 2, 3, 2], [5, 4], false],
    [[2, 2, 3, 3], [1, 1], false],
    [[1, 1, 1, 1], [1, 1], false],
    [[0, 2, 3, 3], [1, 1], false],
    [[2, 35, 7, 5], [3, 3], true],
    [[2, 8, 5, 4], [3, 2], "half"],
    [[2, 8, 3, 4], [1, 1], "half"],
  ];
  return sizes.flatMap(([x, output, large]) =>
    [false, true].map((channelsLast) => ({
      inputs: [{ shape: ordered(x, channelsLast) }],
      attrs: { size: x.slice(2), output, channelsLast },
      ...(large === true ? { large } : {}),
      ...(large === "half" ? { dtypes: halves } : {}),
    }))
  );
}

/** The same rows for the adjoint: its input is the pooled image. */
function adjoint(samples: readonly OpSample[]): OpSample[] {
  return samples.map((s) => {
    const { output, channelsLast } = s.attrs as { output: Sizes; channelsLast: boolean };
    const shape = s.inputs[0]!.shape;
    const [n, c] = channelsLast ? [shape[0]!, shape[3]!] : [shape[0]!, shape[1]!];
    return { ...s, inputs: [{ shape: ordered([n, c, ...output], channelsLast) }] };
  });
}

/** Rows of the op test table. */
export const poolSamples = {
  maxPool2d: [...rows(maxCases, (x) => [distinct(x)]), ties],
  maxPool2dBackward: rows(
    maxCases,
    (_, y, c, last) => [{ shape: y }, positions(c.x, outputOf(c), last, c)],
  ),
  avgPool2d: rows(cases, (x) => [{ shape: x }]),
  avgPool2dBackward: rows(cases, (_, y) => [{ shape: y }]),
  adaptiveAvgPool2d: adaptive(),
  adaptiveAvgPool2dBackward: adjoint(adaptive()),
} satisfies Record<keyof typeof poolOps, readonly OpSample[]>;
