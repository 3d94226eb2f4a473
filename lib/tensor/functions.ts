// The elementwise functions of the torch namespace that are methods of tensors too: `ndl.add(a, b)` is `a.add(b)`. The
// others are in reduce_functions.ts and layout_functions.ts.

import type { Operand } from "../backend.ts";
import { binary } from "../dispatch.ts";
import { isFloat } from "../dtype.ts";
import { elementwiseOps as ops } from "../ops/elementwise.ts";
import type { ElementwiseOp } from "../ops/op.ts";
import type { Tensor } from "./mod.ts";
import {
  type AlphaOptions,
  checkDifference,
  type DivOptions,
  type RoundOptions,
  scaled,
} from "./operands.ts";
import { checkOptions, checkTensors } from "../options.ts";

export type { AlphaOptions, DivOptions, RoundOptions };

/** op(a, alpha b) with a number on the left. */
function fromNumber(
  op: ElementwiseOp,
  a: number,
  b: Operand,
  options: AlphaOptions = {},
): Tensor {
  if (typeof b !== "number") return binary(op, a, scaled(op.name, b, b, options));
  throw new TypeError(`Cannot ${op.name} two numbers: one of them must be a tensor`);
}

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

/** See {@linkcode Tensor.selu}. */
export function selu(x: Tensor): Tensor {
  return x.selu();
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
export function round(x: Tensor, options: RoundOptions = {}): Tensor {
  return x.round(options);
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

/** See {@linkcode Tensor.add}; one of the two may be a number. */
export function add(a: Operand, b: Operand, options: AlphaOptions = {}): Tensor {
  return typeof a === "number" ? fromNumber(ops.add, a, b, options) : a.add(b, options);
}

/** See {@linkcode Tensor.sub}; one of the two may be a number. */
export function sub(a: Operand, b: Operand, options: AlphaOptions = {}): Tensor {
  if (typeof a !== "number") return a.sub(b, options);
  if (typeof b !== "number") checkDifference(b, a);
  return fromNumber(ops.sub, a, b, options);
}

/** See {@linkcode Tensor.mul}; one of the two may be a number. */
export function mul(a: Operand, b: Operand): Tensor {
  return typeof a === "number" ? fromNumber(ops.mul, a, b) : a.mul(b);
}

/** See {@linkcode Tensor.div}; one of the two may be a number. */
export function div(a: Operand, b: Operand, options: DivOptions = {}): Tensor {
  if (typeof a !== "number") return a.div(b, options);
  if (typeof b === "number" || (options.roundingMode ?? null) === null) {
    checkOptions("div", options, ["roundingMode"]);
    return fromNumber(ops.div, a, b);
  }
  const model = isFloat(b.dtype) || Number.isInteger(a) ? b : b.to("float32");
  return model.detach()._full(a).div(b, options);
}

/** See {@linkcode Tensor.pow}; one of the two may be a number. */
export function pow(a: Operand, b: Operand): Tensor {
  return typeof a === "number" ? fromNumber(ops.pow, a, b) : a.pow(b);
}

/** See {@linkcode Tensor.floorDivide}; one of the two may be a number. */
export function floorDivide(a: Operand, b: Operand): Tensor {
  return typeof a === "number" ? fromNumber(ops.floorDivide, a, b) : a.floorDivide(b);
}

/** See {@linkcode Tensor.remainder}; one of the two may be a number. */
export function remainder(a: Operand, b: Operand): Tensor {
  return typeof a === "number" ? fromNumber(ops.remainder, a, b) : a.remainder(b);
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
  checkTensors("where", { condition });
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
