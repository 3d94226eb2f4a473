// Mixed precision: which dtype each kind of op computes in, gradients, the cache of converted parameters, and the
// gradient scaler's arithmetic and errors.

import { assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { autocast as activeHook } from "../lib/amp_mode.ts";
import { autocast, GradScaler } from "../lib/amp.ts";
import { assertClose, nativeDevices } from "./harness.ts";

const devices = [ndl.reference(), ...nativeDevices()];
const low = { dtype: "bfloat16" } as const;

Deno.test("autocast gives each op the dtype of PyTorch's lists", () => {
  const x = ndl.tensor([[0.5, 1], [2, 3]]), h = x.to("bfloat16"), d = x.to("float64");
  const F = ndl.nn.functional;
  const losses = [F.mseLoss, F.l1Loss, F.smoothL1Loss, F.huberLoss, F.klDiv];
  autocast(low, () => {
    assertEquals(x.matmul(x).dtype, "bfloat16");
    assertEquals(h.exp().dtype, "float32");
    assertEquals(h.sum().dtype, "float32");
    assertEquals(h.softmax(1).dtype, "float32");
    assertEquals(h.pow(2).dtype, "float32");
    assertEquals(h.relu().dtype, "bfloat16");
    assertEquals(x.relu().dtype, "float32");
    assertEquals(h.add(x).dtype, "float32");
    assertEquals(h.mul(2).dtype, "bfloat16");
    assertEquals(d.matmul(d).dtype, "float64");
    assertEquals(d.exp().dtype, "float64");
    assertEquals(ndl.tensor([1n, 2n]).sum().dtype, "int64");
    assertEquals(ndl.cat([h, x]).dtype, "float32");
    assertEquals(x.gather(0, ndl.tensor([[0n, 1n]])).dtype, "float32");
    for (const loss of losses) {
      assertEquals([h, x, d].map((t) => loss(t, t).dtype), ["float32", "float32", "float64"]);
    }
  });
  assertEquals(x.matmul(x).dtype, "float32");
  assertEquals(h.exp().dtype, "bfloat16");
  for (const loss of losses) assertEquals(loss(h, h).dtype, "bfloat16");
});

for (const device of devices) {
  Deno.test(`autocast on ${device} computes as with inputs rounded by hand`, () => {
    const make = (): ndl.Tensor[] => [
      ndl.tensor([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], { device }),
      ndl.tensor([[1.1, 0.7], [-0.3, 0.9], [0.2, -1.3]], { device, requiresGrad: true }),
    ];
    for (const dtype of ["bfloat16", "float16"] as const) {
      const [x, w] = make() as [ndl.Tensor, ndl.Tensor],
        [u, v] = make() as [ndl.Tensor, ndl.Tensor];
      const loss = autocast({ dtype, device }, () => x.matmul(w).relu().exp().sum());
      const byHand = u.to(dtype).matmul(v.to(dtype)).relu().to("float32").exp().sum();
      assertEquals([loss.dtype, loss.item()], ["float32", byHand.item()]);
      loss.backward();
      byHand.backward();
      assertEquals(w.grad!.dtype, "float32");
      assertEquals(w.grad!.tolist(), v.grad!.tolist());
    }
  });

  Deno.test(`autocast on ${device} converts a parameter once and sees its updates`, () => {
    const x = ndl.tensor([[1, 2]], { device });
    const w = ndl.tensor([[1], [1]], { device, requiresGrad: true });
    const optimizer = new ndl.optim.SGD([w], { lr: 1 });
    const live = (): number => device.allocator.counts().live;
    {
      using _ = autocast({ ...low, device });
      const first = x.matmul(w), second = x.matmul(w);
      // Both products end in one node, whose gradient reaches the parameter once per product.
      assertEquals(first.gradFn!.next[1], second.gradFn!.next[1]);
      assertEquals(ndl.noGrad(() => x.matmul(w)).requiresGrad, false);
      first.backward();
      second.backward();
      assertEquals(w.grad!.tolist(), [[2], [4]]);
      optimizer.step();
      assertEquals(x.matmul(w).item(), -7);
      optimizer.zeroGrad();
      x.matmul(w).backward();
      assertEquals(w.grad!.tolist(), [[1], [2]]);
    }
    assertEquals(activeHook, null);
    const before = live();
    autocast(low, () => ndl.noGrad(() => x.matmul(w).dispose()));
    assertEquals(live(), before, "the converted parameter is released with its region");
  });
}

for (const device of devices) {
  Deno.test(`a network on ${device} trains in mixed precision`, () => {
    ndl.manualSeed(0);
    const net = new ndl.nn.Sequential(
      new ndl.nn.Conv2d(2, 4, 3, { padding: 1 }),
      new ndl.nn.BatchNorm2d(4),
      new ndl.nn.ReLU(),
      new ndl.nn.Conv2d(4, 4, 3),
      new ndl.nn.MaxPool2d(2),
      new ndl.nn.Flatten(),
      new ndl.nn.Linear(16, 5),
      new ndl.nn.LayerNorm(5),
    ).to(device);
    const criterion = new ndl.nn.CrossEntropyLoss(), scaler = new GradScaler();
    const optimizer = new ndl.optim.AdamW(net.parameters(), { lr: 0.02 });
    const x = ndl.randn([4, 2, 6, 6], { device });
    const y = ndl.tensor([0n, 1n, 2n, 3n], { device });
    const losses: number[] = [];
    for (let step = 0; step < 10; step++) {
      optimizer.zeroGrad();
      const loss = autocast(low, () => criterion.forward(net.forward(x), y));
      losses.push(loss.item());
      scaler.scale(loss).backward();
      scaler.step(optimizer);
      scaler.update();
    }
    for (const p of net.parameters()) assertEquals(p.dtype, "float32");
    if (!(losses[9]! < losses[0]! / 2)) throw new Error(`it does not learn: ${losses.join(", ")}`);
  });
}

Deno.test("operands that autocast brings together may differ in dtype; backward is left alone", () => {
  const x = ndl.randn([2, 3, 4]), w = ndl.randn([4, 4], { requiresGrad: true });
  autocast(low, () => {
    const scores = x.matmul(x.transpose(1, 2)).softmax(-1);
    assertEquals([scores.dtype, scores.matmul(x).dtype], ["float32", "bfloat16"]);
    const product = x.matmul(w);
    product.registerHook((g) => assertEquals(g.sum().dtype, "bfloat16"));
    product.exp().sum().backward();
    assertEquals(w.grad!.dtype, "float32");
    assertEquals(x.matmul(w).dtype, "bfloat16");
    assertThrows(() => x.matmul(x.to("float64").transpose(1, 2)), TypeError, "float64");
  });
  assertThrows(() => x.to("bfloat16").matmul(w), TypeError, "bfloat16");
});

Deno.test("regions nest, switch off, and end with their callback or block", () => {
  const x = ndl.ones([2, 2]);
  autocast(low, () => {
    assertEquals(autocast({ dtype: "float16" }, () => x.matmul(x)).dtype, "float16");
    assertEquals(autocast({ enabled: false }, () => x.matmul(x)).dtype, "float32");
    assertEquals(
      autocast({ device: ndl.reference() }, () => x.matmul(x)).dtype,
      x.device === ndl.reference() ? "bfloat16" : "float32",
    );
    assertEquals(x.matmul(x).dtype, "bfloat16");
  });
  assertThrows(
    () =>
      autocast(low, () => {
        throw new Error("inside");
      }),
    Error,
    "inside",
  );
  assertEquals(activeHook, null);
  assertThrows(() => autocast(low, () => Promise.resolve(1)), TypeError, "using _ = autocast");
  assertThrows(
    () => autocast({ dtype: "float32" as "float16" }),
    TypeError,
    "Cannot autocast to float32",
  );
  assertThrows(() => autocast({ type: "x" } as Record<string, string>), TypeError, '"type"');
  const region = autocast(low);
  region[Symbol.dispose]();
  region[Symbol.dispose]();
  assertEquals(activeHook, null);
});

Deno.test("in-place ops and optimizer steps in a region keep the parameter's dtype", () => {
  const w = ndl.ones([2], { requiresGrad: true });
  const optimizer = new ndl.optim.Adam([w], { lr: 0.5 });
  autocast(low, () => {
    w.grad = ndl.ones([2]);
    optimizer.step();
    ndl.noGrad(() => w.mul_(2));
  });
  assertEquals(w.dtype, "float32");
  assertClose(w.toTypedArray() as Float32Array, [1, 1], { rtol: 1e-6, atol: 1e-6 }, "w");
});

for (const device of devices) {
  Deno.test(`GradScaler on ${device} scales, skips and adapts as PyTorch does`, () => {
    const w = ndl.tensor([1, 2], { device, requiresGrad: true });
    const v = ndl.tensor([3], { device, dtype: "float64", requiresGrad: true });
    const optimizer = new ndl.optim.SGD([w, v], { lr: 0.5 });
    const scaler = new GradScaler({ initScale: 4, growthInterval: 2 });
    const iterate = (factor: number): void => {
      optimizer.zeroGrad();
      scaler.scale(w.mul(factor).sum().add(v.sum())).backward();
      scaler.step(optimizer);
      scaler.update();
    };
    iterate(1);
    assertEquals([w.tolist(), v.tolist(), scaler.getScale()], [[0.5, 1.5], [2.5], 4]);
    iterate(1);
    assertEquals([w.tolist(), scaler.getScale()], [[0, 1], 8]);
    for (const bad of [Infinity, NaN]) {
      iterate(bad);
      assertEquals([w.tolist(), v.tolist()], [[0, 1], [2]]);
    }
    assertEquals(scaler.getScale(), 2);
    const [a, b] = scaler.scale([w.sum(), w.sum()]);
    assertEquals([a!.item(), b!.item()], [2, 2]);
  });
}

Deno.test("gradients can be clipped between unscale_ and step", () => {
  const w = ndl.zeros([1], { requiresGrad: true });
  const optimizer = new ndl.optim.SGD([w], { lr: 1 });
  const scaler = new GradScaler({ initScale: 16 });
  scaler.scale(w.mul(8).sum()).backward();
  scaler.unscale_(optimizer);
  assertEquals(w.grad!.tolist(), [8]);
  w.grad!.clamp_(-1, 1);
  scaler.step(optimizer);
  assertEquals(w.tolist(), [-1]);
  scaler.update(32);
  assertEquals(scaler.getScale(), 32);
});

Deno.test("a scaler's state dict goes over to another; a scaler can be off", () => {
  const state = new GradScaler({ initScale: 8, growthFactor: 3, growthInterval: 5 }).stateDict();
  assertEquals(state, {
    scale: 8,
    growthFactor: 3,
    backoffFactor: 0.5,
    growthInterval: 5,
    growthTracker: 0,
  });
  const other = new GradScaler();
  other.loadStateDict({ ...state, growthTracker: 4 });
  assertEquals(other.stateDict(), { ...state, growthTracker: 4 });
  assertThrows(
    () => other.loadStateDict({}),
    Error,
    "lacks scale; it comes from a scaler that was off",
  );
  assertThrows(() => other.loadStateDict({ ...state, scale: -1 }), RangeError, "initScale = -1");
  const off = new GradScaler({ enabled: false });
  const w = ndl.ones([1], { requiresGrad: true });
  const optimizer = new ndl.optim.SGD([w], { lr: 1 });
  assertEquals([off.getScale(), off.isEnabled(), off.scale(w), off.stateDict()], [1, false, w, {}]);
  w.grad = ndl.ones([1]);
  off.unscale_(optimizer);
  off.step(optimizer);
  off.update();
  assertEquals(w.tolist(), [0]);
});

Deno.test("a scaler used out of order says what to do", () => {
  const w = ndl.ones([1], { requiresGrad: true });
  const optimizer = new ndl.optim.SGD([w], { lr: 1 });
  const scaler = new GradScaler();
  assertThrows(() => scaler.update(), Error, "call step(optimizer) first");
  assertThrows(() => scaler.step(optimizer), Error, "no parameter of the optimizer has one");
  w.grad = ndl.ones([1]);
  scaler.unscale_(optimizer);
  assertThrows(() => scaler.unscale_(optimizer), Error, "twice");
  scaler.step(optimizer);
  assertThrows(() => scaler.step(optimizer), Error, "Cannot step twice");
  assertThrows(() => scaler.unscale_(optimizer), Error, "after step");
  assertThrows(() => new GradScaler({ growthFactor: 1 }), RangeError, "growthFactor = 1");
  const half = ndl.ones([1], { dtype: "float16", requiresGrad: true });
  half.grad = ndl.ones([1], { dtype: "float16" });
  const other = new ndl.optim.SGD([half]);
  assertThrows(() => new GradScaler().step(other), TypeError, "float16 gradients");
});
