// Samples of attention: (N, H, L, E) queries against (N, H, S, E) keys and (N, H, S, F) values, with every kind of
// mask, rows that see nothing, single and no queries and keys, and more of both than one block holds.

import type { attentionOps } from "../../lib/ops/attention.ts";
import type { OpSample, TensorSpec } from "./sample.ts";

interface Sizes {
  readonly n: number;
  readonly h: number;
  readonly l: number;
  readonly s: number;
  readonly e: number;
  readonly f: number;
}

const small: Sizes = { n: 2, h: 2, l: 3, s: 5, e: 4, f: 3 };
const large: Sizes = { n: 1, h: 3, l: 131, s: 307, e: 17, f: 19 };

function qkv({ n, h, l, s, e, f }: Sizes): TensorSpec[] {
  return [{ shape: [n, h, l, e] }, { shape: [n, h, s, e] }, { shape: [n, h, s, f] }];
}

/** A bool mask that hides the last keys of every second row, and all keys of the last row. */
function hiding({ l, s }: Sizes): TensorSpec {
  const values = Array.from({ length: l * s }, (_, at) => {
    const i = Math.floor(at / s), j = at % s;
    return i === l - 1 && l > 1 ? 0 : i % 2 === 0 || j < s - 2 ? 1 : 0;
  });
  return { shape: [1, 1, l, s], values, dtype: "bool" };
}

const plain = { scale: 0.5, causal: false };
const causal = { scale: 0.4, causal: true };

/** The calls worth trying at given sizes. */
function rows(z: Sizes, extra: Partial<OpSample>): OpSample[] {
  const { n, h, l, s } = z;
  const masks: (TensorSpec | null)[] = [
    null,
    { shape: [n, h, l, s] },
    {
      shape: [n, 1, 1, s],
      values: Array.from({ length: n * s }, (_, i) => i % 4 === 1 ? 0 : 1),
      dtype: "bool",
    },
    { shape: [1, h, l, 1] },
    hiding(z),
  ];
  return [
    ...masks.map((mask) => ({ inputs: [...qkv(z), mask], attrs: plain, ...extra })),
    { inputs: [...qkv(z), null], attrs: causal, ...extra },
    { inputs: [...qkv(z), { shape: [1, 1, l, s] }], attrs: causal, ...extra },
  ];
}

const odd: readonly Sizes[] = [
  { n: 1, h: 1, l: 1, s: 1, e: 1, f: 1 },
  { n: 1, h: 2, l: 1, s: 6, e: 3, f: 2 },
  { n: 1, h: 2, l: 4, s: 2, e: 1, f: 2 },
  { n: 2, h: 1, l: 0, s: 3, e: 2, f: 2 },
  { n: 1, h: 1, l: 2, s: 0, e: 2, f: 2 },
  { n: 0, h: 2, l: 2, s: 2, e: 2, f: 2 },
];

const blocks: readonly Sizes[] = [
  large,
  { n: 2, h: 1, l: 64, s: 128, e: 64, f: 64 },
  { n: 1, h: 1, l: 5, s: 300, e: 33, f: 8 },
];

/** The backward op's inputs for a forward sample: any y and a plausible log-sum-exp will do. */
function backwardInputs({ n, h, l, f }: Sizes, inputs: OpSample["inputs"]): OpSample["inputs"] {
  const [q, k, v, mask] = inputs;
  const y = { shape: [n, h, l, f] };
  return [y, q!, k!, v!, y, { shape: [n, h, l], range: [2, 4] }, mask ?? null];
}

const forward: readonly (readonly [Sizes, OpSample])[] = [
  ...rows(small, {}).map((r) => [small, r] as const),
  ...rows(small, { dtypes: ["float16", "bfloat16"] }).map((r) => [small, r] as const),
  ...odd.flatMap((z) =>
    [plain, causal].map((attrs) => [z, { inputs: [...qkv(z), null], attrs }] as const)
  ),
  // Sums over hundreds of keys, exponentials of sums of up to 64 products.
  ...blocks.flatMap((z) => {
    const all = rows(z, { large: true, slack: 8 });
    return (z === large ? all : all.slice(-2)).map((r) => [z, r] as const);
  }),
];

/** Samples by op. */
export const attentionSamples = {
  attention: forward.map(([, sample]) => sample),
  attentionBackward: forward.map(([z, sample]) => ({
    ...sample,
    inputs: backwardInputs(z, sample.inputs),
  })),
} satisfies Record<keyof typeof attentionOps, readonly OpSample[]>;
