// Groups for `deno bench`: the same work on every available device, and behind the groups of a file a table that sets
// GFLOP/s or GB/s beside the times (on stderr, so that --json stays JSON).

import * as ndl from "../mod.ts";
import { median } from "./peer_support.ts";

/** How much one call of a bench does. */
export interface Work {
  /** Floating point operations, for GFLOP/s. */
  readonly flops?: number;
  /** Bytes that must be read and written, for GB/s. */
  readonly bytes?: number;
  /** Ops of which the time of one is asked. */
  readonly ops?: number;
  /** Whether the reference device takes part, which may need seconds where others need a millisecond. */
  readonly reference?: boolean;
}

interface Line {
  readonly group: string;
  readonly device: string;
  readonly work: Work;
  /** Milliseconds of each call. */
  readonly times: number[];
}

const lines: Line[] = [];
const devices = [ndl.cuda(), ndl.dnnl(), ndl.cpu(), ndl.wasm(), ndl.reference()]
  .filter((d) => d.available);

/**
 * Registers `name` on each device, the first one as the baseline. `make` prepares what a call needs; calls give what
 * has to be computed, or null where they see to that themselves.
 */
export function group(
  name: string,
  work: Work,
  make: (device: ndl.Device) => () => ndl.Tensor | null,
): void {
  for (const device of devices) {
    if (device === ndl.reference() && work.reference !== true) continue;
    const line: Line = { group: name, device: device.name, work, times: [] };
    lines.push(line);
    let run: (() => ndl.Tensor | null) | null = null;
    Deno.bench({ name: `${name} ${device}`, group: name, baseline: device === devices[0] }, () => {
      if (run === null) {
        run = make(device);
        run()?.dispose(); // opens the kernel
      }
      const start = performance.now();
      const y = run();
      if (y !== null) ndl.evaluate(y);
      ndl.synchronize(device);
      line.times.push(performance.now() - start);
      y?.dispose();
    });
  }
}

function time(ms: number): string {
  return ms >= 1000
    ? `${(ms / 1000).toFixed(2)} s `
    : ms >= 1
    ? `${ms.toFixed(2)} ms`
    : `${(1000 * ms).toFixed(1)} µs`;
}

function rate({ flops, bytes, ops }: Work, ms: number): string {
  const digits = (x: number): string => x >= 100 ? x.toFixed(0) : x.toPrecision(3);
  if (flops !== undefined) return `${digits(flops / ms / 1e6)} GFLOP/s`;
  if (bytes !== undefined) return `${digits(bytes / ms / 1e6)} GB/s   `;
  return ops === undefined ? "" : `${digits(1000 * ms / ops)} µs/op  `;
}

/** The table of all calls so far. */
function table(): string {
  const rows = lines.filter((l) => l.times.length > 0).map(({ group, device, work, times }) => {
    const ms = median(times);
    return [group, device, time(ms), rate(work, ms)];
  });
  rows.unshift(["", "device", "median", ""]);
  const widths = [0, 1, 2, 3].map((i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row, i) => {
    const group = i > 0 && rows[i - 1]![0] === row[0] ? "" : row[0]!;
    return [group, ...row.slice(1)].map((text, k) =>
      k < 2 ? text.padEnd(widths[k]!) : text.padStart(widths[k]!)
    ).join("  ").trimEnd();
  }).join("\n");
}

addEventListener("unload", () => console.error(`\n${table()}\n`));
