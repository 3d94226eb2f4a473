// Norms of rows: layer norm and RMS norm, fused, and what all norms share. See norm.ts.

import { type DType, isFloat, isHalf } from "../dtype.ts";
import { isSingle, numel, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { kernel, type RefTensor, type TypedKernelOp } from "./op.ts";

/** Attributes of layer norm and RMS norm. */
export interface LayerNormAttrs {
  /** How many of the last dims are normalised together. */
  readonly dims: number;
  /** Added to the variance (or mean square). */
  readonly eps: number;
}

/** dtype of statistics: half types are too coarse for them. */
export function statsDType(dtype: DType): DType {
  return isHalf(dtype) ? "float32" : dtype;
}

/** `x`, or its float32 copy where it is a half. */
export function widen(x: Tensor): Tensor {
  return isHalf(x.dtype) ? x.to("float32") : x;
}

/** Throws unless x is floating point and the tensors given beside it have `shape` and a dtype that goes with x's. */
export function checkInputs(
  name: string,
  x: Tensor,
  shape: Shape,
  given: Readonly<Record<string, Tensor | null>>,
): void {
  if (!isFloat(x.dtype)) {
    throw new TypeError(
      `Cannot ${name} a ${x.dtype} tensor: convert it to a floating point dtype first`,
    );
  }
  for (const [role, t] of Object.entries(given)) {
    if (t === null) continue;
    if (t.shape.length !== shape.length || t.shape.some((s, i) => s !== shape[i])) {
      throw new RangeError(
        `Cannot ${name} ${show(x.shape)} with a ${role} of shape ${show(t.shape)}: it must be ${
          show(shape)
        }`,
      );
    }
    if (t.dtype !== x.dtype && t.dtype !== statsDType(x.dtype)) {
      throw new TypeError(
        `Cannot ${name} a ${x.dtype} tensor with a ${t.dtype} ${role}: convert one of them with to(dtype) first`,
      );
    }
  }
}

/** What has a shape: a tensor, or a reference function's. */
export interface Shaped {
  readonly shape: Shape;
}

/** y · weight + bias, where given, in `dtype`. */
export function finish(
  y: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  dtype: DType,
): Tensor {
  const scaled = weight === null ? y : y.mul(weight);
  return (bias === null ? scaled : scaled.add(bias)).to(dtype);
}

/** Mean and (biased) variance of the values of each of `count` sets of `size` values. */
export function moments(
  x: RefTensor,
  count: number,
  each: (f: (i: number, set: number) => void) => void,
): { mean: Float64Array; variance: Float64Array } {
  const size = x.f.length / count;
  const mean = new Float64Array(count), variance = new Float64Array(count);
  each((i, set) => mean[set]! += x.f[i]! / size);
  each((i, set) => variance[set]! += (x.f[i]! - mean[set]!) ** 2 / size);
  return { mean, variance };
}

/**
 * The gradient of x through y = (x - mean) · rstd · weight + bias, with mean and rstd functions of x: `h` is g · weight.
 * Sets are what shares statistics.
 */
export function normBackward(
  x: RefTensor,
  h: Float64Array,
  mean: ArrayLike<number>,
  rstd: ArrayLike<number>,
  each: (f: (i: number, set: number) => void) => void,
  dx: Float64Array,
): void {
  const sets = rstd.length, size = x.f.length / sets;
  const sum = new Float64Array(sets), dot = new Float64Array(sets);
  const normal = (i: number, set: number): number => (x.f[i]! - mean[set]!) * rstd[set]!;
  each((i, set) => {
    sum[set]! += h[i]!;
    dot[set]! += h[i]! * normal(i, set);
  });
  each((i, set) =>
    dx[i] = rstd[set]! * (h[i]! - sum[set]! / size - normal(i, set) * dot[set]! / size)
  );
}

/** Rows that are normalised by themselves, and their length. */
function rowsOf(x: Shaped, dims: number): [rows: number, cols: number] {
  const at = x.shape.length - dims;
  return [numel(x.shape.slice(0, at)), numel(x.shape.slice(at))];
}

/** Calls `f` with each element's position, row and column. */
function eachRow(
  x: RefTensor,
  dims: number,
  f: (i: number, row: number, col: number) => void,
): void {
  const [, cols] = rowsOf(x, dims);
  for (let i = 0; i < x.f.length; i++) f(i, Math.floor(i / cols), i % cols);
}

/** Descriptor of layer norm, RMS norm and their backward ops: [rows, cols, eps, whether g is one element for all]. */
function describeRows(x: Tensor, a: LayerNormAttrs, g: Tensor | null = null): number[] {
  return [...rowsOf(x, a.dims), a.eps, Number(g !== null && isSingle(g.shape, g._strides))];
}

function lastDims(x: Tensor, dims: number): number[] {
  return x.shape.map((_, i) => i).slice(x.ndim - dims);
}

const layerNorm: TypedKernelOp<LayerNormAttrs> = kernel({
  doc: "x normalised by mean and variance over its last dims, times weight plus bias",
  inputs: ["x"],
  optional: ["weight", "bias"],
  outputs: ["y"],
  aux: ["mean", "rstd"],
  infer: ({ x, weight, bias }, a: LayerNormAttrs) => {
    checkInputs("layerNorm", x, x.shape.slice(x.ndim - a.dims), { weight, bias });
    const per = { shape: [rowsOf(x, a.dims)[0]], dtype: statsDType(x.dtype) };
    return [{ shape: x.shape, dtype: x.dtype }, per, per];
  },
  descriptor: ({ x }, _, a) => describeRows(x, a),
  reference: ({ x, weight, bias }, { y, mean, rstd }, a) => {
    const m = moments(x, mean.f.length, (f) => eachRow(x, a.dims, f));
    mean.f.set(m.mean);
    m.variance.forEach((v, row) => rstd.f[row] = 1 / Math.sqrt(v + a.eps));
    eachRow(x, a.dims, (i, row, col) => {
      const normal = (x.f[i]! - m.mean[row]!) * rstd.f[row]!;
      y.f[i] = normal * (weight?.f[col] ?? 1) + (bias?.f[col] ?? 0);
    });
  },
  saves: ["x", "weight", "mean", "rstd"],
  vjp: ({ y: g }, { x, weight, mean, rstd }, a) =>
    call(layerNormBackward, [g, x, mean, rstd, weight], a),
  composition: ({ x: given, weight, bias }, a) => {
    const x = widen(given), [, n] = rowsOf(x, a.dims), dims = lastDims(x, a.dims);
    const centred = x.sub(x.sum(dims, { keepdim: true }).div(n));
    const variance = centred.square().sum(dims, { keepdim: true }).div(n);
    return [finish(centred.mul(variance.add(a.eps).rsqrt()), weight, bias, given.dtype)];
  },
});

const layerNormBackward: TypedKernelOp<LayerNormAttrs> = kernel({
  doc: "all gradients of layerNorm; g may be one element",
  inputs: ["g", "x", "mean", "rstd"],
  optional: ["weight"],
  outputs: ["dx", "dweight", "dbias"],
  single: ["g"],
  infer: ({ x }, a: LayerNormAttrs) => {
    const per = { shape: x.shape.slice(x.ndim - a.dims), dtype: statsDType(x.dtype) };
    return [{ shape: x.shape, dtype: x.dtype }, per, per];
  },
  descriptor: ({ g, x }, _, a) => describeRows(x, a, g),
  reference: ({ g, x, mean, rstd, weight }, { dx, dweight, dbias }, a) => {
    const h = new Float64Array(x.f.length);
    eachRow(x, a.dims, (i, row, col) => {
      h[i] = g.f[i]! * (weight?.f[col] ?? 1);
      dweight.f[col]! += g.f[i]! * (x.f[i]! - mean.f[row]!) * rstd.f[row]!;
      dbias.f[col]! += g.f[i]!;
    });
    normBackward(x, h, mean.f, rstd.f, (f) => eachRow(x, a.dims, f), dx.f);
  },
  saves: [],
  vjp: "nondifferentiable",
});

const rmsNorm: TypedKernelOp<LayerNormAttrs> = kernel({
  doc: "x divided by the root of its mean square over the last dims, times weight",
  inputs: ["x"],
  optional: ["weight"],
  outputs: ["y"],
  aux: ["rstd"],
  infer: ({ x, weight }, a: LayerNormAttrs) => {
    checkInputs("rmsNorm", x, x.shape.slice(x.ndim - a.dims), { weight });
    return [{ shape: x.shape, dtype: x.dtype }, {
      shape: [rowsOf(x, a.dims)[0]],
      dtype: statsDType(x.dtype),
    }];
  },
  descriptor: ({ x }, _, a) => describeRows(x, a),
  reference: ({ x, weight }, { y, rstd }, a) => {
    const [rows, cols] = rowsOf(x, a.dims), square = new Float64Array(rows);
    eachRow(x, a.dims, (i, row) => square[row]! += x.f[i]! ** 2 / cols);
    square.forEach((s, row) => rstd.f[row] = 1 / Math.sqrt(s + a.eps));
    eachRow(x, a.dims, (i, row, col) => y.f[i] = x.f[i]! * rstd.f[row]! * (weight?.f[col] ?? 1));
  },
  saves: ["x", "weight", "rstd"],
  vjp: ({ y: g }, { x, weight, rstd }, a) => call(rmsNormBackward, [g, x, rstd, weight], a),
  composition: ({ x: given, weight }, a) => {
    const x = widen(given), [, n] = rowsOf(x, a.dims);
    const square = x.square().sum(lastDims(x, a.dims), { keepdim: true }).div(n);
    return [finish(x.mul(square.add(a.eps).rsqrt()), weight, null, given.dtype)];
  },
});

const rmsNormBackward: TypedKernelOp<LayerNormAttrs> = kernel({
  doc: "all gradients of rmsNorm; g may be one element",
  inputs: ["g", "x", "rstd"],
  optional: ["weight"],
  outputs: ["dx", "dweight"],
  single: ["g"],
  infer: ({ x }, a: LayerNormAttrs) => [{ shape: x.shape, dtype: x.dtype }, {
    shape: x.shape.slice(x.ndim - a.dims),
    dtype: statsDType(x.dtype),
  }],
  descriptor: ({ g, x }, _, a) => describeRows(x, a, g),
  reference: ({ g, x, rstd, weight }, { dx, dweight }, a) => {
    const [rows, cols] = rowsOf(x, a.dims), dot = new Float64Array(rows);
    eachRow(x, a.dims, (i, row, col) => {
      const normal = x.f[i]! * rstd.f[row]!;
      dweight.f[col]! += g.f[i]! * normal;
      dot[row]! += g.f[i]! * (weight?.f[col] ?? 1) * normal;
    });
    eachRow(x, a.dims, (i, row, col) => {
      const h = g.f[i]! * (weight?.f[col] ?? 1), normal = x.f[i]! * rstd.f[row]!;
      dx.f[i] = rstd.f[row]! * (h - normal * dot[row]! / cols);
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** Layer norm and RMS norm, to be named in the table of norm.ts. */
export const rowNorms = { layerNorm, layerNormBackward, rmsNorm, rmsNormBackward };
