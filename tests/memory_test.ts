// Memory: a plain PyTorch-style loop without tidy, dispose or using stays flat, with and without turns of the event
// loop; containers release what they made and nothing that user code can see; the pool keeps to its limits.

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { HostPool, hostPool, sizeClass, Storage } from "../lib/storage.ts";
import { nativeDevices } from "./harness.ts";
import { answerOf, root } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const MiB = 2 ** 20;

/** RSS in MiB during a training loop in a process of its own, and what the pool counts at the end. */
interface Usage {
  readonly highest: number;
  /** The least of each quarter: when V8 collects is up to V8, and single readings swing by some 200 MiB. */
  readonly lowest: number[];
  readonly counts: { live: number; cached: number; registered: number };
}

/** A user's own module on tensors of 2 and 1 MiB, some of them used twice; about 30 MiB a step. */
function loop(device: string, turn: string): Promise<Usage> {
  return answerOf<Usage>(
    `
    import * as ndl from "${root}mod.ts";
    import { hostPool } from "${root}lib/storage.ts";
    ndl.manualSeed(0);
    class Net extends ndl.nn.Module {
      first = new ndl.nn.Linear(32, 1024);
      second = new ndl.nn.Linear(1024, 512);
      forward(x) {
        let h = this.first.forward(x).relu().mul(1.5).add(0.1);
        h = h.mul(h.sigmoid()).add(h);
        return this.second.forward(h).tanh();
      }
    }
    const net = new Net();
    const optimizer = new ndl.optim.Adam(net.parameters(), { lr: 1e-3 });
    let highest = 0;
    const lowest = [Infinity, Infinity, Infinity, Infinity];
    for (let step = 0; step < 200; step++) {
      const x = ndl.randn([512, 32]), y = ndl.randn([512, 512]);
      optimizer.zeroGrad();
      const loss = net.forward(x).sub(y).square().mean();
      loss.backward();
      optimizer.step();
      if (!(loss.item() > 0)) throw new Error("no loss");
      ${turn}
      const rss = Deno.memoryUsage().rss / 2 ** 20, quarter = Math.floor(step / 50);
      highest = Math.max(highest, rss);
      lowest[quarter] = Math.min(lowest[quarter], rss);
    }
    console.log(JSON.stringify({ highest, lowest, counts: hostPool.counts() }));
  `,
    { env: { NEEDLE_DEVICE: device } },
  );
}

const turns = {
  "that never awaits": "",
  "with turns of the event loop": "await new Promise((resolve) => setTimeout(resolve, 0));",
};

const device = nativeDevices()[0];
for (const [name, turn] of Object.entries(turns)) {
  Deno.test({
    name: `a plain training loop ${name} keeps its memory flat`,
    ignore: device === undefined,
    async fn() {
      const { highest, lowest, counts } = await loop(device!.name, turn);
      // 6 GiB pass through the loop; the budget of 64 MiB and V8's own slack are what may stay.
      assert(highest < 1200, `RSS reaches ${highest} MiB`);
      assert(lowest[3]! < lowest[1]! + 100, `RSS grows: ${lowest} MiB`);
      assert(counts.registered <= 64 * MiB, `${counts.registered} bytes are registered`);
    },
  });
}

/** Records what it is given and gives, as a user's module might. */
class Spy extends ndl.nn.Module {
  seen: ndl.Tensor[] = [];

  override forward(x: ndl.Tensor): ndl.Tensor {
    const y = x.mul(2);
    this.seen.push(x, y);
    return y;
  }
}

/** Gives back its input and keeps it. */
class Tap extends ndl.nn.Module {
  seen: ndl.Tensor[] = [];

  override forward(x: ndl.Tensor): ndl.Tensor {
    this.seen.push(x);
    return x;
  }
}

Deno.test("Sequential and Residual release the activations between built-in layers", () => {
  const { Linear, ReLU, Residual, Sequential } = ndl.nn;
  const block = new Sequential(new Linear(64, 64), new ReLU(), new Linear(64, 64), new ReLU());
  const model = new Sequential(block, new Residual(block), new ReLU());
  const x = ndl.randn([512, 64]); // 128 KiB
  ndl.noGrad(() => {
    model.forward(x).dispose();
    const { live } = hostPool.counts();
    const y = model.forward(x);
    ndl.evaluate(y);
    assertEquals(hostPool.counts().live, live + 128 * 1024, "one tensor, the result");
    y.dispose();
    assertEquals(hostPool.counts().live, live);
  });
});

Deno.test("containers release nothing that a user's module or hook has seen", () => {
  const { Flatten, Identity, Linear, ReLU, Residual, Sequential } = ndl.nn;
  const x = ndl.randn([8, 64]);
  const spy = new Spy(), tap = new Tap(), hooked = new Linear(64, 64);
  const seen: ndl.Tensor[] = [];
  hooked.registerForwardHook((_, inputs, output) => void seen.push(...inputs, output));
  const model = new Sequential(
    new Linear(64, 64),
    new Sequential(spy),
    new ReLU(),
    new Residual(new Sequential(new Linear(64, 64), new Sequential(new Identity(), tap))),
    new Linear(64, 64),
    new Sequential(hooked, new Flatten()),
    new ReLU(),
  );
  const y = model.forward(x);
  for (const t of [...spy.seen, ...tap.seen, ...seen, x, y]) assertEquals(t.shape, [8, 64]);
  const all = [...spy.seen, ...tap.seen, ...seen, x, y].map((t) => t.sum().item());
  assert(all.every(Number.isFinite), `${all}`);
  assertEquals(seen.length, 2);
  y.sum().backward();
  assert(hooked.weight.grad !== null);
});

Deno.test("forward, backward and step leave no counted memory behind", () => {
  const model = new ndl.nn.Sequential(new ndl.nn.Linear(128, 256), new ndl.nn.ReLU());
  const optimizer = new ndl.optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
  const x = ndl.randn([256, 128]);
  const step = (): void => {
    optimizer.zeroGrad();
    using y = model.forward(x);
    using loss = y.sum();
    loss.backward();
    optimizer.step();
  };
  step();
  step();
  const { live } = hostPool.counts();
  for (let i = 0; i < 5; i++) step();
  assertEquals(hostPool.counts().live, live);
});

Deno.test("size classes waste at most a fifth and start at 64 bytes", () => {
  for (const bytes of [0, 1, 64]) assertEquals(sizeClass(bytes), 64);
  for (let bytes = 65; bytes < 2 ** 40; bytes = Math.ceil(bytes * 1.07)) {
    const size = sizeClass(bytes);
    assert(size >= bytes, `${size} for ${bytes}`);
    assertEquals(sizeClass(size), size);
    if (bytes > 1024) assert(size <= bytes * 1.25, `${size} for ${bytes}`);
  }
});

Deno.test("a pool hands out what was given back, counts it, and caches at most 1 GiB", () => {
  const pool = new HostPool();
  const a = pool.take(3000);
  assertEquals(pool.counts().live, a.bytes);
  pool.give(a);
  assertEquals(pool.counts(), {
    live: 0,
    peak: a.bytes,
    cached: a.bytes,
    registered: 0,
    blocks: 0,
    taken: 1,
    reused: 0,
  });
  assertEquals(pool.take(a.bytes), a);
  assertEquals(pool.counts().cached, 0);
  // Untouched memory costs nothing: five blocks of 256 MiB, of which four are kept.
  const large = Array.from({ length: 5 }, () => pool.take(256 * MiB));
  for (const block of large) pool.give(block);
  assertEquals(pool.counts().cached, 1024 * MiB);
});

Deno.test("at most 64 MiB wait for finalizers, and counts are right after each release", () => {
  const before = hostPool.counts();
  const storages = Array.from({ length: 40 }, () => new Storage(ndl.reference(), 16 * MiB));
  for (const s of storages) s.retain();
  assertEquals(hostPool.counts().live, before.live + 640 * MiB);
  assert(hostPool.counts().registered <= 64 * MiB);
  for (const s of storages) s.release();
  assertEquals(hostPool.counts().live, before.live);
  assertEquals(hostPool.counts().registered, before.registered);
});

Deno.test("memory that nothing can give is a clear error, and the pool works on", () => {
  const { live } = hostPool.counts();
  const error = assertThrows(() => ndl.empty([2 ** 44]), RangeError) as unknown as Error;
  assert(error.message.startsWith("Cannot allocate "), error.message);
  assertEquals(hostPool.counts().live, live);
  assertEquals(ndl.ones([3]).sum().item(), 3);
});

Deno.test("storages that user code drops come back when the event loop turns", async () => {
  const answer = await answerOf<{ before: number; after: number }>(
    `
    import { hostPool, Storage } from "${root}lib/storage.ts";
    import { reference } from "${root}mod.ts";
    for (let i = 0; i < 64; i++) new Storage(reference(), 16 * 2 ** 20); // 1 GiB, dropped
    const before = hostPool.counts().live;
    for (let i = 0; i < 20; i++) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    console.log(JSON.stringify({ before, after: hostPool.counts().live }));
  `,
    { v8: ["--expose-gc"] },
  );
  assert(answer.before > 0, JSON.stringify(answer));
  assert(answer.after <= 16 * MiB, JSON.stringify(answer));
});
