// Elementwise methods: documented one-liners over lib/ops/elementwise.ts. Operands broadcast (NumPy's rule) and
// promote (PyTorch's rule); the right operand may be a number.

import { binary, fillInPlace, inPlace, ternary, unary } from "../dispatch.ts";
import type { Operand } from "../backend.ts";
import { isFloat } from "../dtype.ts";
import { elementwiseOps as ops } from "../ops/elementwise.ts";
import { checkOptions } from "../options.ts";
import { self, TensorBase } from "./base.ts";
import type { Tensor } from "./mod.ts";

/** Elementwise methods of tensors. */
export abstract class ElementwiseTensor extends TensorBase {
  /** -x. */
  neg(): Tensor {
    return unary(ops.neg, self(this));
  }

  /** |x|. */
  abs(): Tensor {
    return unary(ops.abs, self(this));
  }

  /** -1, 0 or 1 by the sign of x. */
  sign(): Tensor {
    return unary(ops.sign, self(this));
  }

  /** eˣ. */
  exp(): Tensor {
    return unary(ops.exp, self(this));
  }

  /** eˣ - 1, accurate near 0. */
  expm1(): Tensor {
    return unary(ops.expm1, self(this));
  }

  /** ln x. */
  log(): Tensor {
    return unary(ops.log, self(this));
  }

  /** ln(1 + x), accurate near 0. */
  log1p(): Tensor {
    return unary(ops.log1p, self(this));
  }

  /** log₂ x. */
  log2(): Tensor {
    return unary(ops.log2, self(this));
  }

  /** √x. */
  sqrt(): Tensor {
    return unary(ops.sqrt, self(this));
  }

  /** 1 / √x. */
  rsqrt(): Tensor {
    return unary(ops.rsqrt, self(this));
  }

  /** x². */
  square(): Tensor {
    return unary(ops.square, self(this));
  }

  /** 1 / x. */
  reciprocal(): Tensor {
    return unary(ops.reciprocal, self(this));
  }

  /** sin x, x in radians. */
  sin(): Tensor {
    return unary(ops.sin, self(this));
  }

  /** cos x, x in radians. */
  cos(): Tensor {
    return unary(ops.cos, self(this));
  }

  /** tan x, x in radians. */
  tan(): Tensor {
    return unary(ops.tan, self(this));
  }

  /** arcsin x, in radians. */
  asin(): Tensor {
    return unary(ops.asin, self(this));
  }

  /** arccos x, in radians. */
  acos(): Tensor {
    return unary(ops.acos, self(this));
  }

  /** arctan x, in radians. */
  atan(): Tensor {
    return unary(ops.atan, self(this));
  }

  /** sinh x. */
  sinh(): Tensor {
    return unary(ops.sinh, self(this));
  }

  /** cosh x. */
  cosh(): Tensor {
    return unary(ops.cosh, self(this));
  }

  /** tanh x. */
  tanh(): Tensor {
    return unary(ops.tanh, self(this));
  }

  /** 1 / (1 + e⁻ˣ). */
  sigmoid(): Tensor {
    return unary(ops.sigmoid, self(this));
  }

  /** max(x, 0). */
  relu(): Tensor {
    return unary(ops.relu, self(this));
  }

  /** The self-normalising activation of Klambauer et al. 2017. */
  selu(): Tensor {
    return unary(ops.selu, self(this));
  }

  /** x sigmoid(x). */
  silu(): Tensor {
    return unary(ops.silu, self(this));
  }

  /** x tanh(softplus(x)). */
  mish(): Tensor {
    return unary(ops.mish, self(this));
  }

  /** The error function. */
  erf(): Tensor {
    return unary(ops.erf, self(this));
  }

  /** ⌊x⌋. */
  floor(): Tensor {
    return unary(ops.floor, self(this));
  }

  /** ⌈x⌉. */
  ceil(): Tensor {
    return unary(ops.ceil, self(this));
  }

  /** x rounded to the nearest integer, ties to even. */
  round(): Tensor {
    return unary(ops.round, self(this));
  }

  /** x without its fraction. */
  trunc(): Tensor {
    return unary(ops.trunc, self(this));
  }

  /** Where x is NaN (bool). */
  isnan(): Tensor {
    return unary(ops.isnan, self(this));
  }

  /** Where x is infinite (bool). */
  isinf(): Tensor {
    return unary(ops.isinf, self(this));
  }

  /** Where x is 0 (bool). */
  logicalNot(): Tensor {
    return unary(ops.logicalNot, self(this));
  }

  /** x + other. */
  add(other: Operand): Tensor {
    return binary(ops.add, self(this), other);
  }

  /** x - other. */
  sub(other: Operand): Tensor {
    return binary(ops.sub, self(this), other);
  }

  /** x · other. */
  mul(other: Operand): Tensor {
    return binary(ops.mul, self(this), other);
  }

  /** x / other, in floating point. */
  div(other: Operand): Tensor {
    return binary(ops.div, self(this), other);
  }

  /** x to the power `exponent`. */
  pow(exponent: Operand): Tensor {
    return binary(ops.pow, self(this), exponent);
  }

  /** ⌊x / other⌋. Throws RangeError on integer division by zero. */
  floorDivide(other: Operand): Tensor {
    return binary(ops.floorDivide, self(this), other);
  }

  /** x - other ⌊x / other⌋, with the sign of `other`. */
  remainder(other: Operand): Tensor {
    return binary(ops.remainder, self(this), other);
  }

  /** The larger of x and other; NaN wins. */
  maximum(other: Operand): Tensor {
    return binary(ops.maximum, self(this), other);
  }

  /** The smaller of x and other; NaN wins. */
  minimum(other: Operand): Tensor {
    return binary(ops.minimum, self(this), other);
  }

  /** The angle of the point (other, x), in radians. */
  atan2(other: Operand): Tensor {
    return binary(ops.atan2, self(this), other);
  }

  /** Where x = other (bool). */
  eq(other: Operand): Tensor {
    return binary(ops.eq, self(this), other);
  }

  /** Where x ≠ other (bool). */
  ne(other: Operand): Tensor {
    return binary(ops.ne, self(this), other);
  }

  /** Where x < other (bool). */
  lt(other: Operand): Tensor {
    return binary(ops.lt, self(this), other);
  }

  /** Where x ≤ other (bool). */
  le(other: Operand): Tensor {
    return binary(ops.le, self(this), other);
  }

  /** Where x > other (bool). */
  gt(other: Operand): Tensor {
    return binary(ops.gt, self(this), other);
  }

  /** Where x ≥ other (bool). */
  ge(other: Operand): Tensor {
    return binary(ops.ge, self(this), other);
  }

  /** Where both are nonzero (bool). */
  logicalAnd(other: Operand): Tensor {
    return binary(ops.logicalAnd, self(this), other);
  }

  /** Where either is nonzero (bool). */
  logicalOr(other: Operand): Tensor {
    return binary(ops.logicalOr, self(this), other);
  }

  /** Where exactly one is nonzero (bool). */
  logicalXor(other: Operand): Tensor {
    return binary(ops.logicalXor, self(this), other);
  }

  /** @internal The derivative of relu times this gradient. */
  reluGrad(saved: Tensor): Tensor {
    return binary(ops.reluGrad, self(this), saved);
  }

  /** @internal The derivative of sigmoid times this gradient. */
  sigmoidGrad(saved: Tensor): Tensor {
    return binary(ops.sigmoidGrad, self(this), saved);
  }

  /** @internal The derivative of tanh times this gradient. */
  tanhGrad(saved: Tensor): Tensor {
    return binary(ops.tanhGrad, self(this), saved);
  }

  /** @internal The derivative of gelu times this gradient. */
  geluGrad(saved: Tensor): Tensor {
    return binary(ops.geluGrad, self(this), saved);
  }

  /** @internal The derivative of silu times this gradient. */
  siluGrad(saved: Tensor): Tensor {
    return binary(ops.siluGrad, self(this), saved);
  }

  /** x > 0 ? x : slope x. */
  leakyRelu(slope = 0.01): Tensor {
    return binary(ops.leakyRelu, self(this), slope);
  }

  /** x > 0 ? x : alpha (eˣ - 1). */
  elu(alpha = 1): Tensor {
    return binary(ops.elu, self(this), alpha);
  }

  /** x Φ(x), or its tanh approximation. */
  gelu(options: { approximate?: "none" | "tanh" } = {}): Tensor {
    checkOptions("gelu", options, ["approximate"]);
    return unary(options.approximate === "tanh" ? ops.geluTanh : ops.gelu, self(this));
  }

  /** ln(1 + exp(beta x)) / beta; linear where beta x exceeds the threshold. */
  softplus(beta = 1, threshold = 20): Tensor {
    return ternary(ops.softplus, self(this), beta, threshold);
  }

  /**
   * This bool tensor as a condition: `a` where true, else `b`.
   *
   * @throws TypeError where this tensor is not bool
   */
  where(a: Operand, b: Operand): Tensor {
    return ternary(ops.where, self(this), a, b);
  }

  /** x with `value` wherever the bool `mask` (broadcast to x) is true. */
  maskedFill(mask: Tensor, value: Operand): Tensor {
    return ternary(ops.where, mask, value, self(this));
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
    return ternary(ops.clamp, self(this), min ?? -Infinity, max ?? Infinity);
  }

  /** x + weight (end - x). */
  lerp(end: Tensor, weight: Operand): Tensor {
    return ternary(ops.lerp, self(this), end, weight);
  }

  /** x + other, in place. */
  add_(other: Operand): Tensor {
    return inPlace(ops.add, self(this), other, 0);
  }

  /** x - other, in place. */
  sub_(other: Operand): Tensor {
    return inPlace(ops.sub, self(this), other, 0);
  }

  /** x · other, in place. */
  mul_(other: Operand): Tensor {
    return inPlace(ops.mul, self(this), other, 0);
  }

  /** x / other, in place. */
  div_(other: Operand): Tensor {
    return inPlace(ops.div, self(this), other, 0);
  }

  /** x limited to [min, max], in place. */
  clamp_(min: number | null = null, max: number | null = null): Tensor {
    return inPlace(ops.clamp, self(this), min ?? -Infinity, max ?? Infinity);
  }

  /** Copies `source` (broadcast, converted) into this tensor. */
  copy_(source: Operand): Tensor {
    if (typeof source === "number") return fillInPlace(self(this), source);
    return inPlace(ops.copy, self(this), source, 0, true);
  }

  /** Sets every element to `value`. */
  fill_(value: number): Tensor {
    return fillInPlace(self(this), value);
  }

  /** Sets every element to 0. */
  zero_(): Tensor {
    return fillInPlace(self(this), 0);
  }
}
