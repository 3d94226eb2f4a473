// The kernels of the CUDA library under the address and undefined-behaviour sanitizers: the small samples of the op
// table on the emulation, every tensor in an allocation of exactly its size. What a kernel reads or writes beside a
// tensor, beside shared memory or beside an array of its own ends the program with a report.
//
// Usage: deno run -A tests/cuda_sanitized.ts      (builds what it needs; needs GCC with its sanitizers)

import { ensureBuilt } from "../build.ts";
import * as ndl from "../mod.ts";
import { libraryFileName } from "../lib/backends/loader.ts";
import { env } from "../lib/env.ts";
import type { Block } from "../lib/storage.ts";
import type { MemorySource } from "../lib/backends/device_pool.ts";
import { pauseLazy } from "../lib/lazy.ts";
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import * as elementwise from "./elementwise_cases.ts";
import { agreesWithReference } from "./op_cases.ts";
import { samples } from "./samples/mod.ts";
import type { OpSample } from "./samples/sample.ts";

const root = new URL("..", import.meta.url).pathname;
const library = `${root}build/sanitized/${libraryFileName("cudaemu")}`;

/** Runs `fn` with an allocation of the device for every tensor. */
function withExactMemory(device: ndl.Device, fn: () => void): void {
  const { allocator } = device, backend = device.backend as unknown as MemorySource;
  const { take, give, watch, unwatch } = allocator;
  const taken: object[] = [];
  Object.assign(allocator, {
    take: (bytes: number): Block => {
      const memory = backend.take(Math.max(1, bytes));
      if (memory === null) throw new Error("The emulated GPU is out of memory");
      taken.push(memory);
      return { memory, base: 0, bytes };
    },
    give: () => {},
    watch: () => null,
    unwatch: () => {},
  });
  try {
    fn();
  } finally {
    Object.assign(allocator, { take, give, watch, unwatch });
    for (const memory of taken) backend.give(memory);
  }
}

function small(rows: readonly OpSample[]): OpSample[] {
  return rows.filter((row) => row.large !== true);
}

/** Fused expressions of lengths and views that end within a vector. */
function fusedExpressions(device: ndl.Device): void {
  for (const dtype of ["float32", "float64"] as const) {
    for (const n of [4099, 4097]) {
      withExactMemory(device, () => {
        const x = ndl.ones([n + 3], { device, dtype }), view = x.slice([3, null]);
        const y = ndl.where(view.gt(2), view, view.mul(3).add(1)).sub(view.tanh());
        const want = 4 - Math.tanh(1), got = y.toTypedArray();
        if (!Array.from(got as Float64Array).every((v) => Math.abs(v - want) < 1e-5)) {
          throw new Error(`A fused expression on ${n} ${dtype} gave ${got[0]} instead of ${want}`);
        }
      });
    }
  }
}

/** Runs the op table; in the process that has the sanitizers. */
function runTable(): number {
  const device = ndl.cuda();
  if (!device.available) throw new Error(`The sanitized emulation does not load: ${device.reason}`);
  let ops = 0;
  fusedExpressions(device);
  const resume = pauseLazy();
  const guarded = (fn: () => void): void => withExactMemory(device, fn);
  for (const name of Object.keys(elementwiseOps) as (keyof typeof elementwiseOps)[]) {
    guarded(() => elementwise.agreesWithReference(name, device));
    ops++;
  }
  for (const [name, rows] of Object.entries(samples) as [string, readonly OpSample[]][]) {
    const start = performance.now();
    agreesWithReference(name, small(rows), device, guarded);
    const seconds = (performance.now() - start) / 1000;
    if (seconds > 5) console.log(`${name}: ${seconds.toFixed(1)} s`);
    ops++;
  }
  resume();
  return ops;
}

/** Builds the library and runs this program again with the sanitizers loaded before everything else. */
async function main(): Promise<number> {
  const compiler = Deno.env.get("CXX") ?? "c++";
  const preloaded: string[] = [];
  for (const name of ["libasan.so", "libubsan.so"]) {
    const { stdout } = await new Deno.Command(compiler, { args: [`-print-file-name=${name}`] })
      .output();
    preloaded.push(new TextDecoder().decode(stdout).trim());
  }
  if (!preloaded.every((path) => path.startsWith("/"))) {
    console.log(`not run: ${compiler} has no sanitizers that can be loaded before a program`);
    return (env("NEEDLE_REQUIRE") ?? []).includes("cudaEmulated") ? 1 : 0;
  }
  await ensureBuilt({ cudaSanitized: true, quiet: true });
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.url, "--table"],
    env: {
      NEEDLE_CUDA_PATH: library,
      NEEDLE_CUDA_LIBRARIES: "off",
      LD_PRELOAD: preloaded.join(" "),
      ASAN_OPTIONS: "detect_leaks=0",
      UBSAN_OPTIONS: "print_stacktrace=1",
    },
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  return code;
}

if (Deno.args.includes("--table")) {
  console.log(`${runTable()} ops ran under the sanitizers`);
} else {
  Deno.exit(await main());
}
