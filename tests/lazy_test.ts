// Lazy evaluation of elementwise expressions: the same bits as evaluation at once, whatever is read, written,
// disposed or differentiated in between, and nothing left behind in memory.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { isLazy, pauseLazy } from "../lib/lazy.ts";
import { hostPool } from "../lib/storage.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { emulatedGpus } from "./cuda_support.ts";
import { nativeDevices } from "./harness.ts";

const devices = [...nativeDevices(), ...emulatedGpus()];
const n = 5003; // above the threshold, no multiple of a vector

/** Whether nobody computed the elements of `t` yet. */
function pending(t: Tensor): boolean {
  return t._data.deferred !== null;
}

/** Whether these tests run with laziness on (NEEDLE_EAGER=1: everything is computed at once, with the same bits). */
function lazy(): boolean {
  return isLazy(devices[0]!, "float32", n);
}

/** Runs `fn` with every op computed at once. */
function eagerly<T>(fn: () => T): T {
  const resume = pauseLazy();
  try {
    return fn();
  } finally {
    resume();
  }
}

/** A generator of whole numbers below its argument. */
function dice(seed: number): (below: number) => number {
  let state = seed * 2654435761 >>> 0;
  return (below) => {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 >>> 0;
    state = (state ^ state >>> 12) >>> 0;
    return state % below;
  };
}

const unary: readonly ((x: Tensor) => Tensor)[] = [
  (x) => x.tanh(),
  (x) => x.sigmoid(),
  (x) => x.relu(),
  (x) => x.neg(),
  (x) => x.abs(),
  (x) => x.square(),
  (x) => x.mul(0.5).add(0.25),
  (x) => x.clamp(-1, 1),
  (x) => x.pow(2),
  (x) => x.sin(),
  (x) => x.reshape(1, -1).reshape(-1),
];
const binary: readonly ((a: Tensor, b: Tensor) => Tensor)[] = [
  (a, b) => a.add(b),
  (a, b) => a.sub(b),
  (a, b) => a.mul(b),
  (a, b) => a.maximum(b),
  (a, b) => ndl.where(a.gt(b), a, b.mul(2)),
  (a, b) => a.lerp(b, 0.3),
];

/** A random program over two inputs: reads, writes in place, drops and disposes on the way; all results in the end. */
function randomProgram(seed: number, x: Tensor, y: Tensor): Tensor[] {
  const roll = dice(seed);
  const values = [x, y];
  const pick = (): Tensor => values[roll(values.length)]!;
  for (let i = 0; i < 40; i++) {
    const kind = roll(12);
    if (kind < 5) values.push(binary[roll(binary.length)]!(pick(), pick()));
    else if (kind < 9) values.push(unary[roll(unary.length)]!(pick()));
    else if (kind === 9) void pick().sum().item();
    else if (kind === 10) values.push(pick().clone().add_(pick().detach()));
    else if (values.length > 4) values.splice(2 + roll(values.length - 2), 1)[0]!.dispose();
  }
  return values.slice(2);
}

function bytesOf(t: Tensor): Uint8Array {
  const data = t.toTypedArray();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

for (const device of devices) {
  Deno.test(`random elementwise programs on ${device} have the bits of eager ones`, () => {
    for (let seed = 1; seed <= 60; seed++) {
      const dtype = seed % 4 === 0 ? "float64" : "float32";
      const run = (): Uint8Array[] => {
        ndl.manualSeed(seed);
        const options = { device, dtype, requiresGrad: true } as const;
        const x = ndl.randn([n], options), y = ndl.randn([n], options);
        const results = randomProgram(seed, x, y);
        const total = results.reduce((s, t) => s.add(t.sum()), x.sum());
        const out = results.map(bytesOf);
        total.backward();
        return [...out, bytesOf(x.grad!), ...(y.grad === null ? [] : [bytesOf(y.grad)])];
      };
      assertEquals(run(), eagerly(run), `seed ${seed}`);
    }
  });

  Deno.test(`second derivatives through pending expressions on ${device}`, () => {
    const run = (): Uint8Array => {
      ndl.manualSeed(3);
      const x = ndl.randn([n], { device, dtype: "float64", requiresGrad: true });
      const y = x.mul(x).tanh().add(x).sigmoid().sum();
      const [g] = ndl.grad([y], [x], { createGraph: true });
      g!.mul(g!).sum().backward();
      return bytesOf(x.grad!);
    };
    assertEquals(run(), eagerly(run));
  });

  Deno.test(`a write in place does not reach pending readers on ${device}`, () => {
    const x = ndl.arange(n, { device, dtype: "float32" });
    const doubled = x.mul(2), view = x.slice([1, n - 1]);
    assertEquals(pending(doubled), lazy());
    x.add_(1);
    view.mul_(0);
    const shifted = x.add(0.5);
    ndl.nn.init.constant_(x, 7);
    assertEquals(doubled.get(10).item(), 20);
    assertEquals(shifted.get(0).item(), 1.5);
    assertEquals(shifted.get(10).item(), 0.5);
    assertEquals(shifted.get(n - 1).item(), n + 0.5);
    assertEquals(x.get(10).item(), 7);
  });

  Deno.test(`an optimiser's step does not reach pending readers on ${device}`, () => {
    const w = ndl.ones([n], { device, requiresGrad: true });
    const optimizer = new ndl.optim.SGD([w], { lr: 1 });
    w.mul(3).sum().backward();
    const before = ndl.noGrad(() => w.mul(10));
    optimizer.step();
    assertEquals(before.get(5).item(), 10);
    assertEquals(w.detach().get(5).item(), -2);
  });

  Deno.test(`pending expressions give back all memory on ${device}`, () => {
    const x = ndl.randn([n], { device }), y = ndl.randn([n], { device });
    ndl.evaluate(x, y);
    const { allocator } = device, before = allocator.counts().live;
    ndl.tidy(() => {
      const a = x.mul(y), b = a.add(x), c = b.relu().mul(a), unused = c.exp();
      assert([a, b, c, unused].every((t) => pending(t) === lazy()));
      const held = allocator.counts().live - before;
      assertEquals(held > 0, !lazy(), "nothing is allocated before something is read");
      assert(Number.isFinite(c.sum().item()));
      assert(!pending(c));
      assertEquals(a.sum().item(), eagerly(() => x.mul(y).sum().item()), "a computed again");
    });
    assertEquals(allocator.counts().live, before);
    assertEquals([x._data.refs, y._data.refs], [1, 1]);
  });

  // Of GPU memory cuda_sanitized.ts sees the ends.
  if (device.allocator === hostPool) {
    Deno.test(`fused results stay within their memory on ${device}`, () => {
      const bytes = 4 * n, size = 20480; // the size class of 4 n bytes
      const x = ndl.ones([n + 3], { device }).slice([3, null]);
      const fence = ndl.zeros([size / 4], { device });
      const memory = fence._memory as ArrayBuffer;
      new Uint8Array(memory).fill(0xab);
      fence.dispose();
      const y = x.mul(2).add(x).sigmoid();
      ndl.evaluate(y);
      assertEquals(y._memory === memory, lazy(), "the freed block was taken");
      assert(new Uint8Array(memory).subarray(bytes).every((b) => b === 0xab));
    });
  }

  Deno.test(`long chains and wide sums of pending terms on ${device}`, () => {
    const x = ndl.full([n], 1, { device, dtype: "float64" });
    let chain: Tensor = x;
    for (let i = 0; i < 1000; i++) chain = chain.mul(1.001).sub(0.001);
    assert(Math.abs(chain.get(n - 1).item() - 1) < 1e-9);
    let sum: Tensor = x;
    for (let i = 0; i < 40; i++) {
      sum = sum.add(ndl.full([n], i, { device, dtype: "float64" }).mul(2));
    }
    assertEquals(sum.get(7).item(), 1 + 2 * 39 * 40 / 2);
    const [a, b, c] = [x.add(1), x.add(2), x.add(3)];
    const [d, e, f] = [a.mul(b), b.mul(c), c.mul(a)];
    const [g, h] = [d.add(e).add(f), d.mul(e).mul(f)];
    assertEquals([g.get(0).item(), h.get(0).item()], [6 + 12 + 8, 6 * 12 * 8]);
    assertEquals([a, b, c, d, e, f].map((t) => t.get(1).item()), [2, 3, 4, 6, 12, 8]);
  });

  Deno.test(`what is deferred on ${device}, and what is not`, () => {
    const x = ndl.randn([n], { device });
    assertEquals(pending(x.exp()), lazy(), "large floating point results wait");
    assertEquals(pending(x.reshape(-1, 1).exp()), lazy(), "of views without holes too");
    assertEquals(pending(x.gt(0)), lazy(), "and comparisons");
    const tiny = ndl.randn([16], { device });
    assertEquals(pending(tiny.exp()), isLazy(device, "float32", 16), "tiny ones by default not");
    assert(!pending(x.to("int64").add(1)), "integers too, which can fail");
    assert(!pending(x.reshape(1, -1).expand(2, n).exp()), "and expanded operands");
    assertThrows(
      () => x.exp().add(ndl.randn([n + 1], { device })),
      RangeError,
      "add",
    );
    eagerly(() => assert(!pending(x.exp())));
  });
}

Deno.test("handles share what is pending, and evaluate computes it", () => {
  const device = devices.at(-1)!;
  const x = ndl.randn([n], { device });
  const y = x.mul(2), alias = y.detach(), rows = y.reshape(1, n);
  assertEquals([pending(alias), pending(rows)], [lazy(), lazy()]);
  y.dispose();
  ndl.evaluate(alias);
  assert(!pending(rows));
  assertEquals(rows.get(0, 3).item(), x.get(3).item() * 2);
});
