// Reductions along any dims: sums, means, products, extremes, variance, norm, any and all; and the extremes of one
// dim with their positions. The first kind reads x with any strides; its descriptor is
//   [nkeep, nreduce, keep shape..., keep strides..., reduced shape..., reduced strides..., attributes...],
// the output being row-major over the kept dims. The second kind reads row-major x as [outer, size, inner].

import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { type DType, dtypes, isInt } from "../dtype.ts";
import { numel, reduceShape, type Shape, show } from "../shape.ts";
import { indexOps } from "./index.ts";
import { layoutOps } from "./layout.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp, type ViewOp } from "./op.ts";

/** What a reduction reduces. */
export interface ReduceAttrs {
  /** Wrapped dims. */
  readonly dims: readonly number[];
  /** Whether reduced dims stay with size 1. */
  readonly keepdim: boolean;
  /** The shape of x (the derivative needs it, but not x). */
  readonly shape: Shape;
}

/** Attributes of `var`. */
export interface VarAttrs extends ReduceAttrs {
  /** What is subtracted from the count in the divisor. */
  readonly correction: number;
}

/** Attributes of `amax` and `amin`. */
export interface ExtremesAttrs extends ReduceAttrs {
  /** Whether NaNs share the gradient of a result that is NaN (`max()`), instead of making all of it NaN (`amax()`). */
  readonly sharedByNaN?: boolean;
}

/** Attributes of reductions along one dim. */
export interface DimAttrs {
  /** Wrapped dim. */
  readonly dim: number;
  /** Whether the dim stays with size 1. */
  readonly keepdim: boolean;
}

/** Attributes of `max` and `min`. */
export interface ExtremeAttrs extends DimAttrs {
  /** The size of x along the dim. */
  readonly size: number;
}

/** The descriptor of reductions along any dims. */
function reduceDescriptor(x: Tensor, dims: readonly number[]): number[] {
  const keep = x.shape.map((_, i) => i).filter((i) => !dims.includes(i));
  const gone = dims.toSorted((a, b) => a - b);
  const pick = (from: Shape, which: readonly number[]): number[] => which.map((i) => from[i]!);
  return [
    keep.length,
    gone.length,
    ...pick(x.shape, keep),
    ...pick(x._strides, keep),
    ...pick(x.shape, gone),
    ...pick(x._strides, gone),
  ];
}

/** `[outer, size, inner]`: a row-major tensor seen from `dim` (a 0-d tensor has one element along dim 0). */
export function splitAt(shape: Shape, dim: number): [number, number, number] {
  return [numel(shape.slice(0, dim)), shape[dim] ?? 1, numel(shape.slice(dim + 1))];
}

/** Calls `f(at)` with the positions of each line along `dim`, in order: `first`, `first + step`, ... */
export function eachLine(
  shape: Shape,
  dim: number,
  f: (first: number, step: number, size: number, line: number) => void,
): void {
  const [outer, size, inner] = splitAt(shape, dim);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) f(o * size * inner + i, inner, size, o * inner + i);
  }
}

/** Calls `f(element, group)` for each element in logical order, with the index of the output it belongs to. */
function eachGroup(
  x: RefTensor,
  dims: readonly number[],
  f: (i: number, group: number) => void,
): void {
  const { shape } = x, nd = shape.length;
  const steps = new Array<number>(nd).fill(0);
  let step = 1;
  for (let d = nd - 1; d >= 0; d--) {
    if (dims.includes(d)) continue;
    steps[d] = step;
    step *= shape[d]!;
  }
  const index = new Array<number>(nd).fill(0);
  const n = numel(shape);
  let group = 0;
  for (let i = 0; i < n; i++) {
    f(i, group);
    for (let d = nd - 1; d >= 0; d--) {
      group += steps[d]!;
      if (++index[d]! < shape[d]!) break;
      group -= steps[d]! * shape[d]!;
      index[d] = 0;
    }
  }
}

/** How many elements make one result. */
export function reducedCount(shape: Shape, dims: readonly number[]): number {
  return dims.reduce((n, d) => n * shape[d]!, 1);
}

/** Sums of integers and bools are int64, as in PyTorch. */
export function sumDType(dtype: DType): DType {
  return dtypes[dtype].kind === "float" ? dtype : "int64";
}

/** A result or its gradient with the reduced dims back as size 1. */
function restore(y: Tensor, a: ReduceAttrs): Tensor {
  return a.keepdim ? y : y.reshape(reduceShape(a.shape, a.dims, true));
}

function reduced(
  x: Tensor,
  a: ReduceAttrs,
  dtype: DType = x.dtype,
): [{ shape: Shape; dtype: DType }] {
  return [{ shape: reduceShape(x.shape, a.dims, a.keepdim), dtype }];
}

/** Throws where an extreme would have no elements to choose from. */
function requireElements(what: string, shape: Shape, dims: readonly number[]): void {
  if (reducedCount(shape, dims) > 0 || numel(reduceShape(shape, dims, false)) === 0) return;
  const empty = dims.filter((d) => shape[d] === 0);
  throw new RangeError(
    `Cannot take ${what} of ${show(shape)} along dim ${
      empty.join(", ")
    }: there are no elements, and no ` +
      `smallest or largest of none; reduce other dims, or concatenate a default first`,
  );
}

/** The elements of any dtype; `>` compares numbers and bigints alike. */
function elementsOf(x: RefTensor): Float64Array | BigInt64Array {
  return isInt(x.dtype) ? x.i : x.f;
}

/** Whether `a` comes before `best`: NaN wins, the first on ties. */
function wins(a: number | bigint, best: number | bigint, largest: boolean): boolean {
  if (best !== best) return false;
  return a !== a || (largest ? a > best : a < best);
}

/** An extreme over dims; its gradient is shared evenly among ties. */
function extreme(name: "amax" | "amin"): TypedKernelOp<ExtremesAttrs> {
  const largest = name === "amax";
  return kernel({
    doc: `the ${
      largest ? "largest" : "smallest"
    } of x over dims; NaN wins; ties share the gradient evenly`,
    inputs: ["x"],
    outputs: ["y"],
    strided: ["x"],
    infer: ({ x }, a: ExtremesAttrs) => {
      requireElements(name, x.shape, a.dims);
      return reduced(x, a);
    },
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      const from = elementsOf(x), to = elementsOf(y);
      const seen = new Uint8Array(to.length);
      eachGroup(x, a.dims, (i, k) => {
        if (seen[k] === 0 || wins(from[i]!, to[k]!, largest)) to[k] = from[i]!;
        seen[k] = 1;
      });
    },
    saves: ["x", "y"],
    vjp: ({ y: g }, { x, y }, a) => {
      const equal = x.eq(restore(y, a));
      const best = (a.sharedByNaN ? equal.logicalOr(x.isnan()) : equal).to(x.dtype);
      const ties = best.sum(a.dims, { keepdim: true });
      return [best.mul(restore(g!, a).div(ties))];
    },
  });
}

/** An extreme along one dim with its position; the gradient goes to that position. */
function extremeAt(largest: boolean): TypedKernelOp<ExtremeAttrs> {
  return kernel({
    doc: `the ${largest ? "largest" : "smallest"} of x along dim and its first position; NaN wins`,
    inputs: ["x"],
    outputs: ["values", "indices"],
    infer: ({ x }, a: ExtremeAttrs) => {
      requireElements(largest ? "max" : "min", x.shape, x.ndim > 0 ? [a.dim] : []);
      const shape = reduceShape(x.shape, [a.dim], a.keepdim);
      return [{ shape, dtype: x.dtype }, { shape, dtype: "int64" }];
    },
    // [outer, size, inner]
    descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
    reference: ({ x }, { values, indices }, { dim }) => {
      const from = elementsOf(x), to = elementsOf(values);
      eachLine(x.shape, dim, (first, step, size, line) => {
        let best = 0;
        for (let k = 1; k < size; k++) {
          if (wins(from[first + k * step]!, from[first + best * step]!, largest)) best = k;
        }
        to[line] = from[first + best * step]!;
        indices.i[line] = BigInt(best);
      });
    },
    saves: ["indices"],
    vjp: ({ values: g }, { indices }, { dim, size, keepdim }) => {
      const kept = (t: Tensor): Tensor =>
        keepdim ? t : t.reshape([...t.shape.slice(0, dim), 1, ...t.shape.slice(dim)]);
      return [call(indexOps.scatterAdd, [kept(indices), kept(g!), null], { dim, size })[0]!];
    },
  });
}

/** The position of an extreme along one dim. */
function position(largest: boolean): TypedKernelOp<DimAttrs> {
  return kernel({
    doc: `the first position of the ${
      largest ? "largest" : "smallest"
    } of x along dim (int64); NaN wins`,
    inputs: ["x"],
    outputs: ["y"],
    infer: ({ x }, a: DimAttrs) => {
      requireElements(largest ? "argmax" : "argmin", x.shape, x.ndim > 0 ? [a.dim] : []);
      return [{ shape: reduceShape(x.shape, [a.dim], a.keepdim), dtype: "int64" }];
    },
    // [outer, size, inner]
    descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
    reference: ({ x }, { y }, { dim }) => {
      const from = elementsOf(x);
      eachLine(x.shape, dim, (first, step, size, line) => {
        let best = 0;
        for (let k = 1; k < size; k++) {
          if (wins(from[first + k * step]!, from[first + best * step]!, largest)) best = k;
        }
        y.i[line] = BigInt(best);
      });
    },
    saves: [],
    vjp: "nondifferentiable",
  });
}

/** `any` and `all` of a bool tensor. */
function logical(all: boolean): TypedKernelOp<ReduceAttrs> {
  return kernel({
    doc: `whether ${all ? "all elements are" : "any element is"} true, over dims`,
    inputs: ["x"],
    outputs: ["y"],
    strided: ["x"],
    infer: ({ x }, a: ReduceAttrs) => reduced(x, a),
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      y.f.fill(all ? 1 : 0);
      eachGroup(x, a.dims, (i, k) => {
        if ((x.f[i] !== 0) !== all) y.f[k] = all ? 0 : 1;
      });
    },
    saves: [],
    vjp: "nondifferentiable",
  });
}

/** Columns [start, start + length) of a matrix, as a view. */
function columns(x: Tensor, start: number, length: number): Tensor {
  const dims = [{ start: 0, length: x.shape[0]!, step: 1 }, { start, length, step: 1 }];
  return x._viewAs(layoutOps.window as unknown as ViewOp<unknown>, { dims });
}

/** x as a matrix: a row per result, the reduced elements along it; and the order of dims that it has. */
function asRows(x: Tensor, dims: readonly number[]): { rows: Tensor; order: number[] } {
  const keep = x.shape.map((_, i) => i).filter((i) => !dims.includes(i));
  const order = [...keep, ...dims];
  const sizes = [numel(keep.map((i) => x.shape[i]!)), reducedCount(x.shape, dims)];
  return { rows: x.permute(order).reshape(sizes), order };
}

/** The product of each row by multiplying halves: every derivative of it exists, zeros or not. */
function rowProducts(x: Tensor): Tensor {
  if (x.shape[1] === 0) return x.sum(1, { keepdim: true }).add(1);
  while (x.shape[1]! > 1) {
    const size = x.shape[1]!, half = size >> 1;
    const rest = size % 2 === 1 ? columns(x, size - 1, 1) : null;
    x = columns(x, 0, half).mul(columns(x, half, half));
    if (rest !== null) x = half === 1 ? x.mul(rest) : productInto(x, rest);
  }
  return x;
}

/** x with its first column multiplied by `rest`. */
function productInto(x: Tensor, rest: Tensor): Tensor {
  const y = x.clone();
  columns(y, 0, 1).mul_(rest);
  return y;
}

const prodBackward = kernel({
  doc: "g times the product of the other elements of the row, for each element of a matrix",
  inputs: ["g", "x"],
  outputs: ["dx"],
  infer: ({ x }) => [{ shape: x.shape, dtype: x.dtype }],
  // [rows, columns]
  descriptor: ({ x }) => x.shape,
  reference: ({ g, x }, { dx }) => {
    const [rows, cols] = x.shape as [number, number];
    for (let r = 0; r < rows; r++) {
      for (let c = 0, before = g.f[r]!; c < cols; c++) {
        dx.f[r * cols + c] = before;
        before *= x.f[r * cols + c]!;
      }
      for (let c = cols - 1, behind = 1; c >= 0; c--) {
        dx.f[r * cols + c]! *= behind;
        behind *= x.f[r * cols + c]!;
      }
    }
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** All reductions. */
export const reduceOps = declare({
  sum: kernel({
    doc: "sum of x over dims; floats in pairwise order or better, integers in int64",
    inputs: ["x"],
    outputs: ["y"],
    gpuHalves: ["x", "y"],
    strided: ["x"],
    infer: ({ x }, a: ReduceAttrs) => reduced(x, a),
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      if (x.dtype === "int64") eachGroup(x, a.dims, (i, k) => y.i[k]! += x.i[i]!);
      else eachGroup(x, a.dims, (i, k) => y.f[k]! += x.f[i]!);
    },
    saves: [],
    vjp: ({ y: g }, _, a) => [restore(g!, a).expand(a.shape)],
  }),
  mean: kernel({
    doc: "mean of x over dims (NaN of none)",
    inputs: ["x"],
    outputs: ["y"],
    gpuHalves: ["x", "y"],
    strided: ["x"],
    infer: ({ x }, a: ReduceAttrs) => reduced(x, a),
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      const n = reducedCount(x.shape, a.dims);
      eachGroup(x, a.dims, (i, k) => y.f[k]! += x.f[i]!);
      for (let k = 0; k < y.f.length; k++) y.f[k] = y.f[k]! / n;
    },
    saves: [],
    vjp: ({ y: g }, _, a) => [
      restore(g!, a).div(reducedCount(a.shape, a.dims)).expand(a.shape),
    ],
  }),
  prod: kernel({
    doc: "product of x over dims; integers in int64",
    inputs: ["x"],
    outputs: ["y"],
    strided: ["x"],
    infer: ({ x }, a: ReduceAttrs) => reduced(x, a),
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      const from = elementsOf(x), to = elementsOf(y);
      if (to instanceof BigInt64Array) to.fill(1n);
      else to.fill(1);
      eachGroup(x, a.dims, (i, k) => to[k] = ((to[k] as number) * (from[i] as number)) as number);
    },
    saves: ["x"],
    vjp: ({ y: g }, { x }, a) => {
      const { rows, order } = asRows(x, a.dims);
      const dx = call(prodBackward, [g!.reshape(rows.shape[0]!), rows], undefined)[0]!;
      return [
        dx.reshape(order.map((d) => x.shape[d]!)).permute(order.map((_, d) => order.indexOf(d))),
      ];
    },
    composition: ({ x }, a) => [
      rowProducts(asRows(x, a.dims).rows).reshape(reduceShape(x.shape, a.dims, a.keepdim)),
    ],
  }),
  prodBackward,
  amax: extreme("amax"),
  amin: extreme("amin"),
  max: extremeAt(true),
  min: extremeAt(false),
  argmax: position(true),
  argmin: position(false),
  any: logical(false),
  all: logical(true),
  var: kernel({
    doc: "mean squared deviation from the mean over dims, the divisor being count - correction",
    inputs: ["x"],
    outputs: ["y"],
    aux: ["mean"],
    strided: ["x"],
    infer: ({ x }, a: VarAttrs) => [...reduced(x, a), ...reduced(x, a)],
    // The descriptor of reductions, then [correction].
    descriptor: ({ x }, _, a) => [...reduceDescriptor(x, a.dims), a.correction],
    reference: ({ x }, { y, mean }, a) => {
      const n = reducedCount(x.shape, a.dims);
      eachGroup(x, a.dims, (i, k) => mean.f[k]! += x.f[i]!);
      for (let k = 0; k < mean.f.length; k++) mean.f[k] = mean.f[k]! / n;
      eachGroup(x, a.dims, (i, k) => y.f[k]! += (x.f[i]! - mean.f[k]!) ** 2);
      for (let k = 0; k < y.f.length; k++) y.f[k] = y.f[k]! / Math.max(0, n - a.correction);
    },
    saves: ["x", "mean"],
    vjp: ({ y: g }, { x, mean }, a) => {
      const scale = 2 / Math.max(0, reducedCount(a.shape, a.dims) - a.correction);
      return [x.sub(restore(mean, a)).mul(restore(g!, a).mul(scale))];
    },
    composition: ({ x }, a) => {
      const d = x.sub(x.mean(a.dims, { keepdim: true }));
      const divisor = Math.max(0, reducedCount(a.shape, a.dims) - a.correction);
      return [d.mul(d).sum(a.dims, { keepdim: a.keepdim }).div(divisor)];
    },
  }),
  l2Norm: kernel({
    doc: "square root of the sum of squares over dims; at 0 the gradient is 0",
    inputs: ["x"],
    outputs: ["y"],
    strided: ["x"],
    infer: ({ x }, a: ReduceAttrs) => reduced(x, a),
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      eachGroup(x, a.dims, (i, k) => y.f[k]! += x.f[i]! ** 2);
      for (let k = 0; k < y.f.length; k++) y.f[k] = Math.sqrt(y.f[k]!);
    },
    saves: ["x", "y"],
    vjp: ({ y: g }, { x, y }, a) => {
      const zero = y.eq(0);
      return [x.mul(restore(g!.div(y.maskedFill(zero, 1)).maskedFill(zero, 0), a))];
    },
  }),
});
