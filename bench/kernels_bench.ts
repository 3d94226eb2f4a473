// Kernels on every available device side by side: `deno task bench`. The reference device runs the small sizes only.

import * as ndl from "../mod.ts";

const devices = [ndl.dnnl(), ndl.cpu(), ndl.reference()].filter((d) => d.available);
const F = ndl.nn.functional;

/** One group: the same work on each device; `small` says whether the reference should try it too. */
function group(name: string, small: boolean, make: (device: ndl.Device) => () => ndl.Tensor): void {
  for (const device of devices) {
    if (device === ndl.reference() && !small) continue;
    const run = make(device);
    Deno.bench({ name: `${name} ${device}`, group: name, baseline: device === devices[0] }, () => {
      using _ = run();
    });
  }
}

for (const n of [64, 256, 1024]) {
  group(`matmul ${n}`, n <= 64, (device) => {
    const a = ndl.randn([n, n], { device }), b = ndl.randn([n, n], { device });
    return () => a.matmul(b);
  });
}

const convolutions = [
  [128, 3, 32, 16, 7, 4],
  [128, 32, 16, 32, 3, 1],
  [32, 128, 28, 128, 3, 1],
] as const;
for (const [batch, channels, size, filters, kernel, stride] of convolutions) {
  group(`conv2d ${batch}x${channels}x${size} ${filters}k${kernel}s${stride}`, false, (device) => {
    const x = ndl.randn([batch, channels, size, size], { device });
    const w = ndl.randn([filters, channels, kernel, kernel], { device });
    return () => F.conv2d(x, w, { stride, padding: Math.floor(kernel / 2) });
  });
}

group("batch norm 128x32x16x16, training", false, (device) => {
  const x = ndl.randn([128, 32, 16, 16], { device });
  const weight = ndl.ones([32], { device }), bias = ndl.zeros([32], { device });
  const mean = ndl.zeros([32], { device }), variance = ndl.ones([32], { device });
  return () => F.batchNorm(x, mean, variance, { weight, bias, training: true });
});

const elementwise: Record<string, (x: ndl.Tensor, y: ndl.Tensor) => ndl.Tensor> = {
  add: (x, y) => x.add(y),
  exp: (x) => x.exp(),
  tanh: (x) => x.tanh(),
  gelu: (x) => x.gelu(),
};
for (const [name, f] of Object.entries(elementwise)) {
  for (const n of [1024, 1 << 20]) {
    group(`${name} ${n}`, n <= 1024, (device) => {
      const x = ndl.randn([n], { device }), y = ndl.randn([n], { device });
      return () => f(x, y);
    });
  }
}

group("sum 2048x2048 over rows", false, (device) => {
  const x = ndl.randn([2048, 2048], { device });
  return () => x.sum(1);
});
