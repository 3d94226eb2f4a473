// Shared by the tests of the CUDA backend: the emulated GPU, guarded device memory, and functions that exist on the
// emulation alone.

import { cuda, cudaEmulated, type Device } from "../lib/device.ts";
import { libraryFileName, openSymbol } from "../lib/backends/loader.ts";
import { buildFolder } from "../lib/backends/loader.ts";
import { env } from "../lib/env.ts";
import type { Allocator, Block } from "../lib/storage.ts";
import { withGuards } from "./guards.ts";

/** The emulated GPU, or none with the reason on stderr; NEEDLE_REQUIRE=cudaEmulated makes that a failure. */
export function emulatedGpus(): Device[] {
  const device = cudaEmulated();
  if (device.available) return [device];
  if ((env("NEEDLE_REQUIRE") ?? []).includes(device.name)) {
    throw new Error(`NEEDLE_REQUIRE names ${device.name}, but: ${device.reason}`);
  }
  console.warn(`not tested on ${device.name}: ${device.reason}`);
  return [];
}

/** The emulated GPU and the first real one, as far as there are; NEEDLE_REQUIRE=cuda wants the real one too. */
export function testedGpus(): Device[] {
  const real = cuda();
  if (real.available) return [...emulatedGpus(), real];
  if ((env("NEEDLE_REQUIRE") ?? []).includes(real.name)) {
    throw new Error(`NEEDLE_REQUIRE names ${real.name}, but: ${real.reason}`);
  }
  return emulatedGpus();
}

const fence = 64;
const pattern = 0xff; // an all-ones float of any width is NaN

/** Runs `fn` with fenced, NaN-filled memory on the host and on `device`; throws where a kernel wrote outside. */
export function withDeviceGuards<T>(device: Device, fn: () => T): T {
  const { allocator, backend } = device;
  const { take, give, watch, unwatch } = allocator;
  const blocks: { block: Block; used: number }[] = [];
  const guarded: Pick<Allocator, "take" | "give" | "watch" | "unwatch"> = {
    take: (used) => {
      const block = take.call(allocator, used + 2 * fence);
      blocks.push({ block, used });
      const fill = new Uint8Array(used + 2 * fence).fill(pattern);
      backend.write(block.memory, block.base, fill);
      return { memory: block.memory, base: block.base + fence, bytes: used };
    },
    give: () => {}, // so that what is used after its release is seen as well
    watch: () => null,
    unwatch: () => {},
  };
  const overridden = Object.assign(allocator, guarded);
  const unfenced = (at: number): void => {
    throw new Error(`Byte ${at} beside a tensor was written`);
  };
  try {
    return withGuards(() => {
      const result = fn();
      for (const { block, used } of blocks) {
        const bytes = backend.read(block.memory, block.base, used + 2 * fence);
        for (let i = 0; i < fence; i++) {
          if (bytes[i] !== pattern) unfenced(i - fence);
          if (bytes[fence + used + i] !== pattern) unfenced(used + i);
        }
      }
      return result;
    });
  } finally {
    Object.assign(overridden, { take, give, watch, unwatch });
    for (const { block } of blocks) allocator.give(block);
  }
}

function emulatorFunction(name: string, parameters: "f64"[]): (...args: number[]) => number {
  const path = `${buildFolder()}/${libraryFileName("cudaemu")}`;
  return openSymbol(path, name, { parameters, result: "i32" }) as (...args: number[]) => number;
}

/** Sets how many bytes of memory each emulated GPU has (0: as at first). */
export function setEmulatedMemory(bytes: number): void {
  emulatorFunction("needle_emulate_memory", ["f64"])(bytes);
}

/** How many kernels the emulated GPUs have run. */
export function emulatedLaunches(): number {
  return emulatorFunction("needle_emulate_launches", [])();
}

/** Makes the emulated GPUs work again after a fault; of a real one, a fault is the end. */
export function resetEmulation(): void {
  emulatorFunction("needle_emulate_reset", [])();
}
