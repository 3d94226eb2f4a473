// Derivatives of elementwise ops that take more than a line. g is the gradient of the result y; at kinks and special
// values they are PyTorch's. Read next: lib/ops/elementwise.ts, whose table refers to them.

import type { Operand } from "../backend.ts";
import { isHalf } from "../dtype.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Grad } from "./op.ts";

/** A derivative of several steps: for halves it is computed in float32 and rounded once. */
export function roundedOnce({ saves, f }: Grad): Grad {
  const wide = <T extends Operand>(x: T): T =>
    typeof x === "object" && x !== null ? x.to("float32") as T : x;
  return {
    saves,
    f: (g, a, b, c, y) =>
      isHalf(g.dtype)
        ? f(wide(g), wide(a), wide(b), wide(c), wide(y)).to(g.dtype)
        : f(g, a, b, c, y),
  };
}

function minusOne(b: Operand): Operand {
  return typeof b === "number" ? b - 1 : b.sub(1);
}

/** d/da a^b = b a^(b-1), with the convention that it is 0 where b is 0 (also at a = 0). */
export function powBase(g: Tensor, a: Operand, b: Operand): Tensor {
  if (typeof b === "number") {
    return b === 0 ? g._full(0) : g.mul((a as Tensor).pow(b - 1).mul(b));
  }
  const t = typeof a === "number" ? b._full(a) : a;
  const slope = b.mul(t.pow(minusOne(b) as Tensor));
  return g.mul(b.eq(0).where(slope.mul(0).maskedFill(slope.isnan(), 0), slope));
}

/** d/db a^b = a^b log a, 0 where a is 0 and b >= 0. */
export function powExponent(g: Tensor, a: Operand, b: Operand, y: Tensor): Tensor {
  const t = typeof a === "number" ? y._full(a) : a;
  const dead = t.eq(0).logicalAnd((b as Tensor).ge(0));
  return g.mul(y.mul(t.log()).maskedFill(dead, 0));
}

/** The share of `g` that goes to `a` in max(a, b): nothing where a loses, half at ties, all else (NaN too). */
export function winner(g: Tensor, a: Operand, b: Operand, loses: "gt" | "lt"): Tensor {
  const t = typeof a === "number" ? (b as Tensor)._full(a) : a;
  return g.mul(t[loses](b).logicalNot().to(g.dtype).sub(t.eq(b).to(g.dtype).mul(0.5)));
}

/** The share of `g` that goes to x in clamp: inside the bounds; numbers as bounds take ties, tensors share them. */
export function unclamped(g: Tensor, x: Tensor, lo: Operand, hi: Operand): Tensor {
  const strictly = (bound: Operand, inside: "gt" | "lt"): Tensor =>
    Math.abs(bound as number) === Infinity ? x.eq(x) : x[inside](bound);
  if (typeof lo === "number" && typeof hi === "number") {
    return g.mul(strictly(lo, "gt").logicalAnd(strictly(hi, "lt")));
  }
  const inside = x.le(lo).logicalOr(x.ge(hi)).logicalNot(); // NaN is
  const ties = x.eq(lo).to(g.dtype).add(x.eq(hi).to(g.dtype)).mul(0.5);
  return g.mul(inside.to(g.dtype).add(ties.mul(x.ge(lo).logicalAnd(x.le(hi)))));
}

/** The share of `g` that goes to a bound that x has passed: half at ties. */
function clamped(g: Tensor, x: Tensor, bound: Tensor, passed: "gt" | "lt", open: Tensor): Tensor {
  return g.mul(x[passed](bound).to(g.dtype).add(x.eq(bound).logicalAnd(open).to(g.dtype).mul(0.5)));
}

/** 1 / (a² + b²), 0 at the origin. */
export function inverseSquare(a: Operand, b: Operand): Tensor {
  const t = typeof a === "number" ? (b as Tensor)._full(a) : a;
  const squares = typeof b === "number" ? t.mul(t).add(b * b) : t.mul(t).add(b.mul(b));
  return squares.eq(0).where(0, squares.reciprocal());
}

/** The share of `g` that goes to the lower bound in clamp: where it applies, half at ties. */
export function clampedLow(g: Tensor, x: Tensor, lo: Tensor, hi: Operand): Tensor {
  return clamped(g, x, lo, "lt", lo.lt(hi)).mul(lo.le(hi));
}

/** The share of `g` that goes to the upper bound in clamp, which wins where the bounds cross. */
export function clampedHigh(g: Tensor, x: Tensor, lo: Operand, hi: Tensor): Tensor {
  return hi.lt(lo).where(g, clamped(g, x, hi, "gt", hi.gt(lo)));
}
