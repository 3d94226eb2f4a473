// Importing from a URL: mod.ts and the bundle, served over HTTP, train a small net without an import map and without
// reading a file; native libraries come from NEEDLE_CPU_PATH or from where `build --install` puts them. What the README
// says about it is run as it stands there, with the origin of a server here.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import { wasm } from "../mod.ts";
import { buildFolder, libraryFileName } from "../lib/backends/loader.ts";
import { bundleFolder, serve } from "./bundle_support.ts";
import { gzip, idx } from "./data_support.ts";
import { nativeDevices } from "./harness.ts";
import { assertHas, type Outcome, root, run, start, withFolder } from "./process_support.ts";
import { readmeBlocks } from "./readme_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const hasCpu = nativeDevices().some((d) => d.name === "cpu");
/** The device without permissions. */
const portable = wasm().available ? "wasm" : "reference";
const library = `${buildFolder()}/${libraryFileName("cpu")}`;

/** A net that learns xor, through the module at `url`; prints the device, the last loss and what is right. */
function xor(url: string): string {
  return `import * as ndl from ${JSON.stringify(url)};
    ndl.manualSeed(3);
    const x = ndl.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]);
    const y = ndl.tensor([0n, 1n, 1n, 0n]);
    const { Linear, Sequential, Tanh } = ndl.nn;
    const model = new Sequential(new Linear(2, 16), new Tanh(), new Linear(16, 2));
    const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 0.05 });
    let loss;
    for (let step = 0; step < 100; step++) {
      optimizer.zeroGrad();
      loss = ndl.nn.functional.crossEntropy(model.forward(x), y);
      loss.backward();
      optimizer.step();
    }
    const right = model.forward(x).argmax(1).eq(y).sum().item();
    console.log("device " + ndl.defaultDevice() + ", " + right + " of 4");
    if (!(loss.item() < 0.1)) throw new Error("loss " + loss.item());`;
}

function assertLearnt({ code, stdout, stderr }: Outcome, device: string): void {
  assert(code === 0, `exit status ${code}\n${stdout}\n${stderr}`);
  assertEquals(stdout.trim(), `device ${device}, 4 of 4`);
}

/** Runs a program that imports `url` in an empty folder, with nothing but what `permissions` allow. */
async function importing(
  url: string,
  folder: string,
  permissions: readonly string[] = [],
  variables: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const file = `${folder}/main.ts`;
  await Deno.writeTextFile(file, xor(url));
  const host = new URL(url).host;
  const flags = ["--no-prompt", "--no-config", "--no-lock", `--allow-import=${host}`];
  return await run(["run", ...flags, ...permissions, "main.ts"], {
    cwd: folder,
    env: { DENO_DIR: `${folder}/deno`, ...variables },
  });
}

Deno.test("mod.ts trains through a URL without permissions", () =>
  withFolder(async (folder) => {
    await using site = serve({ "/": root });
    assertLearnt(await importing(`${site.origin}/mod.ts`, folder), portable);
  }));

Deno.test({
  name: "mod.ts trains through a URL on the library that NEEDLE_CPU_PATH names",
  ignore: !hasCpu,
  fn: () =>
    withFolder(async (folder) => {
      await using site = serve({ "/": root });
      const permissions = [`--allow-ffi=${buildFolder()}`, "--allow-env"];
      const variables = { NEEDLE_CPU_PATH: library };
      assertLearnt(await importing(`${site.origin}/mod.ts`, folder, permissions, variables), "cpu");
    }),
});

Deno.test({
  name: "build --install puts libraries where the import of a URL finds them",
  ignore: !hasCpu,
  fn: () =>
    withFolder(async (folder) => {
      await using site = serve({ "/": root });
      const variables = { NEEDLE_CACHE_DIR: `${folder}/cache`, NEEDLE_DEVICE: "cpu" };
      const built = await run(["run", "-A", "build.ts", "--install"], { env: variables });
      assertEquals(built.code, 0, built.stdout + built.stderr);
      const permissions = [`--allow-ffi=${folder}/cache`, "--allow-env"];
      assertLearnt(await importing(`${site.origin}/mod.ts`, folder, permissions, variables), "cpu");
    }),
});

Deno.test("the bundle trains through a URL, and is one request", () =>
  withFolder(async (folder) => {
    await using site = serve({ "/": await bundleFolder() });
    const url = `${site.origin}/needle.js`;
    assertLearnt(await importing(url, folder), portable);
    assertEquals(site.asked, ["/needle.js"]);
    if (!hasCpu) return;
    const permissions = [`--allow-ffi=${buildFolder()}`, "--allow-env"];
    const variables = { NEEDLE_CPU_PATH: library };
    assertLearnt(await importing(url, folder, permissions, variables), "cpu");
  }));

// From here on: the README's section, line by line.

const ORIGIN = "https://example.org/needle";
const blocks = await readmeBlocks("## From a URL, in one file, in a browser");

/** A line of the README with the origin of a server in place of its own. */
function localised(text: string, origin: string): string {
  return text.replaceAll(ORIGIN, origin).replaceAll("example.org", new URL(origin).host);
}

/** The lines of its shell blocks, without what is said about them. */
const commands = blocks.filter(({ language }) => language === "sh")
  .flatMap(({ text }) => text.trimEnd().split("\n")).map((line) => line.replace(/ +#.*/, ""));

/** The only command that fits. */
function command(pattern: RegExp): string {
  const found = commands.filter((line) => pattern.test(line));
  assertEquals(found.length, 1, `commands like ${pattern} in the README: ${commands.join("; ")}`);
  return found[0]!;
}

/** The arguments of a command of the README that runs Deno. */
function denoArguments(line: string): string[] {
  const [program, ...args] = line.split(/ +/);
  assertEquals(program, "deno");
  return args;
}

/** What the README says a program prints. */
function printed(program: string): string {
  return /console\.log\(.*\/\/ (.*)/.exec(program)![1]! + "\n";
}

Deno.test("README: all that is said about URLs is tested here or in browser_test.ts", () => {
  assertEquals(blocks.map(({ language }) => language), ["ts", "sh", "sh", "js", "html", "sh"]);
  assertEquals(commands.length, 6, commands.join("\n"));
});

Deno.test("README: the first program runs from a URL and prints what it says", () =>
  withFolder(async (folder) => {
    await using site = serve({ "/needle": root });
    const program = blocks.find(({ language }) => language === "ts")!.text;
    const line = localised(command(/ main\.ts$/), site.origin);
    await Deno.writeTextFile(`${folder}/main.ts`, localised(program, `${site.origin}/needle`));
    const env = { DENO_DIR: `${folder}/deno` };
    const { code, stdout, stderr } = await run(denoArguments(line), { cwd: folder, env });
    assertEquals(code, 0, stderr);
    assertEquals(stdout, printed(program));
  }));

Deno.test("README: ResNet9 trains from a URL without any permission", () =>
  withFolder(async (folder) => {
    await using site = serve({ "/needle": root });
    const line = localised(command(/resnet9/), `${site.origin}/needle`);
    assert(!line.includes("--allow"), line);
    const child = start(denoArguments(line), {
      cwd: folder,
      env: { DENO_DIR: `${folder}/deno` },
    });
    const errors = new Response(child.stderr).text();
    let text = "";
    // Ten epochs are not needed to see that it learns.
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      if (text.includes("epoch 2/10: train")) break;
    }
    child.kill();
    await child.status;
    const losses = [...text.matchAll(/train loss ([\d.]+)/g)].map((match) => Number(match[1]));
    assert(losses.length === 2 && losses[1]! < losses[0]!, text + await errors);
    assertHas(text, `device ${portable}`);
    assertHas(text, "IS NOT THERE: training on a built-in");
  }));

Deno.test("README: a perceptron trains from a URL on files", () =>
  withFolder(async (folder) => {
    await using site = serve({ "/needle": root });
    const line = localised(command(/mlp_mnist/), `${site.origin}/needle`);
    await Deno.mkdir(`${folder}/data/mnist`, { recursive: true });
    const images = idx(0x803, [100, 28, 28], new Uint8Array(100 * 784).map((_, i) => i % 251));
    const labels = idx(0x801, [100], new Uint8Array(100).map((_, i) => i % 10));
    for (const part of ["train", "t10k"]) {
      const place = `${folder}/data/mnist/${part}`;
      await Deno.writeFile(`${place}-images-idx3-ubyte.gz`, await gzip(images));
      await Deno.writeFile(`${place}-labels-idx1-ubyte.gz`, await gzip(labels));
    }
    const env = { DENO_DIR: `${folder}/deno` };
    const { code, stdout, stderr } = await run(denoArguments(line), { cwd: folder, env });
    assertEquals(code, 0, stderr);
    assertHas(stdout, "100 training and 100 test samples");
    assertHas(stdout, "epoch 10/10: train loss");
  }));

Deno.test("README: the bundle and the package are where it says, and run in Node", () =>
  withFolder(async (folder) => {
    for (const task of ["bundle", "pack"]) {
      const line = command(new RegExp(`^deno task ${task}$`));
      const comment = blocks.map(({ text }) => text).join("").split("\n")
        .find((text) => text.startsWith(line))!;
      const place = /# writes (\S+)/.exec(comment)![1]!;
      const { code, stderr } = await run(denoArguments(line));
      assertEquals(code, 0, stderr);
      assert((await Deno.stat(`${root}${place}`)).size > 100_000, place);
    }
    const program = blocks.find(({ language }) => language === "js")!.text;
    await Deno.copyFile(`${root}dist/needle.js`, `${folder}/needle.js`);
    await Deno.writeTextFile(`${folder}/main.js`, program);
    await Deno.writeTextFile(`${folder}/package.json`, '{ "type": "module" }');
    for (const [name, args] of [["node", []], [Deno.execPath(), ["run"]]] as const) {
      const outcome = await run([...args, "main.js"], { program: name, cwd: folder });
      assertEquals(outcome.stdout, printed(program), outcome.stderr);
    }
  }));

Deno.test("README: deno task serve shows the page, and nothing else of this machine", async () => {
  const child = start(denoArguments(command(/^deno task serve$/)));
  const errors = new Response(child.stderr).text();
  let said = "";
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!/http:\S+\n/.test(said)) {
    const { done, value } = await lines.read();
    if (done) throw new Error(said + await errors);
    said += value;
  }
  const address = /http:\S+/.exec(said)![0];
  try {
    const page = await fetch(new URL("/", address));
    assertEquals([page.status, page.url], [200, address]);
    assertHas(await page.text(), "Draw a digit");
    for (const path of ["worker.js", "style.css", "icon.svg", "../../dist/needle.js"]) {
      const { status, body } = await fetch(new URL(path, address));
      await body?.cancel();
      assertEquals(status, 200, path);
    }
    for (
      const path of ["/deno.json", "/examples/browser/serve.ts", "/dist/", "/dist/%2e%2e/README.md"]
    ) {
      const { status, body } = await fetch(new URL(path, address));
      await body?.cancel();
      assertEquals(status, 404, path);
    }
  } finally {
    child.kill();
    await lines.cancel();
    await child.status;
    await errors;
  }
  // The task has taken its server with it.
  const gone = await fetch(address).then(() => false, () => true);
  assert(gone, `${address} is still served`);
});
