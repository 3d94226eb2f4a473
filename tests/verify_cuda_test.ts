// The check of a real GPU (bench/verify_cuda.ts), as far as it goes without one: what it says where there is none, the
// rates on the emulation with a fake of cuBLAS, and the text of the report.

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type Report, type Row } from "../bench/cuda_report.ts";
import { markdown } from "../bench/cuda_report.ts";
import { buildFolder, libraryFileName } from "../lib/backends/loader.ts";
import { env } from "../lib/env.ts";
import { emulatedGpus } from "./cuda_support.ts";

const root = new URL("..", import.meta.url).pathname;

async function run(
  args: readonly string[],
  variables: Readonly<Record<string, string>>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", ...args],
    env: variables,
    cwd: root,
  }).output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("verify:cuda says why no GPU can be used and fails", async () => {
  const missing = "/nowhere/libneedle_cuda.so";
  const { code, stdout, stderr } = await run(["bench/verify_cuda.ts"], {
    NEEDLE_CUDA_PATH: missing,
  });
  assertEquals([code, stdout], [1, ""]);
  assertStringIncludes(stderr, "Cannot verify CUDA: ");
  assertStringIncludes(stderr, missing);
  const unknown = await run(["bench/verify_cuda.ts", "--only", "ops,dance"], {});
  assertEquals(unknown.code, 2);
  assertStringIncludes(unknown.stderr, "Unknown part dance: the parts are ops, training");
});

Deno.test({
  name: "rates of a GPU stand beside those of cuBLAS called directly",
  ignore: emulatedGpus().length === 0,
  fn: async () => {
    const folder = `${root}build/verify-test-${Deno.pid}`;
    Deno.mkdirSync(folder, { recursive: true });
    try {
      const { success, stderr: why } = await new Deno.Command(env("CXX") ?? "c++", {
        args: ["-std=c++17", "-O1", "-shared", "-fPIC", `${root}tests/fake_cublas.cpp`]
          .concat("-o", `${folder}/libcublas.so.13`),
      }).output();
      assert(success, new TextDecoder().decode(why));
      const flags = ["--sizes", "33", "--elements", "4096", "--seconds", "0.01"];
      const { code, stdout, stderr } = await run(["bench/cuda_rates.ts", ...flags], {
        NEEDLE_CUDA_PATH: `${buildFolder()}/${libraryFileName("cudaemu")}`,
        NEEDLE_CUDA_LIBRARIES: folder,
      });
      assertEquals([code, stderr], [0, ""]);
      const rows = stdout.trim().split("\n").map((line) => JSON.parse(line) as Row);
      const products = ["matmul_33_float32", "matmul_33_bfloat16"];
      assertEquals(rows.map((row) => row.name), [
        ...products.flatMap((name) => [name, `${name}_cublas`]),
        ...["copy", "add", "exp", "sum", "sum_of_rows"].map((name) => `${name}_4096`),
        "small_op_host_time",
      ]);
      assert(rows.every((row) => row.value > 0));
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});

Deno.test("the report shows ratios where both sides are known", () => {
  const row = (name: string, value: number, better: "low" | "high" = "high"): Row => ({
    name,
    value,
    unit: better === "high" ? "TFLOP/s" : "us",
    better,
  });
  const report: Report = {
    date: "2030-01-02",
    gpu: "Some GPU",
    driver: "600.1",
    commit: "abc",
    library: "CUDA 13.0",
    ops: { passed: 5, failed: 1, failures: ["add on cuda agrees with the reference"] },
    training: [
      { precision: "float32", code: 0, trainLoss: 1.5, testAcc: 0.456, seconds: 3.2 },
      { precision: "bf16", code: 1 },
    ],
    rates: [row("matmul_8", 48), row("matmul_8_cublas", 50), row("add_9", 2)],
    ownRates: [row("matmul_8", 36)],
    seed: [{ work: "w", device: "cuda", ms: 0.5 }, { work: "w", device: "cpu", ms: 1234 }],
    needle: [row("x", 4, "low"), row("y", 9)],
    torch: [row("x", 6, "low")],
  };
  const text = markdown(report);
  for (
    const line of [
      "# Needle on Some GPU, 2030-01-02",
      "5 passed, 1 failed, against the reference in TypeScript.",
      "- add on cuda agrees with the reference",
      "| float32 | 1.50 | 0.456 | 3.20 | 0 |",
      "| bf16 | – | – | – | 1 |",
      "| matmul_8 | TFLOP/s | 48.0 | 36.0 | 50.0 | 0.96 |",
      "| add_9 | TFLOP/s | 2.00 | – | – | – |",
      "| w | 0.500 | 1234 |",
      "| x | us | 4.00 | 6.00 | 1.50 |",
      "| y | TFLOP/s | 9.00 | – | – |",
    ]
  ) assertStringIncludes(text, line + "\n");
});
