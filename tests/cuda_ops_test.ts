// The op table on the emulated GPU, and on a real one where there is one: every op on every sample, dtype and memory layout against the reference, gradients
// included, with guarded device memory. NEEDLE_EMULATE=random:SEED runs the threads of each block in another order.

import { elementwiseOps } from "../lib/ops/elementwise.ts";
import { testedGpus, withDeviceGuards } from "./cuda_support.ts";
import * as elementwise from "./elementwise_cases.ts";
import { agreesWithReference } from "./op_cases.ts";
import { samples } from "./samples/mod.ts";
import type { OpSample } from "./samples/sample.ts";

const names = Object.keys(elementwiseOps) as (keyof typeof elementwiseOps)[];
const table = Object.entries(samples) as [string, readonly OpSample[]][];

for (const device of testedGpus()) {
  for (const name of names) {
    Deno.test(`${name} on ${device} agrees with the reference`, () => {
      withDeviceGuards(device, () => elementwise.agreesWithReference(name, device));
      elementwise.gradientsAgree(name, device);
    });
  }
  for (const [name, rows] of table) {
    Deno.test(`${name} on ${device} agrees with the reference`, () => {
      const guarded = (fn: () => void): void => withDeviceGuards(device, fn);
      agreesWithReference(name, rows, device, guarded);
    });
  }
}
