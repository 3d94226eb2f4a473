// What one small op costs beyond its arithmetic: the way through the library and across FFI, with and without
// recording, and a training step of a small network, where nothing else counts.

import * as ndl from "../mod.ts";

const a = ndl.randn([16]), b = ndl.randn([16]);
const x = ndl.randn([16], { requiresGrad: true });

Deno.bench("forward: 100 multiplications of 16 floats", () => {
  for (let i = 0; i < 100; i++) a.mul(b).dispose();
});

Deno.bench("forward and backward: 100 multiplications of 16 floats", () => {
  let y: ndl.Tensor = x;
  for (let i = 0; i < 100; i++) y = y.mul(b);
  y.sum().backward();
  x.grad = null;
});

const model = new ndl.nn.Sequential(
  new ndl.nn.Linear(784, 100),
  new ndl.nn.ReLU(),
  new ndl.nn.Linear(100, 10),
);
const optimizer = new ndl.optim.SGD(model.parameters(), { lr: 0.1 });
const images = ndl.randn([100, 784]), labels = ndl.randint(0, 10, [100]);

Deno.bench("training step: 784-100-10, batch 100", () => {
  optimizer.zeroGrad();
  ndl.nn.functional.crossEntropy(model.forward(images), labels).backward();
  optimizer.step();
});
