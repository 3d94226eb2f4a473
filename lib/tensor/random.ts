// Random tensors, the state of the generator, dropout and sampling. The numbers depend on the seed and on what was
// drawn before, never on the device or its threads.

import { call, runInto } from "../dispatch.ts";
import { checkDType, type DType, isFloat, isHalf } from "../dtype.ts";
import { argumentsOf, checkNumbers, checkOptions, checkTensors, told } from "../options.ts";
import { reserve, restoreGenerator, saveGenerator, unit53, words } from "../rng.ts";
import { blocksOf, randomOps as ops, wordsEach } from "../ops/random.ts";
import { contiguousStrides, type Shape, show } from "../shape.ts";
import { allocate } from "./base.ts";
import { rangeOf } from "./operands.ts";
import { blank, type CreateOptions, like, shapeArgument, tensor } from "./create.ts";
import type { Tensor } from "./mod.ts";

export { manualSeed } from "../rng.ts";

const keys = ["dtype", "device", "requiresGrad"];

function finish(t: Tensor, options: CreateOptions): Tensor {
  return options.requiresGrad ? t.requiresGrad_() : t;
}

function floatType(what: string, options: CreateOptions): DType {
  const dtype = checkDType(options.dtype ?? "float32");
  if (!isFloat(dtype)) {
    throw new TypeError(
      `Cannot make ${what} numbers of dtype ${dtype}: use a floating point dtype, or randint`,
    );
  }
  return dtype;
}

/** What a draw of `n` elements needs beside its own parameters. */
function draw(t: Tensor): { seed: number; offset: number; shape: Shape; dtype: DType } {
  const each = wordsEach(t.dtype);
  return { ...reserve(blocksOf(t.numel(), each)), shape: t.shape, dtype: t.dtype };
}

/** Runs `fill` on `t`, or on a row-major tensor that is copied into it; counts as a write, is not recorded. */
function inPlace(t: Tensor, fill: (y: Tensor) => void): Tensor {
  if (t._layout === 0) {
    fill(t);
    return t;
  }
  const y = allocate(t.shape, t.dtype, t.device, contiguousStrides(t.shape), 0);
  fill(y);
  t.copy_(y);
  y.dispose();
  return t;
}

/** Fills `t` with numbers spread evenly over [low, high), in place; not recorded. */
export function fillUniform(t: Tensor, low = 0, high = 1): Tensor {
  if (!(low <= high && high - low < Infinity)) {
    throw new RangeError(
      `Cannot draw uniform numbers from ${low} to ${high}: low must not be above high, both finite`,
    );
  }
  return inPlace(t, (y) => runInto(ops.uniform, [], [y], { ...draw(y), low, high }));
}

/** Fills `t` with normal numbers of a mean and a standard deviation, in place; not recorded. */
export function fillNormal(t: Tensor, mean = 0, std = 1): Tensor {
  if (!(std >= 0)) {
    throw new RangeError(
      `Cannot draw normal numbers of standard deviation ${std}: it must not be negative`,
    );
  }
  return inPlace(t, (y) => runInto(ops.normal, [], [y], { ...draw(y), mean, std }));
}

/**
 * Numbers spread evenly over [0, 1).
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * ndl.manualSeed(0);
 * console.log(ndl.rand([2, 3]).shape); // [2, 3]
 * ```
 */
export function rand(shape: Shape | number, options: CreateOptions = {}): Tensor {
  checkOptions("rand", options, keys);
  const t = fillUniform(
    blank(shapeArgument("make a tensor", shape), floatType("uniform", options), options),
  );
  // What is nearest to 1 is 1 when rounded to 16 bits, but 1 does not belong to the range.
  if (isHalf(t.dtype)) t.clamp_(0, 1 - 2 ** (t.dtype === "float16" ? -11 : -8));
  return finish(t, options);
}

/** Numbers from the standard normal distribution. */
export function randn(shape: Shape | number, options: CreateOptions = {}): Tensor {
  checkOptions("randn", options, keys);
  return finish(
    fillNormal(blank(shapeArgument("make a tensor", shape), floatType("normal", options), options)),
    options,
  );
}

/** Like `rand`, with the shape, dtype and device of `t`. */
export function randLike(t: Tensor, options: CreateOptions = {}): Tensor {
  const all = like("randLike", t, options);
  return rand(t.shape, all);
}

/** Like `randn`, with the shape, dtype and device of `t`. */
export function randnLike(t: Tensor, options: CreateOptions = {}): Tensor {
  const all = like("randnLike", t, options);
  return randn(t.shape, all);
}

/** Integers spread evenly over [0, high): int64 unless `dtype` says otherwise. */
export function randint(high: number, shape: Shape | number, options?: CreateOptions): Tensor;
/** Integers spread evenly over [low, high). */
export function randint(
  low: number,
  high: number,
  shape: Shape | number,
  options?: CreateOptions,
): Tensor;
/** Both forms. */
export function randint(
  a: number,
  b: Shape | number,
  c?: Shape | number | CreateOptions,
  d?: CreateOptions,
): Tensor {
  const three = typeof c === "number" || Array.isArray(c);
  const low = three ? a : 0, high = three ? b as number : a;
  const shape = (three ? c : b) as Shape | number,
    options = (three ? d : c as CreateOptions | undefined) ?? {};
  checkOptions("randint", options, keys);
  if (
    !Number.isSafeInteger(low) || !Number.isSafeInteger(high) || low >= high || high - low > 2 ** 53
  ) {
    throw new RangeError(
      `Cannot draw integers from [${low}, ${high}): low must be below high, both integers`,
    );
  }
  const dtype = checkDType(options.dtype ?? "int64");
  const range = dtype === "bool" ? [0, 1] as const : rangeOf(dtype);
  if (range !== null && (low < range[0] || high > range[1] + 1)) {
    throw new RangeError(
      `Cannot draw integers from [${low}, ${high}) as ${dtype}: it holds those from ${
        range[0]
      } to ${range[1]}; use another dtype`,
    );
  }
  const t = blank(shapeArgument("make a tensor", shape), dtype, options);
  const start = reserve(blocksOf(t.numel(), 2));
  runInto(ops.randomIntegers, [], [t], { ...start, shape: t.shape, dtype, low, high });
  return finish(t, options);
}

/** The integers from 0 to n - 1 in random order: int64 unless `dtype` says otherwise. */
export function randperm(n: number, options: CreateOptions = {}): Tensor {
  checkOptions("randperm", options, keys);
  checkNumbers("randperm", { n });
  const [count] = shapeArgument("make a permutation", n) as [number];
  const w = words(reserve(blocksOf(count, 2)), 2 * count);
  const order = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const j = Math.floor(unit53(w[2 * i]!, w[2 * i + 1]!) * (i + 1));
    order[i] = order[j]!;
    order[j] = i;
  }
  return tensor(order, { dtype: "int64", ...options });
}

/** 1 with the probability that stands in `p`, else 0; shape, dtype and device of `p`. */
export function bernoulli(p: Tensor): Tensor;
/** 1 with probability `p` (default 0.5), else 0. */
export function bernoulli(shape: Shape | number, p?: number, options?: CreateOptions): Tensor;
/** Both forms. */
export function bernoulli(
  a: Tensor | Shape | number,
  p = 0.5,
  options: CreateOptions = {},
): Tensor {
  checkOptions("bernoulli", options, keys);
  if (typeof a === "object" && a !== null && "_strides" in a) {
    if (!isFloat(a.dtype)) {
      throw new TypeError(`Cannot draw from ${a.dtype} probabilities: they must be floating point`);
    }
    const range = a.ge(0).logicalAnd(a.le(1));
    const fits = !range.toTypedArray().some((x: number | bigint) => x === 0);
    range.dispose();
    if (!fits) {
      throw new RangeError("Cannot draw from probabilities that are not all between 0 and 1");
    }
    const attrs = { ...reserve(blocksOf(a.numel(), 1)), shape: a.shape, dtype: a.dtype, p: 0 };
    return call(ops.bernoulli, [a.detach()], attrs)[0]!;
  }
  checkProbability("draw with", p);
  const t = blank(
    shapeArgument("make a tensor", a),
    checkDType(options.dtype ?? "float32"),
    options,
  );
  const attrs = { ...reserve(blocksOf(t.numel(), 1)), shape: t.shape, dtype: t.dtype, p };
  runInto(ops.bernoulli, [null], [t], attrs);
  return finish(t, options);
}

function checkProbability(what: string, p: number): void {
  if (typeof p !== "number" || !(p >= 0 && p <= 1)) {
    throw new RangeError(`Cannot ${what} probability ${told(p)}: it must be between 0 and 1`);
  }
}

/** Options of `dropout`. */
export interface DropoutOptions {
  /** The probability of 0, where it is not given by position (default 0.5). */
  readonly p?: number;
  /** Without training x stays as it is; default true. */
  readonly training?: boolean;
  /** Write the result into x and give x back (default false). */
  readonly inplace?: boolean;
}

/** x / (1 - p), or 0 with probability p, independently per element (Srivastava et al. 2014). */
export function dropout(
  x: Tensor,
  p: number | DropoutOptions = 0.5,
  options?: DropoutOptions,
): Tensor {
  const a = argumentsOf("dropout", [p, options], { p: 0.5, training: true, inplace: false });
  const y = dropped(x, a.p, a.training);
  return a.inplace && y !== x ? x.copy_(y) : y;
}

function dropped(x: Tensor, p: number, training: boolean): Tensor {
  checkTensors("dropout", { input: x });
  checkProbability("drop with", p);
  if (!training || p === 0) return x;
  if (!isFloat(x.dtype)) {
    throw new TypeError(`Cannot drop elements of a ${x.dtype} tensor: it must be floating point`);
  }
  return call(ops.dropout, [x], { ...reserve(blocksOf(x.numel(), 1)), p })[0]!;
}

/** Draws `n` positions in proportion to `weights`: by the distribution function, or without replacement by a race. */
function sample(
  weights: Float64Array,
  n: number,
  replace: boolean,
  w: Uint32Array,
  out: Float64Array,
): void {
  const unit = (i: number): number => unit53(w[2 * i]!, w[2 * i + 1]!);
  if (!replace) {
    // The n earliest of independent exponential times with these rates (Efraimidis & Spirakis 2006).
    const times = weights.map((p, i) => p > 0 ? -Math.log(1 - unit(i)) / p : Infinity);
    const order = Array.from(times.keys()).sort((a, b) => times[a]! - times[b]!);
    for (let i = 0; i < n; i++) out[i] = order[i]!;
    return;
  }
  const sums = new Float64Array(weights.length);
  weights.forEach((p, i) => sums[i] = p + (i > 0 ? sums[i - 1]! : 0));
  const total = sums[sums.length - 1]!;
  for (let i = 0; i < n; i++) {
    const target = unit(i) * total;
    let low = 0, high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! > target) high = middle;
      else low = middle + 1;
    }
    // Rounding may end past the last category that has any weight.
    while (weights[low] === 0) low--;
    out[i] = low;
  }
}

/**
 * Draws `n` categories per row of `weights` ([categories] or [rows, categories]), which need not add up to 1.
 *
 * @returns int64 positions, [n] or [rows, n]
 * @throws RangeError for weights that are negative, not finite or all 0, or for too many draws without replacement
 */
export function multinomial(
  weights: Tensor,
  n: number,
  options: { replacement?: boolean } = {},
): Tensor {
  checkOptions("multinomial", options, ["replacement"]);
  const replace = options.replacement ?? false, categories = weights.shape.at(-1) ?? 0;
  const fail = (why: string): never => {
    throw new RangeError(
      `Cannot draw ${n} of multinomial weights of shape ${show(weights.shape)}: ${why}`,
    );
  };
  if (!isFloat(weights.dtype)) {
    throw new TypeError(`Cannot draw from ${weights.dtype} weights: they must be floating point`);
  }
  if (weights.ndim < 1 || weights.ndim > 2 || categories === 0) {
    fail("they must be 1-d or 2-d with a category or more");
  }
  if (!Number.isInteger(n) || n < 1) fail("the number of draws must be a positive integer");
  const values = Float64Array.from(weights.toTypedArray() as Float64Array);
  const rows = values.length / categories, perRow = replace ? n : categories;
  const out = new Float64Array(rows * n),
    w = words(reserve(blocksOf(rows * perRow, 2)), 2 * rows * perRow);
  for (let r = 0; r < rows; r++) {
    const row = values.subarray(r * categories, (r + 1) * categories);
    if (row.some((p) => !(p >= 0 && p < Infinity))) fail("they must be finite and not negative");
    const positive = row.reduce((k, p) => k + Number(p > 0), 0);
    if (positive === 0) fail("a row is all 0");
    if (!replace && n > positive) {
      fail(`a row has only ${positive} weights above 0; draw with { replacement: true }`);
    }
    sample(row, n, replace, w.subarray(2 * r * perRow), out.subarray(r * n, (r + 1) * n));
  }
  return tensor(out, {
    dtype: "int64",
    device: weights.device,
    shape: [...weights.shape.slice(0, -1), n],
  });
}

/** The state of the generator, as 16 bytes: the seed and the position in its stream (little-endian uint64). */
export function getRngState(): Tensor {
  const { seed, offset } = saveGenerator();
  const bytes = new DataView(new ArrayBuffer(16));
  bytes.setBigUint64(0, BigInt(seed), true);
  bytes.setBigUint64(8, BigInt(offset), true);
  return tensor(new Uint8Array(bytes.buffer));
}

/**
 * Puts the generator back into a state that `getRngState` gave.
 *
 * @throws TypeError for a tensor that is no such state
 */
export function setRngState(state: Tensor): void {
  const data = state.toTypedArray();
  if (state.dtype !== "uint8" || data.byteLength !== 16) {
    throw new TypeError(
      `Cannot set the random state from a ${state.dtype} tensor of shape ${show(state.shape)}: ` +
        `give what getRngState() returned`,
    );
  }
  const bytes = new DataView(data.buffer, data.byteOffset, 16);
  restoreGenerator({
    seed: Number(bytes.getBigUint64(0, true)),
    offset: Number(bytes.getBigUint64(8, true)),
  });
}
