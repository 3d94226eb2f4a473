// Optimiser steps: each updates a parameter and its state in place in one pass over memory. Formulas and their
// order are PyTorch's. lib/optim holds the state and calls these once per parameter.

import type { Tensor } from "../tensor/mod.ts";
import { same, show } from "../shape.ts";
import { declare, kernel } from "./op.ts";

/** One step of stochastic gradient descent. */
export interface SgdAttrs {
  readonly lr: number;
  readonly weightDecay: number;
  readonly maximize: boolean;
}

/** One step of stochastic gradient descent with momentum. */
export interface SgdMomentumAttrs extends SgdAttrs {
  readonly momentum: number;
  readonly dampening: number;
  readonly nesterov: boolean;
  /** The buffer is empty: it becomes the gradient, undamped. */
  readonly first: boolean;
}

/** One step of Adam, or of AdamW where the weight decay is decoupled. */
export interface AdamAttrs {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly decoupled: boolean;
  readonly maximize: boolean;
  /** Counted from 1: the bias corrections depend on it. */
  readonly step: number;
}

/** What a gradient scaler multiplies gradients by. */
export interface UnscaleAttrs {
  readonly factor: number;
}

/** Checks that the gradient and the state fit the parameter; there are no outputs to size. */
function checkStep(name: string, inputs: Readonly<Record<string, Tensor>>): [] {
  const param = inputs["param"]!;
  for (const [key, t] of Object.entries(inputs)) {
    if (!same(t.shape, param.shape)) {
      throw new RangeError(
        `Cannot ${name} a parameter of shape ${show(param.shape)} with ${key} of shape ${
          show(t.shape)
        }: the shapes must be equal`,
      );
    }
    if (t.dtype !== param.dtype) {
      throw new TypeError(
        `Cannot ${name} a ${param.dtype} parameter with ${t.dtype} ${key}: make the optimizer ` +
          "after converting the model",
      );
    }
  }
  return [];
}

/** The direction of descent: the gradient with sign and (coupled) weight decay. */
function direction(g: number, p: number, a: { maximize: boolean }, weightDecay: number): number {
  return (a.maximize ? -g : g) + (weightDecay === 0 ? 0 : weightDecay * p);
}

/** The bias-corrected step size and the root of the second correction. */
function corrections(a: AdamAttrs): { stepSize: number; root: number } {
  return {
    stepSize: a.lr / (1 - a.beta1 ** a.step),
    root: Math.sqrt(1 - a.beta2 ** a.step),
  };
}

function adamDescriptor(a: AdamAttrs): number[] {
  const { stepSize, root } = corrections(a);
  const shrink = a.decoupled ? 1 - a.lr * a.weightDecay : 1;
  const coupled = a.decoupled ? 0 : a.weightDecay;
  return [stepSize, root, a.beta1, a.beta2, a.eps, coupled, shrink, Number(a.maximize)];
}

/** Updates element `i` of the parameter and of both moments; returns the second moment that the step divides by. */
function adamElement(
  i: number,
  a: AdamAttrs,
  p: Float64Array,
  g: Float64Array,
  m: Float64Array,
  v: Float64Array,
  largest: Float64Array | null,
): void {
  const { stepSize, root } = corrections(a);
  const d = direction(g[i]!, p[i]!, a, a.decoupled ? 0 : a.weightDecay);
  if (a.decoupled) p[i]! *= 1 - a.lr * a.weightDecay;
  m[i]! += (1 - a.beta1) * (d - m[i]!);
  v[i] = a.beta2 * v[i]! + (1 - a.beta2) * d * d;
  if (largest !== null) largest[i] = Math.max(largest[i]!, v[i]!);
  const second = largest === null ? v[i]! : largest[i]!;
  p[i]! -= stepSize * m[i]! / (Math.sqrt(second) / root + a.eps);
}

/** All optimiser ops. */
export const optimOps = declare({
  // desc: [lr, weightDecay, maximize]
  sgdStep: kernel({
    doc: "param -= lr (grad + weightDecay param), in place",
    inputs: ["param", "grad"],
    outputs: [],
    mutates: ["param"],
    infer: (ins, _: SgdAttrs) => checkStep("sgdStep", ins),
    descriptor: (_, __, a) => [a.lr, a.weightDecay, Number(a.maximize)],
    reference: ({ param, grad }, _, a) => {
      const p = param.f, g = grad.f;
      for (let i = 0; i < p.length; i++) {
        p[i]! -= a.lr * direction(g[i]!, p[i]!, a, a.weightDecay);
      }
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  // desc: [lr, weightDecay, maximize, momentum, dampening, nesterov, first]
  sgdMomentumStep: kernel({
    doc: "momentum = momentum factor · momentum + gradient, param -= lr momentum, in place",
    inputs: ["param", "grad", "momentum"],
    outputs: [],
    mutates: ["param", "momentum"],
    infer: (ins, _: SgdMomentumAttrs) => checkStep("sgdMomentumStep", ins),
    descriptor: (_, __, a) => [
      a.lr,
      a.weightDecay,
      Number(a.maximize),
      a.momentum,
      a.dampening,
      Number(a.nesterov),
      Number(a.first),
    ],
    reference: ({ param, grad, momentum }, _, a) => {
      const p = param.f, g = grad.f, m = momentum.f;
      for (let i = 0; i < p.length; i++) {
        const d = direction(g[i]!, p[i]!, a, a.weightDecay);
        m[i] = a.first ? d : a.momentum * m[i]! + (1 - a.dampening) * d;
        p[i]! -= a.lr * (a.nesterov ? d + a.momentum * m[i]! : m[i]!);
      }
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  // desc of both: [lr / (1 - beta1^step), sqrt(1 - beta2^step), beta1, beta2, eps, coupled weight decay,
  // factor of the parameter by decoupled weight decay, maximize]
  adamStep: kernel({
    doc: "one step of Adam or AdamW on param and its two moments, in place",
    inputs: ["param", "grad", "expAvg", "expAvgSq"],
    outputs: [],
    mutates: ["param", "expAvg", "expAvgSq"],
    infer: (ins, _: AdamAttrs) => checkStep("adamStep", ins),
    descriptor: (_, __, a) => adamDescriptor(a),
    reference: ({ param, grad, expAvg, expAvgSq }, _, a) => {
      const p = param.f, g = grad.f, m = expAvg.f, v = expAvgSq.f;
      for (let i = 0; i < p.length; i++) adamElement(i, a, p, g, m, v, null);
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  amsgradStep: kernel({
    doc: "one step of Adam or AdamW that divides by the largest second moment so far, in place",
    inputs: ["param", "grad", "expAvg", "expAvgSq", "maxExpAvgSq"],
    outputs: [],
    mutates: ["param", "expAvg", "expAvgSq", "maxExpAvgSq"],
    infer: (ins, _: AdamAttrs) => checkStep("amsgradStep", ins),
    descriptor: (_, __, a) => adamDescriptor(a),
    reference: ({ param, grad, expAvg, expAvgSq, maxExpAvgSq }, _, a) => {
      const p = param.f, g = grad.f, m = expAvg.f, v = expAvgSq.f;
      for (let i = 0; i < p.length; i++) adamElement(i, a, p, g, m, v, maxExpAvgSq.f);
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  // desc: [factor]. found is a float32 scalar, also for float64 gradients.
  unscale: kernel({
    doc: "grad *= factor in place; found = 1 where an element was infinite or NaN",
    inputs: ["grad", "found"],
    outputs: [],
    mutates: ["grad", "found"],
    infer: ({ found }, _: UnscaleAttrs) => {
      if (found.numel() !== 1 || found.dtype !== "float32") {
        throw new TypeError(
          `Cannot unscale with a ${found.dtype} flag of shape ${
            show(found.shape)
          }: it must be one float32`,
        );
      }
      return [];
    },
    descriptor: (_, __, a) => [a.factor],
    reference: ({ grad, found }, _, a) => {
      for (let i = 0; i < grad.f.length; i++) {
        if (!Number.isFinite(grad.f[i]!)) found.f[0] = 1;
        grad.f[i]! *= a.factor;
      }
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
});
