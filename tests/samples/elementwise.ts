// How each elementwise op is tried: ranges inside the domain, kinks that finite differences must not straddle.

import { elementwiseOps } from "../../lib/ops/elementwise.ts";
import type { ElementwiseSample } from "./sample.ts";

const wide: ElementwiseSample = { ranges: [[-3, 3]] };
const positive: ElementwiseSample = { ranges: [[0.1, 4]] };
const kinked: ElementwiseSample = { ranges: [[-3, 3]], avoid: [0] };
const steps: ElementwiseSample = {
  ranges: [[-3, 3]],
  avoid: [-3, -2, -1, 0, 1, 2, 3, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5],
};
// Vectorised functions are within a few units in the last place: the slack is in units of the dtype's tolerance.
const twoUlp: ElementwiseSample = { ranges: [[-3, 3]], slack: 2 };

// These derivatives cross zero: a huge gradient would turn their absolute error there into a relative one.
const grads: ElementwiseSample = {
  ranges: [[-3, 3]],
  slack: 2,
  specials: [NaN, Infinity, -Infinity, 0, -0, 1e-40, 88.5, 90, -90, -104],
};

/** A row for every elementwise op. */
export const elementwiseSamples = {
  copy: wide,
  cast: wide,
  neg: wide,
  abs: kinked,
  sign: kinked,
  square: wide,
  relu: kinked,
  floor: steps,
  ceil: steps,
  round: steps,
  trunc: steps,
  exp: wide,
  expm1: wide,
  log: positive,
  log1p: { ranges: [[-0.8, 3]] },
  log2: positive,
  sqrt: positive,
  rsqrt: positive,
  reciprocal: { ranges: [[0.2, 3]] },
  sin: wide,
  cos: wide,
  tan: { ranges: [[-1.2, 1.2]], slack: 2 },
  asin: { ranges: [[-0.9, 0.9]] },
  acos: { ranges: [[-0.9, 0.9]] },
  atan: wide,
  sinh: wide,
  cosh: wide,
  tanh: wide,
  sigmoid: wide,
  selu: kinked,
  gelu: twoUlp,
  geluTanh: twoUlp,
  silu: twoUlp,
  mish: twoUlp,
  erf: wide,
  isnan: wide,
  isinf: wide,
  logicalNot: wide,
  add: wide,
  sub: wide,
  mul: wide,
  div: { ranges: [[-3, 3], [0.3, 3]] },
  pow: { ranges: [[0.2, 3], [-2, 3]], slack: 2 },
  floorDivide: { ranges: [[-3, 3], [0.6, 3]] },
  remainder: { ranges: [[0.1, 0.5], [0.6, 3]] },
  maximum: wide,
  minimum: wide,
  atan2: { ranges: [[0.3, 3], [0.3, 3]] },
  leakyRelu: { ranges: [[-3, 3]], avoid: [0], numbers: [0.1] },
  elu: { ranges: [[-3, 3]], avoid: [0], numbers: [1.3] },
  reluGrad: { ranges: [[-3, 3]], avoid: [0] },
  sigmoidGrad: wide,
  tanhGrad: wide,
  geluGrad: grads,
  siluGrad: grads,
  eq: wide,
  ne: wide,
  lt: wide,
  le: wide,
  gt: wide,
  ge: wide,
  logicalAnd: wide,
  logicalOr: wide,
  logicalXor: wide,
  where: wide,
  clamp: { ranges: [[-3, 3]], avoid: [-1, 2], numbers: [-1, 2] },
  lerp: { ranges: [[-3, 3], [-3, 3], [0, 1]] },
  softplus: { ranges: [[-3, 3]], numbers: [1.5, 3.7], avoid: [3.7 / 1.5] },
} satisfies Record<keyof typeof elementwiseOps, ElementwiseSample>;
