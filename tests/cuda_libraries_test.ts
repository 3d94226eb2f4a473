// Loading cuBLAS and cuDNN at run time, on the emulated GPU with fakes of them: that they are found and asked for the
// right results, and that without them, or with broken ones, our own kernels compute and the device says why.

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { env } from "../lib/env.ts";
import { emulatedGpus } from "./cuda_support.ts";

const root = new URL("..", import.meta.url).pathname;
const files = { cublas: "libcublas.so.13", cudnn: "libcudnn.so.9" } as const;
type Fake = keyof typeof files;

/** Compiles `source` into a shared library. */
async function compile(source: string, path: string): Promise<void> {
  const flags = ["-std=c++17", "-O2", "-shared", "-fPIC"];
  const { success, stderr } = await new Deno.Command(env("CXX") ?? "c++", {
    args: [...flags, source, "-o", path],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

interface Said {
  readonly version: string;
  readonly calls: readonly number[];
}

/** Compares `ops` with the reference in a process that looks for libraries in `libraries`. */
async function compareWith(
  libraries: string,
  ops: readonly string[],
  fakes: readonly string[] = [],
): Promise<Said> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${root}tests/cuda_library_run.ts`, ...fakes, ...ops],
    env: { NEEDLE_CUDA_LIBRARIES: libraries },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout)) as Said;
}

async function inFolder(fn: (folder: string) => Promise<void>): Promise<void> {
  const folder = `${root}build/fake-libraries-${Deno.pid}`;
  Deno.mkdirSync(folder, { recursive: true });
  try {
    await fn(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const ignore = emulatedGpus().length === 0;

/** Tests that `ops` ask the fake of a library for what the reference computes. */
function asks(fake: Fake, ops: readonly string[]): void {
  Deno.test(
    { name: `${ops.join(", ")} by ${fake} agree with the reference`, ignore },
    () =>
      inFolder(async (folder) => {
        const path = `${folder}/${files[fake]}`;
        await compile(`${root}tests/fake_${fake}.cpp`, path);
        const { version, calls } = await compareWith(folder, ops, [path]);
        assertStringIncludes(version, `from ${path}`);
        assert(calls[0]! > 100, `${fake} was called ${calls[0]} times`);
      }),
  );
}

asks("cublas", ["matmul", "linear"]);
asks("cudnn", ["conv2d", "conv2dInput", "conv2dWeight"]);

Deno.test(
  { name: "without libraries own kernels compute, and the device says why", ignore },
  () =>
    inFolder(async (folder) => {
      const off = await compareWith("off", ["linear"]);
      assertStringIncludes(off.version, "with own kernels alone");
      const missing = await compareWith(folder, ["linear"]);
      for (const file of Object.values(files)) {
        assertStringIncludes(missing.version, `${file} not found`);
      }
      const empty = `${folder}/empty.cpp`;
      Deno.writeTextFileSync(empty, "");
      await compile(empty, `${folder}/${files.cublas}`);
      const broken = await compareWith(folder, ["linear"]);
      assertStringIncludes(
        broken.version,
        `no cuBLAS (${folder}/${files.cublas} has no function cublasCreate_v2)`,
      );
      Deno.writeTextFileSync(`${folder}/${files.cublas}`, "no library");
      const garbage = await compareWith(folder, ["linear"]);
      assertStringIncludes(garbage.version, `no cuBLAS (${folder}/${files.cublas}: `);
      assertEquals(garbage.calls, []);
    }),
);
