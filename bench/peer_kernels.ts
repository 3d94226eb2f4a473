// The single ops of torch_peer.py under the same names and shapes: matrix products, elementwise chains, reductions,
// norms, losses, convolutions, Adam, and what an op costs beyond its arithmetic.

import * as ndl from "../mod.ts";
import {
  emit,
  medianMicroseconds,
  timeBackward,
  timeForward,
  type Workload,
} from "./peer_support.ts";

const F = ndl.nn.functional;
const MILLION = 1 << 20;

function matmul(n: number): Workload {
  return ({ seconds }) => {
    const a = ndl.randn([n, n]), b = ndl.randn([n, n]);
    const value = timeForward(seconds, () => a.matmul(b));
    const gflops = 2 * n ** 3 / value / 1e3;
    emit({ name: `matmul_${n}`, value, unit: "us", better: "low", gflops });
  };
}

function add(n: number): Workload {
  return ({ seconds }) => {
    const a = ndl.randn([n]), b = ndl.randn([n]);
    const value = timeForward(seconds, () => a.add(b));
    emit({ name: `add_${n}`, value, unit: "us", better: "low", gbps: 12 * n / value / 1e3 });
  };
}

/** A function of one tensor of 2^20 elements. */
function elementwise(name: string, f: (x: ndl.Tensor) => ndl.Tensor): Workload {
  return ({ seconds }) => {
    const x = ndl.randn([MILLION]);
    emit({ name, value: timeForward(seconds, () => f(x)), unit: "us", better: "low" });
  };
}

/** Five dependent elementwise ops: what fusion is worth. */
function chain({ seconds }: { seconds: number }): void {
  const x = ndl.randn([MILLION]), y = ndl.randn([MILLION]);
  const value = timeForward(seconds, () => x.mul(y).add(x).relu().mul(0.5).add(1));
  emit({ name: "chain_1M", value, unit: "us", better: "low" });
}

function sum({ seconds }: { seconds: number }): void {
  const x = ndl.randn([2048, 2048]);
  const row = (name: string, f: () => ndl.Tensor): void =>
    emit({ name, value: timeForward(seconds, f), unit: "us", better: "low" });
  row("sum_4M", () => x.sum());
  row("sum_rows_4M", () => x.sum(1));
  row("sum_cols_4M", () => x.sum(0));
}

function transpose({ seconds }: { seconds: number }): void {
  const x = ndl.randn([2048, 2048]);
  const value = timeForward(seconds, () => {
    using view = x.T;
    return view.contiguous();
  });
  emit({ name: "transpose_2048", value, unit: "us", better: "low" });
}

function crossEntropy({ seconds }: { seconds: number }): void {
  const x = ndl.randn([128, 10000], { requiresGrad: true });
  const target = ndl.randint(0, 10000, [128]);
  const value = timeBackward(seconds, [x], () => {
    using loss = F.crossEntropy(x, target);
    loss.backward();
  });
  emit({ name: "softmax_cross_entropy_128x10000", value, unit: "us", better: "low" });
}

function layerNorm({ seconds }: { seconds: number }): void {
  const x = ndl.randn([4096, 512], { requiresGrad: true });
  const norm = new ndl.nn.LayerNorm(512);
  const value = timeBackward(seconds, [x], () => {
    using y = norm.forward(x);
    using total = y.sum();
    total.backward();
  });
  emit({ name: "layer_norm_4096x512", value, unit: "us", better: "low" });
}

function batchNormRelu({ seconds }: { seconds: number }): void {
  const x = ndl.randn([128, 32, 16, 16], { requiresGrad: true });
  const norm = new ndl.nn.BatchNorm2d(32);
  const value = timeBackward(seconds, [x], () => {
    using normalized = norm.forward(x);
    using y = normalized.relu();
    using total = y.sum();
    total.backward();
  });
  emit({ name: "batch_norm_relu_128x32x16x16", value, unit: "us", better: "low" });
}

/** Batch, channels in, size, channels out, kernel, stride. */
const convolutions = {
  "conv_128x3x32_16k7s4": [128, 3, 32, 16, 7, 4],
  "conv_128x32x16_32k3": [128, 32, 16, 32, 3, 1],
  "conv_128x64x32_64k3": [128, 64, 32, 64, 3, 1],
  "conv_32x128x28_128k3": [32, 128, 28, 128, 3, 1],
  "conv_16x3x224_64k7s2": [16, 3, 224, 64, 7, 2],
} as const;

function convolution(name: keyof typeof convolutions): Workload {
  return ({ seconds }) => {
    const [batch, channels, size, filters, kernel, stride] = convolutions[name];
    const padding = kernel >> 1;
    const x = ndl.randn([batch, channels, size, size], { requiresGrad: true });
    const w = ndl.randn([filters, channels, kernel, kernel], { requiresGrad: true });
    const forward = timeForward(seconds, () => F.conv2d(x, w, { stride, padding }));
    const both = timeBackward(seconds, [x, w], () => {
      using y = F.conv2d(x, w, { stride, padding });
      using g = ndl.onesLike(y);
      y.backward(g);
    });
    const out = Math.floor((size + 2 * padding - kernel) / stride) + 1;
    const flops = 2 * batch * filters * out ** 2 * channels * kernel ** 2;
    const row = (suffix: string, value: number, gflops: number): void =>
      emit({ name: name + suffix, value, unit: "us", better: "low", gflops });
    row("_fwd", forward, flops / forward / 1e3);
    row("_fwdbwd", both, 3 * flops / both / 1e3);
  };
}

/** Both of PyTorch's rows: its loop over parameters and its fused kernel. */
function adam({ seconds }: { seconds: number }): void {
  const params = Array.from({ length: 10 }, () => new ndl.nn.Parameter(ndl.randn([1000, 1000])));
  for (const p of params) p.grad = ndl.randnLike(p);
  for (const name of ["adam_10M", "adam_fused_10M"]) {
    const optimizer = new ndl.optim.Adam(params, { lr: 1e-3, weightDecay: 1e-2 });
    const value = medianMicroseconds(seconds, () => {
      optimizer.step();
      ndl.evaluate(...params);
    });
    emit({ name, value, unit: "us", better: "low" });
  }
}

function overhead({ seconds }: { seconds: number }): void {
  ndl.manualSeed(0); // some draws overflow when they are multiplied a hundred times
  const a = ndl.randn([16]), b = ndl.randn([16]);
  const forward = timeForward(seconds, () => a.mul(b));
  emit({ name: "op_overhead_forward", value: forward, unit: "us/op", better: "low" });
  a.requiresGrad_(true);
  const both = timeBackward(seconds, [a], () => {
    let y: ndl.Tensor = a;
    for (let i = 0; i < 100; i++) y = y.mul(b);
    const total = y.sum();
    total.backward();
    total.dispose();
  });
  emit({ name: "op_overhead_autograd", value: both / 100, unit: "us/op", better: "low" });
}

/** Workloads by name, in the order of torch_peer.py. */
export const kernelWorkloads: Readonly<Record<string, Workload>> = {
  ...Object.fromEntries([64, 256, 512, 1024, 2048].map((n) => [`matmul_${n}`, matmul(n)])),
  ...Object.fromEntries([16, 1024, 65536, 4194304].map((n) => [`add_${n}`, add(n)])),
  chain_1M: chain,
  gelu_1M: elementwise("gelu_1M", (x) => x.gelu()),
  exp_1M: elementwise("exp_1M", (x) => x.exp()),
  tanh_1M: elementwise("tanh_1M", (x) => x.tanh()),
  sum_4M: sum,
  transpose_2048: transpose,
  softmax_cross_entropy_128x10000: crossEntropy,
  layer_norm_4096x512: layerNorm,
  batch_norm_relu_128x32x16x16: batchNormRelu,
  ...Object.fromEntries(
    (Object.keys(convolutions) as (keyof typeof convolutions)[])
      .map((name) => [name, convolution(name)]),
  ),
  adam_10M: adam,
  overhead,
};
