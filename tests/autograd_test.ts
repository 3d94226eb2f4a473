// Autograd beyond single ops: graphs, accumulation, freeing, in-place rules, views, hooks, custom functions,
// second derivatives, anomaly mode, scopes, and that memory goes back to the pool.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { hostPool } from "../lib/storage.ts";
import { assertClose, tolerance } from "./harness.ts";

const f64 = { dtype: "float64", requiresGrad: true } as const;

function values(t: ndl.Tensor | null): number[] {
  return Array.from(t!.toTypedArray() as Float64Array);
}

Deno.test("gradients add up over uses and over backward passes", () => {
  const x = ndl.tensor([2, 3], f64);
  const y = x.mul(x).add(x);
  y.sum().backward();
  assertEquals(values(x.grad), [5, 7]);
  x.mul(10).sum().backward();
  assertEquals(values(x.grad), [15, 17]);
  x.grad = null;
  assertEquals(x.grad, null);
});

Deno.test("broadcast operands get gradients of their own shape and dtype", () => {
  const a = ndl.tensor([[1, 2, 3], [4, 5, 6]], { requiresGrad: true });
  const b = ndl.tensor([1, 2, 3], f64);
  const c = ndl.tensor(2, { requiresGrad: true });
  a.mul(b).mul(c).sum().backward();
  assertEquals([a.grad!.shape, a.grad!.dtype], [[2, 3], "float32"]);
  assertEquals([b.grad!.shape, b.grad!.dtype], [[3], "float64"]);
  assertEquals(values(b.grad), [10, 14, 18]);
  assertEquals(c.grad!.item(), 46);
});

Deno.test("a graph is freed by backward, unless it is retained", () => {
  const x = ndl.tensor([1, 2], f64);
  const y = x.exp().sum();
  y.backward(null, { retainGraph: true });
  y.backward();
  assertThrows(() => y.backward(), Error, "retainGraph");
});

Deno.test("backward needs a scalar, a graph, or a fitting gradient", () => {
  const x = ndl.tensor([1, 2], f64);
  assertThrows(() => x.mul(2).backward(), Error, "[2]");
  assertThrows(() => ndl.ones([1]).backward(), Error, "require grad");
  assertThrows(() => x.mul(2).backward(ndl.ones([3])), RangeError, "[3]");
  assertThrows(() => ndl.ones([2], { dtype: "int64", requiresGrad: true }), TypeError, "int64");
});

Deno.test("grad returns what is asked for and touches no leaf", () => {
  const x = ndl.tensor([1, 2], f64), w = ndl.tensor([3, 4], f64), unused = ndl.tensor([5], f64);
  const h = x.mul(w);
  const y = h.square().sum();
  const [gh, gx] = ndl.grad(y, [h, x]);
  assertEquals(values(gh!), [6, 16]);
  assertEquals(values(gx!), [18, 64]);
  assertEquals([x.grad, w.grad], [null, null]);
  const y2 = x.mul(w).sum();
  assertThrows(() => ndl.grad(y2, [unused], { retainGraph: true }), Error, "allowUnused");
  assertEquals(ndl.grad(y2, [unused], { allowUnused: true }), [null]);
});

Deno.test("derivatives of derivatives", () => {
  const x = ndl.tensor(0.7, f64);
  let y: ndl.Tensor = x.sin();
  const expected = [Math.cos(0.7), -Math.sin(0.7), -Math.cos(0.7), Math.sin(0.7)];
  for (const e of expected) {
    y = ndl.grad(y, x, { createGraph: true })[0]!;
    assertClose([y.item()], [e], tolerance("float64"), "derivative of sin");
  }
  // backward with createGraph leaves gradients that can be differentiated
  const z = ndl.tensor([2, 3], f64);
  z.pow(3).sum().backward(null, { createGraph: true });
  const [gg] = ndl.grad(z.grad!.sum(), z);
  assertEquals(values(gg!), [12, 18]);
});

Deno.test("100,000 nodes neither overflow the stack nor stay in memory", () => {
  const x = ndl.tensor([1], f64);
  let y: ndl.Tensor = x;
  for (let i = 0; i < 100_000; i++) y = y.add(1);
  y.sum().backward();
  assertEquals(values(x.grad), [1]);
});

Deno.test("noGrad, enableGrad, detach and requiresGrad_", () => {
  const x = ndl.tensor([1], f64);
  assert(!ndl.noGrad(() => x.mul(2)).requiresGrad);
  assert(ndl.noGrad(() => ndl.enableGrad(() => x.mul(2))).requiresGrad);
  assert(!x.mul(2).detach().requiresGrad);
  {
    using _ = ndl.noGrad();
    assert(!x.mul(2).requiresGrad);
  }
  assert(x.mul(2).requiresGrad);
  assertThrows(() => ndl.noGrad(() => Promise.resolve()), TypeError, "using");
  assertThrows(() => x.mul(2).requiresGrad_(false), Error, "detach");
  assert(x.isLeaf && !x.mul(2).isLeaf && ndl.ones([1]).isLeaf);
});

Deno.test("in-place writes are checked", () => {
  const x = ndl.tensor([1, 2], f64);
  assertThrows(() => x.add_(1), Error, "leaf");
  const y = x.exp();
  const z = y.mul(2).sum();
  y.mul_(3); // exp saved y
  assertThrows(() => z.backward(), Error, "modified in place");
  assertThrows(() => ndl.ones([1]).expand(3).add_(1), Error, "expanded");
  assertThrows(() => ndl.ones([2]).add_(ndl.ones([3, 2])), RangeError, "does not fit");
  assertThrows(() => ndl.ones([2], { dtype: "int64" }).add_(0.5), TypeError, "float32");
  ndl.noGrad(() => x.add_(1));
  assertEquals(values(x.detach()), [2, 3]);
});

Deno.test("in-place ops are recorded, also through views", () => {
  const x = ndl.tensor([1, 2, 3], f64);
  const y = x.mul(1);
  y.mul_(x);
  y.sum().backward();
  assertEquals(values(x.grad), [2, 4, 6]);
  // writing a view changes what its base and its other views are
  const a = ndl.tensor([1, 2, 3, 4], f64);
  const base = a.mul(1);
  const matrix = base.reshape(2, 2), first = base.narrow(0, 0, 2);
  first.mul_(10);
  assertEquals(values(matrix.detach()), [10, 20, 3, 4]);
  matrix.square().sum().backward();
  assertEquals(values(a.grad), [200, 400, 6, 8]);
  // writing a tensor that requires grad into one that does not
  const buffer = ndl.zeros([2, 2], { dtype: "float64" });
  const row = ndl.tensor([5, 6], f64);
  buffer.select(0, 1).copy_(row);
  buffer.mul(buffer).sum().backward();
  assertEquals(values(row.grad), [10, 12]);
  buffer.detach().zero_();
});

Deno.test("hooks see and replace gradients; retainGrad keeps them", () => {
  const x = ndl.tensor([1, 2], f64);
  const seen: number[][] = [];
  const remove = x.registerHook((g) => {
    seen.push(values(g));
    return g.mul(2);
  });
  const y = x.mul(3);
  y.retainGrad();
  y.sum().backward();
  assertEquals(seen, [[3, 3]]);
  assertEquals(values(x.grad), [6, 6]);
  assertEquals(values(y.grad), [1, 1]);
  remove();
  x.grad = null;
  x.mul(3).sum().backward();
  assertEquals(values(x.grad), [3, 3]);
});

Deno.test("a retained gradient is what all hooks leave, of the tensor as it is now", () => {
  const retained = (prepare: (y: ndl.Tensor) => void): unknown => {
    const x = ndl.tensor([1, 2], { requiresGrad: true }), y = x.mul(3);
    prepare(y);
    y.mul(y).sum().backward();
    return y.grad!.tolist();
  };
  assertEquals(retained((y) => (y.retainGrad(), y.retainGrad())), [6, 12]);
  assertEquals(retained((y) => (y.retainGrad(), y.registerHook((g) => g.mul(2)))), [12, 24]);
  assertEquals(retained((y) => (y.registerHook((g) => g.mul(2)), y.retainGrad())), [12, 24]);
  assertEquals(retained((y) => (y.retainGrad(), y.mul_(2))), [12, 24]);
  assertEquals(retained((y) => (y.retainGrad(), y.get(0).mul_(2))), [12, 12]);
  assertThrows(() => ndl.ones([2]).retainGrad(), Error, "does not require grad");
});

Deno.test("a retained gradient has memory of its own", () => {
  const x = ndl.ones([4], { requiresGrad: true }), a = x.mul(2), b = a.reshape(2, 2);
  a.retainGrad();
  b.retainGrad();
  const given = ndl.full([2, 2], 3);
  b.backward(given);
  given.zero_();
  b.grad!.mul_(5);
  assertEquals(values(b.grad), [15, 15, 15, 15]);
  assertEquals(values(a.grad), [3, 3, 3, 3]);
  const c = x.mul(2);
  c.retainGrad();
  ndl.tidy(() => c.sum().backward()); // its gradient is one expanded element
  c.grad!.mul_(5);
  assertEquals(values(c.grad), [5, 5, 5, 5]);
});

Deno.test("backward and grad name what is no gradient", () => {
  const x = ndl.ones([2], { requiresGrad: true }), y = x.sum();
  const wrong = { retainGraph: true } as unknown as ndl.Tensor;
  assertThrows(() => y.backward(wrong), TypeError, "Cannot call backward with");
  assertThrows(() => ndl.grad(y, x, { gradOutputs: [wrong] }), TypeError, "Cannot call grad with");
});

Deno.test("a hook cannot change what kind of tensor a gradient is", () => {
  for (const change of [(g: ndl.Tensor) => g.get([0, 1]), (g: ndl.Tensor) => g.to("float64")]) {
    const x = ndl.tensor([1, 2], { requiresGrad: true }), y = x.mul(3);
    y.registerHook(change);
    assertThrows(() => y.sum().backward(), TypeError, "same shape, dtype and device");
    assertEquals(x.grad, null);
  }
});

Deno.test("custom functions", () => {
  const calls: boolean[][] = [];
  const scaled = ndl.customFunction<[ndl.Tensor, number, ndl.Tensor], ndl.Tensor>({
    forward(ctx, x, factor, y) {
      ctx.saveForBackward(x, y);
      ctx.factor = factor;
      calls.push(ctx.needsInputGrad);
      return x.mul(y).mul(factor);
    },
    backward(ctx, g) {
      const [x, y] = ctx.savedTensors;
      const k = ctx.factor as number;
      return [g.mul(y!).mul(k), null, g.mul(x!).mul(k)];
    },
  });
  const x = ndl.tensor([1, 2], f64), y = ndl.tensor([3, 4], f64);
  ndl.gradcheck((a, b) => scaled(a!, 2, b!), [x, y]);
  ndl.gradgradcheck((a, b) => scaled(a!, 2, b!), [x, y]);
  assertEquals(calls[0], [true, false, true]);
  const wrong = ndl.customFunction<[ndl.Tensor, ndl.Tensor], ndl.Tensor>({
    forward: (_, a, b) => a.add(b),
    backward: (_, g) => g,
  });
  assertThrows(() => wrong(x, y).sum().backward(), Error, "2 arguments");
});

Deno.test("checkpoint computes the same gradients", () => {
  const w = ndl.tensor([[0.5, -1], [2, 0.1]], f64), x = ndl.tensor([1, 2], f64);
  const f = (a: ndl.Tensor): ndl.Tensor => w.matmul(a).tanh().matmul(w);
  f(x).sum().backward();
  const expected = [values(x.grad), values(w.grad)];
  x.grad = null;
  w.grad = null;
  ndl.checkpoint(f, x).sum().backward();
  assertEquals([values(x.grad), values(w.grad)], expected);
});

Deno.test("anomaly mode names the op whose gradient turned NaN", () => {
  ndl.detectAnomaly(() => {
    const x = ndl.tensor([0], f64);
    const y = x.sqrt().mul(0).sum();
    const error = assertThrows(() => y.backward(), Error, '"sqrt"') as Error;
    assert(error.message.includes("autograd_test.ts"));
  });
});

Deno.test("gradcheck finds a wrong derivative", () => {
  const wrong = ndl.customFunction<[ndl.Tensor], ndl.Tensor>({
    forward: (_, a) => a.square(),
    backward: (_, g) => g,
  });
  assertThrows(() => ndl.gradcheck((a) => wrong(a!), ndl.tensor([1, 2], f64)), Error, "differ");
  assertThrows(() => ndl.gradcheck((a) => a!, ndl.tensor([1])), TypeError, "float64");
});

Deno.test("tidy releases what it made, and a disposed tensor says so", () => {
  let inner: ndl.Tensor | undefined;
  const kept = ndl.tidy(() => {
    inner = ndl.ones([3]);
    return { deep: [inner.mul(2)] };
  });
  assertEquals(values(kept.deep[0]!), [2, 2, 2]);
  assertThrows(() => inner!.add(1), Error, "disposed");
  const x = ndl.tensor([1, 2], f64);
  const loss = ndl.tidy(() => x.exp().square().sum());
  loss.backward(); // what backward needs was not released
  assertClose(values(x.grad), [2 * Math.exp(2), 2 * Math.exp(4)], tolerance("float64"), "tidy");
  assertThrows(() => ndl.tidy(() => Promise.resolve(1)), TypeError, "using");
});

Deno.test("a training step gives its memory back", () => {
  const w = ndl.full([64, 64], 0.01, { requiresGrad: true });
  const step = (): void => {
    using x = ndl.full([32, 64], 0.5);
    using h = x.matmul(w);
    using a = h.tanh();
    using y = a.square();
    using loss = y.sum();
    loss.backward();
    w._clearGrad();
  };
  step();
  const live = hostPool.counts().live;
  for (let i = 0; i < 5; i++) step();
  assertEquals(hostPool.counts().live, live);
});

Deno.test("gradients of sums, which repeat one element, add up", () => {
  const x = ndl.tensor([[1, 2], [3, 4]], f64);
  const y = x.mul(1);
  y.sum().add(y.sum(0).sum()).add(y.square().sum()).backward();
  assertEquals(values(x.grad), [4, 6, 8, 10]);
});
