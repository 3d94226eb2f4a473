// Samples of the recurrent layers: (T, B, G H) gates; one step, one unit, several vectors of units with a rest,
// both directions, no sequences at all.

import type { rnnOps } from "../../lib/ops/rnn.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

/** Steps, batch, hidden. */
type Size = readonly [number, number, number];

const sizes: readonly Size[] = [[3, 2, 3], [1, 1, 1], [2, 0, 3]];
// Vectors with a rest; more units than one panel of a matrix product, more sequences than one tile, two threads.
const large: readonly Size[] = [[2, 3, 17], [3, 11, 67], [2, 37, 130]];
const directions = [{ reverse: false }, { reverse: true }] as const;

function sequence([steps, batch, hidden]: Size, gates: number): TensorSpec {
  return { shape: [steps, batch, gates * hidden] };
}

function state([, batch, hidden]: Size): TensorSpec {
  return { shape: [batch, hidden] };
}

/** Recurrent weights, small enough that nothing saturates. */
function weights([, , hidden]: Size, gates: number): TensorSpec {
  const bound = 2 / Math.sqrt(hidden);
  return { shape: [gates * hidden, hidden], range: [-bound, bound] };
}

/** Activations that lie where sigmoid and tanh put them. */
function within(spec: TensorSpec): TensorSpec {
  return { ...spec, range: [0.05, 0.95] };
}

/** A sample for each size and each set of attributes; sums of up to a few hundred products need some slack. */
function rows<A>(attrs: readonly A[], inputs: (size: Size) => OpSample["inputs"]): OpSample[] {
  const of = (size: Size, extra: Partial<OpSample>): OpSample[] =>
    attrs.map((a) => ({ inputs: inputs(size), attrs: a, slack: 4, ...extra }));
  return [...sizes.flatMap((s) => of(s, {})), ...large.flatMap((s) => of(s, { large: true }))];
}

const plain = directions.flatMap((d) => [{ ...d, relu: false }, { ...d, relu: true }]);

/** Samples by op. */
export const rnnSamples = {
  rnnLayer: rows(plain, (s) => [sequence(s, 1), state(s), weights(s, 1)]),
  rnnLayerBackward: [
    ...rows(plain, (s) => [within(sequence(s, 1)), weights(s, 1), sequence(s, 1), state(s)]),
    {
      inputs: [within(sequence([2, 3, 4], 1)), weights([2, 3, 4], 1), null, null],
      attrs: plain[0],
    },
  ],
  lstmLayer: rows(directions, (s) => [sequence(s, 4), state(s), state(s), weights(s, 4)]),
  lstmLayerBackward: [
    ...rows(directions, (s) => [
      within(sequence(s, 4)),
      sequence(s, 1),
      state(s),
      weights(s, 4),
      sequence(s, 1),
      state(s),
      state(s),
    ]),
    ...[0, 1, 2].map((given) => ({
      inputs: [
        within(sequence([2, 3, 4], 4)),
        sequence([2, 3, 4], 1),
        state([2, 3, 4]),
        weights([2, 3, 4], 4),
        given === 0 ? sequence([2, 3, 4], 1) : null,
        given === 1 ? state([2, 3, 4]) : null,
        given === 2 ? state([2, 3, 4]) : null,
      ],
      attrs: directions[0],
    })),
  ],
  gruLayer: [
    ...rows(directions, (s) => [sequence(s, 3), state(s), weights(s, 3), { shape: [3 * s[2]] }]),
    ...rows(directions, (s) => [sequence(s, 3), state(s), weights(s, 3), null]),
  ],
  gruLayerBackward: rows(directions, (s) => [
    within(sequence(s, 4)),
    sequence(s, 1),
    weights(s, 3),
    sequence(s, 1),
    state(s),
  ]),
} satisfies Record<keyof typeof rnnOps, readonly OpSample[]>;
