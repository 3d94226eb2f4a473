// The WebAssembly device beside the op table (ops_test.ts and elementwise_test.ts run on it too): both variants of the
// module, engines without it, its heap, its memory limit, and dropped tensors.

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { unpackLzma } from "../lib/backends/lzma.ts";
import { WasmMemory } from "../lib/backends/wasm_memory.ts";
import { moduleBytes, moduleText } from "../lib/backends/wasm_module.ts";
import { answerOf, root } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const MiB = 2 ** 20;
const importing = `const ndl = await import("${root}mod.ts");`;
const available = { ignore: !ndl.wasm().available };

Deno.test("the embedded stream holds two modules with the same exports", () => {
  const [first, second] = moduleBytes;
  const both = unpackLzma(Uint8Array.fromBase64(moduleText), first + second);
  const names = [both.subarray(0, first), both.subarray(first)].map((bytes) =>
    WebAssembly.Module.exports(new WebAssembly.Module(bytes.slice())).map(({ name }) => name)
  );
  assertEquals(names[0], names[1]);
  assert(names[0]!.includes("needle_matmul"));
  // A part of a stream is the same bytes.
  assertEquals(unpackLzma(Uint8Array.fromBase64(moduleText), 1000), both.slice(0, 1000));
});

Deno.test("an LZMA stream of literals, matches, repeated matches and far distances", () => {
  // Python: lzma.compress(data, FORMAT_RAW, [{"id": FILTER_LZMA1, "lc": 4, "lp": 0, "pb": 0, "dict_size": 1 << 22}])
  const stream = Uint8Array.fromBase64(
    "AEq+O709Rq5X5vkKs5SuufdxXH8v6hM/uLRV7KtdT/inqvoAxAlmIHZyWu5QpaZ92qqXjxTHDUsJp4JTauAVwK0uTO/fbSszVyCeEp37sKJEvoUJn2zfSRFuxdbWiaSSXfjJVlWPUzqB6VQmkHpdHzZqR9+bpgHHstxH/Y5geMa/uo2KnuASO4ds0dD289QmRYqX+9qIDy2saWc3WE3xAHPri8nyOYpqk3rNmNLUtHeY61OW/7yhKSP16yvEFd5MlJHmJXnTk5myTzLbeGQ5aQyvRnDyM3A3cCneBSu20y1zUHIIV90wSm66CAaU4tk/vKQMp+oDFljQhZbkeVrfawbc5/ZOAhsrmIs7joE4mNd/toMtl5Q3udJf8lA8DJ4R7vlJSpdG98BZx10jOdpGhzs/U4i19qjGqYrbhy4KJNf0dnxRKSVrwxo9D88Utt9EhXU5T/4Z1+qhbya35qEQho959kHp7ygrvGthFu5XDO2Hp++K+t0EybONCa8K6Y5YSkzO6PaGMqJpd5+PtQmtlO10wRKpd7h+DSGnpfq2mNHWw8IUH56KVvjICl3ySPtbLqctIFhQ9gLaaR/WGyqtHsaj1XV5D/MMJekNFpujkag41nq7ik1yR6t/DAPX+TLP9BYtaVyDGarwUdHk2LzFj1/xw8YBnXpHhUWqr79RBDm3YK+0bofRzb2T44vwkE6rJl1AEg59rItRYvqj49vd5U/7eUIJbjU9av1FHKmPqMTITZParBI5t9xBEgivijb//7ikMAA=",
  );
  const expected = new Uint8Array(70000);
  let seed = 1;
  for (let i = 0; i < expected.length; i++) {
    seed = (seed * 75 + 74) % 65537;
    expected[i] = i < 300 ? seed & 255 : i % 1000 < 990 ? expected[i - 300]! : i >> 8;
  }
  const found = unpackLzma(stream, expected.length);
  assertEquals(found.findIndex((byte, i) => byte !== expected[i]), -1);
});

Deno.test("the device says what it is", available, () => {
  const { name, threads, isa, version, library } = ndl.wasm().report();
  assertEquals(
    { name, threads, library },
    { name: "wasm", threads: 1, library: undefined as string | undefined },
  );
  assert(isa === "relaxed-simd128" || isa === "simd128", isa);
  assert(/^wasm \d+\.\d+\.\d+$/.test(version!), version);
});

Deno.test("an error of a kernel is the one of the native libraries", available, () => {
  const device = ndl.wasm();
  const x = ndl.tensor([1, 2, 3], { dtype: "int32", device });
  assertThrows(
    () => x.floorDivide(ndl.tensor([1, 0, 1], { dtype: "int32", device })),
    RangeError,
    "division by zero",
  );
  const index = ndl.tensor([0, 7], { dtype: "int64", device });
  assertThrows(() => x.indexSelect(0, index), RangeError, "index 7");
  assertThrows(() => ndl.tensor([1, 1e30], { device }).to("int32"), RangeError, "e+30");
  assertThrows(() => ndl.tensor([1, -Infinity], { device }).to("int32"), RangeError, "-Infinity");
  assertEquals(x.mul(2).tolist(), [2, 4, 6]);
});

/** What a program in an engine that was changed before the import sees. */
interface Engine {
  readonly available: boolean;
  readonly reason: string | null;
  readonly isa: string | null;
  readonly device: string;
  readonly values: number[];
}

/** Runs a few ops on the default device after `change`, without any permission but reading. */
function engine(change: string): Promise<Engine> {
  return answerOf<Engine>(
    `${change}
    ${importing}
    const wasm = ndl.wasm();
    const x = ndl.tensor([[1, 2], [3, 4]]);
    const y = x.matmul(x).add(0.5).exp().log().sum(1);
    console.log(JSON.stringify({
      available: wasm.available,
      reason: wasm.reason ?? null,
      isa: wasm.report().isa ?? null,
      device: String(ndl.defaultDevice()),
      values: y.tolist().map((v) => Math.round(v * 1e4) / 1e4),
    }));`,
    { env: { NEEDLE_CPU_PATH: "/nowhere", NEEDLE_DNNL_PATH: "/nowhere" } },
  );
}

const values = [18, 38];

Deno.test("an engine without relaxed SIMD computes the same", async () => {
  const found = await engine(`
    const validate = WebAssembly.validate;
    WebAssembly.validate = (bytes) => !new Uint8Array(bytes).includes(0x85) && validate(bytes);`);
  assertEquals(found, { available: true, reason: null, isa: "simd128", device: "wasm", values });
});

Deno.test("an engine without SIMD, and one without WebAssembly, compute on the reference device", async () => {
  const scalar = await engine("WebAssembly.validate = () => false;");
  assertEquals([scalar.available, scalar.device, scalar.values], [false, "reference", values]);
  assertEquals(scalar.reason, "The WebAssembly of this engine has no SIMD instructions");
  const none = await engine("delete globalThis.WebAssembly;");
  assertEquals([none.available, none.device, none.values], [false, "reference", values]);
  assertEquals(none.reason, "This engine has no WebAssembly");
});

Deno.test("a module that does not start, and one of another version, are reasons", async () => {
  const refused = await engine(
    `WebAssembly.Module = class { constructor() { throw new Error("forbidden here"); } };`,
  );
  assertEquals(refused.reason, "WebAssembly cannot start: forbidden here");
  const other = await engine(`
    const { Instance } = WebAssembly;
    WebAssembly.Instance = class {
      constructor(module, imports) {
        const { exports } = new Instance(module, imports);
        const needle_abi_hash = (address) => {
          new Uint8Array(exports.memory.buffer).fill(48, address, address + 16);
          return 0;
        };
        this.exports = { ...exports, needle_abi_hash };
      }
    };`);
  assertEquals([other.available, other.device], [false, "reference"]);
  assert(
    /^The module's ABI hash is 0{16} but this version needs [0-9a-f]{16}; /.test(other.reason!),
    other.reason!,
  );
});

Deno.test("tensors keep their elements while the memory grows", available, () => {
  const device = ndl.wasm();
  const first = ndl.arange(1000, { device });
  const kept = Array.from({ length: 40 }, (_, i) => ndl.full([MiB / 4], i, { device }));
  const second = first.add(1);
  assertEquals(first.sum().item() as number, 499500);
  assertEquals(second.sum().item() as number, 500500);
  kept.forEach((t, i) => assertEquals(t.mean().item() as number, i));
  for (const t of kept) t.dispose();
});

Deno.test(
  "a tensor beyond the memory is an error with sizes, and earlier ones stay",
  available,
  () => {
    const device = ndl.wasm();
    const x = ndl.arange(10, { device });
    const error = assertThrows(() => ndl.zeros([5 * 2 ** 28], { device }), RangeError);
    assert(
      /^Cannot allocate 5120\.0 MiB on wasm: its memory can hold 4095\.9 MiB, of which /.test(
        error.message,
      ),
      error.message,
    );
    assertEquals(x.add(1).sum().item() as number, 55);
  },
);

/** A heap in a memory of its own, at most `pages` pages of 64 KiB, the first of them used. */
function heapOf(pages: number): WasmMemory {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: pages });
  const heap: WasmMemory = new WasmMemory(() => heap.attach(memory, 65536), pages * 65536);
  return heap;
}

Deno.test("the heap hands out disjoint aligned ranges, and merges what returns", () => {
  const heap = heapOf(64);
  heap.give(heap.take(1)); // the first tensor attaches the memory
  const sizes = [1, 64, 65, 4096, 100000, 7], ranges = sizes.map((bytes) => heap.allocate(bytes));
  ranges.forEach((address, i) => {
    assert(address >= 65536 && address % 64 === 0, String(address));
    ranges.forEach((other, j) => {
      if (other > address) {
        assert(address + sizes[i]! <= other, `${address} and ${other} overlap ${j}`);
      }
    });
    heap.bytes.fill(i + 1, address, address + sizes[i]!);
  });
  ranges.forEach((address, i) => {
    assert(heap.bytes.subarray(address, address + sizes[i]!).every((x) => x === i + 1));
  });
  for (const i of [1, 3, 5, 0, 2, 4]) heap.release(ranges[i]!, sizes[i]!);
  const whole = heap.allocate(2 * MiB);
  assert(whole > 0);
  heap.release(whole, 2 * MiB);
  assertEquals(heap.allocate(5 * MiB), 0, "more than the memory may have");
});

Deno.test("the pool counts, reuses, and gives its cache back before it refuses", () => {
  const heap = heapOf(64); // 4 MiB
  const small = heap.take(100), large = heap.take(MiB);
  assertEquals(small.bytes, 128);
  assertEquals(heap.counts().live, 128 + MiB);
  assertEquals(heap.counts().blocks, 2);
  heap.give(large);
  assertEquals(heap.counts().cached, MiB);
  assertEquals(heap.cachedBlocks(), [{ bytes: MiB, count: 1 }]);
  assert(heap.take(MiB) === large, "a block returns as it was");
  assertEquals(heap.counts().reused, 1);
  heap.give(large);
  const most = heap.take(3.5 * MiB);
  assertEquals(heap.counts().cached, 0);
  const error = assertThrows(() => heap.take(2 * MiB), RangeError);
  assert(
    /^Cannot allocate 2\.0 MiB on wasm: its memory can hold 4\.0 MiB, of which tensors hold 3\.5 MiB;/
      .test(error.message),
    error.message,
  );
  assertEquals(heap.counts().live, 128 + 3.5 * MiB);
  heap.give(most);
  heap.give(small);
  assertEquals(heap.counts().live, 0);
  assertEquals(heap.counts().blocks, 0);
  assertEquals(heap.counts().peak, 128 + 3.5 * MiB);
});

Deno.test("dropped tensors come back when the event loop turns", async () => {
  const { live, size } = await answerOf<{ live: number[]; size: number[] }>(
    `${importing}
    const { wasmHeap } = await import("${root}lib/backends/wasm.ts");
    const device = ndl.wasm();
    const live = [], size = [];
    for (let round = 0; round < 40; round++) {
      for (let i = 0; i < 8; i++) ndl.randn([MiB], { device }).mul(2).sum().item();
      for (let i = 0; i < 2000; i++) ndl.full([10], i, { device });
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (round % 10 === 9) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 0));
        live.push(wasmHeap.counts().live);
        size.push(wasmHeap.bytes.length);
      }
    }
    console.log(JSON.stringify({ live, size }));`.replaceAll("MiB", String(MiB)),
    { v8: ["--expose-gc"] },
  );
  // 64 MiB a round are dropped, 2.5 GiB in all.
  assert(Math.max(...live) < 16 * MiB, `${live} bytes stay live`);
  assert(size[3]! < 1024 * MiB, `the memory grew to ${size} bytes`);
});
