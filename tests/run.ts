// The one quality gate (`deno task test`): format, lint, types, documentation, native build, tests. Runs every stage even
// if an earlier one fails, and prints last, alone on a line, `N passed, N failed`, summed from the test runner's reports.
//
// Usage: deno run -A tests/run.ts [--fast]      (--fast: the tests alone)

import { ensureBuilt } from "../build.ts";
import { which } from "../lib/tools/build_support.ts";

interface Stage {
  readonly name: string;
  readonly command: readonly string[];
  /** Environment variables of its own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the output is a test report whose counts are summed. */
  readonly tests?: boolean;
}

const fast = Deno.args.includes("--fast");
const root = new URL("..", import.meta.url).pathname;
// Every test file has a thread and so an OpenMP team of its own: one thread each, except where threads are tested.
const env = { NEEDLE_THREADS: "1", NO_COLOR: "1" };

/** clang-format from PyPI in the project's own folder, or null with the reason printed. */
async function clangFormat(): Promise<string | null> {
  const own = `${root}.deps/clang-format/clang_format/data/bin/clang-format`;
  try {
    await Deno.stat(own);
    return own;
  } catch { /* install it */ }
  const install = new Deno.Command("python3", {
    args: [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--target",
      `${root}.deps/clang-format`,
      "clang-format==19.1.7",
    ],
    stdout: "inherit",
    stderr: "inherit",
  });
  try {
    if ((await install.output()).success) return own;
  } catch (error) {
    console.log(`clang-format skipped: ${(error as Error).message}`);
  }
  return null;
}

async function nativeSources(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) found.push(...await nativeSources(path));
    else if (/\.(cpp|c|h|cu)$/.test(entry.name) && entry.name !== "needle.h") found.push(path);
  }
  return found.sort();
}

/** Runs a stage with its output passed through, and returns its exit status and the counts it printed. */
async function run(stage: Stage): Promise<{ ok: boolean; passed: number; failed: number }> {
  console.log(`\n== ${stage.name}`);
  const [bin, ...args] = stage.command;
  const child = new Deno.Command(bin!, {
    args,
    cwd: root,
    env: { ...env, ...stage.env },
    stdout: "piped",
    stderr: "inherit",
  })
    .spawn();
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    await Deno.stdout.write(chunk);
    if (stage.tests) text += decoder.decode(chunk, { stream: true });
  }
  const { success } = await child.status;
  // The runner's closing line: "ok | 12 passed (3 steps) | 0 failed (1s)".
  const report = [...text.matchAll(/\| (\d+) passed.*?\| (\d+) failed/g)].at(-1);
  return { ok: success, passed: Number(report?.[1] ?? 0), failed: Number(report?.[2] ?? 0) };
}

/**
 * The test files to which it makes a difference whether elementwise ops wait (lib/lazy.ts): not those of single kernels,
 * which always run at once (tests/guards.ts), of files and programs, and of the waiting itself.
 */
async function computingTests(): Promise<string[]> {
  const others =
    /^(accuracy|bench|browser|build|bundle|cuda|data|elementwise|examples|io|language|later|ops|profiler|progress|url|wasm)_/;
  const files: string[] = [];
  for await (const { name } of Deno.readDir(`${root}tests`)) {
    if (name.endsWith("_test.ts") && !others.test(name)) files.push(`tests/${name}`);
  }
  return files.sort();
}

const deno = Deno.execPath();
const stages: Stage[] = [];
if (!fast) {
  stages.push({ name: "format", command: [deno, "fmt", "--check"] });
  const formatter = await clangFormat();
  if (formatter !== null) {
    const sources = await nativeSources(`${root}csrc`);
    stages.push({
      name: "format of csrc",
      command: [formatter, "--dry-run", "--Werror", ...sources],
    });
  }
  stages.push(
    { name: "lint", command: [deno, "lint"] },
    { name: "types", command: [deno, "check", "mod.ts", "build.ts", "examples", "bench", "tests"] },
    { name: "documentation", command: [deno, "doc", "--lint", "mod.ts"] },
  );
}
// The committed module is what csrc gives, byte for byte, with the one compiler that gives these bytes.
const required = (Deno.env.get("NEEDLE_REQUIRE") ?? "").split(",");
if (!fast && (required.includes("wasm") || which("clang-19") !== undefined)) {
  const command = [deno, "run", "-A", "build.ts", "--wasm", "--check"];
  stages.push({ name: "WebAssembly module", command });
} else if (!fast) {
  console.log("comparison of the WebAssembly module with csrc skipped: no clang-19");
}
stages.push({
  name: "tests",
  command: [deno, "test", "-A", "--no-check", "--parallel", "tests"],
  tests: true,
});
if (!fast) {
  stages.push({
    name: "emulated GPU kernels with threads in another order",
    command: [
      ...[deno, "test", "-A", "--no-check", "--parallel"],
      ...["tests/cuda_ops_test.ts", "tests/cuda_kernels_test.ts"],
    ],
    env: { NEEDLE_EMULATE: "random:7" },
    tests: true,
  }, {
    name: "emulated GPU kernels under the sanitizers",
    command: [deno, "run", "-A", "--no-check", "tests/cuda_sanitized.ts"],
  });
  const files = await computingTests();
  for (
    const [name, variable] of [
      ["tests with every op computed at once", "NEEDLE_EAGER"],
      ["tests with every elementwise op pending until it is read", "NEEDLE_LAZY_FROM"],
    ] as const
  ) {
    stages.push({
      name,
      command: [deno, "test", "-A", "--no-check", "--parallel", ...files],
      env: { [variable]: "1" },
      tests: true,
    });
  }
  stages.push({
    name: "examples in the documentation",
    command: [deno, "test", "-A", "--no-check", "--doc", "README.md", "mod.ts", "lib"],
    tests: true,
  });
}

console.log("== build");
await ensureBuilt({ cudaEmulated: true });
let passed = 0, failed = 0;
const broken: string[] = [];
for (const stage of stages) {
  const result = await run(stage);
  passed += result.passed;
  failed += result.failed;
  if (!result.ok) {
    broken.push(stage.name);
    // A stage that fails without a failed test (a crash, a formatting error) counts as one.
    if (result.failed === 0) failed++;
  }
}
if (broken.length > 0) console.log(`\nfailed: ${broken.join(", ")}`);
console.log(`\n${passed} passed, ${failed} failed`);
Deno.exit(failed > 0 ? 1 : 0);
