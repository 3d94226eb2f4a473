// Samples of softmax and its relatives.

import type { softmaxOps } from "../../lib/ops/softmax.ts";
import { lineRows, specialRows } from "./reduce.ts";
import type { OpSample } from "./sample.ts";

/** Scores far apart, where exp alone would overflow. */
const far: OpSample = {
  inputs: [{ shape: [2, 3], values: [1000, 999, -1000, -2000, -2000, -1999] }],
  attrs: { dim: 1, keepdim: false },
};

function withGrad(rows: readonly OpSample[], range: readonly [number, number]): OpSample[] {
  return rows.map((r) => ({
    ...r,
    inputs: [{ shape: r.inputs[0]!.shape }, { ...r.inputs[0]!, range }],
  }));
}

const lines = lineRows((dim) => ({ dim }));
const dims = lineRows((dim, _, i) => ({ dim, keepdim: i % 2 === 1 }));

/** Samples of softmax ops. */
export const softmaxSamples = {
  softmax: [...lines, far, ...specialRows({ dim: 1 })],
  softmaxBackward: withGrad(lines, [0, 1]),
  logSoftmax: [...lines, far, ...specialRows({ dim: 1 })],
  logSoftmaxBackward: withGrad(lines, [-8, -1]),
  logsumexp: [
    ...dims,
    far,
    ...specialRows({ dim: 1, keepdim: false }),
    { inputs: [{ shape: [0, 2] }], attrs: { dim: 0, keepdim: true } },
  ],
} satisfies Record<keyof typeof softmaxOps, readonly OpSample[]>;
