// What the programs that measure share: the device, the time of a computation, tables with notes.

import * as ndl from "../mod.ts";
import { fail, type FlagSpec, messageOf } from "./program.ts";

/** Flags of every such program. */
export const measuringFlags = {
  device: { help: "dnnl, cpu, wasm, reference or cuda", value: null },
  seconds: { help: "time spent on each figure", value: 0.2, least: 0, fraction: true },
} satisfies Record<string, FlagSpec>;

/** Chooses the device and prints what it is; gives `size`, or where none is asked for one that suits the device. */
export function openDevice(
  name: string | null,
  size: number | null,
  usual: number,
  slow: number,
): number {
  let device: ndl.Device;
  try {
    if (name !== null) ndl.setDefaultDevice(ndl.deviceByName(name));
    device = ndl.defaultDevice();
  } catch (error) {
    fail(messageOf(error));
  }
  const { isa, threads } = ndl.devices().find((d) => d.name === device.name)!;
  console.log(
    `device ${device} (${isa}${threads === undefined ? "" : `, ${threads} threads`}); ` +
      "each figure is the median of several runs",
  );
  return size ?? (device === ndl.reference() ? slow : usual);
}

/** Milliseconds that `f` takes until its result is in memory: the median over `seconds`, at least three runs. */
export function milliseconds(seconds: number, f: () => ndl.Tensor): number {
  const run = (count: number): number => {
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      const y = f();
      ndl.evaluate(y);
      y.dispose();
    }
    return (performance.now() - start) / count;
  };
  const once = Math.min(run(1), run(1)); // the first run opens kernels
  const count = Math.ceil(0.2 / Math.max(once, 1e-4)); // short ones together: clocks have their price, too
  const times: number[] = [];
  const end = performance.now() + 1000 * seconds;
  while (times.length < 3 || performance.now() < end) times.push(run(count));
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}

/** A number with three digits that count. */
export function digits(x: number): string {
  return x >= 100 ? x.toFixed(0) : x.toPrecision(3);
}

/** GB/s or GFLOP/s: `amount` in `ms` milliseconds. */
export function perSecond(amount: number, ms: number): string {
  return digits(amount / ms / 1e6);
}

/** Prints a heading. */
export function title(text: string): void {
  console.log(`\n${text}\n${"-".repeat(text.length)}`);
}

/** Prints rows below `head`: text flush left in the first and, where there are notes, the last column. */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  notes: boolean,
): void {
  const all = [head, ...rows], last = notes ? head.length - 1 : -1;
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i]!.length)));
  for (const row of all) {
    const cells = row.map((text, i) =>
      i === 0 || i === last ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)
    );
    console.log(cells.join("  ").trimEnd());
  }
}
