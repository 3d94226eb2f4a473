// Gradients that stay pending until they are read: those of scores under cross entropy and those of embeddings. Whatever
// a program does with them, it gets what evaluation at once gives; and where nobody reads them, they are never made.

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import { pauseLazy } from "../lib/lazy.ts";
import { pendingCall } from "../lib/later.ts";
import { indexOps } from "../lib/ops/index.ts";
import { lossOps } from "../lib/ops/loss.ts";
import { hostPool } from "../lib/storage.ts";
import type { CrossEntropyOptions } from "../lib/functional/loss.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { nativeDevices } from "./harness.ts";

const devices = nativeDevices();
const { crossEntropy, linear, embedding } = ndl.nn.functional;

/** Runs `fn` with every op computed at once. */
function eagerly<T>(fn: () => T): T {
  const resume = pauseLazy();
  try {
    return fn();
  } finally {
    resume();
  }
}

function assertNear(got: Tensor, want: Tensor, what: string): void {
  assertEquals(got.shape, want.shape);
  const far = got.sub(want).abs().max().item(), size = want.abs().max().item();
  assert(far <= 1e-5 * Math.max(size, 1e-3), `${what}: ${far} apart, largest ${size}`);
}

/** Calls `fn` as it is and with every op computed at once; the tensors that both give must agree. */
function assertSame(what: string, fn: () => readonly Tensor[]): void {
  for (const device of devices) {
    ndl.setDefaultDevice(device);
    ndl.manualSeed(7);
    const got = fn();
    ndl.manualSeed(7);
    const want = eagerly(fn);
    assertEquals(got.length, want.length);
    got.forEach((t, i) => assertNear(t, want[i]!, `${what} on ${device}, result ${i}`));
  }
}

const [rows, classes, size] = [67, 1033, 19];

interface Projection {
  x: Tensor;
  w: Tensor;
  b: Tensor;
  scores: Tensor;
  labels: Tensor;
}

function projection(shape: readonly number[] = [rows]): Projection {
  const x = ndl.randn([...shape, size], { requiresGrad: true });
  const w = ndl.randn([classes, size], { requiresGrad: true });
  const b = ndl.randn([classes], { requiresGrad: true });
  const labels = ndl.randint(0, classes, [x.numel() / size]);
  return { x, w, b, scores: linear(x, w, { bias: b }), labels };
}

function grads({ x, w, b }: Projection): Tensor[] {
  return [x.grad!, w.grad!, b.grad!];
}

Deno.test("the gradients of a projection under cross entropy are those of separate ops", () => {
  const variants: (() => CrossEntropyOptions)[] = [
    () => ({}),
    () => ({ reduction: "sum", labelSmoothing: 0.1 }),
    () => ({ weight: ndl.rand([classes]), ignoreIndex: 3 }),
  ];
  for (const options of variants) {
    assertSame("cross entropy", () => {
      const p = projection();
      crossEntropy(p.scores, p.labels.remainder(5), options()).mul(2).backward();
      return grads(p);
    });
  }
  assertSame("scores in another shape", () => {
    const p = projection([rows, 1]);
    crossEntropy(p.scores.view(-1, classes), p.labels).backward();
    return grads(p);
  });
  assertSame("a loss for each row", () => {
    const p = projection();
    crossEntropy(p.scores, p.labels, { reduction: "none" }).backward(ndl.rand([rows]));
    return grads(p);
  });
});

Deno.test("a gradient of scores that somebody reads or adds to is there", () => {
  assertSame("retainGrad", () => {
    const p = projection();
    p.scores.retainGrad();
    crossEntropy(p.scores, p.labels).backward();
    return [p.scores.grad!, ...grads(p)];
  });
  assertSame("a hook", () => {
    const p = projection();
    p.scores.registerHook((g) => g.mul(3));
    crossEntropy(p.scores, p.labels).backward();
    return grads(p);
  });
  assertSame("scores used twice", () => {
    const p = projection();
    crossEntropy(p.scores, p.labels).add(p.scores.square().mean()).backward();
    return grads(p);
  });
  assertSame("scores that are a leaf", () => {
    const scores = ndl.randn([rows, classes], { requiresGrad: true });
    crossEntropy(scores, ndl.randint(0, classes, [rows])).backward();
    return [scores.grad!];
  });
  assertSame("a weight without gradient", () => {
    const p = projection();
    const scores = linear(p.x, p.w.detach(), { bias: p.b });
    crossEntropy(scores, p.labels).backward();
    return [p.x.grad!, p.b.grad!];
  });
});

Deno.test("backward through cross entropy and projection can run again, and be differentiated", () => {
  assertSame("retainGraph", () => {
    const p = projection(), loss = crossEntropy(p.scores, p.labels);
    loss.backward(null, { retainGraph: true });
    loss.backward();
    return grads(p);
  });
  assertSame("createGraph", () => {
    const p = projection();
    const [g] = ndl.grad(crossEntropy(p.scores, p.labels), p.x, { createGraph: true });
    g!.square().sum().backward();
    return grads(p);
  });
});

Deno.test("the gradient of scores is never made where the projection alone wants it", () => {
  for (const device of devices) {
    ndl.setDefaultDevice(device);
    const p = projection();
    const seen = ndl.customFunction({
      forward: (_, x: Tensor) => x.clone(),
      backward: (_, g: Tensor) => {
        assert(pendingCall(g, lossOps.crossEntropyBackward) !== null);
        return g;
      },
    });
    const before = hostPool.counts().live;
    const loss = crossEntropy(seen(p.scores), p.labels);
    loss.backward();
    for (const g of grads(p)) g.dispose();
    loss.dispose();
    assert(hostPool.counts().live - before < 2 * 4 * rows * classes, "something was left behind");
  }
});

const [words, width] = [4099, 17];
const sentence = [5, 9, 5, 4098, 0, 9, 5];

function table(): { weight: Tensor; index: Tensor; loss: () => Tensor } {
  const weight = ndl.randn([words, width], { requiresGrad: true });
  const index = ndl.tensor(sentence, { dtype: "int64" });
  return { weight, index, loss: () => embedding(index, weight).sin().sum() };
}

/** Whether the gradient of `t` is still rows. */
function isRows(t: Tensor): boolean {
  return pendingCall(t._grad!, indexOps.indexAdd) !== null;
}

Deno.test("SGD and clipping leave the gradient of an embedding as rows, and change what they should", () => {
  for (const maximize of [false, true]) {
    assertSame("a clipped step", () => {
      const { weight, loss } = table();
      const optimizer = new ndl.optim.SGD([weight], { lr: 0.7, maximize });
      const norms: Tensor[] = [];
      for (const limit of [100, 0.25]) {
        optimizer.zeroGrad();
        loss().backward();
        norms.push(ndl.nn.utils.clipGradNorm_([weight], limit));
        optimizer.step();
      }
      const rest = weight.detach().clone();
      // Reading it afterwards gives the whole gradient.
      return [...norms, rest, weight.grad!];
    });
  }
  for (const device of devices) {
    ndl.setDefaultDevice(device);
    const { weight, loss } = table(), before = weight.detach().clone();
    const optimizer = new ndl.optim.SGD([weight], { lr: 0.7 });
    loss().backward();
    assert(isRows(weight), "backward made the whole gradient");
    ndl.nn.utils.clipGradNorm_([weight], 0.25);
    assert(isRows(weight), "clipping made the whole gradient");
    optimizer.step();
    assert(isRows(weight), "the step made the whole gradient");
    const changed = weight.detach().ne(before).any(1).nonzero().flatten().tolist();
    assertEquals(changed, [0, 5, 9, 4098]);
  }
});

Deno.test("the gradient of an embedding is whole for everybody else", () => {
  const uses: [string, (weight: Tensor, loss: () => Tensor) => void][] = [
    ["two backward passes", (_, loss) => loss().backward()],
    ["clipGradValue_", (weight) => ndl.nn.utils.clipGradValue_([weight], 0.3)],
    ["momentum", (weight) => new ndl.optim.SGD([weight], { lr: 1, momentum: 0.9 }).step()],
    ["weight decay", (weight) => new ndl.optim.SGD([weight], { lr: 1, weightDecay: 0.1 }).step()],
    ["Adam", (weight) => new ndl.optim.Adam([weight], { lr: 1 }).step()],
    ["the largest element", (weight) => {
      ndl.nn.utils.clipGradNorm_([weight], 0.3, { normType: Infinity });
    }],
    ["a write in place", (weight) => weight._grad!.mul_(2)],
  ];
  for (const [what, use] of uses) {
    assertSame(what, () => {
      const { weight, loss } = table();
      loss().backward();
      use(weight, loss);
      return [weight.detach().clone(), weight.grad!];
    });
  }
  assertSame("an index that takes no gradient", () => {
    const { weight, index } = table();
    embedding(index, weight, { paddingIdx: 5 }).sum().backward();
    const norm = ndl.nn.utils.clipGradNorm_([weight], 0.5);
    new ndl.optim.SGD([weight], { lr: 1 }).step();
    return [norm, weight.detach().clone(), weight.grad!];
  });
  assertSame("a matrix that is projection, too", () => {
    const { weight, index } = table();
    const y = linear(embedding(index, weight), weight);
    crossEntropy(y, index).backward();
    const norm = ndl.nn.utils.clipGradNorm_([weight], 0.5);
    return [norm, weight.grad!];
  });
  assertSame("indices written after backward", () => {
    const { weight, index } = table();
    embedding(index, weight).sum().backward();
    index.fill_(3);
    return [weight.grad!];
  });
});

Deno.test("clipping passes on a norm that is not a number, and does nothing below the limit", () => {
  for (const device of devices) {
    ndl.setDefaultDevice(device);
    const { weight, index } = table();
    embedding(index, weight).sum().mul(NaN).backward();
    assert(Number.isNaN(ndl.nn.utils.clipGradNorm_([weight], 1).item()));
    assert(Number.isNaN(weight.grad!.get(5, 0).item()));
    const w = ndl.tensor([3, 4], { requiresGrad: true });
    w.mul(ndl.tensor([3, 4])).sum().backward();
    assertAlmostEquals(ndl.nn.utils.clipGradNorm_([w], 5.1).item(), 5, 1e-6);
    assertEquals(w.grad!.tolist(), [3, 4]);
    ndl.nn.utils.clipGradNorm_([w], 0.5);
    assertAlmostEquals(w.grad!.get(1).item(), 0.4, 1e-6);
  }
});
