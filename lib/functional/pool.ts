// Pooling as functions, in PyTorch's terms. Results keep the memory order of the images.

import { call } from "../dispatch.ts";
import { isInt } from "../dtype.ts";
import { batched, both, inMemoryOrder, type Pair } from "./image.ts";
import { type PoolAttrs, poolOps } from "../ops/pool.ts";
import { checkOptions, checkTensors, told } from "../options.ts";
import { scoped } from "../scope.ts";
import type { Tensor } from "../tensor/mod.ts";

/** Options of maxPool2d. */
export interface MaxPoolOptions {
  /** Step of the window (default: the window's size). */
  readonly stride?: Pair | null;
  /** Border that counts as -∞ (default 0). */
  readonly padding?: Pair;
  /** Distance between the window's elements (default 1). */
  readonly dilation?: Pair;
  /** Let the last windows reach beyond the border (default false). */
  readonly ceilMode?: boolean;
  /** Also return the position h * W + w of each maximum (default false). */
  readonly returnIndices?: boolean;
}

/** Options of avgPool2d. */
export interface AvgPoolOptions {
  /** Step of the window (default: the window's size). */
  readonly stride?: Pair | null;
  /** Border of zeros (default 0). */
  readonly padding?: Pair;
  /** Let the last windows reach beyond the border (default false). */
  readonly ceilMode?: boolean;
  /** Count the zeros of the border in the mean (default true). */
  readonly countIncludePad?: boolean;
  /** What to divide by instead of the window's size. */
  readonly divisorOverride?: number | null;
}

type Window = Omit<PoolAttrs, "size" | "channelsLast">;

function windowOf(
  what: string,
  kernelSize: Pair,
  options: Omit<MaxPoolOptions, "returnIndices">,
): Window {
  const kernel = both(what, "kernelSize", kernelSize, 1);
  const stride = both(what, "stride", options.stride ?? kernelSize, 1);
  const padding = both(what, "padding", options.padding ?? 0, 0);
  const dilation = both(what, "dilation", options.dilation ?? 1, 1);
  padding.forEach((p, i) => {
    const span = dilation[i]! * (kernel[i]! - 1) + 1;
    if (2 * p > span) {
      throw new RangeError(
        `Cannot ${what} with padding ${p}: it must be at most half of the window's extent ${span}`,
      );
    }
  });
  const ceilMode = options.ceilMode ?? false;
  return { kernel, stride, padding, dilation, ceilMode, countIncludePad: true, divisorOverride: 0 };
}

function sizeOf(t: Tensor, channelsLast: boolean): readonly [number, number] {
  return channelsLast ? [t.shape[1]!, t.shape[2]!] : [t.shape[2]!, t.shape[3]!];
}

/**
 * The largest element of each window; NaN wins, the first of equals counts.
 *
 * @param x (N, C, H, W) or (C, H, W)
 * @returns (N, C, P, Q); with `returnIndices` also the positions h * W + w (int64)
 * @throws RangeError where no window fits
 */
export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  options: MaxPoolOptions & { readonly returnIndices: true },
): [Tensor, Tensor];
/** The largest element of each window. */
export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  options?: MaxPoolOptions & { readonly returnIndices?: false },
): Tensor;
/** Both forms. */
export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  options: MaxPoolOptions = {},
): Tensor | [Tensor, Tensor] {
  checkOptions("maxPool2d", options, [
    "stride",
    "padding",
    "dilation",
    "ceilMode",
    "returnIndices",
  ]);
  const window = windowOf("maxPool2d", kernelSize, options);
  checkTensors("maxPool2d", { input: x });
  if (isInt(x.dtype)) {
    const [values, indices] = maxima(x, kernelSize, options);
    if (options.returnIndices) return [values, indices];
    indices.dispose();
    return values;
  }
  const results = batched(
    "maxPool2d",
    x,
    4,
    (t) =>
      inMemoryOrder(t, (rows, channelsLast) => {
        const size = sizeOf(rows, channelsLast);
        const found = call(poolOps.maxPool2d, [rows], { ...window, size, channelsLast });
        if (options.returnIndices) return found;
        found[1]!.dispose();
        return [found[0]!];
      }),
  );
  return options.returnIndices ? [results[0]!, results[1]!] : results[0]!;
}

/** The largest integer of each window and its position: found in float64, then looked up. */
function maxima(x: Tensor, kernelSize: Pair, options: MaxPoolOptions): [Tensor, Tensor] {
  const wide = x.to("float64");
  const [y, indices] = maxPool2d(wide, kernelSize, { ...options, returnIndices: true });
  wide.dispose();
  y.dispose();
  const values = scoped(() => x.flatten(-2).gather(-1, indices.flatten(-2)).reshape(indices.shape));
  return [values, indices];
}

/**
 * The mean of each window.
 *
 * @param x (N, C, H, W) or (C, H, W)
 * @returns (N, C, P, Q)
 * @throws RangeError where no window fits
 */
export function avgPool2d(x: Tensor, kernelSize: Pair, options: AvgPoolOptions = {}): Tensor {
  checkOptions("avgPool2d", options, [
    "stride",
    "padding",
    "ceilMode",
    "countIncludePad",
    "divisorOverride",
  ]);
  const { countIncludePad = true, divisorOverride, ...rest } = options;
  if (divisorOverride === 0) {
    throw new RangeError("Cannot avgPool2d with divisorOverride 0: it must not be zero");
  }
  const window: Window = {
    ...windowOf("avgPool2d", kernelSize, rest),
    countIncludePad,
    divisorOverride: divisorOverride ?? 0,
  };
  return batched("avgPool2d", x, 4, (t) =>
    inMemoryOrder(t, (rows, channelsLast) => {
      const size = sizeOf(rows, channelsLast);
      return call(poolOps.avgPool2d, [rows], { ...window, size, channelsLast });
    }))[0]!;
}

/** A size for both spatial dims, or one for each; null keeps the input's. */
export type AdaptiveSize = number | null | readonly [number | null, number | null];

/** Both values of an AdaptiveSize, checked. */
export function adaptiveSizes(
  what: string,
  size: AdaptiveSize,
): readonly [number | null, number | null] {
  const both = typeof size === "number" || size === null ? [size, size] as const : size;
  const fits = (s: unknown): boolean =>
    s === null || (Number.isSafeInteger(s) && (s as number) >= 0);
  if (Array.isArray(both) && both.length === 2 && both.every(fits)) return both;
  throw new TypeError(
    `Cannot ${what} to ${
      told(size)
    }: give an integer of at least 0, or [height, width] with null to keep a size`,
  );
}

/**
 * Means over windows that divide the images into the given number of rows and columns, as evenly as can be.
 *
 * @param x (N, C, H, W) or (C, H, W)
 * @param outputSize rows and columns; null keeps the input's
 * @returns (N, C, P, Q)
 */
export function adaptiveAvgPool2d(
  x: Tensor,
  outputSize: AdaptiveSize,
): Tensor {
  const given = adaptiveSizes("adaptiveAvgPool2d", outputSize);
  return batched("adaptiveAvgPool2d", x, 4, (t) => {
    const wanted: Pair = [given[0] ?? t.shape[2]!, given[1] ?? t.shape[3]!];
    const output = both("adaptiveAvgPool2d", "outputSize", wanted, 0);
    return inMemoryOrder(t, (rows, channelsLast) => {
      const size = sizeOf(rows, channelsLast);
      return call(poolOps.adaptiveAvgPool2d, [rows], { size, output, channelsLast });
    });
  })[0]!;
}
