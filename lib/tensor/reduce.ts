// Reduction methods: documented one-liners over lib/ops/reduce.ts, scan.ts, softmax.ts and sort.ts.

import { gradEnabled } from "../autograd/mode.ts";
import { call } from "../dispatch.ts";
import { checkDType, type DType, isFloat, isHalf } from "../dtype.ts";
import { numel, reducedDims, reduceShape, same, type Shape, wrapDim, wrapDims } from "../shape.ts";
import { type ReduceAttrs, reduceOps as ops, sumDType } from "../ops/reduce.ts";
import { scanOps } from "../ops/scan.ts";
import { softmaxOps } from "../ops/softmax.ts";
import { sortOps } from "../ops/sort.ts";
import { checkOptions } from "../options.ts";
import { self } from "./base.ts";
import { ElementwiseTensor } from "./elementwise.ts";
import type { Tensor } from "./mod.ts";

/** One dim or several; all where omitted (or an empty list). */
export type Dims = number | readonly number[] | null;

/** Options of reductions. */
export interface ReduceOptions {
  /** Keep reduced dims with size 1. */
  readonly keepdim?: boolean;
}

/** Options of what can be computed in another dtype. */
export interface DTypeOptions {
  /** x is converted to this dtype first. */
  readonly dtype?: DType;
}

/** Options of `sum`, `mean` and `prod`. */
export interface SumOptions extends ReduceOptions, DTypeOptions {}

/** Options of `var` and `std`. */
export interface VarOptions extends ReduceOptions {
  /** What is subtracted from the count in the divisor (default 1). */
  readonly correction?: number;
  /** `false` is correction 0, `true` correction 1. */
  readonly unbiased?: boolean;
}

/** Options of `norm`. */
export interface NormOptions extends SumOptions {
  /** The order: any number, Infinity or -Infinity; default 2, which `"fro"` is too. */
  readonly p?: number | "fro";
}

/** Options of `sort` and `argsort`. */
export interface SortOptions {
  /** Largest first. */
  readonly descending?: boolean;
  /** Accepted for PyTorch's sake: sorting always keeps the order of equal elements. */
  readonly stable?: boolean;
}

/** Options of `topk`. */
export interface TopkOptions {
  /** The largest (default), or the smallest. */
  readonly largest?: boolean;
  /** Accepted for PyTorch's sake: results are always in order. */
  readonly sorted?: boolean;
}

/** Elements and where they were along the dim (int64). */
export interface ValuesAndIndices {
  /** The elements. */
  readonly values: Tensor;
  /** Their positions along the dim. */
  readonly indices: Tensor;
}

function requireFloat(what: string, x: { dtype: Tensor["dtype"] }): void {
  if (isFloat(x.dtype)) return;
  throw new TypeError(
    `Cannot take ${what} of a ${x.dtype} tensor: convert it to floating point first, for example with to("float32")`,
  );
}

/** x in the dtype asked for, which must be floating point. */
function floats(what: string, x: ReduceTensor, options: DTypeOptions): Tensor {
  const y = options.dtype === undefined ? self(x) : self(x).to(checkDType(options.dtype));
  requireFloat(what, y);
  return y;
}

/** A sum or product in the dtype asked for: by default int64 of integers and bools. Integers are computed in int64. */
function summed(x: ReduceTensor, options: DTypeOptions, f: (x: Tensor) => Tensor): Tensor {
  const dtype = options.dtype === undefined ? sumDType(x.dtype) : checkDType(options.dtype);
  if (!isFloat(dtype) && gradEnabled() && x.requiresGrad) {
    throw new TypeError(
      `Cannot sum or multiply in ${dtype} a tensor that requires grad: integers have no gradient; detach() it first`,
    );
  }
  const y = f(self(x).to(dtype).to(sumDType(dtype)));
  return options.dtype === undefined ? y : y.to(dtype); // autocast chooses where the caller does not
}

/** What several steps give for a half tensor: computed in float32, rounded once. */
function inFloat32(x: Tensor, f: (x: Tensor) => Tensor): Tensor {
  return f(x.to("float32")).to(x.dtype);
}

/** Reduction methods of tensors. */
export abstract class ReduceTensor extends ElementwiseTensor {
  /** The sum over `dim` (all dims where omitted). Integers and bools sum in int64. */
  sum(dim?: Dims, options: SumOptions = {}): Tensor {
    const attrs = attrsOf(this, "sum", dim, options, ["dtype"]);
    return summed(this, options, (x) => call(ops.sum, [x], attrs)[0]!);
  }

  /**
   * The mean over `dim` (all dims where omitted); NaN of no elements.
   *
   * @throws TypeError on integers and bools, unless another dtype is asked for
   */
  mean(dim?: Dims, options: SumOptions = {}): Tensor {
    const attrs = attrsOf(this, "mean", dim, options, ["dtype"]);
    return call(ops.mean, [floats("the mean", this, options)], attrs)[0]!;
  }

  /** The product over `dim` (all dims where omitted). Integers and bools multiply in int64. */
  prod(dim?: Dims, options: SumOptions = {}): Tensor {
    const attrs = attrsOf(this, "prod", dim, options, ["dtype"]);
    return summed(this, options, (x) => call(ops.prod, [x], attrs)[0]!);
  }

  /** The largest element, NaN winning; ties share the gradient evenly. Throws RangeError without elements. */
  max(): Tensor;
  /** The largest elements along `dim` and their first positions; the gradient goes to those. */
  max(dim: number, options?: ReduceOptions): ValuesAndIndices;
  /** Both forms. */
  max(dim?: number, options: ReduceOptions = {}): Tensor | ValuesAndIndices {
    return dim === undefined ? extremeOfAll(this, "amax") : extremes(this, "max", dim, options);
  }

  /** The smallest element, NaN winning; ties share the gradient evenly. Throws RangeError without elements. */
  min(): Tensor;
  /** The smallest elements along `dim` and their first positions; the gradient goes to those. */
  min(dim: number, options?: ReduceOptions): ValuesAndIndices;
  /** Both forms. */
  min(dim?: number, options: ReduceOptions = {}): Tensor | ValuesAndIndices {
    return dim === undefined ? extremeOfAll(this, "amin") : extremes(this, "min", dim, options);
  }

  /** The largest elements over `dim`; NaN wins; ties share the gradient evenly. Throws RangeError of none. */
  amax(dim?: Dims, options: ReduceOptions = {}): Tensor {
    return call(ops.amax, [self(this)], attrsOf(this, "amax", dim, options))[0]!;
  }

  /** The smallest elements over `dim`; NaN wins; ties share the gradient evenly. Throws RangeError of none. */
  amin(dim?: Dims, options: ReduceOptions = {}): Tensor {
    return call(ops.amin, [self(this)], attrsOf(this, "amin", dim, options))[0]!;
  }

  /** The first position (int64) of the largest element along `dim`, or in row-major order where omitted. */
  argmax(dim?: number | null, options: ReduceOptions = {}): Tensor {
    return position(this, "argmax", dim, options);
  }

  /** The first position (int64) of the smallest element along `dim`, or in row-major order where omitted. */
  argmin(dim?: number | null, options: ReduceOptions = {}): Tensor {
    return position(this, "argmin", dim, options);
  }

  /**
   * The variance over `dim` (all dims where omitted): NaN where the count does not exceed the correction.
   *
   * @throws TypeError on integers and bools
   */
  var(dim?: Dims, options: VarOptions = {}): Tensor {
    return variance(this, "var", dim, options);
  }

  /** The standard deviation over `dim`: the square root of `var`, with gradient 0 where it is 0. */
  std(dim?: Dims, options: VarOptions = {}): Tensor {
    if (isHalf(this.dtype)) return inFloat32(self(this), (x) => x.std(dim, options));
    const v = variance(this, "std", dim, options);
    return v.requiresGrad ? constantAtZero(v, (x) => x.sqrt(), 0) : v.sqrt();
  }

  /**
   * The p-norm over `dim` (all dims where omitted); p = 0 counts nonzeros, ±Infinity takes the extreme.
   *
   * @throws TypeError on integers and bools; RangeError for Infinity and negative orders without elements
   */
  norm(dim?: Dims, options: NormOptions = {}): Tensor {
    const attrs = attrsOf(this, "norm", dim, options, ["p", "dtype"]);
    const { dims, keepdim } = attrs, p = options.p ?? 2;
    requireFloat("the norm", this);
    if (options.dtype !== undefined) {
      return floats("the norm", this, options).norm(dims, { p, keepdim });
    }
    if (p === 2 || p === "fro") return call(ops.l2Norm, [self(this)], attrs)[0]!;
    if (p === 0) {
      const zero = this.eq(0); // both fills cut the gradient: it is 0, not absent
      return this.maskedFill(zero.logicalNot(), 1).maskedFill(zero, 0).sum(dims, { keepdim });
    }
    const x = this.abs();
    if (p === Infinity) return x.amax(dims, { keepdim });
    if (p === -Infinity) return x.amin(dims, { keepdim });
    if (p === 1) return x.sum(dims, { keepdim });
    if (typeof p !== "number" || p !== p) {
      throw new TypeError(`Cannot take the norm of order ${String(p)}: p must be a number`);
    }
    if (isHalf(this.dtype)) return inFloat32(self(this), (v) => v.norm(dims, { p, keepdim }));
    if (p < 0) x.amin(dims).dispose(); // as for -Infinity: an error without elements
    // Where |x| is 0 its power has no slope (p < 1), and neither has the root of a sum that is 0.
    const powers = p > 1 ? x.pow(p) : constantAtZero(x, (v) => v.pow(p), p > 0 ? 0 : Infinity);
    return constantAtZero(powers.sum(dims, { keepdim }), (v) => v.pow(1 / p), p > 0 ? 0 : Infinity);
  }

  /** Whether any element over `dim` is nonzero or NaN (bool, uint8 of uint8; false of none); of each for `[]`. */
  any(dim?: Dims, options: ReduceOptions = {}): Tensor {
    return logical(this, "any", dim, options);
  }

  /** Whether all elements over `dim` are nonzero or NaN (bool, uint8 of uint8; true of none); of each for `[]`. */
  all(dim?: Dims, options: ReduceOptions = {}): Tensor {
    return logical(this, "all", dim, options);
  }

  /** ln Σ exp(x) over `dim` without overflow. Integers become float32. */
  logsumexp(dim?: Dims, options: ReduceOptions = {}): Tensor {
    const { dims, keepdim } = attrsOf(this, "logsumexp", dim, options);
    const x = isFloat(this.dtype) ? self(this) : self(this).to("float32");
    if (dims.length === 1) return call(softmaxOps.logsumexp, [x], { dim: dims[0]!, keepdim })[0]!;
    const keep = x.shape.map((_, i) => i).filter((i) => !dims.includes(i));
    const size = numel(dims.map((d) => x.shape[d]!));
    const rows = x.permute([...keep, ...dims]).reshape([...keep.map((i) => x.shape[i]!), size]);
    const y = call(softmaxOps.logsumexp, [rows], { dim: keep.length, keepdim: false })[0]!;
    return keepdim ? y.reshape(reduceShape(x.shape, dims, true)) : y;
  }

  /** Running sums along `dim`. Integers and bools sum in int64. */
  cumsum(dim: number, options: DTypeOptions = {}): Tensor {
    checkOptions("cumsum", options, ["dtype"]);
    const attrs = { dim: wrapDim("cumsum", dim, this.ndim), reverse: false };
    return summed(this, options, (x) => call(scanOps.cumsum, [x], attrs)[0]!);
  }

  /** Running products along `dim`. Integers and bools multiply in int64. */
  cumprod(dim: number, options: DTypeOptions = {}): Tensor {
    checkOptions("cumprod", options, ["dtype"]);
    const attrs = { dim: wrapDim("cumprod", dim, this.ndim) };
    return summed(this, options, (x) => call(scanOps.cumprod, [x], attrs)[0]!);
  }

  /**
   * exp(x) / Σ exp(x) along `dim`.
   *
   * @throws TypeError on integers and bools, unless another dtype is asked for
   */
  softmax(dim: number, options: DTypeOptions = {}): Tensor {
    checkOptions("softmax", options, ["dtype"]);
    const attrs = { dim: wrapDim("softmax", dim, this.ndim) };
    return call(softmaxOps.softmax, [floats("the softmax", this, options)], attrs)[0]!;
  }

  /**
   * x - ln Σ exp(x) along `dim`.
   *
   * @throws TypeError on integers and bools, unless another dtype is asked for
   */
  logSoftmax(dim: number, options: DTypeOptions = {}): Tensor {
    checkOptions("logSoftmax", options, ["dtype"]);
    const attrs = { dim: wrapDim("logSoftmax", dim, this.ndim) };
    return call(softmaxOps.logSoftmax, [floats("the logSoftmax", this, options)], attrs)[0]!;
  }

  /** The elements in order along `dim`, and where each was; equal elements keep their order, NaN is the largest. */
  sort(dim = -1, options: SortOptions = {}): ValuesAndIndices {
    checkOptions("sort", options, ["descending", "stable"]);
    const attrs = {
      dim: wrapDim("sort", dim, this.ndim),
      descending: options.descending ?? false,
    };
    const [values, indices] = call(sortOps.sort, [self(this)], attrs) as [Tensor, Tensor];
    return { values, indices };
  }

  /** The positions (int64) that would put the elements in order along `dim`. */
  argsort(dim = -1, options: SortOptions = {}): Tensor {
    const { values, indices } = self(this).detach().sort(dim, options);
    values.dispose();
    return indices;
  }

  /**
   * The `k` largest (or smallest) elements along `dim` in order, and where they were; NaN is the largest.
   *
   * @throws RangeError where there are fewer than `k`
   */
  topk(k: number, dim = -1, options: TopkOptions = {}): ValuesAndIndices {
    checkOptions("topk", options, ["largest", "sorted"]);
    const attrs = {
      k,
      dim: wrapDim("topk", dim, this.ndim),
      largest: options.largest ?? true,
      size: this.shape.at(dim) ?? 1,
    };
    const [values, indices] = call(sortOps.topk, [self(this)], attrs) as [Tensor, Tensor];
    return { values, indices };
  }

  /** @internal The sum over the dims along which `shape` was broadcast to this shape. */
  sumTo(shape: Shape): Tensor {
    if (same(this.shape, shape)) return self(this);
    const dims = reducedDims(this.shape, shape);
    const y = call(ops.sum, [self(this)], { dims, keepdim: true, shape: this.shape })[0]!;
    return y.reshape(reduceShape(this.shape, dims, true).slice(this.ndim - shape.length));
  }
}

/** f(x), but the constant `value` where x is 0: there the slope of f is not finite. */
function constantAtZero(x: Tensor, f: (x: Tensor) => Tensor, value: number): Tensor {
  const zero = x.eq(0);
  return f(x.maskedFill(zero, 1)).maskedFill(zero, value);
}

function attrsOf(
  t: ReduceTensor,
  what: string,
  dim: Dims | undefined,
  options: ReduceOptions,
  known: string[] = [],
): ReduceAttrs {
  checkOptions(what, options, ["keepdim", ...known]);
  const all = typeof dim === "object" && dim !== null && dim.length === 0;
  const dims = wrapDims(what, all ? null : dim, t.ndim);
  return { dims, keepdim: options.keepdim ?? false, shape: t.shape };
}

/** An extreme of all elements: as amax and amin, but NaNs share the gradient. */
function extremeOfAll(t: ReduceTensor, name: "amax" | "amin"): Tensor {
  const dims = t.shape.map((_, d) => d);
  return call(ops[name], [self(t)], {
    dims,
    keepdim: false,
    shape: t.shape,
    sharedByNaN: true,
  })[0]!;
}

function extremes(
  t: ReduceTensor,
  name: "max" | "min",
  dim: number,
  options: ReduceOptions,
): ValuesAndIndices {
  checkOptions(name, options, ["keepdim"]);
  const attrs = {
    dim: wrapDim(name, dim, t.ndim),
    keepdim: options.keepdim ?? false,
    size: t.shape.at(dim) ?? 1,
  };
  const [values, indices] = call(ops[name], [self(t)], attrs) as [Tensor, Tensor];
  return { values, indices };
}

function position(
  t: ReduceTensor,
  name: "argmax" | "argmin",
  dim: number | null | undefined,
  options: ReduceOptions,
): Tensor {
  checkOptions(name, options, ["keepdim"]);
  const keepdim = options.keepdim ?? false;
  if (dim !== undefined && dim !== null) {
    return call(ops[name], [self(t)], { dim: wrapDim(name, dim, t.ndim), keepdim })[0]!;
  }
  const flat = self(t).detach().reshape(t.numel());
  const y = call(ops[name], [flat], { dim: 0, keepdim: false })[0]!;
  return keepdim ? y.reshape(t.shape.map(() => 1)) : y;
}

function variance(
  t: ReduceTensor,
  what: string,
  dim: Dims | undefined,
  options: VarOptions,
): Tensor {
  requireFloat(`the ${what}`, t);
  const attrs = attrsOf(t, what, dim, options, ["correction", "unbiased"]);
  const correction = options.correction ?? (options.unbiased === false ? 0 : 1);
  return call(ops.var, [self(t)], { ...attrs, correction })[0]!;
}

function logical(
  t: ReduceTensor,
  name: "any" | "all",
  dim: Dims | undefined,
  options: ReduceOptions,
): Tensor {
  const attrs = attrsOf(t, name, dim, options);
  const x = t.dtype === "bool" ? self(t) : t.ne(0);
  const none = Array.isArray(dim) && dim.length === 0;
  const y = none ? x.clone() : call(ops[name], [x], attrs)[0]!;
  return t.dtype === "uint8" ? y.to("uint8") : y;
}
