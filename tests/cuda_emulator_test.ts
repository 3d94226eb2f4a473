// The emulation itself: that right kernels give their results under every order of threads, and that planted mistakes
// are seen: missing barriers, divergent ones, shuffles outside their mask, memory beyond its end, impossible launches.

import { assert, assertEquals } from "@std/assert";
import { env } from "../lib/env.ts";

const root = new URL("..", import.meta.url).pathname;
const compiler = env("CXX") ?? "c++";
const source = `${root}tests/emulator_kernels.cpp`;
const folder = `${root}build/emulator-test`;

/** Compiles the kernels with the emulation; `sanitize` adds the address and undefined-behaviour sanitizers. */
async function compile(name: string, sanitize: boolean): Promise<string> {
  Deno.mkdirSync(folder, { recursive: true });
  const binary = `${folder}/${name}-${Deno.pid}`;
  const emulation = ["fiber", "launch", "api"].map((f) => `${root}csrc/cuda/emulate/${f}.cpp`);
  const flags = sanitize ? ["-fsanitize=address,undefined", "-fno-sanitize-recover", "-g"] : [];
  const { success, stderr } = await new Deno.Command(compiler, {
    args: ["-std=c++17", "-O1", ...flags, "-DNEEDLE_EMULATE", source, ...emulation, "-o", binary],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return binary;
}

// What the kernels compute from x[i] = i % 7 in three blocks of 96.
const blockSums = sumOver((i) => i % 7);
const reversed = sumOver((i) => ((i ^ 31) % 7) * (i % 96 + 1));

function sumOver(f: (i: number) => number): number {
  return Array.from({ length: 288 }, (_, i) => f(i)).reduce((a, b) => a + b);
}

const orders = ["up", "random:1", "random:2", "random:3"];

async function run(binary: string, kernel: string, order = "up"): Promise<string[]> {
  const { stdout, stderr } = await new Deno.Command(binary, {
    args: [kernel],
    env: { NEEDLE_EMULATE: order, ASAN_OPTIONS: "detect_leaks=0" },
  }).output();
  const decoder = new TextDecoder();
  return [...decoder.decode(stdout).trimEnd().split("\n"), decoder.decode(stderr)];
}

async function withBinary(sanitize: boolean, fn: (binary: string) => Promise<void>): Promise<void> {
  const binary = await compile(sanitize ? "sanitized" : "plain", sanitize);
  try {
    await fn(binary);
  } finally {
    Deno.removeSync(binary);
  }
}

Deno.test("the emulation runs right kernels in every order, and sees wrong ones", () =>
  withBinary(false, async (binary) => {
    const right = {
      blockSum: blockSums,
      warpSum: blockSums,
      allowedShared: blockSums,
      warpReverse: reversed,
    };
    for (const order of orders) {
      for (const [kernel, sum] of Object.entries(right)) {
        const [result, state] = await run(binary, kernel, order);
        assertEquals([kernel, result, state], [kernel, `${sum} fine`, "works on"]);
      }
      assertEquals((await run(binary, "count", order))[0], String(2 * 3 * 2 * 64));
    }
    // A missing barrier shows in some order as a wrong sum or as NaN, with which shared memory is filled.
    for (
      const [kernel, sum] of [
        ["noFirstBarrier", blockSums],
        ["noSecondBarrier", blockSums],
        ["noWarpBarrier", reversed],
      ] as const
    ) {
      const results = await Promise.all(orders.map((order) => run(binary, kernel, order)));
      assert(results.some(([line]) => line !== `${sum} fine`), `${kernel} was not seen`);
    }
    const faults = {
      divergentBarrier:
        /kernel divergent_barrier, block \(0, 0, 0\): divergent barrier: thread 39 waits at emulator_kernels\.cpp:\d+, but thread 40 has left/,
      twoBarriers: /divergent barrier: thread \d+ waits at [^,]*, but thread \d+ waits at/,
      divergentShuffle: /divergent barrier: .* for its warp, but thread \d+ has left/,
      outsideMask: /shuffle from lane 20, which is not in the mask/,
    };
    for (const [kernel, text] of Object.entries(faults)) {
      const [result, state] = await run(binary, kernel);
      assert(text.test(result!), `${kernel}: ${result}`);
      assertEquals(state, "is lost");
    }
    const refused = {
      largeBlock: /a block has 1 to 1024 threads/,
      largeShared: /more dynamic shared memory than allowed/,
    };
    for (const [kernel, text] of Object.entries(refused)) {
      const [result, state] = await run(binary, kernel);
      assert(text.test(result!), `${kernel}: ${result}`);
      assertEquals(state, "works on");
    }
  }));

Deno.test("sanitizers see where shared and device memory end", () =>
  withBinary(true, async (binary) => {
    for (const [kernel, sum] of [["blockSum", blockSums], ["warpSum", blockSums]] as const) {
      assertEquals((await run(binary, kernel, "random:1"))[0], `${sum} fine`);
    }
    for (const kernel of ["pastShared", "pastGlobal"]) {
      const output = (await run(binary, kernel)).join("\n");
      assert(/AddressSanitizer: heap-buffer-overflow|runtime error/.test(output), output);
    }
  }));
