// Reductions: sums, means, extremes and positions of extremes along dims, and scans.
// Descriptor of every reduction: [nkeep, nreduce, keep shape..., keep strides..., reduced shape...,
// reduced strides..., attributes...]; the output is row-major over the kept dims.

import type { Tensor } from "../tensor/mod.ts";
import { type DType, dtypes } from "../dtype.ts";
import { reduceShape, type Shape } from "../shape.ts";
import { declare, kernel, type RefTensor } from "./op.ts";

/** Wrapped dims, and whether they stay as size 1. */
export interface ReduceAttrs {
  readonly dims: readonly number[];
  readonly keepdim: boolean;
}

/** The descriptor all reductions share. */
export function reduceDescriptor(x: Tensor, dims: readonly number[]): number[] {
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

/** Calls `f(element, group)` for each element in logical order, with the index of the output it belongs to. */
export function eachGroup(x: RefTensor, dims: readonly number[], f: (i: number, group: number) => void): void {
  const { shape } = x, nd = shape.length;
  const steps = new Array<number>(nd).fill(0);
  let step = 1;
  for (let d = nd - 1; d >= 0; d--) {
    if (dims.includes(d)) continue;
    steps[d] = step;
    step *= shape[d]!;
  }
  const index = new Array<number>(nd).fill(0);
  const n = shape.reduce((a, b) => a * b, 1);
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

/** Sums of integers and bools are int64, as in PyTorch. */
export function sumDType(dtype: DType): DType {
  return dtypes[dtype].kind === "float" ? dtype : "int64";
}

/** All reductions. */
export const reduceOps = declare({
  sum: kernel({
    doc: "sum of x over dims; floats in pairwise order or better, integers in int64",
    inputs: ["x"],
    outputs: ["y"],
    strided: ["x"],
    infer: ({ x }, a: ReduceAttrs) => [{ shape: reduceShape(x.shape, a.dims, a.keepdim), dtype: x.dtype }],
    descriptor: ({ x }, _, a) => reduceDescriptor(x, a.dims),
    reference: ({ x }, { y }, a) => {
      if (x.dtype === "int64") eachGroup(x, a.dims, (i, k) => y.i[k]! += x.i[i]!);
      else eachGroup(x, a.dims, (i, k) => y.f[k]! += x.f[i]!);
    },
    saves: ["x"],
    vjp: ({ y: g }, { x }, a) => [
      (a.keepdim ? g! : g!.reshape(reduceShape(x.shape, a.dims, true))).expand(x.shape),
    ],
  }),
});
