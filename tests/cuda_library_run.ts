// What tests/cuda_libraries_test.ts runs in a process of its own, since libraries are looked for once: compares ops on
// the emulated GPU with the reference. Arguments: file names of fake libraries, then names of ops. Prints what the
// device says about its libraries and how often each fake was called.

import { cudaEmulated } from "../lib/device.ts";
import { agreesWithReference } from "./op_cases.ts";
import { withDeviceGuards } from "./cuda_support.ts";
import { samples } from "./samples/mod.ts";
import type { OpSample } from "./samples/sample.ts";

const device = cudaEmulated();
const fakes = Deno.args.filter((a) => a.endsWith(".so") || /\.so\.\d+$/.test(a));
for (const name of Deno.args.slice(fakes.length)) {
  const rows = samples[name as keyof typeof samples] as readonly OpSample[];
  agreesWithReference(name, rows, device, (fn) => withDeviceGuards(device, fn));
}
const calls = fakes.map((path) =>
  Deno.dlopen(path, { fake_calls: { parameters: [], result: "i32" } }).symbols.fake_calls()
);
console.log(JSON.stringify({ version: device.backend.info().version, calls }));
