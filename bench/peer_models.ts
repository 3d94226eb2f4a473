// The training steps of torch_peer.py under the same names, with the same models, data and optimisers: image
// classifiers, small perceptrons, LSTM language models and a transformer.

import * as ndl from "../mod.ts";
import {
  checkFinite,
  emit,
  median,
  medianMicroseconds,
  peakRss,
  type Workload,
} from "./peer_support.ts";

const F = ndl.nn.functional;
const {
  BatchNorm2d,
  Conv2d,
  Embedding,
  Flatten,
  GELU,
  LayerNorm,
  Linear,
  LSTM,
  MaxPool2d,
  Module,
  ReLU,
  Residual,
  Sequential,
  Tanh,
} = ndl.nn;
type Tensor = ndl.Tensor;

function convNorm(
  inChannels: number,
  outChannels: number,
  kernel: number,
  stride: number,
): ndl.nn.Sequential {
  return new Sequential(
    new Conv2d(inChannels, outChannels, kernel, { stride, padding: kernel >> 1 }),
    new BatchNorm2d(outChannels),
    new ReLU(),
  );
}

/** The course's ResNet9 for images of 32 × 32. */
function resnet9(): ndl.nn.Sequential {
  return new Sequential(
    convNorm(3, 16, 7, 4),
    convNorm(16, 32, 3, 2),
    new Residual(new Sequential(convNorm(32, 32, 3, 1), convNorm(32, 32, 3, 1))),
    convNorm(32, 64, 3, 2),
    convNorm(64, 128, 3, 2),
    new Residual(new Sequential(convNorm(128, 128, 3, 1), convNorm(128, 128, 3, 1))),
    new Flatten(),
    new Linear(128, 128),
    new ReLU(),
    new Linear(128, 10),
  );
}

/** The net of the DAWNBench entry (prep 64, layers 128/256/512), no tricks: 6.6 M parameters. */
function resnet9Wide(): ndl.nn.Sequential {
  const convNormWide = (inChannels: number, outChannels: number): ndl.nn.Layer[] => [
    new Conv2d(inChannels, outChannels, 3, { padding: 1, bias: false }),
    new BatchNorm2d(outChannels),
    new ReLU(),
  ];
  const same = (channels: number): ndl.nn.Sequential =>
    new Sequential(...convNormWide(channels, channels));
  const down = (inChannels: number, outChannels: number): ndl.nn.Sequential =>
    new Sequential(...convNormWide(inChannels, outChannels), new MaxPool2d(2));
  return new Sequential(
    new Sequential(...convNormWide(3, 64)),
    down(64, 128),
    new Residual(new Sequential(same(128), same(128))),
    down(128, 256),
    down(256, 512),
    new Residual(new Sequential(same(512), same(512))),
    new MaxPool2d(4),
    new Flatten(),
    new Linear(512, 10, { bias: false }),
  );
}

/** Median milliseconds of `steps` calls, after `warmUp` calls. */
function medianStep(warmUp: number, steps: number, step: () => void): number {
  for (let i = 0; i < warmUp; i++) step();
  const times: number[] = [];
  for (let i = 0; i < steps; i++) {
    const start = performance.now();
    step();
    ndl.synchronize();
    times.push(performance.now() - start);
  }
  return median(times);
}

/** A rate with the time of a step and the peak of memory. */
function emitRate(name: string, unit: string, perStep: number, ms: number): void {
  const value = perStep / ms * 1e3;
  emit({ name, value, unit, better: "high", ms_per_step: ms, rss_mb: peakRss() });
}

/** Batches of 128 images of 32 × 32 through `make()`; `bfloat16` trains in mixed precision. */
function trainImages(
  name: string,
  make: () => ndl.nn.Sequential,
  steps: number,
  bfloat16 = false,
): Workload {
  return () => {
    ndl.manualSeed(0);
    const batch = 128;
    const model = make();
    const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 1e-3, weightDecay: 1e-3 });
    const x = ndl.randn([batch, 3, 32, 32]), target = ndl.randint(0, 10, [batch]);
    const lossOf = (): Tensor => {
      using logits = model.forward(x);
      return F.crossEntropy(logits, target);
    };
    const ms = medianStep(3, steps, () => {
      optimizer.zeroGrad();
      using loss = bfloat16 ? ndl.autocast({ dtype: "bfloat16" }, lossOf) : lossOf();
      loss.backward();
      optimizer.step();
      ndl.evaluate(...model.parameters());
      if (!Number.isFinite(loss.item())) throw new Error("The loss is not finite");
    });
    emitRate(name, "img/s", batch, ms);
  };
}

/** 784-100-10 with batch 100: small tensors, where the cost of calls rules. */
function mlp(): void {
  ndl.manualSeed(0);
  const model = new Sequential(new Linear(784, 100), new ReLU(), new Linear(100, 10));
  const optimizer = new ndl.optim.SGD(model.parameters(), { lr: 0.1 });
  const x = ndl.randn([100, 784]), target = ndl.randint(0, 10, [100]);
  const value = medianMicroseconds(2, () => {
    optimizer.zeroGrad();
    using logits = model.forward(x);
    using loss = F.crossEntropy(logits, target);
    loss.backward();
    optimizer.step();
    ndl.evaluate(...model.parameters());
  });
  for (const p of model.parameters()) checkFinite(p);
  emit({ name: "mlp_step", value, unit: "us/step", better: "low" });
}

/** 2-16-16-1 with batch 32: nothing but overhead. */
function mlpTiny(): void {
  ndl.manualSeed(0);
  const model = new Sequential(
    new Linear(2, 16),
    new Tanh(),
    new Linear(16, 16),
    new Tanh(),
    new Linear(16, 1),
  );
  const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 1e-3 });
  const x = ndl.randn([32, 2]), target = ndl.randn([32, 1]);
  const value = medianMicroseconds(2, () => {
    optimizer.zeroGrad();
    using y = model.forward(x);
    using difference = y.sub(target);
    using squares = difference.pow(2);
    using loss = squares.mean();
    loss.backward();
    optimizer.step();
    ndl.evaluate(...model.parameters());
  });
  for (const p of model.parameters()) checkFinite(p);
  emit({ name: "mlp_tiny_step", value, unit: "us/step", better: "low" });
}

type State = [Tensor, Tensor];

/** Embedding, LSTM layers, projection to the vocabulary. */
class LanguageModel extends Module<[x: Tensor, state: State], [Tensor, State]> {
  readonly emb: ndl.nn.Embedding;
  readonly rnn: ndl.nn.LSTM;
  readonly out: ndl.nn.Linear;

  constructor(vocabulary: number, hidden: number, layers: number) {
    super();
    this.emb = new Embedding(vocabulary, hidden);
    this.rnn = new LSTM(hidden, hidden, { numLayers: layers });
    this.out = new Linear(hidden, vocabulary);
  }

  override forward(x: Tensor, state: State): [Tensor, State] {
    using embedded = this.emb.forward(x);
    const [y, next] = this.rnn.forward(embedded, state);
    using _ = y;
    return [this.out.forward(y), next];
  }
}

function trainLanguageModel(
  name: string,
  hidden: number,
  length: number,
  batch: number,
  steps: number,
  layers = 2,
): Workload {
  return () => {
    ndl.manualSeed(0);
    const vocabulary = 10000;
    const model = new LanguageModel(vocabulary, hidden, layers);
    const optimizer = new ndl.optim.SGD(model.parameters(), { lr: 1 });
    const x = ndl.randint(0, vocabulary, [length, batch]);
    const target = ndl.randint(0, vocabulary, [length * batch]);
    const zeros = (): Tensor => ndl.zeros([layers, batch, hidden]);
    let state: State = [zeros(), zeros()];
    const ms = medianStep(2, steps, () => {
      optimizer.zeroGrad();
      using h = state[0], c = state[1];
      using h0 = h.detach(), c0 = c.detach();
      const [logits, next] = model.forward(x, [h0, c0]);
      using _ = logits;
      using rows = logits.view(-1, vocabulary);
      using loss = F.crossEntropy(rows, target);
      loss.backward();
      using _norm = ndl.nn.utils.clipGradNorm_(model.parameters(), 0.25);
      optimizer.step();
      state = next;
      ndl.evaluate(...model.parameters(), ...state);
    });
    for (const p of model.parameters()) checkFinite(p);
    emitRate(name, "tokens/s", length * batch, ms);
  };
}

/** Causal attention with 4 heads and a perceptron, each behind a norm. */
class Block extends Module {
  readonly n1: ndl.nn.LayerNorm;
  readonly n2: ndl.nn.LayerNorm;
  readonly qkv: ndl.nn.Linear;
  readonly proj: ndl.nn.Linear;
  readonly mlp: ndl.nn.Sequential;

  constructor(width: number) {
    super();
    this.n1 = new LayerNorm(width);
    this.n2 = new LayerNorm(width);
    this.qkv = new Linear(width, 3 * width);
    this.proj = new Linear(width, width);
    this.mlp = new Sequential(
      new Linear(width, 4 * width),
      new GELU(),
      new Linear(4 * width, width),
    );
  }

  #attend(x: Tensor): Tensor {
    const [batch, length, width] = x.shape as [number, number, number];
    using normalized = this.n1.forward(x);
    using projected = this.qkv.forward(normalized);
    using heads = projected.view(batch, length, 3, 4, width / 4).permute(2, 0, 3, 1, 4);
    const [q, k, v] = heads.unbind(0) as [Tensor, Tensor, Tensor];
    using y = F.scaledDotProductAttention(q, k, v, { isCausal: true });
    using joined = y.transpose(1, 2).reshape(batch, length, width);
    return this.proj.forward(joined);
  }

  override forward(x: Tensor): Tensor {
    using attended = this.#attend(x);
    using h = x.add(attended);
    using normalized = this.n2.forward(h);
    using y = this.mlp.forward(normalized);
    return h.add(y);
  }
}

/** A decoder of 4 blocks: tokens (N, T) to scores (N, T, vocabulary). */
class Transformer extends Module {
  readonly emb: ndl.nn.Embedding;
  readonly blocks: Block[];
  readonly norm: ndl.nn.LayerNorm;
  readonly out: ndl.nn.Linear;

  constructor(vocabulary: number, width: number) {
    super();
    this.emb = new Embedding(vocabulary, width);
    this.blocks = Array.from({ length: 4 }, () => new Block(width));
    this.norm = new LayerNorm(width);
    this.out = new Linear(width, vocabulary);
  }

  override forward(x: Tensor): Tensor {
    let h = this.emb.forward(x);
    for (const block of this.blocks) {
      using before = h;
      h = block.forward(before);
    }
    using last = h;
    using normalized = this.norm.forward(last);
    return this.out.forward(normalized);
  }
}

/** GPT-like: 4 layers, width 256, 4 heads, 128 tokens, batch 16, vocabulary 10000. */
function transformer(): void {
  ndl.manualSeed(0);
  const width = 256, length = 128, batch = 16, vocabulary = 10000;
  const model = new Transformer(vocabulary, width);
  const optimizer = new ndl.optim.AdamW(model.parameters(), { lr: 3e-4 });
  const x = ndl.randint(0, vocabulary, [batch, length]);
  const target = ndl.randint(0, vocabulary, [batch * length]);
  const microseconds = medianMicroseconds(4, () => {
    optimizer.zeroGrad();
    using logits = model.forward(x);
    using rows = logits.view(-1, vocabulary);
    using loss = F.crossEntropy(rows, target);
    loss.backward();
    optimizer.step();
    ndl.evaluate(...model.parameters());
  });
  for (const p of model.parameters()) checkFinite(p);
  emitRate("transformer_step", "tokens/s", batch * length, microseconds / 1e3);
}

const images: [string, () => ndl.nn.Sequential, number, boolean?][] = [
  ["resnet9_step", resnet9, 40],
  ["resnet9_step_channels_last", resnet9, 40],
  ["resnet9_step_bf16", resnet9, 40, true],
  ["resnet9_step_compile", resnet9, 40],
  ["resnet9_wide_step", resnet9Wide, 4],
  ["resnet9_wide_step_channels_last", resnet9Wide, 4],
  ["resnet9_wide_step_bf16", resnet9Wide, 4, true],
];

/**
 * Workloads by name, in the order of torch_peer.py. PyTorch's channels-last and compiled variants stand beside the
 * plain step: here the memory format is the library's own business, and nothing is compiled.
 */
export const modelWorkloads: Readonly<Record<string, Workload>> = {
  ...Object.fromEntries(images.map(([name, ...rest]) => [name, trainImages(name, ...rest)])),
  mlp_step: mlp,
  mlp_tiny_step: mlpTiny,
  lstm_small_step: trainLanguageModel("lstm_small_step", 200, 20, 20, 30),
  lstm_medium_step: trainLanguageModel("lstm_medium_step", 650, 35, 20, 8),
  lstm_seed_step: trainLanguageModel("lstm_seed_step", 100, 40, 16, 40, 1),
  transformer_step: transformer,
};
