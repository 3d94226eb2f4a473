// ndl.profile: which kernels ran, how often, how long and over how many bytes, as a table and as a Chrome trace.
// NEEDLE_PROFILE=FILE does it for a whole program. The recorder itself is in backends/profiled.ts.

import type { Backend } from "./backend.ts";
import {
  type KernelRecord,
  profiledBackend,
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
  /** Bytes of the tensors read and written. */
  readonly bytes: number;
}

/** What Chrome's trace viewer and Perfetto read. */
export interface ChromeTrace {
  /** One complete event a call, times in microseconds. */
  readonly traceEvents: readonly {
    readonly name: string;
    readonly cat: string;
    readonly ph: "X";
    readonly ts: number;
    readonly dur: number;
    readonly pid: number;
    readonly tid: number;
    readonly args: { readonly shapes: string; readonly bytes: number };
  }[];
}

/** The outcome of a profile. */
export class Profile {
  /** Every call of a kernel, in the order in which they ended. */
  readonly records: readonly KernelRecord[];
  /** Milliseconds from start to end, JavaScript included. */
  readonly wall: number;
  /** Calls beyond the limit, which are not in `records`. */
  readonly dropped: number;

  /** @internal Made by `profile`. */
  constructor(recorder: Recorder) {
    this.wall = performance.now() - recorder.origin;
    this.records = recorder.records;
    this.dropped = recorder.dropped;
  }

  /** One row per op and device, the longest self time first. */
  rows(): ProfileRow[] {
    const rows = new Map<string, ProfileRow>();
    for (const { op, device, duration, self, bytes } of this.records) {
      const key = `${op} ${device}`, row = rows.get(key);
      rows.set(key, {
        op,
        device,
        count: (row?.count ?? 0) + 1,
        total: (row?.total ?? 0) + duration,
        self: (row?.self ?? 0) + self,
        bytes: (row?.bytes ?? 0) + bytes,
      });
    }
    return [...rows.values()].sort((a, b) => b.self - a.self);
  }

  /** The rows as a table, with the time that passed outside of kernels as the last line. */
  toString(): string {
    const rows = this.rows(), inside = rows.reduce((ms, r) => ms + r.self, 0);
    const percent = (ms: number): string => `${(100 * ms / this.wall).toFixed(1)}%`;
    const cells = rows.map((r) => [
      r.op,
      r.device,
      String(r.count),
      r.total.toFixed(3),
      r.self.toFixed(3),
      percent(r.self),
      (1000 * r.total / r.count).toFixed(1),
      (r.bytes / 2 ** 20).toFixed(2),
    ]);
    const outside = this.wall - inside;
    const table = [
      ["op", "device", "calls", "total ms", "self ms", "share", "mean µs", "MiB"],
      ...cells,
      ["(outside of kernels)", "", "", "", outside.toFixed(3), percent(outside), "", ""],
    ];
    const widths = table[0]!.map((_, i) => Math.max(...table.map((line) => line[i]!.length)));
    const lines = table.map((line) =>
      line.map((text, i) => i < 2 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)).join("  ")
        .trimEnd()
    );
    if (this.dropped > 0) lines.push(`${this.dropped} later calls were not recorded`);
    return lines.join("\n");
  }

  /** The calls as a trace: save its JSON and open it in chrome://tracing or ui.perfetto.dev. */
  trace(): ChromeTrace {
    const devices = [...new Set(this.records.map((r) => r.device))];
    return {
      traceEvents: this.records.map((r) => ({
        name: r.op,
        cat: r.device,
        ph: "X",
        ts: 1000 * r.start,
        dur: 1000 * r.duration,
        pid: 0,
        tid: devices.indexOf(r.device),
        args: { shapes: r.shapes.map(show).join(" "), bytes: r.bytes },
      })),
    };
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
      device.name,
      (a, b, c, y, dense) => (plain ??= device.backend.elementwise(op))(a, b, c, y, dense),
    );
    return () => void (kernels[id] = plain);
  }
  const { kernels } = op;
  let plain = kernels[id];
  kernels[id] = timedKernel(
    recorder,
    op,
    device.name,
    (inputs, outputs, attrs) => (plain ??= device.backend.kernel(op))(inputs, outputs, attrs),
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
 * Runs `fn` and records every kernel that it calls, on every device: a table of counts, times and bytes when
 * printed, and a Chrome trace. Costs a few microseconds a call while it runs, and nothing otherwise.
 *
 * @param fn what to look at; where it returns a promise, so does `profile`
 * @throws Error inside another profile
 *
 * @example
 * ```ts
 * import * as ndl from "../mod.ts";
 * const w = ndl.randn([64, 64], { requiresGrad: true });
 * const profile = ndl.profile(() => w.matmul(w).relu().sum().backward());
 * console.log(String(profile)); // op, device, calls, total ms, self ms, share, mean µs, MiB
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
  once(event: "exit", listener: () => void): unknown;
  getBuiltinModule(name: "node:fs"): { writeFileSync(path: string, text: string): void };
}

let program: Recorder | null = null;

/**
 * `backend` itself, or under NEEDLE_PROFILE=FILE the same with its kernels recorded: when the program ends, the table
 * goes to stderr and the trace into the file.
 */
export function profiledProgram(backend: Backend): Backend {
  const path = env("NEEDLE_PROFILE");
  const process = (globalThis as { process?: ProcessLike }).process;
  if (path === undefined || process === undefined) return backend;
  if (program === null) {
    const recorder = program = new Recorder(defaultLimit);
    running = true;
    process.once("exit", () => {
      const result = new Profile(recorder);
      console.error(String(result));
      process.getBuiltinModule("node:fs").writeFileSync(path, JSON.stringify(result.trace()));
    });
  }
  return profiledBackend(backend, program);
}
