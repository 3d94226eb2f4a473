// Guarded memory for kernel tests: every block a test allocates is filled with NaN patterns and fenced by guard
// bytes on both sides, so that an output left unwritten and a write out of bounds are both seen. Every op runs at
// once meanwhile: these are tests of single kernels (lazy_test.ts has those of fused ones).

import { pauseLazy } from "../lib/lazy.ts";
import { type Block, hostPool } from "../lib/storage.ts";
import { wasmHeap } from "../lib/backends/wasm.ts";

const fence = 64;
const pattern = 0xff; // an all-ones float of any width is NaN

/** A guarded block: all its bytes, fences included, and how many were asked for. */
interface Guarded {
  readonly bytes: () => Uint8Array;
  readonly used: number;
}

function check({ bytes, used }: Guarded): void {
  const all = bytes(), end = fence + Math.ceil(used / 8) * 8;
  for (let i = 0; i < fence; i++) {
    if (all[i] !== pattern) throw new Error(`Byte ${i - fence} before a tensor was written`);
  }
  for (let i = fence + used; i < all.length; i++) {
    if (all[i] !== pattern) throw new Error(`Byte ${i - end} after a tensor was written`);
  }
}

// What the last call allocated in the heap of wasm, which knows no collector: its results are still read.
let held: (readonly [address: number, bytes: number])[] = [];

/**
 * Runs `fn` with guarded allocation; throws where a kernel wrote outside its tensors. Tensors that it returns can be
 * read until the next call.
 */
export function withGuards<T>(fn: () => T): T {
  const { take, give } = hostPool, { take: takeWasm, give: giveWasm } = wasmHeap;
  for (const [address, bytes] of held) wasmHeap.release(address, bytes);
  held = [];
  const blocks: Guarded[] = [];
  hostPool.take = (bytes: number): Block => {
    const used = Math.ceil(bytes / 8) * 8;
    const memory = new ArrayBuffer(used + 2 * fence);
    const all = new Uint8Array(memory).fill(pattern);
    blocks.push({ bytes: () => all, used: bytes });
    return { memory, base: fence, bytes: used };
  };
  wasmHeap.take = (bytes: number): Block => {
    const used = Math.ceil(bytes / 8) * 8, size = used + 2 * fence;
    const address = wasmHeap.allocate(size);
    held.push([address, size]);
    const all = (): Uint8Array => wasmHeap.bytes.subarray(address, address + size);
    all().fill(pattern);
    blocks.push({ bytes: all, used: bytes });
    return { memory: (address + fence) as unknown as object, base: 0, bytes: used };
  };
  hostPool.give = wasmHeap.give = () => {};
  const resume = pauseLazy();
  try {
    const result = fn();
    blocks.forEach(check);
    return result;
  } finally {
    Object.assign(hostPool, { take, give });
    Object.assign(wasmHeap, { take: takeWasm, give: giveWasm });
    resume();
  }
}
