// The reductions and matrix products of the torch namespace that are methods of tensors too: `ndl.sum(x)` is `x.sum()`.

import type { Tensor } from "./mod.ts";
import type {
  Dims,
  DTypeOptions,
  NormOptions,
  ReduceOptions,
  SortOptions,
  SumOptions,
  TopkOptions,
  ValuesAndIndices,
  VarOptions,
} from "./reduce.ts";

/** See {@linkcode Tensor.sum}. */
export function sum(x: Tensor, dim?: Dims, options: SumOptions = {}): Tensor {
  return x.sum(dim, options);
}

/** See {@linkcode Tensor.mean}. */
export function mean(x: Tensor, dim?: Dims, options: SumOptions = {}): Tensor {
  return x.mean(dim, options);
}

/** See {@linkcode Tensor.prod}. */
export function prod(x: Tensor, dim?: Dims, options: SumOptions = {}): Tensor {
  return x.prod(dim, options);
}

/** See {@linkcode Tensor.amax}. */
export function amax(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.amax(dim, options);
}

/** See {@linkcode Tensor.amin}. */
export function amin(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.amin(dim, options);
}

/** See {@linkcode Tensor.any}. */
export function any(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.any(dim, options);
}

/** See {@linkcode Tensor.all}. */
export function all(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.all(dim, options);
}

/** See {@linkcode Tensor.logsumexp}. */
export function logsumexp(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.logsumexp(dim, options);
}

/** See {@linkcode Tensor.argmax}. */
export function argmax(x: Tensor, dim?: number | null, options: ReduceOptions = {}): Tensor {
  return x.argmax(dim, options);
}

/** See {@linkcode Tensor.argmin}. */
export function argmin(x: Tensor, dim?: number | null, options: ReduceOptions = {}): Tensor {
  return x.argmin(dim, options);
}

/** See {@linkcode Tensor.var}. */
function variance(x: Tensor, dim?: Dims, options: VarOptions = {}): Tensor {
  return x.var(dim, options);
}

/** See {@linkcode Tensor.std}. */
export function std(x: Tensor, dim?: Dims, options: VarOptions = {}): Tensor {
  return x.std(dim, options);
}

/** See {@linkcode Tensor.norm}. */
export function norm(x: Tensor, dim?: Dims, options: NormOptions = {}): Tensor {
  return x.norm(dim, options);
}

/** See {@linkcode Tensor.var}. */
export { variance as var };

/** See {@linkcode Tensor.max}. */
export function max(x: Tensor): Tensor;
/** The largest elements along a dim, and where they are. */
export function max(x: Tensor, dim: number, options?: ReduceOptions): ValuesAndIndices;
/** Both forms. */
export function max(
  x: Tensor,
  dim?: number,
  options: ReduceOptions = {},
): Tensor | ValuesAndIndices {
  return dim === undefined ? x.max() : x.max(dim, options);
}

/** See {@linkcode Tensor.min}. */
export function min(x: Tensor): Tensor;
/** The smallest elements along a dim, and where they are. */
export function min(x: Tensor, dim: number, options?: ReduceOptions): ValuesAndIndices;
/** Both forms. */
export function min(
  x: Tensor,
  dim?: number,
  options: ReduceOptions = {},
): Tensor | ValuesAndIndices {
  return dim === undefined ? x.min() : x.min(dim, options);
}

/** See {@linkcode Tensor.cumsum}. */
export function cumsum(x: Tensor, dim: number, options: DTypeOptions = {}): Tensor {
  return x.cumsum(dim, options);
}

/** See {@linkcode Tensor.cumprod}. */
export function cumprod(x: Tensor, dim: number, options: DTypeOptions = {}): Tensor {
  return x.cumprod(dim, options);
}

/** See {@linkcode Tensor.softmax}. */
export function softmax(x: Tensor, dim: number, options: DTypeOptions = {}): Tensor {
  return x.softmax(dim, options);
}

/** See {@linkcode Tensor.logSoftmax}. */
export function logSoftmax(x: Tensor, dim: number, options: DTypeOptions = {}): Tensor {
  return x.logSoftmax(dim, options);
}

/** See {@linkcode Tensor.sort}. */
export function sort(x: Tensor, dim = -1, options: SortOptions = {}): ValuesAndIndices {
  return x.sort(dim, options);
}

/** See {@linkcode Tensor.argsort}. */
export function argsort(x: Tensor, dim = -1, options: SortOptions = {}): Tensor {
  return x.argsort(dim, options);
}

/** See {@linkcode Tensor.topk}. */
export function topk(x: Tensor, k: number, dim = -1, options: TopkOptions = {}): ValuesAndIndices {
  return x.topk(k, dim, options);
}

/** See {@linkcode Tensor.matmul}. */
export function matmul(a: Tensor, b: Tensor): Tensor {
  return a.matmul(b);
}

/** See {@linkcode Tensor.mm}. */
export function mm(a: Tensor, b: Tensor): Tensor {
  return a.mm(b);
}

/** See {@linkcode Tensor.bmm}. */
export function bmm(a: Tensor, b: Tensor): Tensor {
  return a.bmm(b);
}

/** See {@linkcode Tensor.mv}. */
export function mv(a: Tensor, b: Tensor): Tensor {
  return a.mv(b);
}

/** See {@linkcode Tensor.dot}. */
export function dot(a: Tensor, b: Tensor): Tensor {
  return a.dot(b);
}

/** See {@linkcode Tensor.outer}. */
export function outer(a: Tensor, b: Tensor): Tensor {
  return a.outer(b);
}
