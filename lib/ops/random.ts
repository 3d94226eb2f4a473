// Random ops. Each is a pure function of (seed, offset) by Philox (lib/rng.ts), so that all devices draw the same
// numbers. Words of a draw are used in order: one per element, or two where noted (float64 and integers).

import type { DType } from "../dtype.ts";
import { isInt } from "../dtype.ts";
import type { Shape } from "../shape.ts";
import { type Draw, unit53, words } from "../rng.ts";
import { call } from "../dispatch.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp } from "./op.ts";

/** What every op that makes a tensor out of nothing needs. */
export interface RandomAttrs extends Draw {
  /** Shape of the result. */
  readonly shape: Shape;
  /** dtype of the result. */
  readonly dtype: DType;
}

/** Attributes of `uniform` and `randomIntegers`. */
export interface UniformAttrs extends RandomAttrs {
  /** The lower end, included. */
  readonly low: number;
  /** The upper end, excluded. */
  readonly high: number;
}

/** Attributes of `normal`. */
export interface NormalAttrs extends RandomAttrs {
  /** The mean. */
  readonly mean: number;
  /** The standard deviation. */
  readonly std: number;
}

/** Attributes of `bernoulli`: `p` counts where no tensor of probabilities is given. */
export interface BernoulliAttrs extends RandomAttrs {
  /** The probability of 1. */
  readonly p: number;
}

/** How many blocks of a generator a draw of `n` numbers takes. */
export function blocksOf(n: number, wordsEach: 1 | 2): number {
  return Math.ceil(n * wordsEach / 4);
}

/** Words per element of a uniform or normal draw. */
export function wordsEach(dtype: DType): 1 | 2 {
  return dtype === "float64" ? 2 : 1;
}

function made({ shape, dtype }: RandomAttrs): [{ shape: Shape; dtype: DType }] {
  return [{ shape, dtype }];
}

/** Two independent standard normals from two uniforms, u in (0, 1] and the angle in turns (Box & Muller 1958). */
function boxMuller(u: number, turns: number): [number, number] {
  const r = Math.sqrt(-2 * Math.log(u)), angle = 2 * Math.PI * turns;
  return [r * Math.cos(angle), r * Math.sin(angle)];
}

/** Whether each element succeeds, where `p` of all do. */
function trials(draw: Draw, n: number, p: (i: number) => number): (i: number) => boolean {
  const w = words(draw, n);
  return (i) => w[i]! * 2 ** -32 < p(i);
}

function store(y: RefTensor, value: (i: number) => bigint): void {
  if (isInt(y.dtype)) { for (let i = 0; i < y.i.length; i++) y.i[i] = value(i); }
  else for (let i = 0; i < y.f.length; i++) y.f[i] = Number(value(i));
}

// Descriptor: [scale]. Inputs row-major.
const maskedScale: TypedKernelOp<{ scale: number }> = kernel({
  doc: "x mask scale, the mask being bool",
  inputs: ["x", "mask"],
  outputs: ["y"],
  infer: ({ x }) => [{ shape: x.shape, dtype: x.dtype }],
  descriptor: (_, __, { scale }) => [scale],
  reference: ({ x, mask }, { y }, { scale }) => {
    for (let i = 0; i < y.f.length; i++) y.f[i] = x.f[i]! * (mask.f[i]! * scale);
  },
  saves: ["mask"],
  vjp: ({ y: g }, { mask }, attrs) => [call(maskedScale, [g, mask], attrs)[0]!, null],
});

/** All random ops. */
export const randomOps = declare({
  // Descriptor: [seed, offset, low, high]. float64 takes two words each and 53 bits, the others one word and 24.
  uniform: kernel({
    doc: "numbers spread evenly over [low, high)",
    inputs: [],
    outputs: ["y"],
    infer: (_, attrs: UniformAttrs) => made(attrs),
    descriptor: (_, __, a) => [a.seed, a.offset, a.low, a.high],
    reference: (_, { y }, a) => {
      const n = y.f.length, wide = wordsEach(y.dtype) === 2, w = words(a, wide ? 2 * n : n);
      // In float32 the product has at most 48 bits, so that kernels get it right with and without fused multiply-add.
      const range = wide ? a.high - a.low : Math.fround(a.high - a.low);
      const unit = (i: number): number =>
        wide ? unit53(w[2 * i]!, w[2 * i + 1]!) : (w[i]! >>> 8) * 2 ** -24;
      for (let i = 0; i < n; i++) y.f[i] = a.low + unit(i) * range;
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [seed, offset, mean, std]. A pair of words makes a pair of elements (float64: four words).
  normal: kernel({
    doc: "numbers from the normal distribution of given mean and standard deviation",
    inputs: [],
    outputs: ["y"],
    infer: (_, attrs: NormalAttrs) => made(attrs),
    descriptor: (_, __, a) => [a.seed, a.offset, a.mean, a.std],
    reference: (_, { y }, a) => {
      const n = y.f.length, each = wordsEach(y.dtype), w = words(a, each * (n + n % 2));
      for (let i = 0; i < n; i += 2) {
        const pair = each === 2
          ? boxMuller(
            unit53(w[2 * i]!, w[2 * i + 1]!) + 2 ** -53,
            unit53(w[2 * i + 2]!, w[2 * i + 3]!),
          )
          : boxMuller((w[i]! + 1) * 2 ** -32, w[i + 1]! * 2 ** -32);
        y.f[i] = a.mean + a.std * pair[0];
        if (i + 1 < n) y.f[i + 1] = a.mean + a.std * pair[1];
      }
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [seed, offset, low, high - low]. Two words each, times the range, of which the high 64 bits count.
  randomIntegers: kernel({
    doc: "integers spread evenly over [low, high)",
    inputs: [],
    outputs: ["y"],
    infer: (_, attrs: UniformAttrs) => made(attrs),
    descriptor: (_, __, a) => [a.seed, a.offset, a.low, a.high - a.low],
    reference: (_, { y }, a) => {
      const n = isInt(y.dtype) ? y.i.length : y.f.length, w = words(a, 2 * n);
      const low = BigInt(a.low), range = BigInt(a.high - a.low);
      store(y, (i) => low + ((BigInt(w[2 * i + 1]!) << 32n | BigInt(w[2 * i]!)) * range >> 64n));
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [seed, offset, p]. Second dtype: that of the output.
  bernoulli: kernel({
    doc: "1 with probability p, else 0",
    inputs: [],
    optional: ["p"],
    outputs: ["y"],
    infer: (_, attrs: BernoulliAttrs) => made(attrs),
    descriptor: (_, __, a) => [a.seed, a.offset, a.p],
    extraDTypes: (_, [y]) => y!._code << 8,
    reference: ({ p }, { y }, a) => {
      const n = isInt(y.dtype) ? y.i.length : y.f.length;
      const success = trials(a, n, p === null ? () => a.p : (i) => p.f[i]!);
      store(y, (i) => success(i) ? 1n : 0n);
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [seed, offset, p].
  dropout: kernel({
    doc: "x / (1 - p), or 0 with probability p",
    inputs: ["x"],
    outputs: ["y"],
    aux: ["mask"],
    infer: ({ x }, _: Draw & { p: number }) => [
      { shape: x.shape, dtype: x.dtype },
      { shape: x.shape, dtype: "bool" },
    ],
    descriptor: (_, __, a) => [a.seed, a.offset, a.p],
    reference: ({ x }, { y, mask }, a) => {
      const keep = trials(a, y.f.length, () => 1 - a.p), scale = a.p < 1 ? 1 / (1 - a.p) : 0;
      for (let i = 0; i < y.f.length; i++) {
        mask.f[i] = Number(keep(i));
        y.f[i] = x.f[i]! * (mask.f[i]! * scale);
      }
    },
    saves: ["mask"],
    vjp: ({ y: g }, { mask }, { p }) => [
      call(maskedScale, [g, mask], { scale: p < 1 ? 1 / (1 - p) : 0 })[0]!,
    ],
  }),

  maskedScale,
});
