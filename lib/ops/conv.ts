// Convolution over two spatial dims (as deep learning means it: cross-correlation), and its two adjoints.
// Each of the three is linear in both inputs, so their derivatives are one another. Native kernels work on
// channels-last memory; weights are (K, C / groups, R, S) row-major.
// Descriptor of all three: [N, C, H, W, K, R, S, P, Q, stride h, w, padding h, w, dilation h, w, groups].

import { canMeet } from "../amp_mode.ts";
import { isFloat } from "../dtype.ts";
import { channelsLastStrides, type Shape, show, windowSize } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { declare, kernel, type OutputSpec, type TypedKernelOp } from "./op.ts";

/** A number for each spatial dim: height, width. */
export type Pair = readonly [number, number];

/** What all three ops need to know. */
export interface ConvAttrs {
  /** Step of the window. */
  readonly stride: Pair;
  /** Zeros added on each side. */
  readonly padding: Pair;
  /** Distance between the elements of the window. */
  readonly dilation: Pair;
  /** Independent blocks of channels. */
  readonly groups: number;
}

/** Attributes of conv2dInput: also the spatial size of the input, which the output's does not determine. */
export interface ConvInputAttrs extends ConvAttrs {
  readonly size: Pair;
}

/** Attributes of conv2dWeight: also the spatial size of the weight. */
export interface ConvWeightAttrs extends ConvAttrs {
  readonly kernel: Pair;
}

/** Throws unless all are floating point and of one dtype. */
export function checkFloat(name: string, ...tensors: readonly (Tensor | null)[]): void {
  const first = tensors[0]!;
  if (!isFloat(first.dtype)) {
    throw new TypeError(
      `Cannot ${name} a ${first.dtype} tensor: convert it to a floating point dtype first`,
    );
  }
  for (const t of tensors) {
    if (t !== null && !canMeet(t.dtype, first.dtype)) {
      throw new TypeError(
        `Cannot ${name} a ${first.dtype} tensor with a ${t.dtype} one: convert one of them with to(dtype) first`,
      );
    }
  }
}

/** The shape of an image as the caller knows it: one-dimensional convolutions run on images of height 1. */
export function shownImage(name: string, shape: Shape): string {
  return show(name.endsWith("1d") ? [...shape.slice(0, -2), ...shape.slice(-1)] : shape);
}

/** Throws unless x (N, C, H, W), w (K, C / groups, R, S) and bias (K) fit together. */
export function checkConv(
  name: string,
  x: Tensor,
  w: Tensor,
  bias: Tensor | null,
  a: ConvAttrs,
): void {
  checkFloat(name, x, w, bias);
  const fail = (why: string): never => {
    throw new RangeError(
      `Cannot ${name} ${shownImage(name, x.shape)} with a weight of shape ${
        shownImage(name, w.shape)
      }: ${why}`,
    );
  };
  if (x.ndim !== 4 || w.ndim !== 4) fail("input and weight must have 4 dims");
  const [k, c, r, s] = w.shape as [number, number, number, number];
  const { groups } = a;
  if (k % groups !== 0) fail(`${k} output channels do not divide into ${groups} groups`);
  if (x.shape[1] !== c * groups) {
    fail(
      groups === 1
        ? `the input has ${x.shape[1]} channels, the weight takes ${c}`
        : `the input has ${x.shape[1]} channels, the weight takes ${groups} groups of ${c}`,
    );
  }
  const h = x.shape[2]! + 2 * a.padding[0], wide = x.shape[3]! + 2 * a.padding[1];
  const spanH = a.dilation[0] * (r - 1) + 1, spanW = a.dilation[1] * (s - 1) + 1;
  if (h < spanH || wide < spanW) {
    fail(
      `the window covers ${spanH} by ${spanW}, the padded input only ${h} by ${wide}; use a smaller kernel or more padding`,
    );
  }
  if (bias !== null && (bias.ndim !== 1 || bias.shape[0] !== k)) {
    fail(`the bias has shape ${show(bias.shape)} instead of [${k}]`);
  }
}

/** Spatial size of the result of a convolution. */
export function convSize(size: Pair, kernel: Pair, a: ConvAttrs): [number, number] {
  const along = (i: 0 | 1): number =>
    windowSize(size[i], kernel[i], a.stride[i], a.padding[i], a.dilation[i]);
  return [along(0), along(1)];
}

function image(shape: readonly number[], dtype: Tensor["dtype"]): OutputSpec {
  return { shape, dtype, strides: channelsLastStrides(shape) };
}

function spatial(t: { readonly shape: readonly number[] }): [number, number] {
  return [t.shape[2]!, t.shape[3]!];
}

/** The descriptor, from tensors in the roles of input, weight and output. */
function describe(x: Tensor, w: Tensor, y: Tensor, a: ConvAttrs): number[] {
  const [r, s] = spatial(w);
  return [
    ...x.shape,
    y.shape[1]!,
    r,
    s,
    ...spatial(y),
    ...a.stride,
    ...a.padding,
    ...a.dilation,
    a.groups,
  ];
}

interface Shaped {
  readonly shape: readonly number[];
}

/** Calls `f` with the flat positions of every product x·w that a convolution sums into y. */
function eachProduct(
  x: Shaped,
  w: Shaped,
  y: Shaped,
  a: ConvAttrs,
  f: (xAt: number, wAt: number, yAt: number) => void,
): void {
  const [n, c, h, wide] = x.shape as [number, number, number, number];
  const [k, depth, r, s] = w.shape as [number, number, number, number];
  const [p, q] = spatial(y), perGroup = k / a.groups;
  for (let b = 0; b < n; b++) {
    for (let o = 0; o < k; o++) {
      const first = Math.floor(o / perGroup) * depth; // first input channel of o's group
      for (let i = 0; i < p; i++) {
        for (let j = 0; j < q; j++) {
          const yAt = ((b * k + o) * p + i) * q + j;
          for (let d = 0; d < depth; d++) {
            for (let u = 0; u < r; u++) {
              const row = i * a.stride[0] + u * a.dilation[0] - a.padding[0];
              if (row < 0 || row >= h) continue;
              for (let v = 0; v < s; v++) {
                const col = j * a.stride[1] + v * a.dilation[1] - a.padding[1];
                if (col < 0 || col >= wide) continue;
                f(
                  ((b * c + first + d) * h + row) * wide + col,
                  ((o * depth + d) * r + u) * s + v,
                  yAt,
                );
              }
            }
          }
        }
      }
    }
  }
}

const conv2d: TypedKernelOp<ConvAttrs> = kernel({
  doc: "each output pixel: a window of x times each filter of w, summed, plus bias",
  inputs: ["x", "w"],
  optional: ["bias"],
  outputs: ["y"],
  channelsLast: ["x"],
  halves: true,
  infer: ({ x, w, bias }, a: ConvAttrs) => {
    checkConv("conv2d", x, w, bias, a);
    return [image([x.shape[0]!, w.shape[0]!, ...convSize(spatial(x), spatial(w), a)], x.dtype)];
  },
  descriptor: ({ x, w }, { y }, a) => describe(x, w, y, a),
  reference: ({ x, w, bias }, { y }, a) => {
    const [, k, p, q] = y.shape as [number, number, number, number];
    if (bias !== null) y.f.forEach((_, at) => y.f[at] = bias.f[Math.floor(at / (p * q)) % k]!);
    eachProduct(x, w, y, a, (xAt, wAt, yAt) => y.f[yAt]! += x.f[xAt]! * w.f[wAt]!);
  },
  saves: ["x", "w"],
  vjp: ({ y: g }, { x, w }, a, needs) => [
    needs.x ? call(conv2dInput, [g, w], { ...a, size: spatial(x) })[0]! : null,
    needs.w ? call(conv2dWeight, [g, x], { ...a, kernel: spatial(w) })[0]! : null,
    needs.bias ? g!.sum([0, 2, 3]) : null,
  ],
});

const conv2dInput: TypedKernelOp<ConvInputAttrs> = kernel({
  doc: "the adjoint of conv2d in its input: every window of dx gets each filter times g",
  inputs: ["g", "w"],
  outputs: ["dx"],
  channelsLast: ["g"],
  halves: true,
  infer: ({ g, w }, a: ConvInputAttrs) => {
    checkFloat("conv2dInput", g, w);
    return [image([g.shape[0]!, w.shape[1]! * a.groups, ...a.size], g.dtype)];
  },
  descriptor: ({ g, w }, { dx }, a) => describe(dx, w, g, a),
  reference: ({ g, w }, { dx }, a) =>
    eachProduct(dx, w, g, a, (xAt, wAt, yAt) => dx.f[xAt]! += g.f[yAt]! * w.f[wAt]!),
  saves: ["g", "w"],
  vjp: ({ dx: u }, { g, w }, a, needs) => [
    needs.g ? call(conv2d, [u, w, null], a)[0]! : null,
    needs.w ? call(conv2dWeight, [g, u], { ...a, kernel: spatial(w) })[0]! : null,
  ],
});

const conv2dWeight: TypedKernelOp<ConvWeightAttrs> = kernel({
  doc: "the adjoint of conv2d in its weight: each filter gets every window of x times g",
  inputs: ["g", "x"],
  outputs: ["dw"],
  channelsLast: ["g", "x"],
  halves: true,
  infer: ({ g, x }, a: ConvWeightAttrs) => {
    checkFloat("conv2dWeight", g, x);
    return [{ shape: [g.shape[1]!, x.shape[1]! / a.groups, ...a.kernel], dtype: g.dtype }];
  },
  descriptor: ({ g, x }, { dw }, a) => describe(x, dw, g, a),
  reference: ({ g, x }, { dw }, a) =>
    eachProduct(x, dw, g, a, (xAt, wAt, yAt) => dw.f[wAt]! += g.f[yAt]! * x.f[xAt]!),
  saves: ["g", "x"],
  vjp: ({ dw: u }, { g, x }, a, needs) => [
    needs.g ? call(conv2d, [x, u, null], a)[0]! : null,
    needs.x ? call(conv2dInput, [g, u], { ...a, size: spatial(x) })[0]! : null,
  ],
});

/** All convolutions. */
export const convOps = declare({ conv2d, conv2dInput, conv2dWeight });
