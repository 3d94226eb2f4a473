// Elementwise ops: meaning and derivative, one entry each. Kernels: one line each in csrc/scalar_ops.h.
// Formulas read as mathematics: g is the gradient of the result y; x, a, b, c are the operands.
// Conventions at kinks are PyTorch's: relu'(0) = 0, abs'(0) = 0, ties of maximum share the gradient equally.

import type { Tensor } from "../tensor/mod.ts";
import {
  clampedHigh,
  clampedLow,
  inverseSquare,
  powBase,
  powExponent,
  roundedOnce,
  unclamped,
  winner,
} from "./elementwise_grads.ts";
import { binary, declare, dx, dxy, dxyz, ternary, unary } from "./op.ts";
import { erf, gelu, geluTanh, mish, roundEven, sigmoid, softplus } from "./scalar.ts";

const none = "nondifferentiable" as const;
const zero = dx("", (g) => g._full(0)); // also where g is infinite

/** aᵇ in float64; 1 to any power and -1 to an infinite one are 1, as in C. */
function floatPow(a: number, b: number): number {
  return a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b;
}

const bigAbs = (x: bigint): bigint => x < 0n ? -x : x;

/** Floor division of integers: rounds towards -infinity. */
function floorDivide(a: bigint, b: bigint): bigint {
  if (b === 0n) throw new RangeError("Integer division by zero");
  const q = a / b;
  return a % b !== 0n && (a < 0n) !== (b < 0n) ? q - 1n : q;
}

/** Integer powers by repeated squaring, in the ring of 64-bit integers. */
function intPow(a: bigint, b: bigint): bigint {
  if (b < 0n) throw new RangeError("Integers to negative integer powers are not allowed");
  let y = 1n;
  for (let base = a, e = b; e > 0n; e >>= 1n) {
    if (e & 1n) y = BigInt.asIntN(64, y * base);
    base = BigInt.asIntN(64, base * base);
  }
  return y;
}

/** PyTorch's floor_divide on floats: exact division minus the remainder, rounded. */
function floorDivideFloat(a: number, b: number): number {
  if (b === 0) return a / b;
  const mod = a % b;
  let div = (a - mod) / b;
  if (mod !== 0 && (b < 0) !== (mod < 0)) div -= 1;
  if (div === 0) return Object.is(a / b, -0) || a / b < 0 ? -0 : 0;
  const floor = Math.floor(div);
  return div - floor > 0.5 ? floor + 1 : floor;
}

/** Remainder with the sign of the divisor. */
function remainderFloat(a: number, b: number): number {
  const mod = a % b;
  return mod !== 0 && (b < 0) !== (mod < 0) ? mod + b : mod;
}

const selu = { alpha: 1.6732632423543772848170429916717, scale: 1.0507009873554804934193349852946 };
const invSqrt2Pi = 1 / Math.sqrt(2 * Math.PI);

/** All elementwise ops. */
export const elementwiseOps = declare({
  copy: unary({
    doc: "x, in new memory",
    domain: "any",
    f: (x) => x,
    int: (x) => x,
    dx: dx("", (g) => g),
  }),
  cast: unary({
    doc: "x in another dtype: floats truncate towards zero to integers, and wrap",
    domain: "any",
    f: (x) => x,
    int: (x) => x,
    dx: dx("", (g) => g),
  }),

  neg: unary({
    doc: "-x",
    domain: "number",
    f: (x) => -x,
    int: (x) => -x,
    dx: dx("", (g) => g.neg()),
  }),
  abs: unary({
    doc: "|x|",
    domain: "number",
    f: Math.abs,
    int: bigAbs,
    dx: dx("a", (g, x) => g.mul(x.sign())),
  }),
  sign: unary({
    doc: "-1, 0 or 1",
    domain: "number",
    f: (x) => x > 0 ? 1 : x < 0 ? -1 : 0,
    int: (x) => x > 0n ? 1n : x < 0n ? -1n : 0n,
    dx: zero,
  }),
  square: unary({
    doc: "x²",
    domain: "number",
    f: (x) => x * x,
    int: (x) => x * x,
    dx: dx("a", (g, x) => g.mul(x).mul(2)),
  }),
  relu: unary({
    doc: "max(x, 0)",
    domain: "number",
    f: (x) => x < 0 ? 0 : x,
    int: (x) => x > 0n ? x : 0n,
    dx: dx("y", (g, _x, y) => g.reluGrad(y)),
  }),
  floor: unary({ doc: "⌊x⌋", domain: "number", f: Math.floor, int: (x) => x, dx: zero }),
  ceil: unary({ doc: "⌈x⌉", domain: "number", f: Math.ceil, int: (x) => x, dx: zero }),
  round: unary({
    doc: "x rounded to the nearest integer, ties to even",
    domain: "number",
    f: roundEven,
    int: (x) => x,
    dx: zero,
  }),
  trunc: unary({
    doc: "x without its fraction",
    domain: "number",
    f: Math.trunc,
    int: (x) => x,
    dx: zero,
  }),

  exp: unary({ doc: "eˣ", f: Math.exp, dx: dx("y", (g, _x, y) => g.mul(y)) }),
  expm1: unary({ doc: "eˣ - 1", f: Math.expm1, dx: dx("y", (g, _x, y) => g.mul(y.add(1))) }),
  log: unary({ doc: "ln x", f: Math.log, dx: dx("a", (g, x) => g.div(x)) }),
  log1p: unary({ doc: "ln(1 + x)", f: Math.log1p, dx: dx("a", (g, x) => g.div(x.add(1))) }),
  log2: unary({ doc: "log₂ x", f: Math.log2, dx: dx("a", (g, x) => g.div(x.mul(Math.LN2))) }),
  sqrt: unary({ doc: "√x", f: Math.sqrt, dx: dx("y", (g, _x, y) => g.div(y.mul(2))) }),
  rsqrt: unary({
    doc: "1 / √x",
    f: (x) => 1 / Math.sqrt(x),
    dx: dx("y", (g, _x, y) => g.mul(y.mul(y).mul(y)).mul(-0.5)),
  }),
  reciprocal: unary({
    doc: "1 / x",
    f: (x) => 1 / x,
    dx: dx("y", (g, _x, y) => g.mul(y.mul(y)).neg()),
  }),
  sin: unary({ doc: "sin x (radians)", f: Math.sin, dx: dx("a", (g, x) => g.mul(x.cos())) }),
  cos: unary({ doc: "cos x (radians)", f: Math.cos, dx: dx("a", (g, x) => g.mul(x.sin()).neg()) }),
  tan: unary({
    doc: "tan x (radians)",
    f: Math.tan,
    dx: dx("y", (g, _x, y) => g.mul(y.mul(y).add(1))),
  }),
  asin: unary({
    doc: "arcsin x",
    f: Math.asin,
    dx: dx("a", (g, x) => g.mul(x.mul(x).neg().add(1).rsqrt())),
  }),
  acos: unary({
    doc: "arccos x",
    f: Math.acos,
    dx: dx("a", (g, x) => g.mul(x.mul(x).neg().add(1).rsqrt()).neg()),
  }),
  atan: unary({ doc: "arctan x", f: Math.atan, dx: dx("a", (g, x) => g.div(x.mul(x).add(1))) }),
  sinh: unary({ doc: "sinh x", f: Math.sinh, dx: dx("a", (g, x) => g.mul(x.cosh())) }),
  cosh: unary({ doc: "cosh x", f: Math.cosh, dx: dx("a", (g, x) => g.mul(x.sinh())) }),
  tanh: unary({ doc: "tanh x", f: Math.tanh, dx: dx("y", (g, _x, y) => g.tanhGrad(y)) }),
  sigmoid: unary({ doc: "1 / (1 + e⁻ˣ)", f: sigmoid, dx: dx("y", (g, _x, y) => g.sigmoidGrad(y)) }),
  selu: unary({
    doc: "scale · (x > 0 ? x : alpha (eˣ - 1)), Klambauer et al. 2017",
    f: (x) => selu.scale * (x > 0 ? x : selu.alpha * Math.expm1(x)),
    dx: roundedOnce(dx(
      "ay",
      (g, x, y) => g.mul(x.gt(0).where(selu.scale, y.add(selu.scale * selu.alpha))),
    )),
  }),
  gelu: unary({
    doc: "x Φ(x) with the normal distribution function Φ, Hendrycks & Gimpel 2016",
    f: gelu,
    dx: dx("a", (g, x) => g.geluGrad(x)),
  }),
  geluTanh: unary({
    doc: "x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))",
    f: geluTanh,
    dx: roundedOnce(dx("a", (g, x) => {
      const k = Math.sqrt(2 / Math.PI), x2 = x.mul(x);
      const t = x.mul(x2.mul(0.044715).add(1)).mul(k).tanh();
      const slope = t.mul(t).neg().add(1).mul(x2.mul(3 * 0.044715).add(1)).mul(x).mul(k);
      return g.mul(t.add(1).add(slope)).mul(0.5);
    })),
  }),
  silu: unary({
    doc: "x sigmoid(x)",
    f: (x) => x * sigmoid(x),
    dx: dx("a", (g, x) => g.siluGrad(x)),
  }),
  mish: unary({
    doc: "x tanh(ln(1 + eˣ)), Misra 2019",
    f: mish,
    dx: roundedOnce(dx("a", (g, x) => {
      const t = x.softplus().tanh();
      return g.mul(t.add(x.mul(x.sigmoid()).mul(t.mul(t).neg().add(1))));
    })),
  }),
  erf: unary({
    doc: "2/√π ∫₀ˣ exp(-t²) dt",
    f: erf,
    dx: dx("a", (g, x) => g.mul(x.mul(x).neg().exp()).mul(2 / Math.sqrt(Math.PI))),
  }),

  isnan: unary({
    doc: "whether x is NaN",
    domain: "any",
    result: "bool",
    f: (x) => x !== x,
    int: () => false,
    dx: none,
  }),
  isinf: unary({
    doc: "whether x is infinite",
    domain: "any",
    result: "bool",
    f: (x) => Math.abs(x) === Infinity,
    int: () => false,
    dx: none,
  }),
  logicalNot: unary({
    doc: "whether x is 0",
    domain: "any",
    result: "bool",
    f: (x) => x === 0,
    int: (x) => x === 0n,
    dx: none,
  }),

  add: binary({
    doc: "a + b (or, on bool)",
    domain: "any",
    f: (a, b) => a + b,
    int: (a, b) => a + b,
    grads: [dxy("", (g) => g), dxy("", (g) => g)],
  }),
  sub: binary({
    doc: "a - b",
    domain: "number",
    f: (a, b) => a - b,
    int: (a, b) => a - b,
    grads: [dxy("", (g) => g), dxy("", (g) => g.neg())],
  }),
  mul: binary({
    doc: "a b (and, on bool)",
    domain: "any",
    f: (a, b) => a * b,
    int: (a, b) => a * b,
    grads: [dxy("b", (g, _a, b) => g.mul(b)), dxy("a", (g, a) => g.mul(a))],
  }),
  div: binary({
    doc: "a / b, in floating point",
    f: (a, b) => a / b,
    grads: [
      dxy("b", (g, _a, b) => g.div(b)),
      dxy("by", (g, _a, b, y) => g.mul(y).div(b).neg()),
    ],
  }),
  pow: binary({
    doc: "a to the power b",
    domain: "number",
    f: floatPow,
    int: intPow,
    grads: [dxy("ab", powBase), dxy("aby", powExponent)],
  }),
  floorDivide: binary({
    doc: "⌊a / b⌋",
    domain: "number",
    f: floorDivideFloat,
    int: floorDivide,
    grads: none,
  }),
  remainder: binary({
    doc: "a - b ⌊a / b⌋: has the sign of b",
    domain: "number",
    f: remainderFloat,
    int: (a, b) => a - b * floorDivide(a, b),
    grads: [
      dxy("", (g) => g),
      dxy(
        "ab",
        (g, a, b) =>
          g.mul((typeof a === "number" ? (b as Tensor)._full(a) : a).floorDivide(b)).neg(),
      ),
    ],
  }),
  maximum: binary({
    doc: "the larger of a and b; NaN wins",
    domain: "any",
    f: (a, b) => Math.max(a, b),
    int: (a, b) => a > b ? a : b,
    grads: [
      dxy("ab", (g, a, b) => winner(g, a, b, "lt")),
      dxy("ab", (g, a, b) => winner(g, b, a, "lt")),
    ],
  }),
  minimum: binary({
    doc: "the smaller of a and b; NaN wins",
    domain: "any",
    f: (a, b) => Math.min(a, b),
    int: (a, b) => a < b ? a : b,
    grads: [
      dxy("ab", (g, a, b) => winner(g, a, b, "gt")),
      dxy("ab", (g, a, b) => winner(g, b, a, "gt")),
    ],
  }),
  atan2: binary({
    doc: "the angle of the point (b, a), in radians",
    f: Math.atan2,
    grads: [
      dxy("ab", (g, a, b) => g.mul(b).mul(inverseSquare(a, b))),
      dxy("ab", (g, a, b) => g.mul(a).mul(inverseSquare(a, b)).neg()),
    ],
  }),
  leakyRelu: binary({
    doc: "x > 0 ? x : slope x",
    f: (x, slope) => x > 0 ? x : x * slope,
    grads: [dxy("ab", (g, x, slope) => (x as Tensor).gt(0).where(g, g.mul(slope))), null],
  }),
  elu: binary({
    doc: "x > 0 ? x : alpha (eˣ - 1), Clevert et al. 2015",
    f: (x, alpha) => x > 0 ? x : alpha * Math.expm1(x),
    grads: [
      roundedOnce(dxy(
        "ab",
        (g, x, alpha) => (x as Tensor).gt(0).where(g, g.mul((x as Tensor).exp().mul(alpha))),
      )),
      null,
    ],
  }),
  reluGrad: binary({
    doc: "the derivative of relu times g: y > 0 ? g : 0",
    f: (g, y) => y <= 0 ? 0 : g, // NaN lets g pass, as in PyTorch
    grads: [dxy("b", (gg, _g, y) => gg.reluGrad(y as Tensor)), null],
  }),
  sigmoidGrad: binary({
    doc: "the derivative of sigmoid times g: g y (1 - y)",
    f: (g, y) => g * y * (1 - y),
    grads: [
      dxy("b", (gg, _g, y) => gg.sigmoidGrad(y as Tensor)),
      dxy("ab", (gg, g, y) => gg.mul(g).mul((y as Tensor).mul(-2).add(1))),
    ],
  }),
  tanhGrad: binary({
    doc: "the derivative of tanh times g: g (1 - y²)",
    f: (g, y) => g * (1 - y * y),
    grads: [
      dxy("b", (gg, _g, y) => gg.tanhGrad(y as Tensor)),
      dxy("ab", (gg, g, y) => gg.mul(g).mul(y).mul(-2)),
    ],
  }),
  geluGrad: binary({
    doc: "the derivative of gelu times g: g (Φ(x) + x φ(x))",
    f: (g, x) => g * ((1 + erf(x / Math.SQRT2)) / 2 + x * Math.exp(-x * x / 2) * invSqrt2Pi),
    grads: [
      dxy("b", (gg, _g, x) => gg.geluGrad(x as Tensor)),
      // d/dx (Φ + x φ) = φ (2 - x²)
      dxy("ab", (gg, g, b) => {
        const x2 = (b as Tensor).mul(b);
        return gg.mul(g).mul(x2.mul(-0.5).exp().mul(invSqrt2Pi)).mul(x2.neg().add(2));
      }),
    ],
  }),
  siluGrad: binary({
    doc: "the derivative of silu times g: g s (1 + x (1 - s)), s = sigmoid(x)",
    f: (g, x) => g * sigmoid(x) * (1 + x * (1 - sigmoid(x))),
    grads: [
      dxy("b", (gg, _g, x) => gg.siluGrad(x as Tensor)),
      // d/dx (s + x s (1 - s)) = s (1 - s) (2 + x (1 - 2 s))
      dxy("ab", (gg, g, b) => {
        const x = b as Tensor, s = x.sigmoid();
        const slope = s.mul(s.neg().add(1)).mul(x.mul(s.mul(-2).add(1)).add(2));
        return gg.mul(g).mul(slope);
      }),
    ],
  }),

  eq: compare("a = b", (a, b) => a === b, (a, b) => a === b),
  ne: compare("a ≠ b", (a, b) => a !== b, (a, b) => a !== b),
  lt: compare("a < b", (a, b) => a < b, (a, b) => a < b),
  le: compare("a ≤ b", (a, b) => a <= b, (a, b) => a <= b),
  gt: compare("a > b", (a, b) => a > b, (a, b) => a > b),
  ge: compare("a ≥ b", (a, b) => a >= b, (a, b) => a >= b),
  logicalAnd: compare(
    "a ≠ 0 and b ≠ 0",
    (a, b) => a !== 0 && b !== 0,
    (a, b) => a !== 0n && b !== 0n,
  ),
  logicalOr: compare(
    "a ≠ 0 or b ≠ 0",
    (a, b) => a !== 0 || b !== 0,
    (a, b) => a !== 0n || b !== 0n,
  ),
  logicalXor: compare(
    "exactly one of a ≠ 0, b ≠ 0",
    (a, b) => (a !== 0) !== (b !== 0),
    (a, b) => (a !== 0n) !== (b !== 0n),
  ),

  where: ternary({
    doc: "c ? a : b",
    domain: "any",
    condition: true,
    f: (c, a, b) => c !== 0 ? a : b,
    int: (c, a, b) => c !== 0n ? a : b,
    grads: [
      null,
      dxyz("a", (g, c) => (c as Tensor).where(g, 0)),
      dxyz("a", (g, c) => (c as Tensor).where(0, g)),
    ],
  }),
  clamp: ternary({
    doc: "min(max(x, lo), hi)",
    domain: "number",
    f: (x, lo, hi) => Math.min(Math.max(x, lo), hi),
    int: (x, lo, hi) => x < lo ? (lo < hi ? lo : hi) : x > hi ? hi : x,
    grads: [
      dxyz("abc", (g, x, lo, hi) => unclamped(g, x as Tensor, lo, hi)),
      dxyz("abc", (g, x, lo, hi) => clampedLow(g, x as Tensor, lo as Tensor, hi)),
      dxyz("abc", (g, x, lo, hi) => clampedHigh(g, x as Tensor, lo, hi as Tensor)),
    ],
  }),
  lerp: ternary({
    doc: "a + w (b - a)",
    // From the nearer end: exact at both.
    f: (a, b, w) => Math.abs(w) < 0.5 ? a + w * (b - a) : b - (b - a) * (1 - w),
    grads: [
      dxyz("c", (g, _a, _b, w) => g.sub(g.mul(w))),
      dxyz("c", (g, _a, _b, w) => g.mul(w)),
      dxyz("ab", (g, a, b) => typeof b === "number" ? g.mul(b).sub(g.mul(a)) : g.mul(b.sub(a))),
    ],
  }),
  softplus: ternary({
    doc: "ln(1 + exp(beta x)) / beta, and x where beta x > threshold",
    f: softplus,
    grads: [
      roundedOnce(dxyz("abc", (g, x, beta, threshold) => {
        const bx = (x as Tensor).mul(beta);
        return bx.gt(threshold).where(g, g.mul(bx.sigmoid()));
      })),
      null,
      null,
    ],
  }),
});

function compare(
  doc: string,
  f: (a: number, b: number) => boolean,
  int: (a: bigint, b: bigint) => boolean,
): ReturnType<typeof binary> {
  return binary({ doc, domain: "any", result: "bool", f, int, grads: none });
}
