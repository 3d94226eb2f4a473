// Attention as function and modules: numbers of PyTorch (golden/rnn.json), masks, second derivatives, memory, errors.

import * as ndl from "../mod.ts";
import { scaledDotProductAttention as attend } from "../lib/functional/attention.ts";
import { MultiheadAttention } from "../lib/nn/attention.ts";
import { TransformerEncoderLayer } from "../lib/nn/transformer.ts";
import { gradcheck, gradgradcheck } from "../lib/autograd/gradcheck.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";
import { check, type Expected, fill, leaf, type Place, wave } from "./waves.ts";
import golden from "./golden/rnn.json" with { type: "json" };

const places: Place[] = [
  { device: ndl.reference(), dtype: "float64" },
  ...nativeDevices().map((device) => ({ device, dtype: "float32" as const })),
];

function throws(fn: () => unknown, type: ErrorConstructor, text: string): void {
  try {
    fn();
  } catch (error) {
    if (error instanceof type && error.message.includes(text)) return;
    throw error;
  }
  throw new Error(`nothing thrown; expected: ${text}`);
}

function equal(got: unknown, want: unknown): void {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    throw new Error(`${JSON.stringify(got)} instead of ${JSON.stringify(want)}`);
  }
}

function close(got: Tensor, want: Tensor, what: string, tolerance = 1e-12): void {
  equal(got.shape, want.shape);
  const limits = { rtol: tolerance, atol: tolerance };
  assertClose(got.toTypedArray(), want.toTypedArray(), limits, what);
}

/** The masks of make_rnn.py. */
function maskOf(name: string, { device, dtype }: Place): Tensor | null {
  const hidden = [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]].map((row) => row.map((x) => x === 1));
  if (name === "bool") return ndl.tensor(hidden, { device });
  if (name === "float") return wave([3, 4], 40, 1, { device, dtype });
  return name === "heads" ? wave([4, 3, 4], 41, 1, { device, dtype }) : null;
}

for (const place of places) {
  const { device } = place;
  Deno.test(`scaledDotProductAttention gives PyTorch's numbers on ${device}`, () => {
    golden.scaledDotProduct.forEach((row, i) => {
      const shapeOf = (j: number): number[] => j === 0 ? row.shape : row.shared ?? row.shape;
      const [q, k, v] = [0, 1, 2].map((j) => leaf(shapeOf(j), 70 + j, 1, place)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const mask = row.mask === null ? null : leaf(row.mask, 80, 1, place);
      const enableGqa = row.shared !== null;
      const options = { attnMask: mask, isCausal: row.causal, scale: row.scale, enableGqa };
      const inputs = [q, k, v, ...(mask === null ? [] : [mask])];
      check(`case ${i}`, row as unknown as Expected, [attend(q, k, v, options)], null, inputs);
    });
  });

  Deno.test(`MultiheadAttention gives PyTorch's numbers on ${device}`, () => {
    golden.attention.forEach((row, i) => {
      const wide = row.wide ? { kdim: 5, vdim: 3 } : {};
      const extra = row.extra as readonly string[];
      const module = new MultiheadAttention(4, 2, {
        batchFirst: row.first,
        addBiasKv: extra.includes("add_bias_kv"),
        addZeroAttn: extra.includes("add_zero_attn"),
        ...wide,
        ...place,
      });
      fill(module, place);
      const shape = (t: number, e: number): number[] => row.first ? [2, t, e] : [t, 2, e];
      const q = leaf(shape(3, 4), 50, 1, place);
      const k = row.same ? q : leaf(shape(4, row.wide ? 5 : 4), 51, 1, place);
      const v = row.same ? q : leaf(shape(4, row.wide ? 3 : 4), 52, 1, place);
      const padding = [[false, false, false, true], [false, true, false, false]];
      const [y, weights] = module.forward(q, k, v, {
        attnMask: maskOf(row.mask, place),
        keyPaddingMask: row.padding ? ndl.tensor(padding, { device }) : null,
        needWeights: row.weights,
        averageAttnWeights: row.average,
      });
      const outputs = weights === null ? [y] : [y, weights];
      const inputs = row.same ? [q] : [q, k, v];
      check(`case ${i}`, row as unknown as Expected, outputs, module, inputs);
    });
  });

  Deno.test(`TransformerEncoderLayer gives PyTorch's numbers on ${device}`, () => {
    golden.encoder.forEach((row, i) => {
      const { norm_first, activation, batch_first, bias } = row.options as Record<string, never>;
      const module = new TransformerEncoderLayer(4, 2, {
        dimFeedforward: 6,
        dropout: 0,
        normFirst: norm_first ?? false,
        activation: activation ?? "relu",
        batchFirst: batch_first ?? false,
        bias: bias ?? true,
        ...place,
      });
      fill(module, place);
      const x = leaf([3, 2, 4], 60, 1, place), length = batch_first ? 2 : 3;
      const triangle = ndl.ones([length, length], { device }).triu(1).ne(0);
      const y = module.forward(x, { srcMask: row.causal ? triangle : null });
      check(`case ${i}`, row as unknown as Expected, [y], module, [x]);
      if (!row.causal) return;
      const hinted = module.forward(x, { isCausal: true });
      close(hinted, y, "isCausal", place.dtype === "float64" ? 1e-12 : 1e-5);
    });
  });
}

const exact: Place = { device: ndl.reference(), dtype: "float64" };

Deno.test("attention has second derivatives, through a mask that is added too", () => {
  const [q, k, v] = [0, 1, 2].map((i) => leaf([1, 2, 3, 2], i, 1, exact)) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const attnMask = leaf([3, 3], 5, 1, exact);
  const f = (): Tensor[] => [attend(q, k, v, { attnMask })];
  gradcheck(f, [q, k, v, attnMask]);
  gradgradcheck(f, [q, k, v, attnMask]);
});

Deno.test("queries that see no key give 0 and pass no gradient", () => {
  for (const place of places) {
    const [q, k, v] = [0, 1, 2].map((i) => leaf([3, 2], i, 1, place)) as [Tensor, Tensor, Tensor];
    const attnMask = ndl.tensor(
      [[true, true, false], [false, false, false], [false, true, false]],
      {
        device: place.device,
      },
    );
    const y = attend(q, k, v, { attnMask });
    equal(y.select(0, 1).tolist(), [0, 0]);
    y.sum().backward();
    equal(q.grad!.select(0, 1).tolist(), [0, 0]);
    equal(k.grad!.select(0, 2).tolist(), [0, 0]);
    if (!Number.isFinite(q.grad!.sum().item())) throw new Error("the gradient is not finite");
  }
});

Deno.test("attention of many keys is that of its composition", () => {
  for (const place of places) {
    const shape = [1, 2, 150, 8];
    const [q, k, v] = [0, 1, 2].map((i) => wave(shape, i, 2, place)) as [Tensor, Tensor, Tensor];
    const scores = q.matmul(k.transpose(-1, -2)).mul(1 / Math.sqrt(8));
    const triangle = ndl.ones([150, 150], { device: place.device }).triu(1).ne(0);
    const want = scores.maskedFill(triangle, -Infinity).softmax(-1).matmul(v);
    const got = attend(q, k, v, { isCausal: true });
    close(got, want, "causal", place.dtype === "float64" ? 1e-12 : 1e-5);
  }
});

Deno.test("dropout of attention weights keeps their mean", () => {
  ndl.manualSeed(1);
  const q = ndl.zeros([400, 4]), v = ndl.ones([50, 2]);
  const y = attend(q, ndl.zeros([50, 4]), v, { dropoutP: 0.5 });
  const mean = y.mean().item();
  if (!(Math.abs(mean - 1) < 0.05)) throw new Error(`mean ${mean}`);
  if (y.std().item() < 0.05) throw new Error("nothing was dropped");
  const module = new MultiheadAttention(4, 2, { dropout: 0.9 }), x = ndl.randn([5, 1, 4]);
  const run = (): unknown => module.forward(x, x, x, { needWeights: false })[0].tolist();
  if (JSON.stringify(run()) === JSON.stringify(run())) throw new Error("no dropout in training");
  module.eval();
  equal(run(), run());
});

Deno.test("sequences without a batch, and both forms of every mask", () => {
  const module = new MultiheadAttention(4, 2, { dtype: "float64" });
  const q = wave([3, 4], 1, 1, exact), k = wave([4, 4], 2, 1, exact);
  const options = { attnMask: maskOf("bool", exact) };
  const [y, weights] = module.to(exact.device).forward(q, k, k, options);
  const [batched, all] = module.forward(q.unsqueeze(1), k.unsqueeze(1), k.unsqueeze(1), options);
  close(y, batched.squeeze(1), "output");
  close(weights!, all!.squeeze(0), "weights");
  const padding = ndl.tensor([false, true, false, false], { device: exact.device });
  const added = (m: Tensor): Tensor =>
    ndl.zeros(m.shape, { device: exact.device, dtype: "float64" }).maskedFill(m, -Infinity);
  const run = (attnMask: Tensor, keyPaddingMask: Tensor): Tensor =>
    module.forward(q, k, k, { attnMask, keyPaddingMask, needWeights: false })[0];
  const bool = options.attnMask!, want = run(bool, padding);
  close(run(added(bool), padding), want, "added attnMask");
  close(run(bool, added(padding)), want, "added keyPaddingMask");
  close(run(added(bool), added(padding)), want, "both added");
});

Deno.test("state dicts have PyTorch's names", () => {
  const names = (m: { namedParameters(): Iterable<[string, Tensor]> }): string[] =>
    [...m.namedParameters()].map(([name]) => name);
  equal(names(new MultiheadAttention(4, 2)), [
    "in_proj_weight",
    "in_proj_bias",
    "out_proj.weight",
    "out_proj.bias",
  ]);
  equal(names(new MultiheadAttention(4, 2, { kdim: 3, bias: false })), [
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "out_proj.weight",
  ]);
  equal(names(new TransformerEncoderLayer(4, 2)).filter((n) => n.endsWith("bias")), [
    "self_attn.in_proj_bias",
    "self_attn.out_proj.bias",
    "linear1.bias",
    "linear2.bias",
    "norm1.bias",
    "norm2.bias",
  ]);
});

Deno.test("a hook inside an encoder layer sees its activation after the call", () => {
  const layer = new TransformerEncoderLayer(4, 2, { dimFeedforward: 3, dropout: 0 });
  const seen: Tensor[] = [];
  layer.linear1.registerForwardHook((_m, _i, y) => {
    seen.push(y);
  });
  layer.forward(ndl.randn([2, 1, 4]));
  equal(seen[0]!.clone().shape, [2, 1, 3]);
});

Deno.test("attention refuses what does not fit", () => {
  const q = ndl.zeros([2, 3, 4]), attnMask = ndl.ones([3, 3]);
  throws(() => attend(q, q, q, { attnMask, isCausal: true }), Error, "both attnMask and isCausal");
  throws(() => attend(q, ndl.zeros([2, 3, 5]), q), RangeError, "(N, H, S, E)");
  throws(() => attend(q, q, ndl.zeros([2, 4, 4])), RangeError, "(N, H, S, E)");
  throws(() => attend(ndl.zeros([4]), q, q), RangeError, "(..., L, E)");
  throws(() => attend(q, q, q, { attnMask: ndl.ones([2, 3]) }), RangeError, "broadcast");
  throws(() => attend(q, q.to("float64"), q), TypeError, "float64 keys");
  const ints = ndl.ones([3, 3], { dtype: "int64" });
  throws(() => attend(q, q, q, { attnMask: ints }), TypeError, "int64 mask");
  throws(() => attend(q, q, q, { dropout: 0.1 } as never), TypeError, '"dropout"');
  throws(() => new MultiheadAttention(4, 3), RangeError, "3 heads");
  const module = new MultiheadAttention(4, 2), x = ndl.zeros([3, 2, 4]);
  throws(() => module.forward(x, ndl.zeros([3, 2, 5]), x), RangeError, "4, 4, 4 features");
  throws(() => module.forward(x, ndl.zeros([3, 1, 4]), x), RangeError, "batches must be equal");
  throws(() => module.forward(x, x, x, { attnMask: ndl.ones([2, 2]) }), RangeError, "[4, 3, 3]");
  throws(
    () => module.forward(x, x, x, { keyPaddingMask: ndl.ones([3, 2]) }),
    RangeError,
    "must be [2, 3]",
  );
  throws(
    () => new TransformerEncoderLayer(4, 2, { activation: "tanh" as never }),
    TypeError,
    '"tanh"',
  );
});
