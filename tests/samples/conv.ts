// Samples of convolutions: strides, padding, dilation, groups, depthwise, 1x1 kernels and images, empty batches.

import type { convOps } from "../../lib/ops/conv.ts";
import type { OpSample } from "./sample.ts";

interface Case {
  /** (N, C, H, W). */
  readonly x: readonly [number, number, number, number];
  /** (K, C / groups, R, S). */
  readonly w: readonly [number, number, number, number];
  readonly stride?: readonly [number, number];
  readonly padding?: readonly [number, number];
  readonly dilation?: readonly [number, number];
  readonly groups?: number;
  readonly bias?: boolean;
  readonly large?: boolean;
  readonly half?: boolean;
}

const cases: readonly Case[] = [
  { x: [2, 3, 5, 4], w: [4, 3, 3, 3], padding: [1, 1], bias: true },
  { x: [1, 1, 1, 1], w: [1, 1, 1, 1], bias: true },
  { x: [2, 2, 4, 4], w: [3, 2, 1, 1] },
  { x: [1, 2, 5, 5], w: [2, 2, 3, 2], stride: [2, 1], padding: [0, 1], bias: true },
  { x: [1, 2, 6, 5], w: [2, 2, 3, 3], stride: [2, 2], padding: [1, 1] },
  { x: [1, 1, 6, 7], w: [2, 1, 2, 3], dilation: [2, 2] },
  { x: [1, 4, 4, 3], w: [6, 2, 3, 3], padding: [1, 1], groups: 2, bias: true },
  { x: [2, 3, 4, 4], w: [3, 1, 3, 3], padding: [1, 1], groups: 3, bias: true },
  { x: [1, 2, 4, 4], w: [4, 1, 2, 2], stride: [2, 2], groups: 2 },
  { x: [1, 2, 2, 2], w: [2, 2, 3, 3], padding: [2, 2], stride: [3, 3] },
  { x: [0, 2, 4, 4], w: [3, 2, 3, 3], bias: true },
  { x: [2, 3, 4, 4], w: [4, 3, 3, 3], padding: [1, 1], bias: true, half: true },
  { x: [2, 16, 9, 8], w: [24, 16, 3, 3], padding: [1, 1], bias: true, large: true },
  { x: [2, 17, 9, 8], w: [19, 17, 3, 3], padding: [1, 1], stride: [2, 2], bias: true, large: true },
  { x: [3, 32, 7, 7], w: [16, 32, 1, 1], large: true },
  { x: [2, 32, 8, 8], w: [32, 1, 3, 3], padding: [1, 1], groups: 32, large: true },
  { x: [2, 3, 20, 20], w: [16, 3, 7, 7], stride: [4, 4], padding: [3, 3], bias: true, large: true },
  { x: [4, 32, 1, 1], w: [32, 32, 3, 3], padding: [1, 1], large: true },
  // Narrow images, which bfloat16 kernels join, and wide ones.
  { x: [35, 16, 4, 4], w: [24, 16, 3, 3], padding: [1, 1], bias: true, large: true, half: true },
  {
    x: [9, 8, 7, 8],
    w: [16, 8, 3, 3],
    padding: [0, 2],
    stride: [2, 1],
    dilation: [1, 2],
    large: true,
    half: true,
  },
  { x: [2, 16, 12, 14], w: [24, 16, 3, 3], padding: [1, 1], bias: true, large: true, half: true },
  { x: [2, 16, 12, 12], w: [16, 8, 3, 3], padding: [1, 1], groups: 2, large: true, half: true },
];

function sample(c: Case, inputs: OpSample["inputs"], more: object): OpSample {
  const { stride = [1, 1], padding = [0, 0], dilation = [1, 1], groups = 1 } = c;
  return {
    inputs,
    attrs: { stride, padding, dilation, groups, ...more },
    ...(c.large ? { large: true } : {}),
    ...(c.half ? { dtypes: ["float16", "bfloat16"] } : {}),
  };
}

/** Shape of the output. */
function outputOf(c: Case): number[] {
  const along = (i: 0 | 1): number => {
    const extent = (c.dilation?.[i] ?? 1) * (c.w[i + 2]! - 1) + 1;
    return Math.floor((c.x[i + 2]! + 2 * (c.padding?.[i] ?? 0) - extent) / (c.stride?.[i] ?? 1)) +
      1;
  };
  return [c.x[0], c.w[0], along(0), along(1)];
}

/** Rows of the op test table. */
export const convSamples = {
  conv2d: cases.map((c) =>
    sample(c, [{ shape: c.x }, { shape: c.w }, c.bias ? { shape: [c.w[0]] } : null], {})
  ),
  conv2dInput: cases.map((c) =>
    sample(c, [{ shape: outputOf(c) }, { shape: c.w }], { size: c.x.slice(2) })
  ),
  conv2dWeight: cases.map((c) =>
    sample(c, [{ shape: outputOf(c) }, { shape: c.x }], { kernel: c.w.slice(2) })
  ),
} satisfies Record<keyof typeof convOps, readonly OpSample[]>;
