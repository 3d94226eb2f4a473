// The functions of the torch namespace that are methods of tensors too: `ndl.add(a, b)` is `a.add(b)`.

import type { Operand } from "../backend.ts";
import type { Tensor } from "./mod.ts";
import type {
  Dims,
  NormOptions,
  ReduceOptions,
  SortOptions,
  TopkOptions,
  ValuesAndIndices,
  VarOptions,
} from "./reduce.ts";

/** See {@linkcode Tensor.neg}. */
export function neg(x: Tensor): Tensor {
  return x.neg();
}

/** See {@linkcode Tensor.abs}. */
export function abs(x: Tensor): Tensor {
  return x.abs();
}

/** See {@linkcode Tensor.sign}. */
export function sign(x: Tensor): Tensor {
  return x.sign();
}

/** See {@linkcode Tensor.exp}. */
export function exp(x: Tensor): Tensor {
  return x.exp();
}

/** See {@linkcode Tensor.expm1}. */
export function expm1(x: Tensor): Tensor {
  return x.expm1();
}

/** See {@linkcode Tensor.log}. */
export function log(x: Tensor): Tensor {
  return x.log();
}

/** See {@linkcode Tensor.log1p}. */
export function log1p(x: Tensor): Tensor {
  return x.log1p();
}

/** See {@linkcode Tensor.log2}. */
export function log2(x: Tensor): Tensor {
  return x.log2();
}

/** See {@linkcode Tensor.sqrt}. */
export function sqrt(x: Tensor): Tensor {
  return x.sqrt();
}

/** See {@linkcode Tensor.rsqrt}. */
export function rsqrt(x: Tensor): Tensor {
  return x.rsqrt();
}

/** See {@linkcode Tensor.square}. */
export function square(x: Tensor): Tensor {
  return x.square();
}

/** See {@linkcode Tensor.reciprocal}. */
export function reciprocal(x: Tensor): Tensor {
  return x.reciprocal();
}

/** See {@linkcode Tensor.sin}. */
export function sin(x: Tensor): Tensor {
  return x.sin();
}

/** See {@linkcode Tensor.cos}. */
export function cos(x: Tensor): Tensor {
  return x.cos();
}

/** See {@linkcode Tensor.tan}. */
export function tan(x: Tensor): Tensor {
  return x.tan();
}

/** See {@linkcode Tensor.asin}. */
export function asin(x: Tensor): Tensor {
  return x.asin();
}

/** See {@linkcode Tensor.acos}. */
export function acos(x: Tensor): Tensor {
  return x.acos();
}

/** See {@linkcode Tensor.atan}. */
export function atan(x: Tensor): Tensor {
  return x.atan();
}

/** See {@linkcode Tensor.sinh}. */
export function sinh(x: Tensor): Tensor {
  return x.sinh();
}

/** See {@linkcode Tensor.cosh}. */
export function cosh(x: Tensor): Tensor {
  return x.cosh();
}

/** See {@linkcode Tensor.tanh}. */
export function tanh(x: Tensor): Tensor {
  return x.tanh();
}

/** See {@linkcode Tensor.sigmoid}. */
export function sigmoid(x: Tensor): Tensor {
  return x.sigmoid();
}

/** See {@linkcode Tensor.relu}. */
export function relu(x: Tensor): Tensor {
  return x.relu();
}

/** See {@linkcode Tensor.erf}. */
export function erf(x: Tensor): Tensor {
  return x.erf();
}

/** See {@linkcode Tensor.floor}. */
export function floor(x: Tensor): Tensor {
  return x.floor();
}

/** See {@linkcode Tensor.ceil}. */
export function ceil(x: Tensor): Tensor {
  return x.ceil();
}

/** See {@linkcode Tensor.round}. */
export function round(x: Tensor): Tensor {
  return x.round();
}

/** See {@linkcode Tensor.trunc}. */
export function trunc(x: Tensor): Tensor {
  return x.trunc();
}

/** See {@linkcode Tensor.isnan}. */
export function isnan(x: Tensor): Tensor {
  return x.isnan();
}

/** See {@linkcode Tensor.isinf}. */
export function isinf(x: Tensor): Tensor {
  return x.isinf();
}

/** See {@linkcode Tensor.logicalNot}. */
export function logicalNot(x: Tensor): Tensor {
  return x.logicalNot();
}

/** See {@linkcode Tensor.add}. */
export function add(a: Tensor, b: Operand): Tensor {
  return a.add(b);
}

/** See {@linkcode Tensor.sub}. */
export function sub(a: Tensor, b: Operand): Tensor {
  return a.sub(b);
}

/** See {@linkcode Tensor.mul}. */
export function mul(a: Tensor, b: Operand): Tensor {
  return a.mul(b);
}

/** See {@linkcode Tensor.div}. */
export function div(a: Tensor, b: Operand): Tensor {
  return a.div(b);
}

/** See {@linkcode Tensor.pow}. */
export function pow(a: Tensor, b: Operand): Tensor {
  return a.pow(b);
}

/** See {@linkcode Tensor.floorDivide}. */
export function floorDivide(a: Tensor, b: Operand): Tensor {
  return a.floorDivide(b);
}

/** See {@linkcode Tensor.remainder}. */
export function remainder(a: Tensor, b: Operand): Tensor {
  return a.remainder(b);
}

/** See {@linkcode Tensor.maximum}. */
export function maximum(a: Tensor, b: Operand): Tensor {
  return a.maximum(b);
}

/** See {@linkcode Tensor.minimum}. */
export function minimum(a: Tensor, b: Operand): Tensor {
  return a.minimum(b);
}

/** See {@linkcode Tensor.atan2}. */
export function atan2(a: Tensor, b: Operand): Tensor {
  return a.atan2(b);
}

/** See {@linkcode Tensor.eq}. */
export function eq(a: Tensor, b: Operand): Tensor {
  return a.eq(b);
}

/** See {@linkcode Tensor.ne}. */
export function ne(a: Tensor, b: Operand): Tensor {
  return a.ne(b);
}

/** See {@linkcode Tensor.lt}. */
export function lt(a: Tensor, b: Operand): Tensor {
  return a.lt(b);
}

/** See {@linkcode Tensor.le}. */
export function le(a: Tensor, b: Operand): Tensor {
  return a.le(b);
}

/** See {@linkcode Tensor.gt}. */
export function gt(a: Tensor, b: Operand): Tensor {
  return a.gt(b);
}

/** See {@linkcode Tensor.ge}. */
export function ge(a: Tensor, b: Operand): Tensor {
  return a.ge(b);
}

/** See {@linkcode Tensor.logicalAnd}. */
export function logicalAnd(a: Tensor, b: Operand): Tensor {
  return a.logicalAnd(b);
}

/** See {@linkcode Tensor.logicalOr}. */
export function logicalOr(a: Tensor, b: Operand): Tensor {
  return a.logicalOr(b);
}

/** See {@linkcode Tensor.logicalXor}. */
export function logicalXor(a: Tensor, b: Operand): Tensor {
  return a.logicalXor(b);
}

/** `a` where the bool `condition` is true, else `b`. See {@linkcode Tensor.where}. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return condition.where(a, b);
}

/** See {@linkcode Tensor.clamp}. */
export function clamp(x: Tensor, min: Operand | null = null, max: Operand | null = null): Tensor {
  return x.clamp(min, max);
}

/** See {@linkcode Tensor.lerp}. */
export function lerp(start: Tensor, end: Tensor, weight: Operand): Tensor {
  return start.lerp(end, weight);
}

/** See {@linkcode Tensor.maskedFill}. */
export function maskedFill(x: Tensor, mask: Tensor, value: Operand): Tensor {
  return x.maskedFill(mask, value);
}

/** See {@linkcode Tensor.sum}. */
export function sum(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.sum(dim, options);
}

/** See {@linkcode Tensor.mean}. */
export function mean(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
  return x.mean(dim, options);
}

/** See {@linkcode Tensor.prod}. */
export function prod(x: Tensor, dim?: Dims, options: ReduceOptions = {}): Tensor {
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
export function cumsum(x: Tensor, dim: number): Tensor {
  return x.cumsum(dim);
}

/** See {@linkcode Tensor.cumprod}. */
export function cumprod(x: Tensor, dim: number): Tensor {
  return x.cumprod(dim);
}

/** See {@linkcode Tensor.softmax}. */
export function softmax(x: Tensor, dim: number): Tensor {
  return x.softmax(dim);
}

/** See {@linkcode Tensor.logSoftmax}. */
export function logSoftmax(x: Tensor, dim: number): Tensor {
  return x.logSoftmax(dim);
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

/** See {@linkcode Tensor.reshape}. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return x.reshape(shape);
}

/** See {@linkcode Tensor.permute}. */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  return x.permute(dims);
}

/** See {@linkcode Tensor.transpose}. */
export function transpose(x: Tensor, dim0: number, dim1: number): Tensor {
  return x.transpose(dim0, dim1);
}

/** See {@linkcode Tensor.flatten}. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  return x.flatten(start, end);
}

/** See {@linkcode Tensor.squeeze}. */
export function squeeze(x: Tensor, dim?: number | readonly number[]): Tensor {
  return dim === undefined ? x.squeeze() : x.squeeze(dim);
}

/** See {@linkcode Tensor.unsqueeze}. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  return x.unsqueeze(dim);
}

/** See {@linkcode Tensor.split}. */
export function split(x: Tensor, size: number | readonly number[], dim = 0): Tensor[] {
  return x.split(size, dim);
}

/** See {@linkcode Tensor.chunk}. */
export function chunk(x: Tensor, count: number, dim = 0): Tensor[] {
  return x.chunk(count, dim);
}

/** See {@linkcode Tensor.flip}. */
export function flip(x: Tensor, dims: readonly number[]): Tensor {
  return x.flip(dims);
}

/** See {@linkcode Tensor.tril}. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return x.tril(diagonal);
}

/** See {@linkcode Tensor.triu}. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return x.triu(diagonal);
}

/** See {@linkcode Tensor.gather}. */
export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  return x.gather(dim, index);
}

/** See {@linkcode Tensor.indexSelect}. */
export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  return x.indexSelect(dim, index);
}

/** See {@linkcode Tensor.maskedSelect}. */
export function maskedSelect(x: Tensor, mask: Tensor): Tensor {
  return x.maskedSelect(mask);
}

/** See {@linkcode Tensor.nonzero}. */
export function nonzero(x: Tensor): Tensor {
  return x.nonzero();
}
