// Kernels on every available device side by side: `deno task bench`. The reference device, which defines what the
// others compute and is made for that alone, takes part where it needs no more than about a second.

import * as ndl from "../mod.ts";
import { group } from "./groups.ts";

const F = ndl.nn.functional;
const float = 4;

for (const n of [64, 256, 1024]) {
  group(`matmul ${n}`, { flops: 2 * n ** 3, reference: n <= 256 }, (device) => {
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
  const output = batch * filters * Math.ceil(size / stride) ** 2;
  const name = `conv2d ${batch}x${channels}x${size} ${filters}k${kernel}s${stride}`;
  const flops = 2 * output * channels * kernel ** 2;
  group(name, { flops, reference: flops < 1e8 }, (device) => {
    const x = ndl.randn([batch, channels, size, size], { device });
    const w = ndl.randn([filters, channels, kernel, kernel], { device });
    return () => F.conv2d(x, w, { stride, padding: Math.floor(kernel / 2) });
  });
}

group("batch norm 128x32x16x16", { bytes: 2 * float * 2 ** 20, reference: true }, (device) => {
  const x = ndl.randn([128, 32, 16, 16], { device });
  return () => F.batchNorm(x, null, null, { training: true });
});

group("layer norm 4096x512", { bytes: 2 * float * 2 ** 21, reference: true }, (device) => {
  const x = ndl.randn([4096, 512], { device });
  return () => F.layerNorm(x, [512]);
});

group("softmax 128x10000", { bytes: 2 * float * 1.28e6, reference: true }, (device) => {
  const x = ndl.randn([128, 10000], { device });
  return () => x.softmax(1);
});

const elementwise: Record<string, (x: ndl.Tensor, y: ndl.Tensor) => ndl.Tensor> = {
  add: (x, y) => x.add(y),
  exp: (x) => x.exp(),
  tanh: (x) => x.tanh(),
  gelu: (x) => x.gelu(),
};
const million = 1 << 20, repeats = 100;
for (const [name, f] of Object.entries(elementwise)) {
  const bytes = (name === "add" ? 3 : 2) * float;
  group(
    `${repeats} × ${name} 1024`,
    { bytes: repeats * bytes * 1024, reference: true },
    (device) => {
      const x = ndl.randn([1024], { device }), y = ndl.randn([1024], { device });
      return () => {
        for (let i = 1; i < repeats; i++) f(x, y).dispose();
        return f(x, y);
      };
    },
  );
  group(`${name} 1M`, { bytes: bytes * million, reference: true }, (device) => {
    const x = ndl.randn([million], { device }), y = ndl.randn([million], { device });
    return () => f(x, y);
  });
}

// One pass reads x and writes the result.
group("five dependent ops 1M", { bytes: 2 * float * million, reference: true }, (device) => {
  const x = ndl.randn([million], { device });
  return () => x.mul(2).add(1).relu().mul(0.5).sub(3);
});

for (const [name, dim] of [["rows", 1], ["columns", 0]] as const) {
  group(`sum 2048x2048 over ${name}`, { bytes: float * 2 ** 22, reference: true }, (device) => {
    const x = ndl.randn([2048, 2048], { device });
    return () => x.sum(dim);
  });
}

group("transpose 2048x2048", { bytes: 2 * float * 2 ** 22, reference: true }, (device) => {
  const x = ndl.randn([2048, 2048], { device });
  return () => x.T.contiguous();
});
