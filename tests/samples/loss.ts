// Samples of the losses on class labels.

import type { lossOps } from "../../lib/ops/loss.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

const reductions = ["mean", "sum", "none"] as const;

function labels(n: number, classes: number, ignored = -1): TensorSpec {
  const values = Array.from(
    { length: n },
    (_, i) => i % 3 === ignored ? -100 : (i * 7 + 3) % classes,
  );
  return { shape: [n], values, dtype: n % 2 === 0 ? "int64" : "int32" };
}

function weights(classes: number): TensorSpec {
  return { shape: [classes], range: [0.5, 2], grad: false };
}

interface Case {
  readonly n: number;
  readonly classes: number;
  readonly ignored?: number;
  readonly weighted?: boolean;
  readonly labelSmoothing?: number;
  readonly large?: boolean;
}

const cases: readonly Case[] = [
  { n: 4, classes: 3 },
  { n: 5, classes: 7, ignored: 1 },
  { n: 5, classes: 7, weighted: true },
  { n: 4, classes: 5, ignored: 0, weighted: true, labelSmoothing: 0.2 },
  { n: 6, classes: 4, ignored: 2, labelSmoothing: 0.1 },
  { n: 1, classes: 1 },
  { n: 67, classes: 1033, large: true, labelSmoothing: 0.1 },
  { n: 131, classes: 259, ignored: 1, weighted: true, large: true },
  { n: 401, classes: 811, large: true },
];

function rows(make: (c: Case, reduction: string) => OpSample): OpSample[] {
  return reductions.flatMap((r) => cases.map((c) => ({ ...make(c, r), large: c.large ?? false })));
}

function attrsOf(c: Case, reduction: string): object {
  return {
    reduction,
    ignoreIndex: -100,
    labelSmoothing: c.labelSmoothing ?? 0,
    classes: c.classes,
  };
}

const weight = (c: Case): TensorSpec | null => c.weighted ? weights(c.classes) : null;
const gradShape = (c: Case, r: string): number[] => r === "none" ? [c.n] : [];

/** g, x, target, stats and total of the backward ops. */
const backwardInputs = (c: Case, r: string): TensorSpec[] => [
  { shape: gradShape(c, r) },
  { shape: [c.n, c.classes] },
  labels(c.n, c.classes, c.ignored),
  { shape: [c.n, 2], range: [3, 5] },
  { shape: [], range: [2, 4] },
];

/** Samples of losses. */
export const lossSamples = {
  crossEntropy: [
    ...rows((c, r) => ({
      inputs: [{ shape: [c.n, c.classes] }, labels(c.n, c.classes, c.ignored), weight(c)],
      attrs: attrsOf(c, r),
    })),
    {
      inputs: [{ shape: [2, 2], values: [1000, -1000, 3, 2] }, labels(2, 2), null],
      attrs: { reduction: "none", ignoreIndex: -100, labelSmoothing: 0 },
    },
    {
      inputs: [{ shape: [0, 3] }, labels(0, 3), null],
      attrs: { reduction: "sum", ignoreIndex: -100, labelSmoothing: 0 },
    },
  ],
  crossEntropyBackward: rows((c, r) => ({
    inputs: [...backwardInputs(c, r), weight(c)],
    attrs: attrsOf(c, r),
  })),
  crossEntropyLinearBackward: [1, 3, 17].flatMap((size) =>
    rows((c, r) => ({
      inputs: [
        ...backwardInputs(c, r),
        { shape: [c.n, size] },
        { shape: [c.classes, size] },
        weight(c),
      ],
      attrs: attrsOf(c, r),
    }))
  ),
  nllLoss: rows((c, r) => ({
    inputs: [{ shape: [c.n, c.classes] }, labels(c.n, c.classes, c.ignored), weight(c)],
    attrs: attrsOf(c, r),
  })),
  nllLossBackward: rows((c, r) => ({
    inputs: [
      { shape: gradShape(c, r) },
      labels(c.n, c.classes, c.ignored),
      { shape: [], values: [totalOf(c)], grad: false },
      weight(c) === null
        ? null
        : { shape: [c.classes], values: new Array(c.classes).fill(1), grad: false },
    ],
    attrs: attrsOf(c, r),
  })),
  binaryCrossEntropy: [
    { inputs: [{ shape: [], range: [0.1, 0.9] }, { shape: [], range: [0, 1] }] },
    { inputs: [{ shape: [3, 5], range: [0.1, 0.9] }, { shape: [3, 5], range: [0, 1] }] },
    { inputs: [{ shape: [0] }, { shape: [0] }] },
    {
      inputs: [
        { shape: [4], values: [0, 0, 1, 1], grad: false },
        { shape: [4], values: [0, 1, 0, 1], grad: false },
      ],
    },
    {
      inputs: [{ shape: [7, 1033], range: [0.01, 0.99] }, { shape: [7, 1033], range: [0, 1] }],
      large: true,
    },
  ],
} satisfies Record<keyof typeof lossOps, readonly OpSample[]>;

/** The number of labels that count: what the backward op gets from the forward one, all weights being 1. */
function totalOf(c: Case): number {
  return labels(c.n, c.classes, c.ignored).values!.filter((v) => v !== -100).length;
}
