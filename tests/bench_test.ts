// `deno bench` as a user runs it: a group per kernel with every device in it, and the table of rates behind.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import { run } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

interface BenchReport {
  benches: { group: string; name: string; results: { ok?: object }[] }[];
}

Deno.test("a bench runs a kernel on every device and sets GFLOP/s beside the times", async () => {
  const { code, stdout, stderr } = await run(
    ["bench", "-A", "--no-check", "--json", "--filter", "matmul 64", "bench/kernels_bench.ts"],
  );
  assertEquals(code, 0, stderr);
  // Of several GPUs the first takes part.
  const devices = ndl.devices().filter((d) => d.available && !d.name.includes(":"))
    .map((d) => d.name).sort();
  const { benches } = JSON.parse(stdout) as BenchReport;
  assertEquals(benches.map((b) => b.name).sort(), devices.map((d) => `matmul 64 ${d}`));
  for (const { group, results } of benches) {
    assertEquals(group, "matmul 64");
    assert(results.every((r) => r.ok !== undefined), JSON.stringify(results));
  }
  const rows = stderr.split("\n").filter((line) => line.includes("GFLOP/s"));
  assertEquals(rows.length, devices.length, stderr);
  for (const row of rows) {
    const found = /^(?:matmul 64)? +(\w+) +([\d.]+) (?:µs|ms|s ) +([\d.]+) GFLOP\/s$/.exec(row);
    assert(found !== null && devices.includes(found[1]!), row);
    assert(Number(found![2]) > 0 && Number(found![3]) > 0, row);
  }
});
