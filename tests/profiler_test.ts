// The profiler (what it counts, its table, its trace, that it leaves nothing behind) and the summary of memory.

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { HostPool } from "../lib/storage.ts";
import { countedOps } from "../lib/flops.ts";
import { ops } from "../lib/ops/mod.ts";
import { isLazy } from "../lib/lazy.ts";
import { nativeDevices } from "./harness.ts";
import { assertHas, root, run, withFolder } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const F = ndl.nn.functional;
const devices = [ndl.reference(), ...nativeDevices()];

function row(profile: ndl.Profile, op: string): ndl.ProfileRow {
  const found = profile.rows().find((r) => r.op === op);
  if (found === undefined) throw new Error(`no ${op} in\n${profile}`);
  return found;
}

Deno.test("a profile counts kernels while it runs and leaves none behind", async () => {
  for (const device of devices) {
    const w = ndl.ones([8, 8], { device, requiresGrad: true });
    w.exp();
    const plain = ops.exp.kernels[device.id];
    const profile = ndl.profile(() => w.matmul(w).exp().sum().backward());
    assert(ops.exp.kernels[device.id] === plain, "the kernel is the one from before");
    const exp = row(profile, "exp"), matmul = row(profile, "matmul");
    assertEquals([exp.count, exp.device, exp.bytes, exp.flops], [1, device.name, 2 * 4 * 64, 0]);
    assertEquals([matmul.count, matmul.flops], [3, 3 * 2 * 8 ** 3]);
    assert(matmul.self <= matmul.total && matmul.total <= profile.wall);
    const asleep = await ndl.profile(async () => {
      await Promise.resolve();
      w.add(w);
      w.add(w);
    }, { limit: 1 });
    assertEquals([asleep.records.length, asleep.dropped], [1, 1]);
    assertHas(String(asleep), "1 later calls were not recorded");
    w.exp();
    assertEquals(row(profile, "exp").count, 1);
  }
  assertThrows(() => ndl.profile(() => ndl.profile(() => 0)), Error, "inside another");
  assertThrows(
    () =>
      ndl.profile(() => {
        throw new RangeError("mine");
      }),
    RangeError,
    "mine",
  );
  assertEquals(ndl.profile(() => 0).rows(), []);
});

Deno.test("products and sums are counted as the definitions of the ops have them", () => {
  const device = ndl.reference(), options = { device, requiresGrad: true };
  const counted = new Map<string, number>();
  const record = (f: () => ndl.Tensor): void => {
    for (const r of ndl.profile(() => f().sum().backward()).rows()) {
      if (r.flops > 0) counted.set(r.op, (counted.get(r.op) ?? 0) + r.flops);
    }
  };
  const ones = (...shape: number[]): ndl.Tensor => ndl.ones(shape, options);
  // (3, 2, 5) by (5, 4), then its two gradients: 2 · 24 · 5 each.
  record(() => ones(3, 2, 5).matmul(ones(5, 4)));
  assertEquals(counted.get("matmul"), 3 * 240);
  counted.clear();
  record(() => F.linear(ones(6, 5), ones(4, 5), { bias: ones(4) }));
  assertEquals(counted.get("linear"), 2 * 6 * 4 * 5);
  // Two groups: each of the 2 · 6 · 3 · 3 outputs is a sum over 2 channels and a 3 x 3 window.
  record(() => F.conv2d(ones(2, 4, 5, 5), ones(6, 2, 3, 3), { groups: 2 }));
  for (const op of ["conv2d", "conv2dInput", "conv2dWeight"]) {
    assertEquals(counted.get(op), 2 * (2 * 6 * 3 * 3) * (2 * 9), op);
  }
  const [q, k, v] = [ones(2, 3, 4, 5), ones(2, 3, 6, 5), ones(2, 3, 6, 7)] as const;
  record(() => F.scaledDotProductAttention(q, k, v));
  assertEquals(counted.get("attention"), 2 * (2 * 3 * 4 * 6) * (5 + 7));
  assertEquals(counted.get("attentionBackward"), 2 * (2 * 3 * 4 * 6) * (3 * 5 + 2 * 7));
  counted.delete("attention");
  // Query i sees keys 0 to i: 1 + 2 + 3 + 4 of them; with the roles exchanged six queries see 1, 2, 3, 4, 4, 4.
  record(() => F.scaledDotProductAttention(q, k, v, { isCausal: true }));
  record(() => F.scaledDotProductAttention(k, q, q, { isCausal: true }));
  assertEquals(counted.get("attention"), 2 * 6 * (10 * 12 + 18 * 10));
  const sequence = ones(3, 2, 4);
  const layers = [[ndl.nn.RNN, "rnn", 1], [ndl.nn.LSTM, "lstm", 4], [
    ndl.nn.GRU,
    "gru",
    3,
  ]] as const;
  for (const [Layer, name, gates] of layers) {
    record(() => new Layer(4, 5).to(device).forward(sequence)[0]);
    // Three steps of two sequences, a product of 5 hidden units for each gate of each.
    assertEquals(counted.get(`${name}Layer`), 2 * 3 * 2 * (gates * 5) * 5, name);
    assertEquals(counted.get(`${name}LayerBackward`), 2 * 3 * 2 * (gates * 5) * 5, name);
  }
  counted.set("matmul", 0);
  assertEquals([...counted.keys()].sort(), [...countedOps].sort(), "every count was looked at");
});

Deno.test("rates are amounts per time in the kernel itself, and the table has them", () => {
  for (const device of devices) {
    const a = ndl.ones([64, 64], { device }), profile = ndl.profile(() => a.matmul(a).exp());
    for (const { bytes, flops, self, bandwidth, gflops } of profile.rows()) {
      assert(Math.abs(bandwidth * self * 1e6 - bytes) < 1e-6 * bytes);
      assert(Math.abs(gflops * self * 1e6 - flops) <= 1e-6 * flops);
    }
    const [head, ...lines] = String(profile).split("\n");
    assertHas(head!, "GB/s  GFLOP/s");
    const cells = (op: string): number =>
      lines.find((line) => line.startsWith(op))!.trim().split(/\s+/).length;
    assertEquals([cells("matmul"), cells("exp")], [10, 9], String(profile));
    assertHas(String(profile), "(outside of kernels)");
  }
});

Deno.test("what is updated in place counts as read and as written", () => {
  for (const device of devices) {
    const w = ndl.ones([100], { device, requiresGrad: true });
    const sgd = new ndl.optim.SGD([w], { lr: 1, momentum: 0.9 });
    w.sum().backward();
    sgd.step();
    const profile = ndl.profile(() => {
      ndl.noGrad(() => w.mul_(2));
      sgd.step();
    });
    assertEquals(row(profile, "mul").bytes, 2 * 400);
    // Parameter and momentum, twice each, and the gradient.
    assertEquals(row(profile, "sgdMomentumStep").bytes, 5 * 400);
  }
});

Deno.test("a profile sees elementwise ops one by one, and laziness returns after it", () => {
  for (const device of nativeDevices()) {
    const x = ndl.ones([8192], { device });
    const before = isLazy(device, "float32", 8192);
    const profile = ndl.profile(() => x.exp().add(1).mul(2));
    for (const op of ["exp", "add", "mul"]) assertEquals(row(profile, op).count, 1);
    assertEquals(isLazy(device, "float32", 8192), before);
  }
});

Deno.test("the peak is what tensors held at most", () => {
  for (const device of devices) {
    const MiB = 2 ** 20, x = ndl.ones([MiB / 4], { device });
    const { live } = device.allocator.counts();
    const { peakBytes } = ndl.profile(() => {
      using a = x.add(1);
      using _ = a.add(1); // a and b beside x
      using c = x.sum();
      void c;
    });
    assertEquals(Object.keys(peakBytes), [device.name]);
    const above = peakBytes[device.name]! - live;
    assert(above >= 2 * MiB && above < 2 * MiB + 4096, `${above}`);
  }
});

type Timed = Extract<ndl.TraceEvent, { ph: "X" }>;

Deno.test("a trace has nested calls, a track per device, and the memory", () => {
  for (const device of devices) {
    const x = ndl.ones([2, 3, 8, 8], { device }), w = ndl.ones([4, 3, 3, 3], { device });
    const profile = ndl.profile(() => {
      F.conv2d(x, w);
      x.exp();
    });
    const { traceEvents } = JSON.parse(JSON.stringify(profile.trace())) as ndl.ChromeTrace;
    const names = traceEvents.filter((e) => e.ph === "M").map((e) => e.args.name);
    assertEquals(names, ["needle", device.name]);
    const calls = traceEvents.filter((e): e is Timed => e.ph === "X");
    assertEquals(calls.map((e) => e.name), profile.records.map((r) => r.op));
    for (const [i, e] of calls.entries()) {
      const { start, duration } = profile.records[i]!;
      assert(Math.abs(e.ts - 1000 * start) < 0.01 && Math.abs(e.dur - 1000 * duration) < 0.01);
      assertEquals([e.pid, e.tid, e.cat], [1, 1, device.name]);
    }
    const conv = calls.find((e) => e.name === "conv2d")!;
    assertEquals(conv.args.shapes, "[2, 3, 8, 8] [4, 3, 3, 3]");
    assert(conv.args["GFLOP/s"]! > 0 && conv.args["GB/s"]! > 0);
    // Native convolutions copy a row-major image into channels-last order first: a call within the call.
    const inner = calls.filter((e) => e.name === "copy");
    assertEquals(inner.length, device === ndl.reference() ? 0 : 1);
    for (const e of inner) assert(e.ts >= conv.ts && e.ts + e.dur <= conv.ts + conv.dur);
    const memory = traceEvents.filter((e) => e.ph === "C");
    assert(memory.length > 0);
    for (const e of memory) assert(e.name === `memory of ${device}` && e.args.bytes > 0);
  }
});

Deno.test("NEEDLE_PROFILE writes the trace of a program, or says why not", () =>
  withFolder(async (folder) => {
    const program = `
      import * as ndl from "${root}mod.ts";
      ndl.ones([8192]).exp().add(1).sum().item();
    `;
    const profiled = (file: string) =>
      run(["eval", program], { env: { NEEDLE_PROFILE: `${folder}/${file}` } });
    const { code, stderr } = await profiled("trace.json");
    assertEquals(code, 0, stderr);
    assertHas(stderr, "GFLOP/s");
    const trace = JSON.parse(await Deno.readTextFile(`${folder}/trace.json`)) as ndl.ChromeTrace;
    const calls = trace.traceEvents.filter((e) => e.ph === "X").map((e) => e.name);
    assertEquals(calls, ["fill", "exp", "add", "sum"]);
    const failed = await profiled("missing/trace.json");
    assertEquals(failed.code, 1);
    assertHas(failed.stderr, `error: Cannot write the trace into ${folder}/missing/trace.json: `);
  }));

Deno.test("a pool counts blocks in use, blocks that wait, and how often those served", () => {
  const pool = new HostPool();
  const [a, b, c] = [pool.take(4096), pool.take(4096), pool.take(100_000)] as const;
  assertEquals([pool.counts().blocks, pool.counts().taken, pool.counts().reused], [3, 3, 0]);
  assertEquals(pool.counts().live, 2 * 4096 + c.bytes);
  for (const block of [a, b, c]) pool.give(block);
  assertEquals([pool.counts().blocks, pool.counts().live], [0, 0]);
  assertEquals(pool.cachedBlocks(), [{ bytes: c.bytes, count: 1 }, { bytes: 4096, count: 2 }]);
  pool.take(4000);
  assertEquals([pool.counts().blocks, pool.counts().taken, pool.counts().reused], [1, 4, 1]);
  assertEquals(pool.cachedBlocks().at(-1), { bytes: 4096, count: 1 });
  assertEquals(pool.counts().peak, 2 * 4096 + c.bytes);
});

Deno.test("memorySummary tells what is in use, its peak, and what waits for reuse", () => {
  for (const device of devices) {
    const pattern = new RegExp(
      `^memory of ${device} \\(shared with .*\\)\\n` +
        "  in use +([\\d.]+) MiB in ([\\d,]+) blocks?\\n" +
        "  peak +([\\d.]+) MiB\\n" +
        "  for reuse +([\\d.]+) MiB in ([\\d,]+) blocks?: \\d+ × [\\d.]+ (?:B|KiB|MiB).*\\n" +
        "  watched +[\\d.]+ [KM]?i?B in use .*\\n" +
        "  handed out +([\\d,]+) blocks so far, [\\d.]+% of them reused$",
    );
    const numbers = (): number[] => {
      const text = ndl.memorySummary(device), found = pattern.exec(text);
      if (found === null) throw new Error(`not as expected:\n${text}`);
      return found.slice(1).map((n) => Number(n.replaceAll(",", "")));
    };
    const small = ndl.zeros([2 ** 20], { device }), warm = ndl.zeros([2 ** 22], { device });
    warm.dispose(); // 16 MiB that wait
    const [used, blocks, , cached, held, taken] = numbers();
    const x = ndl.zeros([2 ** 22], { device });
    const [used2, blocks2, peak2, cached2, held2, taken2] = numbers();
    assert(Math.abs(used2! - used! - 16) < 0.11 && Math.abs(cached! - cached2! - 16) < 0.11);
    assertEquals([blocks2! - blocks!, held! - held2!, taken2! - taken!], [1, 1, 1]);
    assert(peak2! >= used2!);
    x.dispose();
    assertEquals(numbers()[1], blocks!);
    small.dispose();
  }
});
