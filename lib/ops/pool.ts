// Pooling over windows of two spatial dims: maximum, average, adaptive average, with their adjoints.
// Every op takes row-major images in one of two orders of dims, (N, C, H, W) or (with `channelsLast`) (N, H, W, C),
// and gives its results in the same order.

import { isFloat } from "../dtype.ts";
import { show, windowSize } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { declare, kernel, type TypedKernelOp } from "./op.ts";
import type { Pair } from "./conv.ts";

/** How dims are ordered. */
export interface ImageOrder {
  /** (N, H, W, C) instead of (N, C, H, W). */
  readonly channelsLast: boolean;
}

/** Attributes of maxPool2d, avgPool2d and their adjoints. */
export interface PoolAttrs extends ImageOrder {
  /** Height and width of x. */
  readonly size: Pair;
  readonly kernel: Pair;
  readonly stride: Pair;
  /** Border on each side that counts as -∞ (max) or 0 (average). */
  readonly padding: Pair;
  /** Distance between the elements of a window (max only). */
  readonly dilation: Pair;
  /** Windows may reach beyond the right and bottom border. */
  readonly ceilMode: boolean;
  /** Whether averages count padding. */
  readonly countIncludePad: boolean;
  /** Divides averages instead of the window's size; 0: none. */
  readonly divisorOverride: number;
}

/** Attributes of adaptive pooling and its adjoint. */
export interface AdaptiveAttrs extends ImageOrder {
  /** Height and width of x. */
  readonly size: Pair;
  /** Height and width of y. */
  readonly output: Pair;
}

/** Sizes by role. */
interface Images {
  readonly n: number;
  readonly c: number;
  readonly h: number;
  readonly w: number;
}

interface Shaped {
  readonly shape: readonly number[];
}

function images(t: Shaped, { channelsLast }: ImageOrder): Images {
  const [n, a, b, c] = t.shape as [number, number, number, number];
  return channelsLast ? { n, h: a, w: b, c } : { n, c: a, h: b, w: c };
}

function shapeOf({ n, c, h, w }: Images, { channelsLast }: ImageOrder): number[] {
  return channelsLast ? [n, h, w, c] : [n, c, h, w];
}

/** The flat position of every plane's elements: start(n, c) + pixel * step. */
function planes(
  t: Shaped,
  order: ImageOrder,
): { step: number; start: (n: number, c: number) => number } {
  const { c, h, w } = images(t, order);
  return order.channelsLast
    ? { step: c, start: (n, channel) => n * h * w * c + channel }
    : { step: 1, start: (n, channel) => (n * c + channel) * h * w };
}

function checkImages(name: string, t: Tensor): void {
  if (!isFloat(t.dtype)) {
    throw new TypeError(
      `Cannot ${name} a ${t.dtype} tensor: convert it to a floating point dtype first`,
    );
  }
  if (t.ndim !== 4) throw new RangeError(`Cannot ${name} ${show(t.shape)}: it takes 4 dims`);
}

/** Spatial size of the pooled images. */
function pooledSize(name: string, { h, w }: Images, a: PoolAttrs): [number, number] {
  const along = (size: number, i: 0 | 1): number =>
    windowSize(size, a.kernel[i], a.stride[i], a.padding[i], a.dilation[i], a.ceilMode);
  const p = along(h, 0), q = along(w, 1);
  if (p < 1 || q < 1) {
    throw new RangeError(
      `Cannot ${name} images of ${h} by ${w} with windows of ${
        show(a.kernel)
      }: no window fits; use smaller windows or padding`,
    );
  }
  return [p, q];
}

// Descriptor of maxPool2d, avgPool2d and their adjoints: [N, C, H, W, P, Q, kernel h, w, stride h, w, padding h, w,
// dilation h, w, countIncludePad, divisorOverride (0: none), channelsLast]; (H, W) is the size of x, (P, Q) of y.
function describe(x: Tensor, y: Tensor, a: PoolAttrs): number[] {
  const from = images(x, a), to = images(y, a);
  return [
    from.n,
    from.c,
    from.h,
    from.w,
    to.h,
    to.w,
    ...a.kernel,
    ...a.stride,
    ...a.padding,
    ...a.dilation,
    Number(a.countIncludePad),
    a.divisorOverride,
    Number(a.channelsLast),
  ];
}

/** The descriptor of adaptive pooling: [N, C, H, W, P, Q, channelsLast]. */
function describeAdaptive(x: Tensor, y: Tensor, a: AdaptiveAttrs): number[] {
  const from = images(x, a), to = images(y, a);
  return [from.n, from.c, from.h, from.w, to.h, to.w, Number(a.channelsLast)];
}

/** Rows [top, bottom) and columns [left, right) that an average covers, and what it divides by. */
type Window = readonly [top: number, bottom: number, left: number, right: number, divisor: number];

function averageWindow({ h, w }: Images, a: PoolAttrs): (p: number, q: number) => Window {
  const along = (i: 0 | 1, at: number, size: number): [number, number, number] => {
    const from = at * a.stride[i] - a.padding[i];
    const to = Math.min(from + a.kernel[i], size + a.padding[i]);
    return [Math.max(from, 0), Math.min(to, size), to - from];
  };
  return (p, q) => {
    const [top, bottom, tall] = along(0, p, h), [left, right, wide] = along(1, q, w);
    const counted = a.countIncludePad ? tall * wide : (bottom - top) * (right - left);
    return [top, bottom, left, right, a.divisorOverride || counted];
  };
}

function adaptiveWindow(from: Images, to: Images): (p: number, q: number) => Window {
  return (p, q) => {
    const top = Math.floor(p * from.h / to.h), bottom = Math.ceil((p + 1) * from.h / to.h);
    const left = Math.floor(q * from.w / to.w), right = Math.ceil((q + 1) * from.w / to.w);
    return [top, bottom, left, right, (bottom - top) * (right - left)];
  };
}

/** Calls `f` for each element of x in each window, with the window's position in y and its divisor. */
function eachAveraged(
  x: Shaped,
  y: Shaped,
  order: ImageOrder,
  window: (p: number, q: number) => Window,
  f: (xAt: number, yAt: number, divisor: number) => void,
): void {
  const from = images(x, order), to = images(y, order);
  const source = planes(x, order), target = planes(y, order);
  for (let n = 0; n < to.n; n++) {
    for (let c = 0; c < to.c; c++) {
      for (let p = 0; p < to.h; p++) {
        for (let q = 0; q < to.w; q++) {
          const yAt = target.start(n, c) + (p * to.w + q) * target.step;
          const [top, bottom, left, right, divisor] = window(p, q);
          for (let i = top; i < bottom; i++) {
            for (let j = left; j < right; j++) {
              f(source.start(n, c) + (i * from.w + j) * source.step, yAt, divisor);
            }
          }
        }
      }
    }
  }
}

const maxPool2d: TypedKernelOp<PoolAttrs> = kernel({
  doc:
    "the largest element of each window (NaN wins, the first of equals), and its position h * W + w",
  inputs: ["x"],
  outputs: ["y", "indices"],
  gpuHalves: ["x", "y"],
  infer: ({ x }, a: PoolAttrs) => {
    checkImages("maxPool2d", x);
    const from = images(x, a), [h, w] = pooledSize("maxPool2d", from, a);
    const shape = shapeOf({ ...from, h, w }, a);
    return [{ shape, dtype: x.dtype }, { shape, dtype: "int64" }];
  },
  descriptor: ({ x }, { y }, a) => describe(x, y, a),
  reference: ({ x }, { y, indices }, a) => {
    const from = images(x, a), to = images(y, a);
    const source = planes(x, a), target = planes(y, a);
    for (let n = 0; n < to.n; n++) {
      for (let c = 0; c < to.c; c++) {
        for (let p = 0; p < to.h; p++) {
          for (let q = 0; q < to.w; q++) {
            let best = -Infinity, index = -1;
            for (let u = 0; u < a.kernel[0]; u++) {
              const i = p * a.stride[0] - a.padding[0] + u * a.dilation[0];
              if (i < 0 || i >= from.h) continue;
              for (let v = 0; v < a.kernel[1]; v++) {
                const j = q * a.stride[1] - a.padding[1] + v * a.dilation[1];
                if (j < 0 || j >= from.w) continue;
                const value = x.f[source.start(n, c) + (i * from.w + j) * source.step]!;
                if (index < 0 || value > best || value !== value) {
                  best = value;
                  index = i * from.w + j;
                }
              }
            }
            const at = target.start(n, c) + (p * to.w + q) * target.step;
            y.f[at] = best;
            indices.i[at] = BigInt(index);
          }
        }
      }
    }
  },
  saves: ["indices"],
  vjp: ({ y: g }, { indices }, a) => [call(maxPool2dBackward, [g, indices], a)[0]!],
});

// Kernels may look for each position within its window alone.
const maxPool2dBackward: TypedKernelOp<PoolAttrs> = kernel({
  doc: "the adjoint of maxPool2d: g added up at the positions that the maxima came from",
  inputs: ["g", "indices"],
  outputs: ["dx"],
  gpuHalves: ["g", "dx"],
  infer: ({ g }, a: PoolAttrs) => {
    const [h, w] = a.size;
    return [{ shape: shapeOf({ ...images(g, a), h, w }, a), dtype: g.dtype }];
  },
  descriptor: ({ g }, { dx }, a) => describe(dx, g, a),
  reference: ({ g, indices }, { dx }, a) => {
    const from = images(g, a), source = planes(g, a), target = planes(dx, a);
    for (let n = 0; n < from.n; n++) {
      for (let c = 0; c < from.c; c++) {
        for (let pixel = 0; pixel < from.h * from.w; pixel++) {
          const at = source.start(n, c) + pixel * source.step, index = Number(indices.i[at]!);
          if (index >= 0) dx.f[target.start(n, c) + index * target.step]! += g.f[at]!;
        }
      }
    }
  },
  saves: ["indices"],
  // The derivative picks, at each maximum's position, what came for it.
  vjp: ({ dx: u }, { indices }, a) => {
    const flat = (t: Tensor): Tensor => {
      const { n, c, h, w } = images(t, a);
      return (a.channelsLast ? t.permute(0, 3, 1, 2) : t).reshape([n * c, h * w]);
    };
    const { n, c, h, w } = images(indices, a);
    const picked = flat(u!).gather(1, flat(indices)).reshape([n, c, h, w]);
    return [a.channelsLast ? picked.permute(0, 2, 3, 1) : picked, null];
  },
});

const avgPool2d: TypedKernelOp<PoolAttrs> = kernel({
  doc: "the mean of each window",
  inputs: ["x"],
  outputs: ["y"],
  gpuHalves: ["x", "y"],
  infer: ({ x }, a: PoolAttrs) => {
    checkImages("avgPool2d", x);
    const from = images(x, a), [h, w] = pooledSize("avgPool2d", from, a);
    return [{ shape: shapeOf({ ...from, h, w }, a), dtype: x.dtype }];
  },
  descriptor: ({ x }, { y }, a) => describe(x, y, a),
  reference: ({ x }, { y }, a) =>
    eachAveraged(
      x,
      y,
      a,
      averageWindow(images(x, a), a),
      (xAt, yAt, divisor) => y.f[yAt]! += x.f[xAt]! / divisor,
    ),
  saves: [],
  vjp: ({ y: g }, _, a) => [call(avgPool2dBackward, [g], a)[0]!],
});

const avgPool2dBackward: TypedKernelOp<PoolAttrs> = kernel({
  doc: "the adjoint of avgPool2d: g spread evenly over its windows",
  inputs: ["g"],
  outputs: ["dx"],
  gpuHalves: ["g", "dx"],
  infer: ({ g }, a: PoolAttrs) => {
    const [h, w] = a.size;
    return [{ shape: shapeOf({ ...images(g, a), h, w }, a), dtype: g.dtype }];
  },
  descriptor: ({ g }, { dx }, a) => describe(dx, g, a),
  reference: ({ g }, { dx }, a) =>
    eachAveraged(
      dx,
      g,
      a,
      averageWindow(images(dx, a), a),
      (xAt, yAt, divisor) => dx.f[xAt]! += g.f[yAt]! / divisor,
    ),
  saves: [],
  vjp: ({ dx: u }, _, a) => [call(avgPool2d, [u], a)[0]!],
});

const adaptiveAvgPool2d: TypedKernelOp<AdaptiveAttrs> = kernel({
  doc: "means over windows that divide x into `output` parts along each dim, as evenly as can be",
  inputs: ["x"],
  outputs: ["y"],
  gpuHalves: ["x", "y"],
  infer: ({ x }, a: AdaptiveAttrs) => {
    checkImages("adaptiveAvgPool2d", x);
    const from = images(x, a), [h, w] = a.output;
    if (from.h === 0 || from.w === 0) {
      throw new RangeError(
        `Cannot adaptiveAvgPool2d images of ${from.h} by ${from.w}: they have no pixels`,
      );
    }
    return [{ shape: shapeOf({ ...from, h, w }, a), dtype: x.dtype }];
  },
  descriptor: ({ x }, { y }, a) => describeAdaptive(x, y, a),
  reference: ({ x }, { y }, a) =>
    eachAveraged(
      x,
      y,
      a,
      adaptiveWindow(images(x, a), images(y, a)),
      (xAt, yAt, divisor) => y.f[yAt]! += x.f[xAt]! / divisor,
    ),
  saves: [],
  vjp: ({ y: g }, _, a) => [call(adaptiveAvgPool2dBackward, [g], a)[0]!],
});

const adaptiveAvgPool2dBackward: TypedKernelOp<AdaptiveAttrs> = kernel({
  doc: "the adjoint of adaptiveAvgPool2d: g spread evenly over its windows ",
  inputs: ["g"],
  outputs: ["dx"],
  gpuHalves: ["g", "dx"],
  infer: ({ g }, a: AdaptiveAttrs) => {
    const [h, w] = a.size;
    return [{ shape: shapeOf({ ...images(g, a), h, w }, a), dtype: g.dtype }];
  },
  descriptor: ({ g }, { dx }, a) => describeAdaptive(dx, g, a),
  reference: ({ g }, { dx }, a) =>
    eachAveraged(
      dx,
      g,
      a,
      adaptiveWindow(images(dx, a), images(g, a)),
      (xAt, yAt, divisor) => dx.f[xAt]! += g.f[yAt]! / divisor,
    ),
  saves: [],
  vjp: ({ dx: u }, _, a) => [call(adaptiveAvgPool2d, [u], a)[0]!],
});

/** All pooling ops. */
export const poolOps = declare({
  maxPool2d,
  maxPool2dBackward,
  avgPool2d,
  avgPool2dBackward,
  adaptiveAvgPool2d,
  adaptiveAvgPool2dBackward,
});
