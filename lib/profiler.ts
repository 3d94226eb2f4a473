// ndl.profile: which kernels ran, how often, how long and over how many bytes, as a table and as a Chrome trace.
// NEEDLE_PROFILE=FILE does it for a whole program. The recorder itself is in backends/profiled.ts.

import type { Backend } from "./backend.ts";
import {
  type KernelRecord,
  profiledBackend,
  type RecordedDevice,
  Recorder,
  timedElementwise,
  timedKernel,
} from "./backends/profiled.ts";
import { allDevices, type Device } from "./device.ts";
import { env } from "./env.ts";
import { pauseLazy } from "./lazy.ts";
import { checkOptions } from "./options.ts";
import { nativeOps } from "./abi.ts";
import type { NativeOp } from "./abi.ts";
import { show } from "./shape.ts";

export type { KernelRecord };

/** Options of {@linkcode profile}. */
export interface ProfileOptions {
  /** Calls that are kept, 1,000,000 by default; later ones are counted but not recorded. */
  limit?: number | undefined;
}

/** All calls of one op on one device. */
export interface ProfileRow {
  /** Name of the op. */
  readonly op: string;
  /** Name of the device. */
  readonly device: string;
  /** Calls of the kernel. */
  readonly count: number;
  /** Milliseconds in the kernel and in what it called. */
  readonly total: number;
  /** Milliseconds in the kernel without the kernels that it called. */
  readonly self: number;
  /** Bytes of the tensors read and written; what is written in place counts twice. */
  readonly bytes: number;
  /** Floating point operations of matrix products, convolutions, attention and recurrent layers; of others 0. */
  readonly flops: number;
  /** GB/s: `bytes` per `self` time, 0 where no time passed. Caches let it exceed what memory can do. */
  readonly bandwidth: number;
  /** GFLOP/s: `flops` per `self` time, 0 where they are not counted. */
  readonly gflops: number;
}

/** An event of a trace; times are in microseconds. */
export type TraceEvent =
  | {
    /** A call: name of the op, category the device. */
    readonly ph: "X";
    readonly name: string;
    readonly cat: string;
    readonly ts: number;
    readonly dur: number;
    readonly pid: number;
    readonly tid: number;
    readonly args: {
      readonly shapes: string;
      readonly bytes: number;
      readonly "GB/s"?: number;
      readonly "GFLOP/s"?: number;
    };
  }
  | {
    /** Bytes that tensors hold on a device from now on. */
    readonly ph: "C";
    readonly name: string;
    readonly ts: number;
    readonly pid: number;
    readonly args: { readonly bytes: number };
  }
  | {
    /** The name of the process or of a device's track. */
    readonly ph: "M";
    readonly name: "process_name" | "thread_name";
    readonly pid: number;
    readonly tid: number;
    readonly args: { readonly name: string };
  };

/** What Chrome's trace viewer and Perfetto read. */
export interface ChromeTrace {
  /** Names, then for each call in the order in which they ended the call and, where it changed, the memory. */
  readonly traceEvents: readonly TraceEvent[];
  /** The unit that viewers show. */
  readonly displayTimeUnit: "ms";
}

/** `amount` per millisecond in billions a second. */
function rate(amount: number, ms: number): number {
  return ms > 0 ? amount / ms / 1e6 : 0;
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(2);
}

/** The outcome of a profile. */
export class Profile {
  /** Every call of a kernel, in the order in which they ended. */
  readonly records: readonly KernelRecord[];
  /** Milliseconds from start to end, JavaScript included. */
  readonly wall: number;
  /** Calls beyond the limit, which are not in `records`. */
  readonly dropped: number;
  /**
   * By device the most bytes that tensors held in its memory at the end of a kernel, those from before the profile
   * included. Devices of the CPU share one memory.
   */
  readonly peakBytes: Readonly<Record<string, number>>;

  /** @internal Made by `profile`. */
  constructor(recorder: Recorder) {
    this.wall = performance.now() - recorder.origin;
    this.records = recorder.records;
    this.dropped = recorder.dropped;
    this.peakBytes = Object.fromEntries(recorder.peaks);
  }

  /** One row per op and device, the longest self time first. */
  rows(): ProfileRow[] {
    type Sums = { -readonly [K in keyof ProfileRow]: ProfileRow[K] };
    const rows = new Map<string, Sums>();
    for (const { op, device, duration, self, bytes, flops } of this.records) {
      const key = `${op} ${device}`;
      let row = rows.get(key);
      if (row === undefined) {
        row = {
          op,
          device,
          count: 0,
          total: 0,
          self: 0,
          bytes: 0,
          flops: 0,
          bandwidth: 0,
          gflops: 0,
        };
        rows.set(key, row);
      }
      row.count++;
      row.total += duration;
      row.self += self;
      row.bytes += bytes;
      row.flops += flops;
    }
    for (const row of rows.values()) {
      row.bandwidth = rate(row.bytes, row.self);
      row.gflops = rate(row.flops, row.self);
    }
    return [...rows.values()].sort((a, b) => b.self - a.self);
  }

  /**
   * The rows as a table, then the time that passed outside of kernels, and the memory. Elementwise ops stand there
   * one by one, though without a profile they are fused into fewer passes over memory.
   */
  toString(): string {
    const rows = this.rows(), inside = rows.reduce((ms, r) => ms + r.self, 0);
    const percent = (ms: number): string => `${(100 * ms / this.wall).toFixed(1)}%`;
    const some = (value: number): string => value === 0 ? "" : value.toFixed(value < 10 ? 2 : 1);
    const cells = rows.map((r) => [
      r.op,
      r.device,
      String(r.count),
      r.total.toFixed(3),
      r.self.toFixed(3),
      percent(r.self),
      (1000 * r.total / r.count).toFixed(1),
      mebibytes(r.bytes),
      some(r.bandwidth),
      some(r.gflops),
    ]);
    const outside = this.wall - inside;
    const table = [
      [
        "op",
        "device",
        "calls",
        "total ms",
        "self ms",
        "share",
        "mean µs",
        "MiB",
        "GB/s",
        "GFLOP/s",
      ],
      ...cells,
      ["(outside of kernels)", "", "", "", outside.toFixed(3), percent(outside), "", "", "", ""],
    ];
    const widths = table[0]!.map((_, i) => Math.max(...table.map((line) => line[i]!.length)));
    const lines = table.map((line) =>
      line.map((text, i) => i < 2 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)).join("  ")
        .trimEnd()
    );
    for (const [device, bytes] of Object.entries(this.peakBytes)) {
      lines.push(`tensors held at most ${mebibytes(bytes)} MiB on ${device}`);
    }
    if (this.dropped > 0) lines.push(`${this.dropped} later calls were not recorded`);
    return lines.join("\n");
  }

  /**
   * The calls as a trace with a track per device and a graph of its memory: save its JSON and open it in
   * ui.perfetto.dev or chrome://tracing.
   */
  trace(): ChromeTrace {
    const pid = 1, events: TraceEvent[] = [];
    const name = (what: "process_name" | "thread_name", tid: number, text: string): void =>
      void events.push({ ph: "M", name: what, pid, tid, args: { name: text } });
    const devices = [...new Set(this.records.map((r) => r.device))];
    name("process_name", 1, "needle");
    devices.forEach((device, i) => name("thread_name", i + 1, device));
    const live = new Map<string, number>();
    for (const r of this.records) {
      // Whole nanoseconds, so that a call within another one also ends there.
      const start = Math.round(1e6 * r.start), end = Math.round(1e6 * (r.start + r.duration));
      events.push({
        ph: "X",
        name: r.op,
        cat: r.device,
        ts: start / 1000,
        dur: (end - start) / 1000,
        pid,
        tid: devices.indexOf(r.device) + 1,
        args: {
          shapes: r.shapes.map(show).join(" "),
          bytes: r.bytes,
          ...r.self > 0 ? { "GB/s": rate(r.bytes, r.self) } : {},
          ...r.flops > 0 && r.self > 0 ? { "GFLOP/s": rate(r.flops, r.self) } : {},
        },
      });
      if (live.get(r.device) === r.live) continue;
      live.set(r.device, r.live);
      events.push({
        ph: "C",
        name: `memory of ${r.device}`,
        ts: end / 1000,
        pid,
        args: { bytes: r.live },
      });
    }
    return { traceEvents: events, displayTimeUnit: "ms" };
  }

  /** Shown by console.log in Deno. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }
}

const defaultLimit = 1_000_000;
let running = false;

/** Replaces the kernel of `op` on `device` by one that records; the result puts the plain one back. */
function intercept(recorder: Recorder, op: NativeOp, device: Device): () => void {
  const id = device.id;
  // A kernel that was not open yet is opened at its first call, as without a profile.
  if (op.kind === "elementwise") {
    const { kernels } = op;
    let plain = kernels[id];
    kernels[id] = timedElementwise(
      recorder,
      op,
      device,
      (a, b, c, y, dense) => (plain ??= device.backend.elementwise(op))(a, b, c, y, dense),
      () => device.backend.synchronize(),
    );
    return () => void (kernels[id] = plain);
  }
  const { kernels } = op;
  let plain = kernels[id];
  kernels[id] = timedKernel(
    recorder,
    op,
    device,
    (inputs, outputs, attrs) => (plain ??= device.backend.kernel(op))(inputs, outputs, attrs),
    () => device.backend.synchronize(),
  );
  return () => void (kernels[id] = plain);
}

/** Starts recording on all devices; the result ends it. */
function record(recorder: Recorder): () => Profile {
  if (running) {
    throw new Error(
      "Cannot profile inside another profile: end that one first (NEEDLE_PROFILE is one, too)",
    );
  }
  running = true;
  const resume = pauseLazy();
  const undo = nativeOps().flatMap((op) => allDevices.map((d) => intercept(recorder, op, d)));
  return () => {
    const result = new Profile(recorder);
    for (const restore of undo) restore();
    resume();
    running = false;
    return result;
  };
}

/**
 * Runs `fn` and records every kernel that it calls, on every device: a table of counts, times, bytes, GB/s, GFLOP/s
 * and memory when printed, and a Chrome trace. Costs a few microseconds a call while it runs, and nothing otherwise.
 *
 * Two things are different while a profile runs, so that each op has a time of its own: elementwise ops are computed
 * one by one instead of being fused, as under NEEDLE_EAGER=1, and each kernel of a GPU is waited for. The first call
 * of an op takes longer than later ones: its kernel is opened, and prepared for the shapes.
 *
 * @param fn what to look at; where it returns a promise, so does `profile`
 * @throws Error inside another profile
 *
 * @example
 * ```ts
 * import * as ndl from "../mod.ts";
 * const w = ndl.randn([64, 64], { requiresGrad: true });
 * const profile = ndl.profile(() => w.matmul(w).relu().sum().backward());
 * console.log(String(profile)); // op, device, calls, total ms, self ms, share, mean µs, MiB, GB/s, GFLOP/s
 * const json = JSON.stringify(profile.trace()); // for ui.perfetto.dev
 * console.log(profile.rows().some((row) => row.op === "matmul"), json.length > 0); // true true
 * ```
 */
export function profile(fn: () => Promise<unknown>, options?: ProfileOptions): Promise<Profile>;
/** Profiles a synchronous function. */
export function profile(fn: () => unknown, options?: ProfileOptions): Profile;
/** Both forms. */
export function profile(
  fn: () => unknown,
  options: ProfileOptions = {},
): Profile | Promise<Profile> {
  checkOptions("profile", options, ["limit"]);
  const end = record(new Recorder(options.limit ?? defaultLimit));
  let result: unknown;
  try {
    result = fn();
  } catch (error) {
    end();
    throw error;
  }
  if (!(result instanceof Promise)) return end();
  return result.then(end, (error) => {
    end();
    throw error;
  });
}

/** The part of Node's `process` that is used; Deno has it too. */
interface ProcessLike {
  exitCode?: number | undefined;
  once(event: "exit", listener: () => void): unknown;
  getBuiltinModule(name: "node:fs"): { writeFileSync(path: string, text: string): void };
}

let program: Recorder | null = null;

/**
 * `backend` itself, or under NEEDLE_PROFILE=FILE the same with its kernels recorded: when the program ends, the table
 * goes to stderr and the trace into the file.
 */
export function profiledProgram(backend: Backend, device: RecordedDevice): Backend {
  const path = env("NEEDLE_PROFILE");
  const process = (globalThis as { process?: ProcessLike }).process;
  if (path === undefined || process === undefined) return backend;
  if (program === null) {
    const recorder = program = new Recorder(defaultLimit);
    running = true;
    process.once("exit", () => {
      const result = new Profile(recorder);
      console.error(String(result));
      try {
        process.getBuiltinModule("node:fs").writeFileSync(path, JSON.stringify(result.trace()));
      } catch (error) {
        console.error(`error: Cannot write the trace into ${path}: ${(error as Error).message}`);
        process.exitCode = 1;
      }
    });
  }
  return profiledBackend(backend, device, program);
}
