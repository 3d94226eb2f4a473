// Elementwise methods: documented one-liners over lib/ops/elementwise.ts. Operands broadcast (NumPy's rule) and
// promote (PyTorch's rule); the right operand may be a number.

import { binary, fillInPlace, inPlace, ternary, unary } from "../dispatch.ts";
import type { Operand } from "../backend.ts";
import { isFloat } from "../dtype.ts";
import { elementwiseOps as ops } from "../ops/elementwise.ts";
import { checkOptions } from "../options.ts";
import { TensorBase } from "./base.ts";
import type { Tensor } from "./mod.ts";

/** Elementwise methods of tensors. */
export abstract class ElementwiseTensor extends TensorBase {
  get #self(): Tensor {
    return this as unknown as Tensor;
  }

  /** -x. */
  neg(): Tensor {
    return unary(ops.neg, this.#self);
  }

  /** |x|. */
  abs(): Tensor {
    return unary(ops.abs, this.#self);
  }

  /** -1, 0 or 1 by the sign of x. */
  sign(): Tensor {
    return unary(ops.sign, this.#self);
  }

  /** eˣ. */
  exp(): Tensor {
    return unary(ops.exp, this.#self);
  }

  /** eˣ - 1, accurate near 0. */
  expm1(): Tensor {
    return unary(ops.expm1, this.#self);
  }

  /** ln x. */
  log(): Tensor {
    return unary(ops.log, this.#self);
  }

  /** ln(1 + x), accurate near 0. */
  log1p(): Tensor {
    return unary(ops.log1p, this.#self);
  }

  /** log₂ x. */
  log2(): Tensor {
    return unary(ops.log2, this.#self);
  }

  /** √x. */
  sqrt(): Tensor {
    return unary(ops.sqrt, this.#self);
  }

  /** 1 / √x. */
  rsqrt(): Tensor {
    return unary(ops.rsqrt, this.#self);
  }

  /** x². */
  square(): Tensor {
    return unary(ops.square, this.#self);
  }

  /** 1 / x. */
  reciprocal(): Tensor {
    return unary(ops.reciprocal, this.#self);
  }

  /** sin x, x in radians. */
  sin(): Tensor {
    return unary(ops.sin, this.#self);
  }

  /** cos x, x in radians. */
  cos(): Tensor {
    return unary(ops.cos, this.#self);
  }

  /** tan x, x in radians. */
  tan(): Tensor {
    return unary(ops.tan, this.#self);
  }

  /** arcsin x, in radians. */
  asin(): Tensor {
    return unary(ops.asin, this.#self);
  }

  /** arccos x, in radians. */
  acos(): Tensor {
    return unary(ops.acos, this.#self);
  }

  /** arctan x, in radians. */
  atan(): Tensor {
    return unary(ops.atan, this.#self);
  }

  /** sinh x. */
  sinh(): Tensor {
    return unary(ops.sinh, this.#self);
  }

  /** cosh x. */
  cosh(): Tensor {
    return unary(ops.cosh, this.#self);
  }

  /** tanh x. */
  tanh(): Tensor {
    return unary(ops.tanh, this.#self);
  }

  /** 1 / (1 + e⁻ˣ). */
  sigmoid(): Tensor {
    return unary(ops.sigmoid, this.#self);
  }

  /** max(x, 0). */
  relu(): Tensor {
    return unary(ops.relu, this.#self);
  }

  /** The self-normalising activation of Klambauer et al. 2017. */
  selu(): Tensor {
    return unary(ops.selu, this.#self);
  }

  /** x sigmoid(x). */
  silu(): Tensor {
    return unary(ops.silu, this.#self);
  }

  /** x tanh(softplus(x)). */
  mish(): Tensor {
    return unary(ops.mish, this.#self);
  }

  /** The error function. */
  erf(): Tensor {
    return unary(ops.erf, this.#self);
  }

  /** ⌊x⌋. */
  floor(): Tensor {
    return unary(ops.floor, this.#self);
  }

  /** ⌈x⌉. */
  ceil(): Tensor {
    return unary(ops.ceil, this.#self);
  }

  /** x rounded to the nearest integer, ties to even. */
  round(): Tensor {
    return unary(ops.round, this.#self);
  }

  /** x without its fraction. */
  trunc(): Tensor {
    return unary(ops.trunc, this.#self);
  }

  /** Where x is NaN (bool). */
  isnan(): Tensor {
    return unary(ops.isnan, this.#self);
  }

  /** Where x is infinite (bool). */
  isinf(): Tensor {
    return unary(ops.isinf, this.#self);
  }

  /** Where x is 0 (bool). */
  logicalNot(): Tensor {
    return unary(ops.logicalNot, this.#self);
  }

  /** x + other. */
  add(other: Operand): Tensor {
    return binary(ops.add, this.#self, other);
  }

  /** x - other. */
  sub(other: Operand): Tensor {
    return binary(ops.sub, this.#self, other);
  }

  /** x · other. */
  mul(other: Operand): Tensor {
    return binary(ops.mul, this.#self, other);
  }

  /** x / other, in floating point. */
  div(other: Operand): Tensor {
    return binary(ops.div, this.#self, other);
  }

  /** x to the power `exponent`. */
  pow(exponent: Operand): Tensor {
    return binary(ops.pow, this.#self, exponent);
  }

  /** ⌊x / other⌋. Throws RangeError on integer division by zero. */
  floorDivide(other: Operand): Tensor {
    return binary(ops.floorDivide, this.#self, other);
  }

  /** x - other ⌊x / other⌋, with the sign of `other`. */
  remainder(other: Operand): Tensor {
    return binary(ops.remainder, this.#self, other);
  }

  /** The larger of x and other; NaN wins. */
  maximum(other: Operand): Tensor {
    return binary(ops.maximum, this.#self, other);
  }

  /** The smaller of x and other; NaN wins. */
  minimum(other: Operand): Tensor {
    return binary(ops.minimum, this.#self, other);
  }

  /** The angle of the point (other, x), in radians. */
  atan2(other: Operand): Tensor {
    return binary(ops.atan2, this.#self, other);
  }

  /** Where x = other (bool). */
  eq(other: Operand): Tensor {
    return binary(ops.eq, this.#self, other);
  }

  /** Where x ≠ other (bool). */
  ne(other: Operand): Tensor {
    return binary(ops.ne, this.#self, other);
  }

  /** Where x < other (bool). */
  lt(other: Operand): Tensor {
    return binary(ops.lt, this.#self, other);
  }

  /** Where x ≤ other (bool). */
  le(other: Operand): Tensor {
    return binary(ops.le, this.#self, other);
  }

  /** Where x > other (bool). */
  gt(other: Operand): Tensor {
    return binary(ops.gt, this.#self, other);
  }

  /** Where x ≥ other (bool). */
  ge(other: Operand): Tensor {
    return binary(ops.ge, this.#self, other);
  }

  /** Where both are nonzero (bool). */
  logicalAnd(other: Operand): Tensor {
    return binary(ops.logicalAnd, this.#self, other);
  }

  /** Where either is nonzero (bool). */
  logicalOr(other: Operand): Tensor {
    return binary(ops.logicalOr, this.#self, other);
  }

  /** Where exactly one is nonzero (bool). */
  logicalXor(other: Operand): Tensor {
    return binary(ops.logicalXor, this.#self, other);
  }

  /** @internal The derivative of relu times this gradient. */
  reluGrad(saved: Tensor): Tensor {
    return binary(ops.reluGrad, this.#self, saved);
  }

  /** @internal The derivative of sigmoid times this gradient. */
  sigmoidGrad(saved: Tensor): Tensor {
    return binary(ops.sigmoidGrad, this.#self, saved);
  }

  /** @internal The derivative of tanh times this gradient. */
  tanhGrad(saved: Tensor): Tensor {
    return binary(ops.tanhGrad, this.#self, saved);
  }

  /** @internal The derivative of gelu times this gradient. */
  geluGrad(saved: Tensor): Tensor {
    return binary(ops.geluGrad, this.#self, saved);
  }

  /** @internal The derivative of silu times this gradient. */
  siluGrad(saved: Tensor): Tensor {
    return binary(ops.siluGrad, this.#self, saved);
  }

  /** x > 0 ? x : slope x. */
  leakyRelu(slope = 0.01): Tensor {
    return binary(ops.leakyRelu, this.#self, slope);
  }

  /** x > 0 ? x : alpha (eˣ - 1). */
  elu(alpha = 1): Tensor {
    return binary(ops.elu, this.#self, alpha);
  }

  /** x Φ(x), or its tanh approximation. */
  gelu(options: { approximate?: "none" | "tanh" } = {}): Tensor {
    checkOptions("gelu", options, ["approximate"]);
    return unary(options.approximate === "tanh" ? ops.geluTanh : ops.gelu, this.#self);
  }

  /** ln(1 + exp(beta x)) / beta; linear where beta x exceeds the threshold. */
  softplus(beta = 1, threshold = 20): Tensor {
    return ternary(ops.softplus, this.#self, beta, threshold);
  }

  /**
   * This bool tensor as a condition: `a` where true, else `b`.
   *
   * @throws TypeError where this tensor is not bool
   */
  where(a: Operand, b: Operand): Tensor {
    return ternary(ops.where, this.#self, a, b);
  }

  /** x with `value` wherever the bool `mask` (broadcast to x) is true. */
  maskedFill(mask: Tensor, value: Operand): Tensor {
    return ternary(ops.where, mask, value, this.#self);
  }

  /** x limited to [min, max]; either bound may be null. */
  clamp(min: Operand | null = null, max: Operand | null = null): Tensor {
    if (min === null && max === null) {
      throw new TypeError("Cannot clamp without bounds: give min, max or both");
    }
    if (!isFloat(this.dtype)) {
      // Integers have no infinity to stand for an open end.
      if (max === null) return this.maximum(min!);
      if (min === null) return this.minimum(max);
    }
    return ternary(ops.clamp, this.#self, min ?? -Infinity, max ?? Infinity);
  }

  /** x + weight (end - x). */
  lerp(end: Tensor, weight: Operand): Tensor {
    return ternary(ops.lerp, this.#self, end, weight);
  }

  /** x + other, in place. */
  add_(other: Operand): Tensor {
    return inPlace(ops.add, this.#self, other, 0);
  }

  /** x - other, in place. */
  sub_(other: Operand): Tensor {
    return inPlace(ops.sub, this.#self, other, 0);
  }

  /** x · other, in place. */
  mul_(other: Operand): Tensor {
    return inPlace(ops.mul, this.#self, other, 0);
  }

  /** x / other, in place. */
  div_(other: Operand): Tensor {
    return inPlace(ops.div, this.#self, other, 0);
  }

  /** x limited to [min, max], in place. */
  clamp_(min: number | null = null, max: number | null = null): Tensor {
    return inPlace(ops.clamp, this.#self, min ?? -Infinity, max ?? Infinity);
  }

  /** Copies `source` (broadcast, converted) into this tensor. */
  copy_(source: Operand): Tensor {
    if (typeof source === "number") return fillInPlace(this.#self, source);
    return inPlace(ops.copy, this.#self, source, 0, true);
  }

  /** Sets every element to `value`. */
  fill_(value: number): Tensor {
    return fillInPlace(this.#self, value);
  }

  /** Sets every element to 0. */
  zero_(): Tensor {
    return fillInPlace(this.#self, 0);
  }
}
