// Options and operands of elementwise methods: factors and rounding, and numbers that a dtype cannot hold.

import type { Operand } from "../backend.ts";
import { gradEnabled } from "../autograd/mode.ts";
import { binary, inPlace } from "../dispatch.ts";
import { type DType, dtypes, isFloat, resultType } from "../dtype.ts";
import { checkOptions } from "../options.ts";
import type { ElementwiseOp } from "../ops/op.ts";
import { TensorBase } from "./base.ts";
import type { Tensor } from "./mod.ts";

/** Options of `add` and `sub`. */
export interface AlphaOptions {
  /** A factor of the right operand (default 1). */
  readonly alpha?: number;
}

/** Options of `div`. */
export interface DivOptions {
  /** Round the quotient towards zero ("trunc") or down ("floor"), as integer division in C and in Python. */
  readonly roundingMode?: "trunc" | "floor" | null;
}

/** Options of `round`. */
export interface RoundOptions {
  /** How many digits after the point stay (default 0); before it where negative. */
  readonly decimals?: number;
}

/** Whether an operand is a tensor. */
export function isTensor(x: unknown): x is Tensor {
  return x instanceof TensorBase;
}

/** `other` times the option alpha. */
export function scaled(
  what: string,
  t: TensorBase,
  other: Operand,
  options: AlphaOptions,
): Operand {
  checkOptions(what, options, ["alpha"]);
  const alpha = options.alpha ?? 1;
  if (alpha === 1) return other;
  if (typeof alpha !== "number") {
    throw new TypeError(`Cannot ${what} with alpha ${String(alpha)}: it must be a number`);
  }
  const dtype = isTensor(other) ? resultType([t, other]) : t.dtype;
  if (!isFloat(dtype) && !Number.isInteger(alpha)) {
    throw new TypeError(`Cannot ${what} ${dtype} tensors with alpha ${alpha}: give an integer`);
  }
  return isTensor(other) ? other.mul(alpha) : other * alpha;
}

/** `y`, a function of `x` that is constant between its steps: recorded with the gradient 0 where x requires grad. */
export function flat(y: Tensor, x: Operand): Tensor {
  const recorded = isTensor(x) && gradEnabled() && x.requiresGrad;
  return recorded ? y.logicalOr(1).where(y, x.sign()) : y; // always y; sign has no slope either
}

/** Throws where PyTorch refuses to subtract: bools have no difference. */
export function checkDifference(a: TensorBase, b: Operand): void {
  if (a.dtype !== "bool" && !(isTensor(b) && b.dtype === "bool")) return;
  throw new TypeError(
    'Cannot sub with a bool tensor: convert it first, for example with to("int64"), or use logicalXor',
  );
}

/** The least and the largest element of an integer dtype that is narrower than a number; null for others. */
export function rangeOf(dtype: DType): readonly [number, number] | null {
  return dtype === "uint8" ? [0, 255] : dtype === "int32" ? [-(2 ** 31), 2 ** 31 - 1] : null;
}

/** `other` as an operand beside integers: a number beyond their range wraps around, as in PyTorch. */
export function wrapped(t: TensorBase, other: Operand): Operand {
  const range = typeof other === "number" && Number.isInteger(other) ? rangeOf(t.dtype) : null;
  if (range === null) return other;
  const [least, largest] = range, n = other as number;
  if (n >= least && n <= largest) return n;
  const span = largest - least + 1;
  return ((n - least) % span + span) % span + least;
}

/** `other` as a bound of integers: a number beyond their range is the end of the range. */
export function saturated(t: TensorBase, other: Operand): Operand {
  const range = typeof other === "number" && Number.isInteger(other) ? rangeOf(t.dtype) : null;
  return range === null ? other : Math.min(Math.max(other as number, range[0]), range[1]);
}

/** A number as an element of an integer or bool tensor. */
export function integral(what: string, value: number, dtype: DType): number {
  const range = rangeOf(dtype);
  if (range !== null && Math.abs(value) > range[1] && value !== range[0]) {
    throw new RangeError(
      `Cannot ${what} a ${dtype} tensor with ${value}: it has no such value; the largest is ${
        range[1]
      }`,
    );
  }
  if (Number.isFinite(value)) return dtype === "bool" ? Number(value !== 0) : Math.trunc(value);
  throw new RangeError(`Cannot ${what} a ${dtype} tensor with ${value}: it has no ${dtype} value`);
}

/** Whether `other` is a tensor whose elements a tensor of t's dtype cannot hold, though it can hold what t becomes. */
export function isWider(t: Tensor, other: Operand | null): boolean {
  if (!isTensor(other)) return false;
  const dtype = resultType([t, other]);
  return dtype !== t.dtype && dtypes[dtype].kind === dtypes[t.dtype].kind;
}

/** `t = op(t, other)`; a result of more precision than `t` has is computed as such and rounded once. */
export function updated(op: ElementwiseOp, t: Tensor, other: Operand): Tensor {
  const wide = isTensor(other) && isFloat(t.dtype) && resultType([t, other]) !== t.dtype;
  return wide ? t.copy_(binary(op, t, other)) : inPlace(op, t, other, 0);
}
