// Needle on the work of torch_peer.py, workload for workload: prints one JSON object a line. compare.py runs both
// in turn and prints the ratios.
//
// Usage: deno task bench:peer [--device D] [--threads N] [--seconds S] [--only NAME] [--list] [NAME-PREFIX ...]

import * as ndl from "../mod.ts";
import { kernelWorkloads } from "./peer_kernels.ts";
import { modelWorkloads } from "./peer_models.ts";
import { emit, parsePeerOptions, type PeerOptions } from "./peer_support.ts";

const workloads = { ...kernelWorkloads, ...modelWorkloads };

function selected(name: string, { only, prefixes }: PeerOptions): boolean {
  if (only !== null) return name === only;
  return prefixes.length === 0 || prefixes.some((p) => name.startsWith(p));
}

function main(args: readonly string[]): number {
  try {
    const options = parsePeerOptions(args);
    if (options.list) {
      console.log(Object.keys(workloads).join("\n"));
      return 0;
    }
    const names = Object.keys(workloads).filter((name) => selected(name, options));
    if (names.length === 0) throw new Error("no such workload; --list names them");
    if (options.device !== null) ndl.setDefaultDevice(ndl.deviceByName(options.device));
    if (options.threads !== null) ndl.setNumThreads(options.threads);
    const device = ndl.defaultDevice();
    const { version = "unknown", threads = 1 } = ndl.devices().find((d) => d.name === device.name)!;
    emit({ name: "needle", value: 0, unit: version, better: "low", threads, device: device.name });
    for (const name of names) workloads[name]!(options);
    return 0;
  } catch (error) {
    console.error(`error: ${(error as Error).message}`);
    return 1;
  }
}

if (import.meta.main) Deno.exit(main(Deno.args));
