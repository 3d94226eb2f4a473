// Samples of the optimiser ops. Second moments are positive; every branch of the formulas has a row.

import type { optimOps } from "../../lib/ops/optim.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

const shapes: readonly (readonly number[])[] = [[3, 5], [1], [17], [], [0, 4], [2, 3, 4, 5]];

function any(shape: readonly number[]): TensorSpec {
  return { shape };
}

function positive(shape: readonly number[]): TensorSpec {
  return { shape, range: [0.1, 2] };
}

const sgd = { lr: 0.1, weightDecay: 0, maximize: false };
const momentum = { ...sgd, momentum: 0.9, dampening: 0, nesterov: false, first: false };
const adam = {
  lr: 0.01,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0,
  decoupled: false,
  maximize: false,
  step: 3,
};
const adamVariants = [
  { ...adam, weightDecay: 0.1, step: 1 },
  { ...adam, weightDecay: 0.1, decoupled: true },
  { ...adam, beta1: 0.2, beta2: 0.6, eps: 0.01, maximize: true, weightDecay: 0.01, step: 7 },
];

/** A row for every optimiser op. */
export const optimSamples = {
  sgdStep: [
    ...shapes.map((s) => ({ inputs: [any(s), any(s)], attrs: sgd })),
    { inputs: [any([7]), any([7])], attrs: { lr: 0.5, weightDecay: 0.2, maximize: true } },
    { inputs: [any([40000]), any([40000])], attrs: { ...sgd, weightDecay: 0.2 }, large: true },
  ],
  sgdMomentumStep: [
    ...shapes.map((s) => ({ inputs: [any(s), any(s), any(s)], attrs: momentum })),
    ...[
      { ...momentum, weightDecay: 0.1, dampening: 0.3 },
      { ...momentum, weightDecay: 0.1, nesterov: true },
      { ...momentum, first: true, dampening: 0.5, maximize: true },
    ].map((attrs) => ({ inputs: [any([2, 9]), any([2, 9]), any([2, 9])], attrs })),
    {
      inputs: [any([40000]), any([40000]), any([40000])],
      attrs: { ...momentum, nesterov: true },
      large: true,
    },
  ],
  adamStep: [
    ...shapes.map((s) => ({ inputs: [any(s), any(s), any(s), positive(s)], attrs: adam })),
    ...adamVariants.map((attrs) => ({
      inputs: [any([2, 9]), any([2, 9]), any([2, 9]), positive([2, 9])],
      attrs,
    })),
    {
      inputs: [any([40000]), any([40000]), any([40000]), positive([40000])],
      attrs: { ...adam, weightDecay: 0.1 },
      large: true,
    },
  ],
  amsgradStep: [
    ...shapes.map((s) => ({
      inputs: [any(s), any(s), any(s), positive(s), positive(s)],
      attrs: adam,
    })),
    ...adamVariants.map((attrs) => ({
      inputs: [any([2, 9]), any([2, 9]), any([2, 9]), positive([2, 9]), positive([2, 9])],
      attrs,
    })),
  ],
  unscale: [
    ...shapes.map((s) => ({
      inputs: [any(s), { shape: [], values: [0], dtype: "float32" as const }],
      attrs: { factor: 0.25 },
    })),
    {
      inputs: [
        { shape: [5], values: [1, -Infinity, 3, NaN, 5] },
        { shape: [], values: [0], dtype: "float32" },
      ],
      attrs: { factor: 0.5 },
    },
    {
      inputs: [any([40000]), { shape: [], values: [1], dtype: "float32" }],
      attrs: { factor: 3 },
      large: true,
    },
  ],
} satisfies Record<keyof typeof optimOps, readonly OpSample[]>;
