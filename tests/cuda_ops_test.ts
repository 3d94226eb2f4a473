// The op table on the emulated GPU: every op on every sample, dtype and memory layout against the reference, gradients
// included, with guarded device memory. NEEDLE_EMULATE=random:SEED runs the threads of each block in another order.

import { nativeOps } from "../lib/abi.ts";
import type { Device } from "../lib/device.ts";
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import { emulatedGpus, withDeviceGuards } from "./cuda_support.ts";
import * as elementwise from "./elementwise_cases.ts";
import { agreesWithReference } from "./op_cases.ts";
import { samples } from "./samples/mod.ts";
import type { OpSample } from "./samples/sample.ts";

const names = Object.keys(elementwiseOps) as (keyof typeof elementwiseOps)[];
const table = Object.entries(samples) as [string, readonly OpSample[]][];

/** Ops without a kernel on `device`. */
function missingOps(device: Device): Set<string> {
  return new Set(
    nativeOps().filter((op) => {
      try {
        if (op.kind === "elementwise") device.backend.elementwise(op);
        else device.backend.kernel(op);
        return false;
      } catch {
        return true;
      }
    }).map((op) => op.name),
  );
}

/** Runs `fn`; where it needs an op that is missing, says so and runs `without`. */
function orWithout(what: string, fn: () => void, without: () => void): void {
  try {
    fn();
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const symbol = /undefined symbol: (\w+)/.exec(text)?.[1];
    if (symbol === undefined) throw error;
    console.warn(`${what}: derivatives not tested, ${symbol} is missing`);
    without();
  }
}

for (const device of emulatedGpus()) {
  const missing = missingOps(device);
  for (const name of names) {
    const ignore = missing.has(name);
    Deno.test({ name: `${name} on ${device} agrees with the reference`, ignore }, () => {
      withDeviceGuards(device, () => elementwise.agreesWithReference(name, device));
      const what = `gradients of ${name}`;
      orWithout(what, () => elementwise.gradientsAgree(name, device), () => {});
    });
  }
  for (const [name, rows] of table) {
    const ignore = missing.has(name);
    Deno.test({ name: `${name} on ${device} agrees with the reference`, ignore }, () => {
      const guarded = (fn: () => void): void => withDeviceGuards(device, fn);
      orWithout(
        name,
        () => agreesWithReference(name, rows, device, guarded),
        () => agreesWithReference(name, rows, device, guarded, false),
      );
    });
  }
}
