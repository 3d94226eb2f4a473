// The device side of the CUDA backend, on the emulation: the caching allocator, transfers, errors that kernels raise,
// memory that runs out, several GPUs, and what is said where there is no GPU.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { DevicePool, type MemorySource } from "../lib/backends/device_pool.ts";
import { cudaEmulated } from "../lib/device.ts";
import { emulatedGpus, setEmulatedMemory } from "./cuda_support.ts";

const MiB = 2 ** 20;

/** A source of `total` bytes that notes what it is asked for. */
function fakeSource(total: number): MemorySource & { taken: number[]; free: number } {
  const source = {
    taken: [] as number[],
    free: total,
    take(bytes: number): object | null {
      if (bytes > source.free) return null;
      source.free -= bytes;
      source.taken.push(bytes);
      return { bytes };
    },
    give(memory: object): void {
      source.free += (memory as { bytes: number }).bytes;
    },
    at: (memory: object) => memory,
    total: () => total,
  };
  return source;
}

Deno.test("a device pool cuts segments, merges what comes back, and gives whole segments away", () => {
  const source = fakeSource(100 * MiB), pool = new DevicePool("test", () => source);
  const a = pool.take(3 * MiB), b = pool.take(4 * MiB), c = pool.take(5 * MiB);
  assertEquals(source.taken, [20 * MiB]);
  assertEquals([a.base, b.base, c.base], [0, 3 * MiB, 7 * MiB]);
  pool.give(a);
  pool.give(c);
  assertEquals(pool.releaseCached(), false, "a segment in use was given away");
  const again = pool.take(3 * MiB);
  assertEquals(again.base, 0, "the best fit was not chosen");
  pool.give(again);
  pool.give(b);
  assertEquals(pool.take(19.5 * MiB).base, 0, "neighbours were not merged");
  assertEquals(source.taken, [20 * MiB]);
  assertEquals(pool.counts().peak, 20 * MiB);
});

Deno.test("small blocks share segments of their own and are aligned", () => {
  const source = fakeSource(100 * MiB), pool = new DevicePool("test", () => source);
  const blocks = [1, 513, 100_000, 0].map((bytes) => pool.take(bytes));
  assertEquals(source.taken, [2 * MiB]);
  assertEquals(blocks.map((b) => b.bytes), [512, 1024, 100_352, 512]);
  assert(blocks.every((b) => b.base % 512 === 0));
  for (const b of blocks) pool.give(b);
  assertEquals(pool.counts().live, 0);
  assertEquals(pool.counts().cached, 2 * MiB);
  assert(pool.releaseCached());
  assertEquals(source.free, 100 * MiB);
});

Deno.test("a full device first gets its cache back, then says who holds what", () => {
  const source = fakeSource(100 * MiB), pool = new DevicePool("test", () => source);
  pool.give(pool.take(60 * MiB));
  const held = pool.take(80 * MiB); // does not fit beside the cached 60 MiB
  assertEquals(source.taken, [60 * MiB, 80 * MiB]);
  const error = assertThrows(() => pool.take(30 * MiB), RangeError);
  for (const part of ["30.0 MiB", "on test", "80.0 MiB are held by 1 storages", "tidy()"]) {
    assert(error.message.includes(part), `"${error.message}" lacks "${part}"`);
  }
  pool.give(held);
  assertEquals(pool.take(30 * MiB).bytes, 30 * MiB);
});

Deno.test("random allocations never overlap and all come back", () => {
  const source = fakeSource(2 ** 40), pool = new DevicePool("test", () => source);
  let state = 1;
  const random = (n: number): number => (state = (state * 48271) % 0x7fffffff) % n;
  const live = new Set<ReturnType<DevicePool["take"]>>();
  for (let i = 0; i < 4000; i++) {
    if (live.size > 0 && random(5) < 2) {
      const block = [...live][random(live.size)]!;
      live.delete(block);
      pool.give(block);
      continue;
    }
    const bytes = random(3) === 0 ? random(40 * MiB) : random(200_000);
    const block = pool.take(bytes);
    assert(block.bytes >= bytes);
    for (const other of live) {
      const apart = other.memory !== block.memory || other.base >= block.base + block.bytes ||
        block.base >= other.base + other.bytes;
      assert(apart, "two blocks overlap");
    }
    live.add(block);
  }
  for (const block of live) pool.give(block);
  assertEquals(pool.counts().live, 0);
  assert(pool.releaseCached());
  assertEquals(source.free, 2 ** 40);
});

Deno.test("a GPU that is not there has a reason, and the rest goes on", () => {
  assertThrows(() => ndl.cuda(-1), RangeError, "whole number");
  for (const device of [ndl.cuda(63), cudaEmulated(63)]) {
    assertEquals(device.available, false);
    assert(device.reason!.length > 10);
    assertThrows(() => ndl.ones([2], { device }), Error, device.reason);
  }
  assert(ndl.devices().some((d) => d.name === "cuda"));
  assertEquals(ndl.devices().some((d) => d.name.startsWith("cudaEmulated")), false);
  assertEquals(ndl.ones([2], { device: ndl.reference() }).tolist(), [1, 1]);
});

for (const device of emulatedGpus()) {
  Deno.test("tensors move to the GPU and back in every dtype, also in pieces", () => {
    for (const dtype of ["float32", "float64", "int32", "int64", "uint8"] as const) {
      const host = ndl.arange(7, { dtype, device: ndl.reference() });
      assertEquals(host.to(device).to(ndl.reference()).tolist(), [0, 1, 2, 3, 4, 5, 6]);
      assertEquals(host.to(device).get([2, 5]).tolist(), [2, 3, 4]);
    }
    // More than the pinned memory that uploads go through.
    const bytes = Uint8Array.from({ length: 9 * MiB + 5 }, (_, i) => i * 7 >> 3);
    const big = ndl.tensor(bytes, { dtype: "uint8", device });
    assertEquals(big.toTypedArray(), bytes);
    assertEquals(ndl.zeros([0, 3], { device }).tolist(), []);
  });

  Deno.test("what a kernel finds wrong is thrown where the value is read, once", () => {
    const a = ndl.tensor([1, 2], { dtype: "int32", device });
    assertThrows(() => a.floorDivide(0), RangeError, "division by zero"); // the host sees it
    const zero = ndl.tensor([1, 0], { dtype: "int32", device });
    const bad = a.remainder(zero);
    assertThrows(() => bad.tolist(), RangeError, "division by zero");
    assertEquals(a.add(1).tolist(), [2, 3]);
    const infinite = ndl.tensor([1, Infinity], { device }).to("int64");
    assertThrows(() => ndl.synchronize(device), RangeError, "Infinity has no int64 value");
    infinite.dispose();
  });

  Deno.test("GPUs of two indices have memory of their own", () => {
    const second = cudaEmulated(1);
    const a = ndl.tensor([1, 2], { device }), b = ndl.tensor([10, 20], { device: second });
    assertThrows(() => a.add(b), Error, "cudaEmulated:1");
    assertEquals(a.to(second).add(b).tolist(), [11, 22]);
    assertEquals(a.add(1).tolist(), [2, 3]);
    assertThrows(() => ndl.ones([1], { device: cudaEmulated(2) }), Error, "there are 2");
  });

  Deno.test("memory that runs out on the GPU is an error, and the GPU works on", () => {
    const second = cudaEmulated(1);
    setEmulatedMemory(64 * MiB);
    try {
      const held = ndl.zeros([10 * MiB], { dtype: "uint8", device: second });
      assertThrows(
        () => ndl.zeros([60 * MiB], { dtype: "uint8", device: second }),
        RangeError,
        "Cannot allocate 60.0 MiB on cudaEmulated:1",
      );
      held.dispose();
      assertEquals(ndl.ones([3], { device: second }).tolist(), [1, 1, 1]);
    } finally {
      setEmulatedMemory(0);
    }
  });

  Deno.test("random numbers on the GPU are those of every device", () => {
    for (const dtype of ["float32", "float64"] as const) {
      const draw = (on: ndl.Device): ndl.Tensor => {
        ndl.manualSeed(11);
        return ndl.rand([1001], { dtype, device: on });
      };
      assertEquals(draw(device).tolist(), draw(ndl.reference()).tolist());
    }
  });
}
