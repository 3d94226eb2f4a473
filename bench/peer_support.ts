// What the workloads of peer.ts share: the command line, timing as torch_peer.py does it, and rows of results.

import * as ndl from "../mod.ts";
import { parseArgs } from "node:util";

/** What the command line asks for. */
export interface PeerOptions {
  /** Where the tensors live. */
  readonly device: string | null;
  /** Threads of the native kernels; null: one per core. */
  readonly threads: number | null;
  /** Time for each kernel workload. */
  readonly seconds: number;
  /** Exactly this workload. */
  readonly only: string | null;
  /** Print the names of the workloads and stop. */
  readonly list: boolean;
  /** Workloads whose names start with one of these; none: all. */
  readonly prefixes: readonly string[];
}

/** The result of a workload: a line of JSON under a name that torch_peer.py uses too. */
export interface Row {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly better: "low" | "high";
  readonly [more: string]: string | number;
}

/** Measures and prints rows; `options` are those of the command line. */
export type Workload = (options: PeerOptions) => void;

/** Reads the command line. Throws an Error that names a value which does not fit. */
export function parsePeerOptions(args: readonly string[]): PeerOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      device: { type: "string" },
      threads: { type: "string" },
      seconds: { type: "string", default: "1" },
      only: { type: "string" },
      list: { type: "boolean", default: false },
    },
  });
  const seconds = Number(values.seconds), threads = Number(values.threads ?? 0);
  if (!(seconds > 0)) throw new Error(`--seconds must be above 0, not ${values.seconds}`);
  if (!Number.isInteger(threads) || threads < 0) {
    throw new Error(`--threads must be a whole number, not ${values.threads}`);
  }
  return {
    device: values.device ?? null,
    threads: threads === 0 ? null : threads,
    seconds,
    only: values.only ?? null,
    list: values.list,
    prefixes: positionals,
  };
}

/** Prints a row. */
export function emit(row: Row): void {
  console.log(JSON.stringify(row));
}

/** The middle value (the mean of the two middle ones for an even count, as Python's statistics.median). */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Milliseconds that `count` calls take, with the wait for their end. */
function batch(f: () => void, count: number, wait: () => void): number {
  const start = performance.now();
  for (let i = 0; i < count; i++) f();
  wait();
  return performance.now() - start;
}

/**
 * Median time of `f` in microseconds, over batches of at least 1 ms for `seconds` in all. `f` starts all its work, and
 * `wait` waits for what a GPU has not done yet.
 */
export function medianMicroseconds(
  seconds: number,
  f: () => void,
  wait: () => void = ndl.synchronize,
): number {
  batch(f, 3, wait);
  let count = 1;
  for (let ms = batch(f, 1, wait); ms < 1; ms = batch(f, count, wait)) {
    count = Math.ceil(count * Math.min(10, 1.2 / Math.max(ms, 1e-3)));
  }
  const times: number[] = [], end = performance.now() + seconds * 1000;
  while (performance.now() < end || times.length < 5) times.push(batch(f, count, wait) / count);
  return median(times) * 1000;
}

/** Times `f` without recording: each result is computed before the clock stops, and the last one is checked. */
export function timeForward(seconds: number, f: () => ndl.Tensor): number {
  using _ = ndl.noGrad();
  const microseconds = medianMicroseconds(seconds, () => {
    const y = f();
    ndl.evaluate(y);
    y.dispose(); // what `using` does, without V8's price for it (about 0.2 us a call)
  });
  using y = f();
  checkFinite(y);
  return microseconds;
}

/** Times forward and backward: `f` gives the tensor to start from, `leaves` are those whose gradients are computed. */
export function timeBackward(
  seconds: number,
  leaves: readonly ndl.Tensor[],
  f: () => void,
): number {
  const run = (check: boolean): void => {
    for (const leaf of leaves) {
      leaf.grad?.dispose(); // what Python's reference count does
      leaf.grad = null;
    }
    f();
    for (const leaf of leaves) {
      ndl.evaluate(leaf.grad!);
      if (check) checkFinite(leaf.grad!);
    }
  };
  const microseconds = medianMicroseconds(seconds, () => run(false));
  run(true);
  return microseconds;
}

/** Throws where the elements of `t` do not add up to a number: then whatever was timed computed nonsense. */
export function checkFinite(t: ndl.Tensor): void {
  using sum = ndl.noGrad(() => t.sum());
  if (!Number.isFinite(sum.item())) {
    throw new Error(`The result of shape [${t.shape}] is not finite`);
  }
}

/** The largest resident set of this process so far, in MiB, as ru_maxrss counts it. */
export function peakRss(): number {
  if (Deno.build.os === "linux") {
    const kib = /^VmHWM:\s*(\d+) kB$/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1];
    if (kib !== undefined) return Number(kib) / 1024;
  }
  return Deno.memoryUsage().rss / 2 ** 20;
}
