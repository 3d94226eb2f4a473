// Everything that has to be checked on a real GPU, in one command without network: builds the CUDA library, runs the op
// table on it, trains ResNet9 for an epoch, measures, and writes what came out into bench/results/. Each part runs in
// a process of its own, so that a fault in one leaves the others. cuda_report.ts makes the texts.
//
// Usage: deno task verify:cuda [--only PART,PART] [--seconds S]      (parts: ops, training, rates, seed, peer)

import { ensureBuilt } from "../build.ts";
import * as ndl from "../mod.ts";
import { parseArgs } from "node:util";
import { markdown, type Report, type Row, type Trained } from "./cuda_report.ts";

const root = new URL("..", import.meta.url).pathname;
const parts = ["ops", "training", "rates", "seed", "peer"] as const;
type Part = typeof parts[number];

interface Done {
  readonly code: number;
  readonly stdout: string;
}

/** Runs a command in the repository, with its errors passed through; where it cannot start the code is 127. */
async function run(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Done> {
  const [program, ...args] = command;
  try {
    const options = { args, cwd: root, env, stdout: "piped", stderr: "inherit" } as const;
    const { code, stdout } = await new Deno.Command(program!, options).output();
    return { code, stdout: new TextDecoder().decode(stdout) };
  } catch {
    return { code: 127, stdout: "" };
  }
}

function deno(...args: string[]): string[] {
  return [Deno.execPath(), ...args];
}

/** The rows among the lines of JSON that a program printed. */
function rowsOf(text: string): Row[] {
  return text.split("\n").filter((line) => line.startsWith("{")).map((line) =>
    JSON.parse(line) as Row
  ).filter((row) => row.name !== "needle" && row.name !== "torch");
}

/** Why no GPU can be used, before anything is built; null where there is a driver. */
function missingDriver(): string | null {
  try {
    Deno.dlopen("libcuda.so.1", { cuInit: { parameters: ["u32"], result: "i32" } }).close();
    return null;
  } catch (error) {
    return `no NVIDIA driver: ${
      (error as Error).message.replace(/^(Could not open library: )+/, "")
    }`;
  }
}

/** The architecture of the first GPU as CMake names it ("90"), or all where nvidia-smi does not say. */
async function architecture(): Promise<string> {
  const { stdout } = await run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]);
  return /^(\d+)\.(\d)/.exec(stdout)?.slice(1).join("") ?? "";
}

/** Name and driver of the first GPU. */
async function gpu(): Promise<{ name: string; driver: string }> {
  const fields = "--query-gpu=name,driver_version";
  const { stdout } = await run(["nvidia-smi", fields, "--format=csv,noheader"]);
  const [name, driver] = stdout.split("\n")[0]!.split(", ");
  const version = ndl.devices().find((d) => d.name === "cuda")?.version ?? "";
  const said = / on (.+?)(?: with |, |$)/.exec(version)?.[1] ?? "unknown GPU";
  return { name: name || said, driver: driver ?? "unknown" };
}

async function testOps(): Promise<Report["ops"]> {
  const files = ["tests/cuda_ops_test.ts", "tests/cuda_kernels_test.ts"];
  const { code, stdout } = await run(
    deno("test", "-A", "--no-check", ...files, "--filter", "/ cuda\\b/"),
    { NEEDLE_REQUIRE: "cuda", NO_COLOR: "1" },
  );
  const counts = [...stdout.matchAll(/\| (\d+) passed.*?\| (\d+) failed/g)].at(-1);
  const failures = [...stdout.matchAll(/^(.*) \.\.\. FAILED/gm)].map((m) => m[1]!);
  if (counts === undefined) return { passed: 0, failed: 1, failures: [`exit code ${code}`] };
  return { passed: Number(counts[1]), failed: Number(counts[2]), failures };
}

/** An epoch of the example, in float32 and in bf16. */
async function train(): Promise<Trained[]> {
  const trained: Trained[] = [];
  for (const precision of ["float32", "bf16"] as const) {
    const json = await Deno.makeTempFile({ suffix: ".json" });
    const checkpoint = await Deno.makeTempFile({ suffix: ".safetensors" });
    const flags = ["--epochs", "1", "--device", "cuda", "--json", json, "--checkpoint", checkpoint];
    if (precision === "bf16") flags.push("--amp", "bf16");
    const { code } = await run(deno("run", "-A", "--no-check", "examples/resnet9.ts", ...flags));
    const text = (await Deno.readTextFile(json)).trim();
    trained.push({ precision, code, ...(text === "" ? {} : JSON.parse(text.split("\n")[0]!)) });
    await Promise.all([json, checkpoint].map((file) => Deno.remove(file).catch(() => {})));
  }
  return trained;
}

/** Rates through Needle as it is, and with its own kernels alone. */
async function rates(seconds: string): Promise<Pick<Report, "rates" | "ownRates">> {
  const command = deno("run", "-A", "--no-check", "bench/cuda_rates.ts", "--seconds", seconds);
  const usual = await run(command), own = await run(command, { NEEDLE_CUDA_LIBRARIES: "off" });
  return { rates: rowsOf(usual.stdout), ownRates: rowsOf(own.stdout) };
}

interface BenchReport {
  readonly benches: readonly {
    readonly group: string;
    readonly name: string;
    readonly results: readonly { readonly ok?: { readonly avg: number } }[];
  }[];
}

/** The table of seed_bench.ts: milliseconds by work and device. */
async function seedTable(): Promise<Report["seed"]> {
  const { stdout } = await run(
    deno("bench", "-A", "--no-check", "--json", "bench/seed_bench.ts"),
  );
  if (!stdout.startsWith("{")) return [];
  return (JSON.parse(stdout) as BenchReport).benches.map(({ group, name, results }) => ({
    work: group,
    device: name.slice(group.length + 1),
    ms: (results[0]?.ok?.avg ?? NaN) / 1e6,
  }));
}

/** Needle's and PyTorch's workloads on the GPU; PyTorch's where python3 has it with a GPU. */
async function peers(seconds: string): Promise<Pick<Report, "needle" | "torch">> {
  const flags = ["--device", "cuda", "--seconds", seconds];
  const needle = await run(deno("run", "-A", "--no-check", "bench/peer.ts", ...flags));
  const has = await run(["python3", "-c", "import torch; assert torch.cuda.is_available()"]);
  const torch = has.code === 0
    ? await run(["python3", "bench/torch_peer.py", ...flags])
    : { stdout: "" };
  return { needle: rowsOf(needle.stdout), torch: rowsOf(torch.stdout) };
}

/** Writes the report under the date and the GPU; returns the path without its extension. */
async function write(report: Report): Promise<string> {
  const folder = `${root}bench/results`;
  await Deno.mkdir(folder, { recursive: true });
  const gpu = report.gpu.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const path = `${folder}/${report.date}-${gpu}`;
  await Deno.writeTextFile(`${path}.json`, JSON.stringify(report, null, 1) + "\n");
  await Deno.writeTextFile(`${path}.md`, markdown(report));
  return path;
}

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: "string", default: parts.join(",") },
      seconds: { type: "string", default: "0.5" },
    },
  });
  const wanted = values.only.split(",");
  const unknown = wanted.find((part) => !parts.includes(part as Part));
  if (unknown !== undefined) {
    console.error(`Unknown part ${unknown}: the parts are ${parts.join(", ")}`);
    return 2;
  }
  const given = Deno.env.get("NEEDLE_CUDA_PATH");
  const reason = given === undefined ? missingDriver() : null;
  if (reason === null && given === undefined) await ensureBuilt({ cuda: await architecture() });
  const device = ndl.cuda();
  if (reason !== null || !device.available) {
    console.error(`Cannot verify CUDA: ${reason ?? device.reason}`);
    return 1;
  }
  const { name, driver } = await gpu();
  const commit = await run(["git", "describe", "--always", "--dirty"]);
  let report: Report = {
    date: new Date().toISOString().slice(0, 10),
    gpu: name,
    driver,
    commit: commit.stdout.trim() || "unknown",
    library: ndl.devices().find((d) => d.name === "cuda")?.version ?? "unknown",
    ...{ ops: null, training: [], rates: [], ownRates: [], seed: [], needle: [], torch: [] },
  };
  const work: Record<Part, () => Promise<Partial<Report>>> = {
    ops: async () => ({ ops: await testOps() }),
    training: async () => ({ training: await train() }),
    rates: () => rates(values.seconds),
    seed: async () => ({ seed: await seedTable() }),
    peer: () => peers(values.seconds),
  };
  for (const part of parts) {
    if (!wanted.includes(part)) continue;
    console.error(`verify:cuda: ${part}`);
    report = { ...report, ...await work[part]() };
  }
  const path = await write(report);
  console.log(markdown(report));
  console.log(`Written to ${path.slice(root.length)}.json and .md`);
  const broken = (report.ops?.failed ?? 0) > 0 || report.training.some((t) => t.code !== 0);
  return broken ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
