// Guarded memory for kernel tests: every block a test allocates is filled with NaN patterns and fenced by guard
// bytes on both sides, so that an output left unwritten and a write out of bounds are both seen. Every op runs at
// once meanwhile: these are tests of single kernels (lazy_test.ts has those of fused ones).

import { pauseLazy } from "../lib/lazy.ts";
import { type Block, hostPool } from "../lib/storage.ts";

const fence = 64;
const pattern = 0xff; // an all-ones float of any width is NaN

/** Runs `fn` with guarded allocation; throws where a kernel wrote outside its tensors. */
export function withGuards<T>(fn: () => T): T {
  const take = hostPool.take, give = hostPool.give;
  const blocks: { bytes: Uint8Array; used: number }[] = [];
  hostPool.take = (bytes: number): Block => {
    const used = Math.ceil(bytes / 8) * 8;
    const memory = new ArrayBuffer(used + 2 * fence);
    const all = new Uint8Array(memory).fill(pattern);
    blocks.push({ bytes: all, used: bytes });
    return { memory, base: fence, bytes: used };
  };
  hostPool.give = () => {};
  const resume = pauseLazy();
  try {
    const result = fn();
    for (const { bytes, used } of blocks) {
      for (let i = 0; i < fence; i++) {
        if (bytes[i] !== pattern) throw new Error(`Byte ${i - fence} before a tensor was written`);
      }
      for (let i = fence + used; i < bytes.length; i++) {
        if (bytes[i] !== pattern) {
          throw new Error(`Byte ${i - fence - used} after a tensor was written`);
        }
      }
    }
    return result;
  } finally {
    hostPool.take = take;
    hostPool.give = give;
    resume();
  }
}
