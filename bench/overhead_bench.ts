// What one small op costs beyond its arithmetic: the way through the library and across FFI, with and without
// recording, and a training step of a small network, where nothing else counts.

import * as ndl from "../mod.ts";
import { group } from "./groups.ts";

const count = 100;

group(`${count} multiplications of 16 floats`, { ops: count, reference: true }, (device) => {
  const a = ndl.randn([16], { device }), b = ndl.randn([16], { device });
  return () => {
    for (let i = 1; i < count; i++) a.mul(b).dispose();
    return a.mul(b);
  };
});

const both = `${count} multiplications, forward and backward`;
group(both, { ops: count, reference: true }, (device) => {
  const x = ndl.randn([16], { device, requiresGrad: true }), b = ndl.randn([16], { device });
  return () => {
    let y: ndl.Tensor = x;
    for (let i = 0; i < count; i++) y = y.mul(b);
    y.sum().backward();
    const { grad } = x;
    x.grad = null;
    return grad;
  };
});

group("training step: 784-100-10, batch 100", { reference: true }, (device) => {
  const { Linear, ReLU, Sequential } = ndl.nn;
  const model = new Sequential(new Linear(784, 100), new ReLU(), new Linear(100, 10)).to(device);
  const optimizer = new ndl.optim.SGD(model.parameters(), { lr: 0.1 });
  const images = ndl.randn([100, 784], { device });
  const labels = ndl.randint(0, 10, [100], { device });
  return () => {
    optimizer.zeroGrad();
    const loss = ndl.nn.functional.crossEntropy(model.forward(images), labels);
    loss.backward();
    optimizer.step();
    return loss;
  };
});
