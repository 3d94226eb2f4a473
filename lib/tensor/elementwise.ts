// Elementwise methods: documented one-liners over lib/ops/elementwise.ts. Operands broadcast (NumPy's rule) and
// promote (PyTorch's rule); the right operand may be a number.

import { gradEnabled } from "../autograd/mode.ts";
import { binary, fillInPlace, inPlace, ternary, unary } from "../dispatch.ts";
import type { Operand } from "../backend.ts";
import { isFloat } from "../dtype.ts";
import { gradientLater } from "../later.ts";
import { elementwiseOps as ops } from "../ops/elementwise.ts";
import { argumentsOf, checkNumbers, checkOptions } from "../options.ts";
import { show } from "../shape.ts";
import { self, TensorBase } from "./base.ts";
import {
  type AlphaOptions,
  checkDifference,
  type DivOptions,
  flat,
  integral,
  isTensor,
  isWider,
  type RoundOptions,
  saturated,
  scaled,
  updated,
  wrapped,
} from "./operands.ts";
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
    return this.dtype === "bool" ? unary(ops.copy, self(this)) : unary(ops.sign, self(this));
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
    return unary(ops.square, this.dtype === "bool" ? self(this).to("int64") : self(this));
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

  /** x rounded to the nearest integer (or to some decimals), ties to even. */
  round(options: RoundOptions = {}): Tensor {
    checkOptions("round", options, ["decimals"]);
    const decimals = options.decimals ?? 0;
    if (!Number.isInteger(decimals)) {
      throw new TypeError(`Cannot round to ${String(decimals)} decimals: give an integer`);
    }
    if (decimals === 0) return unary(ops.round, self(this));
    if (!isFloat(this.dtype)) {
      throw new TypeError(`Cannot round a ${this.dtype} tensor to ${decimals} decimals`);
    }
    const unit = 10 ** Math.abs(decimals);
    return decimals > 0 ? this.mul(unit).round().div(unit) : this.div(unit).round().mul(unit);
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

  /** x + alpha other. */
  add(other: Operand, options?: AlphaOptions): Tensor {
    const b = options === undefined ? other : scaled("add", this, other, options);
    return binary(ops.add, self(this), b);
  }

  /**
   * x - alpha other.
   *
   * @throws TypeError for bools
   */
  sub(other: Operand, options?: AlphaOptions): Tensor {
    checkDifference(this, other);
    const b = options === undefined ? other : scaled("sub", this, other, options);
    return binary(ops.sub, self(this), b);
  }

  /** x · other. */
  mul(other: Operand): Tensor {
    return binary(ops.mul, self(this), other);
  }

  /** x / other, in floating point; or rounded to integers (in the dtype of the operands) as the options say. */
  div(other: Operand, options?: DivOptions): Tensor {
    const x = self(this);
    if (options === undefined) return binary(ops.div, x, other);
    checkOptions("div", options, ["roundingMode"]);
    const mode = options.roundingMode ?? null;
    if (mode === null) return binary(ops.div, x, other);
    if (mode === "floor") return flat(flat(this.floorDivide(other), x), other);
    if (mode !== "trunc") {
      throw new TypeError(
        `Cannot div with roundingMode ${JSON.stringify(mode)}: use "trunc" or "floor"`,
      );
    }
    const down = this.floorDivide(other);
    if (isFloat(down.dtype)) return binary(ops.div, x, other).trunc();
    const inexact = binary(ops.mul, down, other).ne(x);
    return down.add(inexact.logicalAnd(down.lt(0)).to(down.dtype));
  }

  /** x to the power `exponent`. Throws RangeError for integers to a negative power. */
  pow(exponent: Operand): Tensor {
    if (this.dtype === "uint8" && Number.isInteger(exponent) && (exponent as number) < 0) {
      throw new RangeError("Cannot pow: Integers to negative integer powers are not allowed");
    }
    return binary(ops.pow, self(this), exponent);
  }

  /** ⌊x / other⌋. Throws RangeError on integer division by zero. */
  floorDivide(other: Operand): Tensor {
    return binary(ops.floorDivide, self(this), wrapped(this, other));
  }

  /** x - other ⌊x / other⌋, with the sign of `other`. */
  remainder(other: Operand): Tensor {
    return binary(ops.remainder, self(this), wrapped(this, other));
  }

  /** The larger of x and other; NaN wins. */
  maximum(other: Operand): Tensor {
    return binary(ops.maximum, self(this), saturated(this, other));
  }

  /** The smaller of x and other; NaN wins. */
  minimum(other: Operand): Tensor {
    return binary(ops.minimum, self(this), saturated(this, other));
  }

  /** The angle of the point (other, x), in radians. */
  atan2(other: Operand): Tensor {
    return binary(ops.atan2, self(this), other);
  }

  /** Where x = other (bool). */
  eq(other: Operand): Tensor {
    return binary(ops.eq, self(this), wrapped(this, other));
  }

  /** Where x ≠ other (bool). */
  ne(other: Operand): Tensor {
    return binary(ops.ne, self(this), wrapped(this, other));
  }

  /** Where x < other (bool). */
  lt(other: Operand): Tensor {
    return binary(ops.lt, self(this), wrapped(this, other));
  }

  /** Where x ≤ other (bool). */
  le(other: Operand): Tensor {
    return binary(ops.le, self(this), wrapped(this, other));
  }

  /** Where x > other (bool). */
  gt(other: Operand): Tensor {
    return binary(ops.gt, self(this), wrapped(this, other));
  }

  /** Where x ≥ other (bool). */
  ge(other: Operand): Tensor {
    return binary(ops.ge, self(this), wrapped(this, other));
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
    // It waits where a norm computed `saved` in its own pass: the norm's backward does not need it.
    return (gradEnabled() ? null : gradientLater(ops.reluGrad, self(this), saved)) ??
      binary(ops.reluGrad, self(this), saved);
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

  /** x > 0 ? x : slope x (`leakyRelu(0.2)` or `leakyRelu({ negativeSlope: 0.2 })`). */
  leakyRelu(negativeSlope: number | { negativeSlope?: number } = 0.01): Tensor {
    const a = argumentsOf("leakyRelu", [negativeSlope], { negativeSlope: 0.01 });
    return binary(ops.leakyRelu, self(this), a.negativeSlope);
  }

  /** x > 0 ? x : alpha (eˣ - 1) (`elu(0.5)` or `elu({ alpha: 0.5 })`). */
  elu(alpha: number | { alpha?: number } = 1): Tensor {
    return binary(ops.elu, self(this), argumentsOf("elu", [alpha], { alpha: 1 }).alpha);
  }

  /** x Φ(x), or its tanh approximation. */
  gelu(options: { approximate?: "none" | "tanh" } = {}): Tensor {
    checkOptions("gelu", options, ["approximate"]);
    const { approximate = "none" } = options;
    if (approximate !== "none" && approximate !== "tanh") {
      throw new TypeError(
        `Cannot gelu with approximate ${JSON.stringify(approximate)}: use "none" or "tanh"`,
      );
    }
    return unary(options.approximate === "tanh" ? ops.geluTanh : ops.gelu, self(this));
  }

  /** ln(1 + exp(beta x)) / beta; linear where beta x exceeds the threshold. The two by position or by name. */
  softplus(
    beta: number | { beta?: number; threshold?: number } = 1,
    threshold?: number | { threshold?: number },
  ): Tensor {
    const a = argumentsOf("softplus", [beta, threshold], { beta: 1, threshold: 20 });
    return ternary(ops.softplus, self(this), a.beta, a.threshold);
  }

  /**
   * This bool tensor as a condition: `a` where true, else `b`.
   *
   * @throws TypeError where this tensor is not bool
   */
  where(a: Operand, b: Operand): Tensor {
    return ternary(ops.where, self(this), a, b);
  }

  /**
   * x with `value` (a number or a 0-d tensor) wherever the bool `mask` (broadcast to x) is true; `value` becomes x's
   * dtype.
   */
  maskedFill(mask: Tensor, value: Operand): Tensor {
    const x = self(this);
    if (isTensor(value) && value.ndim > 0) {
      throw new RangeError(
        `Cannot maskedFill with a value of shape ${
          show(value.shape)
        }: it must be 0-d; where takes any`,
      );
    }
    if (isTensor(value)) return ternary(ops.where, mask, value.to(x.dtype), x);
    if (isFloat(x.dtype) || typeof value !== "number") return ternary(ops.where, mask, value, x);
    return ternary(ops.where, mask, integral("maskedFill", value, x.dtype), x).to(x.dtype);
  }

  /** x limited to [min, max]; either bound may be null. */
  clamp(min: Operand | null = null, max: Operand | null = null): Tensor {
    if (min === null && max === null) {
      throw new TypeError("Cannot clamp without bounds: give min, max or both");
    }
    // Integers have no infinity to stand for an open end; and a tensor shares the gradient of ties as maximum does.
    if (max === null && (isTensor(min) || !isFloat(this.dtype))) return this.maximum(min!);
    if (min === null && (isTensor(max) || !isFloat(this.dtype))) return this.minimum(max!);
    const low = min === null ? -Infinity : saturated(this, min);
    return ternary(ops.clamp, self(this), low, max === null ? Infinity : saturated(this, max));
  }

  /** x + weight (end - x). */
  lerp(end: Tensor, weight: Operand): Tensor {
    return ternary(ops.lerp, self(this), end, weight);
  }

  /** x + alpha other, in place. */
  add_(other: Operand, options?: AlphaOptions): Tensor {
    const b = options === undefined ? other : scaled("add_", this, other, options);
    return updated(ops.add, self(this), b);
  }

  /** x - alpha other, in place. */
  sub_(other: Operand, options?: AlphaOptions): Tensor {
    checkDifference(this, other);
    const b = options === undefined ? other : scaled("sub_", this, other, options);
    return updated(ops.sub, self(this), b);
  }

  /** x · other, in place. */
  mul_(other: Operand): Tensor {
    return updated(ops.mul, self(this), other);
  }

  /** x / other, in place. */
  div_(other: Operand): Tensor {
    return updated(ops.div, self(this), other);
  }

  /** x limited to [min, max], in place; either bound may be null. */
  clamp_(min: Operand | null = null, max: Operand | null = null): Tensor {
    if (min === null && max === null) {
      throw new TypeError("Cannot clamp_ without bounds: give min, max or both");
    }
    const x = self(this);
    if (isWider(x, min) || isWider(x, max)) return x.copy_(x.clamp(min, max));
    const low = min === null ? -Infinity : saturated(x, min);
    const high = max === null ? Infinity : saturated(x, max);
    const open = (bound: Operand): boolean => isTensor(bound) || !isFloat(x.dtype);
    if (max === null && open(low)) return inPlace(ops.maximum, x, low, 0);
    if (min === null && open(high)) return inPlace(ops.minimum, x, high, 0);
    return inPlace(ops.clamp, x, low, high);
  }

  /** Copies `source` (broadcast, converted, from any device) into this tensor. */
  copy_(source: Operand): Tensor {
    if (typeof source === "number") return this.fill_(source);
    return inPlace(
      ops.copy,
      self(this),
      isTensor(source) ? source.to(this.device) : source,
      0,
      true,
    );
  }

  /** Sets every element to `value`. */
  fill_(value: number): Tensor {
    if (typeof value !== "number") checkNumbers("fill_", { value });
    const fits = isFloat(this.dtype) ? value : integral("fill_", value, this.dtype);
    return fillInPlace(self(this), fits);
  }

  /** Sets every element to 0. */
  zero_(): Tensor {
    return fillInPlace(self(this), 0);
  }
}
