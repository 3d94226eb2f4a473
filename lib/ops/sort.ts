// Sorting along one dim of row-major x seen as [outer, size, inner]. NaN counts as the largest value.

import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { type Shape, show } from "../shape.ts";
import { isInt } from "../dtype.ts";
import { indexOps } from "./index.ts";
import { declare, kernel, type RefTensor } from "./op.ts";
import { eachLine, splitAt } from "./reduce.ts";

/** Attributes of `sort`. */
export interface SortAttrs {
  /** Wrapped dim. */
  readonly dim: number;
  /** Largest first. */
  readonly descending: boolean;
}

/** Attributes of `topk`. */
export interface TopkAttrs {
  /** How many. */
  readonly k: number;
  /** Wrapped dim. */
  readonly dim: number;
  /** The largest, or the smallest. */
  readonly largest: boolean;
  /** The size of x along the dim. */
  readonly size: number;
}

function compare(a: number | bigint, b: number | bigint): number {
  if (a !== a || b !== b) return Number(a !== a) - Number(b !== b);
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Writes the first elements of each sorted line, as many as fit, and where they were. */
function sortLines(
  x: RefTensor,
  values: RefTensor,
  indices: RefTensor,
  dim: number,
  descending: boolean,
): void {
  const from = isInt(x.dtype) ? x.i : x.f, to = isInt(x.dtype) ? values.i : values.f;
  const count = values.shape[dim] ?? 1;
  eachLine(x.shape, dim, (first, step, size, line) => {
    const order = Array.from({ length: size }, (_, k) => k);
    const key = (k: number): number | bigint => from[first + k * step]!;
    order.sort((p, q) => descending ? compare(key(q), key(p)) : compare(key(p), key(q)));
    const start = Math.floor(line / step) * count * step + line % step;
    for (let k = 0; k < count; k++) {
      to[start + k * step] = key(order[k]!);
      indices.i[start + k * step] = BigInt(order[k]!);
    }
  });
}

/** `shape` with `k` elements along `dim`. */
function cut(shape: Shape, dim: number, k: number): Shape {
  return shape.map((s, i) => i === dim ? k : s);
}

/** The gradient of x from that of its elements at `indices`. */
function putBack(g: Tensor, indices: Tensor, dim: number, size: number): Tensor {
  return call(indexOps.scatterAdd, [indices, g, null], { dim, size })[0]!;
}

/** Sorting ops. */
export const sortOps = declare({
  sort: kernel({
    doc: "x in order along dim, and where each element was; equal elements keep their order",
    inputs: ["x"],
    outputs: ["values", "indices"],
    infer: ({ x }, _: SortAttrs) => [
      { shape: x.shape, dtype: x.dtype },
      { shape: x.shape, dtype: "int64" },
    ],
    // [outer, size, inner, descending]
    descriptor: ({ x }, _, a) => [...splitAt(x.shape, a.dim), Number(a.descending)],
    reference: ({ x }, { values, indices }, a) =>
      sortLines(x, values, indices, a.dim, a.descending),
    saves: ["indices"],
    vjp: ({ values: g }, { indices }, { dim }) => [putBack(g!, indices, dim, g!.shape[dim] ?? 1)],
  }),
  topk: kernel({
    doc: "the k largest or smallest of x along dim, in order, and where they were",
    inputs: ["x"],
    outputs: ["values", "indices"],
    infer: ({ x }, { k, dim }: TopkAttrs) => {
      const size = x.shape[dim] ?? 1;
      if (!Number.isInteger(k) || k < 0 || k > size) {
        throw new RangeError(
          `Cannot take topk ${k} of ${show(x.shape)} along dim ${dim}: it has ${size} elements`,
        );
      }
      const shape = cut(x.shape, dim, k);
      return [{ shape, dtype: x.dtype }, { shape, dtype: "int64" }];
    },
    // [outer, size, inner, largest, k]
    descriptor: ({ x }, _, a) => [...splitAt(x.shape, a.dim), Number(a.largest), a.k],
    reference: ({ x }, { values, indices }, a) => sortLines(x, values, indices, a.dim, a.largest),
    saves: ["indices"],
    vjp: ({ values: g }, { indices }, { dim, size }) => [putBack(g!, indices, dim, size)],
  }),
});
