// Laws that hold for all shapes, tried on random ones on every available device. The seed is printed with a failure;
// NEEDLE_TEST_SEED repeats it.

import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices, seeded, tolerance } from "./harness.ts";

const devices = [ndl.reference(), ...nativeDevices()];
const rounds = 40;

/** Draws shapes and tensors for one round of one law. */
class Draw {
  readonly device: Device;
  readonly #random: () => number;

  constructor(seed: number, device: Device) {
    this.#random = seeded(seed);
    this.device = device;
  }

  /** A whole number from lo to hi, both included. */
  int(lo: number, hi: number): number {
    return lo + Math.floor(this.#random() * (hi - lo + 1));
  }

  /** Up to `ndim` sizes; 0 now and then where `empty` allows it. */
  shape(least = 0, most = 4, empty = true): number[] {
    const sizes = [1, 2, 3, 4, 5, 7, 8, 16, 17];
    return Array.from({ length: this.int(least, most) }, () => {
      if (empty && this.int(0, 19) === 0) return 0;
      return sizes[this.int(0, sizes.length - 1)]!;
    });
  }

  /** A shape that broadcasts with `shape`: dims left out in front, others set to 1. */
  broadcastable(shape: readonly number[]): number[] {
    return shape.slice(this.int(0, shape.length)).map((s) => this.int(0, 2) === 0 ? 1 : s);
  }

  order(n: number): number[] {
    const rest = Array.from({ length: n }, (_, i) => i);
    return Array.from({ length: n }, () => rest.splice(this.int(0, rest.length - 1), 1)[0]!);
  }

  /** Values in [-2, 2), laid out plainly, transposed or as every second element of a larger tensor. */
  tensor(shape: readonly number[]): Tensor {
    const device = this.device;
    const make = (sizes: readonly number[]): Tensor => {
      const n = sizes.reduce((a, b) => a * b, 1);
      const values = Float32Array.from({ length: n }, () => 4 * this.#random() - 2);
      return ndl.tensor(values, { shape: [...sizes], device });
    };
    const nd = shape.length, layout = nd === 0 ? 0 : this.int(0, 2);
    if (layout === 0) return make(shape);
    if (layout === 1) {
      const order = this.order(nd);
      return make(order.map((d) => shape[d]!)).permute(order.map((_, d) => order.indexOf(d)));
    }
    const last = shape[nd - 1]!;
    const ranges = shape.map((_, i) => i === nd - 1 ? [1, 1 + 2 * last, 2] : null);
    return make([...shape.slice(0, -1), 2 * last + 1]).slice(
      ...ranges as Parameters<Tensor["slice"]>,
    );
  }
}

function near(got: Tensor, want: Tensor, slack = 1, scale?: number): void {
  if (String(got.shape) !== String(want.shape)) {
    throw new Error(`[${got.shape}] instead of [${want.shape}]`);
  }
  const bound = tolerance("float32", slack);
  assertClose(got.toTypedArray(), want.toTypedArray(), bound, `shape [${got.shape}]`, scale);
}

function gradient(y: Tensor, x: Tensor, g: Tensor): Tensor {
  return ndl.grad(y, x, { gradOutputs: g, retainGraph: true })[0]!;
}

const laws: Record<string, (draw: Draw) => void> = {
  "broadcasting commutes": (draw) => {
    const shape = draw.shape();
    const a = draw.tensor(shape), b = draw.tensor(draw.broadcastable(shape));
    near(a.add(b), b.add(a));
    near(a.mul(b), b.mul(a));
    near(a.maximum(b), b.maximum(a));
    near(a.sub(b), b.sub(a).neg());
    near(a.add(b), a.add(b.expand(shape)));
  },
  "reductions split": (draw) => {
    const x = draw.tensor(draw.shape(1)), dim = draw.int(0, x.ndim - 1), size = x.shape[dim]!;
    const at = draw.int(0, size);
    const parts = [x.narrow(dim, 0, at), x.narrow(dim, at, size - at)] as const;
    near(x.sum(dim), parts[0].sum(dim).add(parts[1].sum(dim)), 8, size * 2);
    near(x.sum(), x.sum(dim).sum(), 8, x.numel() * 2 + 1);
    near(ndl.cat(parts, dim), x);
    if (at > 0 && at < size) {
      near(x.amax(dim), parts[0].amax(dim).maximum(parts[1].amax(dim)));
      near(x.amin(dim), parts[0].amin(dim).minimum(parts[1].amin(dim)));
    }
  },
  "reshapes and transposes come back": (draw) => {
    const x = draw.tensor(draw.shape(1)), order = draw.order(x.ndim);
    near(x.permute(order).permute(order.map((_, d) => order.indexOf(d))), x);
    near(x.reshape(x.numel()).reshape([...x.shape]), x);
    const dim = draw.int(0, x.ndim - 1);
    near(x.flip(dim).flip(dim), x);
    near(x.unsqueeze(dim).squeeze(dim), x);
    if (x.shape[dim]! > 0) {
      const shift = draw.int(-9, 9);
      near(x.roll(shift, dim).roll(-shift, dim), x);
      near(ndl.cat(x.split(draw.int(1, 4), dim), dim), x);
    }
  },
  "sorting orders and keeps": (draw) => {
    const x = draw.tensor(draw.shape(1)), dim = draw.int(0, x.ndim - 1);
    const { values, indices } = x.sort(dim);
    near(x.gather(dim, indices), values);
    near(values.flip(dim), x.sort(dim, { descending: true }).values);
    near(values.sum(dim), x.sum(dim), 8, 2 * x.shape[dim]! + 1);
  },
  "matrix products associate": (draw) => {
    const [m, k, n, p] = [draw.int(1, 33), draw.int(1, 33), draw.int(1, 33), draw.int(1, 33)];
    const batch = draw.shape(0, 2, false);
    const a = draw.tensor([...batch, m, k]), b = draw.tensor([k, n]), c = draw.tensor([n, p]);
    near(a.matmul(b).matmul(c), a.matmul(b.matmul(c)), 8, 8 * k * n);
    near(b.T.matmul(a.transpose(-1, -2)), a.matmul(b).transpose(-1, -2), 8, 4 * k);
  },
  "gradients are linear in the cotangent": (draw) => {
    const shape = draw.shape(1, 3, false);
    const x = draw.tensor(shape).detach().requiresGrad_();
    const y = x.mul(draw.tensor(draw.broadcastable(shape))).sin().cumsum(0).softmax(-1);
    const g = draw.tensor(shape), h = draw.tensor(shape);
    const both = gradient(y, x, g.mul(3).sub(h));
    near(both, gradient(y, x, g).mul(3).sub(gradient(y, x, h)), 64, 2);
  },
  "backward twice adds": (draw) => {
    const shape = draw.shape(1, 3, false);
    const x = draw.tensor(shape).clone().detach().requiresGrad_();
    const y = x.mul(x).add(x.exp()).sum();
    y.backward(null, { retainGraph: true });
    const once = x.grad!.clone();
    y.backward();
    near(x.grad!, once.mul(2));
  },
  "a gradient of an expanded tensor has its shape": (draw) => {
    const shape = draw.shape(0, 4, false), small = draw.broadcastable(shape);
    const x = draw.tensor(small).clone().detach().requiresGrad_();
    const g = draw.tensor(shape);
    const got = gradient(x.expand(shape), x, g);
    const lead = shape.length - small.length;
    const dims = shape.map((_, d) => d).filter((d) => d < lead || small[d - lead] !== shape[d]);
    const want = dims.length === 0 ? g : g.sum(dims, { keepdim: true });
    near(got, want.reshape(small), 8, 2 * g.numel() + 1);
  },
};

const given = Deno.env.get("NEEDLE_TEST_SEED");
const first = given === undefined ? crypto.getRandomValues(new Uint32Array(1))[0]! : Number(given);

for (const device of devices) {
  for (const [name, law] of Object.entries(laws)) {
    Deno.test(`${name} on ${device}`, () => {
      for (let round = 0; round < (given === undefined ? rounds : 1); round++) {
        const seed = (first + round) >>> 0;
        try {
          law(new Draw(seed, device));
        } catch (error) {
          throw new Error(
            `${name} on ${device}: ${(error as Error).message} (NEEDLE_TEST_SEED=${seed})`,
            { cause: error },
          );
        }
      }
    });
  }
}
