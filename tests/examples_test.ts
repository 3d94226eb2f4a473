// The examples as a user runs them: flags, reports, checkpoints, interruption, resuming, and what they do without
// permissions. They train on the built-in sets here: no folder with data is named, and the network is not permitted.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import { nativeDevices } from "./harness.ts";
import { assertHas, type Outcome, root, run, start, withFolder } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

/** One line of a report. */
interface Report {
  epoch: number;
  trainLoss: number;
  trainAcc: number;
  testLoss: number;
  testAcc: number;
  seconds: number;
}

/** The arguments of an example that has all permissions but the network, with its files in `folder`. */
function command(example: string, folder: string, flags: readonly string[]): string[] {
  return [
    "run",
    "--no-prompt",
    "--allow-ffi",
    "--allow-env",
    "--allow-read",
    "--allow-write",
    `${root}examples/${example}`,
    "--checkpoint",
    `${folder}/run/model.safetensors`,
    "--json",
    `${folder}/run/report.jsonl`,
    ...flags,
  ];
}

/** No data are found here. */
function nowhere(folder: string): { env: Record<string, string>; cwd: string } {
  const missing = `${folder}/missing`;
  return { env: { NEEDLE_DATA_DIR: missing, NEEDLE_CACHE_DIR: missing }, cwd: folder };
}

function example(name: string, folder: string, flags: readonly string[]): Promise<Outcome> {
  return run(command(name, folder, flags), nowhere(folder));
}

async function reports(folder: string): Promise<Report[]> {
  const text = await Deno.readTextFile(`${folder}/run/report.jsonl`);
  return text.trimEnd().split("\n").map((line) => JSON.parse(line) as Report);
}

/** The reports without their times. */
async function results(folder: string): Promise<Omit<Report, "seconds">[]> {
  return (await reports(folder)).map(({ seconds: _, ...rest }) => rest);
}

function assertOk({ code, stdout, stderr }: Outcome): void {
  assertEquals(code, 0, `exit status ${code}\n${stdout}\n${stderr}`);
}

const few = ["--limit", "96", "--batch-size", "32"];

for (const name of ["mlp_mnist.ts", "resnet9.ts"]) {
  Deno.test(`${name} trains, reports in JSON and saves a checkpoint`, () =>
    withFolder(async (folder) => {
      const outcome = await example(name, folder, [...few, "--epochs", "2"]);
      assertOk(outcome);
      assertHas(outcome.stdout, "IS NOT THERE: training on a built-in");
      assertHas(outcome.stdout, `examples/${name}`);
      assertHas(outcome.stdout, "96 training and");
      const found = await reports(folder);
      assertEquals(found.map((r) => r.epoch), [1, 2]);
      for (const r of found) {
        assertEquals(Object.keys(r), [
          "epoch",
          "trainLoss",
          "trainAcc",
          "testLoss",
          "testAcc",
          "seconds",
        ]);
        assert(r.trainLoss > 0 && r.testLoss > 0 && r.seconds > 0, JSON.stringify(r));
        for (const acc of [r.trainAcc, r.testAcc]) assert(acc >= 0 && acc <= 1, `${acc}`);
      }
      type Saved = { epoch: number; model: Record<string, ndl.Tensor> };
      const saved = await ndl.load<Saved>(`${folder}/run/model.safetensors`);
      assertEquals(saved.epoch, 2);
      assert(Object.keys(saved.model).length > 10);
      // A run of the same seed prints the same.
      const first = await results(folder);
      assertOk(await example(name, folder, [...few, "--epochs", "2"]));
      assertEquals(await results(folder), first);
    }));
}

const resumed: { name: string; flags: string[]; signal: Deno.Signal }[] = [
  { name: "resnet9.ts", flags: ["--augment", "--lr-schedule", "cosine"], signal: "SIGINT" },
  { name: "resnet9.ts", flags: ["--lr-schedule", "onecycle", "--lr", "0.01"], signal: "SIGKILL" },
  { name: "mlp_mnist.ts", flags: ["--augment", "--lr-schedule", "step"], signal: "SIGINT" },
  { name: "mlp_mnist.ts", flags: [], signal: "SIGKILL" },
];

for (const { name, flags, signal } of resumed) {
  Deno.test(`${name} ${flags.join(" ")}: stopped by ${signal}, it resumes as if it had not`, () =>
    withFolder(async (folder) => {
      const all = [...few, ...flags, "--epochs", "4"];
      assertOk(await example(name, folder, all));
      const whole = await results(folder);
      const child = start(command(name, folder, all), nowhere(folder));
      const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      const errors = new Response(child.stderr).text();
      let text = "";
      for (let sent = false;;) {
        const { done, value } = await lines.read();
        if (done) break;
        text += value;
        if (!sent && text.includes("epoch 2/4:")) {
          child.kill(signal);
          sent = true;
        }
      }
      const { code } = await child.status;
      await errors;
      // Wherever the signal met the run, the checkpoint is whole and of the last epoch that ended.
      const saved = await ndl.load<{ epoch: number }>(`${folder}/run/model.safetensors`);
      const { epoch } = saved;
      assert(epoch >= 1 && epoch <= 4, `epoch ${epoch}`);
      if (signal === "SIGINT" && code !== 0) {
        assertEquals(code, 130, text);
        assertHas(text, `holds the state after epoch ${epoch}: --resume`);
      }
      await Deno.remove(`${folder}/run/report.jsonl`);
      const again = await example(name, folder, [...all, "--resume"]);
      assertOk(again);
      assertHas(again.stdout, `after epoch ${epoch}`);
      if (epoch < 4) assertEquals(await results(folder), whole.slice(epoch));
    }));
}

Deno.test("--resume of a finished run trains the epochs that are added", () =>
  withFolder(async (folder) => {
    assertOk(await example("mlp_mnist.ts", folder, [...few, "--epochs", "3"]));
    const whole = await results(folder);
    assertOk(await example("mlp_mnist.ts", folder, [...few, "--epochs", "1"]));
    assertOk(await example("mlp_mnist.ts", folder, [...few, "--epochs", "3", "--resume"]));
    assertEquals(await results(folder), whole);
  }));

const wrong: [flags: string[], message: string][] = [
  [["--epochs", "two"], '--epochs must be an integer from 0 up, not "two"'],
  [["--batch-size", "0"], '--batch-size must be an integer from 1 up, not "0"'],
  [["--lr", "-1"], "--lr"],
  [["--lr=NaN"], '--lr must be a number from 0 up, not "NaN"'],
  [["--limit", "1.5"], '--limit must be an integer from 1 up, not "1.5"'],
  [["--dtype", "float99"], '--dtype must be one of float32, float64, not "float99"'],
  [["--lr-schedule", "zigzag"], "--lr-schedule must be one of none, step, cosine, onecycle"],
  [["--device", "abacus"], 'Unknown device "abacus"'],
  [["--epoch", "2"], "--epoch"],
  [["data"], "data"],
];

Deno.test("a flag that is wrong ends an example with status 2 and says why", () =>
  withFolder(async (folder) => {
    await Promise.all(wrong.map(async ([flags, message]) => {
      const { code, stderr } = await run(
        ["run", "-A", `${root}examples/mlp_mnist.ts`, ...flags],
        nowhere(folder),
      );
      assertEquals(code, 2, `${flags}: ${stderr}`);
      assertHas(stderr, `error: `);
      assertHas(stderr, message);
    }));
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("--help lists the flags and needs no permission", async () => {
  for (const name of ["mlp_mnist.ts", "resnet9.ts"]) {
    const { code, stdout } = await run(["run", "--no-prompt", `examples/${name}`, "--help"]);
    assertEquals(code, 0);
    for (const flag of ["epochs", "batch-size", "lr", "weight-decay", "device", "dtype", "seed"]) {
      assertHas(stdout, `--${flag} `);
    }
    for (const flag of ["data", "limit", "resume", "json", "augment", "lr-schedule"]) {
      assertHas(stdout, `--${flag} `);
    }
  }
  assertOk(await run(["run", "--no-prompt", "examples/autograd.ts", "--help"]));
});

Deno.test("without any permission an example trains on what it may use and says what it lacks", () =>
  withFolder(async (folder) => {
    const { code, stdout, stderr } = await run(
      ["run", "--no-prompt", `${root}examples/mlp_mnist.ts`, ...few, "--epochs", "1"],
      { cwd: folder },
    );
    assertEquals(code, 0, stderr);
    assertHas(stdout, "device wasm");
    assertHas(stdout, "For the real data run: deno run --allow-ffi=build");
    assertHas(stdout, "needs --allow-write");
    assertHas(stdout, "epoch 1/1: train loss");
    assertHas(stderr, "needle: computing on one thread, in WebAssembly");
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("a checkpoint that does not fit is a clear error", () =>
  withFolder(async (folder) => {
    const path = `${folder}/run/model.safetensors`;
    const resume = async (name: string, flags: string[] = []): Promise<string> => {
      const { code, stderr } = await example(name, folder, [...few, "--resume", ...flags]);
      assertEquals(code, 1, stderr);
      assertHas(stderr, `error: Cannot resume from ${path}: `);
      assert(!/^\s+at /m.test(stderr), `a stack is shown: ${stderr}`);
      return stderr;
    };
    assertHas(await resume("mlp_mnist.ts"), "No such file");
    assertOk(await example("mlp_mnist.ts", folder, [...few, "--epochs", "1"]));
    assertHas(await resume("resnet9.ts"), "Cannot load the state dict into Sequential");
    assertHas(await resume("mlp_mnist.ts", ["--lr-schedule", "cosine"]), "--lr-schedule none");
    const bytes = await Deno.readFile(path);
    await Deno.writeFile(path, bytes.subarray(0, bytes.length - 100));
    await resume("mlp_mnist.ts");
    await Deno.writeFile(path, bytes.fill(7, 0, 64));
    await resume("mlp_mnist.ts");
    await ndl.save(path, { weight: ndl.ones([2]) });
    assertHas(await resume("mlp_mnist.ts"), "it is no checkpoint of an example");
  }));

Deno.test("the tour of automatic differentiation runs", async () => {
  const outcome = await run(["run", "--no-prompt", "examples/autograd.ts"]);
  assertOk(outcome);
  assertHas(outcome.stdout, "gradcheck does this for every entry: true");
});

/** Rows of the tables that an example prints: a name, then figures and units. */
function figures(stdout: string, rows: readonly string[]): void {
  for (const name of rows) {
    const row = stdout.split("\n").find((line) => line.startsWith(name));
    if (row === undefined) throw new Error(`no row "${name}" in\n${stdout}`);
    const cells = row.slice(name.length).trim().split(/\s+/).slice(0, 3);
    const found = cells.filter((cell) => /^[\d.]+$/.test(cell));
    assert(found.length >= 2 && found.every((x) => Number(x) > 0), row);
  }
}

const measuring: [name: string, flags: string[], rows: string[]][] = [
  ["layout.ts", ["--size", "16", "--batch", "1"], [
    "x.clone()  ",
    "every other column, contiguous()  ",
    "x.T + y.T  ",
    "x + column [n, 1]  ",
    "x.sum(0)  ",
    "x.T.contiguous() y  ",
    "row-major  ",
    "conv, row-major norm, relu, conv  ",
  ]],
  ["fusion.ts", ["--size", "5000"], [
    "1  ",
    "16  ",
    "20,000  ",
    "gradients of w and b  ",
    "softmax  ",
    "cross entropy  ",
  ]],
];

for (const [name, sizes, rows] of measuring) {
  Deno.test(`${name} measures on every device, and says what is wrong with a flag`, async () => {
    const path = `examples/${name}`;
    for (const device of [ndl.reference(), ...nativeDevices()]) {
      const outcome = await run(
        ["run", "--no-prompt", "--allow-ffi", path, "--seconds", "0", ...sizes]
          .concat("--device", device.name),
      );
      assertOk(outcome);
      assertHas(outcome.stdout, `device ${device.name} (`);
      figures(outcome.stdout, rows);
    }
    // Without permissions it computes in WebAssembly.
    const { code, stdout, stderr } = await run(
      ["run", "--no-prompt", path, "--seconds", "0", ...sizes],
    );
    assertEquals(code, 0, stderr);
    assertHas(stdout, "device wasm (");
    figures(stdout, rows);
    const help = await run(["run", "--no-prompt", path, "--help"]);
    assertOk(help);
    for (const flag of ["size", "device", "seconds"]) assertHas(help.stdout, `--${flag} `);
    for (
      const [flags, message] of [
        [["--size", "8"], "--size must be an integer from"],
        [["--device", "abacus"], 'Unknown device "abacus"'],
        [["--speed", "1"], "--speed"],
      ] as const
    ) {
      const wrong = await run(["run", "--no-prompt", path, ...flags]);
      assertEquals(wrong.code, 2, wrong.stderr);
      assertHas(wrong.stderr, message);
    }
  });
}
