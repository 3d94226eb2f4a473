// The library as one file: its size, its names, its types and source map; in Node as in Deno; as an npm package.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import { bundleFolder } from "./bundle_support.ts";
import { assertHas, root, run, withFolder } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

async function gzippedSize(path: string): Promise<number> {
  const file = await Deno.open(path);
  const packed = file.readable.pipeThrough(new CompressionStream("gzip"));
  return (await new Response(packed).arrayBuffer()).byteLength;
}

/** A program that trains a net and prints the loss before and after, and the names of all classes of `nn`. */
function program(module: string): string {
  return `import * as ndl from ${JSON.stringify(module)};
    ndl.manualSeed(3);
    const { Conv2d, Flatten, Linear, ReLU, Sequential } = ndl.nn;
    const conv = new Conv2d(1, 4, 3, { stride: 2 });
    const model = new Sequential(conv, new ReLU(), new Flatten(), new Linear(676, 10));
    const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 0.01 });
    const data = ndl.data.syntheticMNIST({ length: 64 });
    const losses = [];
    for (let epoch = 0; epoch < 3; epoch++) {
      for await (const [x, y] of new ndl.data.DataLoader(data, { batchSize: 32 })) {
        optimizer.zeroGrad();
        const loss = ndl.nn.functional.crossEntropy(model.forward(x), y);
        loss.backward();
        optimizer.step();
        losses.push(loss.item());
      }
    }
    const names = Object.entries({ ...ndl, ...ndl.nn, ...ndl.optim, ...ndl.data })
      .filter(([_, value]) => typeof value === "function" && /^class /.test(String(value)))
      .map(([name, value]) => name + " " + value.name);
    console.log(JSON.stringify({ losses, names, device: ndl.defaultDevice().name }));`;
}

interface Answer {
  readonly losses: number[];
  readonly names: string[];
  readonly device: string;
}

Deno.test("the bundle is small: at most 600 KB, gzipped at most 250 KB", async () => {
  const file = `${await bundleFolder()}/needle.js`;
  const { size } = await Deno.stat(file);
  const gzipped = await gzippedSize(file);
  assert(size > 100_000 && size <= 600_000, `${size} bytes`);
  assert(gzipped <= 250_000, `${gzipped} bytes gzipped`);
});

Deno.test("the bundle computes and names things in Node as mod.ts does in Deno", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/node.mjs`, program(`${await bundleFolder()}/needle.js`));
    await Deno.writeTextFile(`${folder}/deno.ts`, program(`${root}mod.ts`));
    const node = await run(["node.mjs"], { program: "node", cwd: folder });
    assertEquals(node.code, 0, node.stderr);
    // Without permissions Deno computes on the device that Node has.
    const deno = await run(["run", "--no-prompt", "--no-check", "deno.ts"], { cwd: folder });
    assertEquals(deno.code, 0, deno.stderr);
    const answer = JSON.parse(node.stdout) as Answer;
    assertEquals(answer, JSON.parse(deno.stdout) as Answer);
    assert(answer.losses.at(-1)! < answer.losses[0]!, answer.losses.join(" "));
    assert(answer.names.length > 80, `${answer.names}`);
    assertEquals(answer.names.filter((n) => !/^(\w+) \1$/.test(n)), []);
  }));

Deno.test("the bundle's types are those of mod.ts", () =>
  withFolder(async (folder) => {
    const source = (type: string): string =>
      `import * as ndl from "${type}";
      const model: ndl.nn.Sequential = new ndl.nn.Sequential(new ndl.nn.Linear(2, 3));
      const y: ndl.Tensor = model.forward(ndl.ones([1, 2]));
      // @ts-expect-error: an option that does not exist
      new ndl.optim.Adam(model.parameters(), { rate: 1 });
      // @ts-expect-error: no number is a tensor
      const wrong: number = y.sum();
      console.log(wrong);`;
    await Deno.writeTextFile(`${folder}/main.ts`, source(`${await bundleFolder()}/needle.js`));
    const { code, stderr } = await run(["check", "--no-config", "main.ts"], { cwd: folder });
    assertEquals(code, 0, stderr);
  }));

Deno.test("the source map leads to the sources, by relative paths", async () => {
  const folder = await bundleFolder();
  const map = JSON.parse(await Deno.readTextFile(`${folder}/needle.js.map`)) as {
    sources: string[];
    sourcesContent: string[];
  };
  assert(map.sources.every((path) => /^\.\.\/(lib\/|mod\.ts)/.test(path)), map.sources.join(" "));
  const at = map.sources.indexOf("../lib/shape.ts");
  assertEquals(map.sourcesContent[at], await Deno.readTextFile(`${root}lib/shape.ts`));
  // Errors name the line of the source.
  const { code, stdout, stderr } = await run([
    "--enable-source-maps",
    "--input-type=module",
    "--eval",
    `import * as ndl from "${folder}/needle.js"; ndl.ones([2]).reshape(3);`,
  ], { program: "node" });
  assertEquals(code, 1, stdout);
  assert(/lib\/tensor\/\w+\.ts:\d+/.test(stderr), stderr);
});

Deno.test("the npm package holds the bundle with its types and works when it is installed", () =>
  withFolder(async (folder) => {
    const packed = await run(["run", "-A", "build.ts", "--pack"]);
    assertEquals(packed.code, 0, packed.stderr);
    const tarball = root + /dist\/npm\/needle-needle-[\d.]+\.tgz/.exec(packed.stdout)![0];
    const listed = await run(["tf", tarball], { program: "tar" });
    assertEquals(listed.stdout.trim().split("\n").sort(), [
      "package/LICENSE",
      "package/README.md",
      "package/needle.d.ts",
      "package/needle.js",
      "package/needle.js.map",
      "package/package.json",
    ]);
    await Deno.mkdir(`${folder}/user`);
    await Deno.writeTextFile(`${folder}/user/package.json`, '{ "type": "module" }');
    const install = ["install", "--no-audit", "--no-fund", tarball];
    const installed = await run(install, { program: "npm", cwd: `${folder}/user` });
    assertEquals(installed.code, 0, installed.stderr);
    await Deno.writeTextFile(`${folder}/user/main.js`, program("@needle/needle"));
    const { code, stdout, stderr } = await run(["main.js"], {
      program: "node",
      cwd: `${folder}/user`,
    });
    assertEquals(code, 0, stderr);
    const { losses } = JSON.parse(stdout) as Answer;
    assert(losses.at(-1)! < losses[0]!, losses.join(" "));
    // TypeScript's own compiler finds the types where Node finds the module.
    await Deno.writeTextFile(
      `${folder}/user/typed.ts`,
      `import { type Tensor, ones } from "@needle/needle";
      const t: Tensor = ones([2]);
      // @ts-expect-error: a tensor is no number
      export const n: number = t;`,
    );
    const flags = ["--noEmit", "--strict", "--module", "nodenext", "--lib", "esnext,dom"];
    const checked = await run(
      ["run", "-A", "npm:typescript@5.9.3/tsc", ...flags, `${folder}/user/typed.ts`],
    );
    assertEquals(checked.code, 0, checked.stdout + checked.stderr);
  }));

Deno.test("a dry run of packing lists what would be in the package", async () => {
  const { code, stdout, stderr } = await run(["run", "-A", "build.ts", "--pack", "--dry-run"]);
  assertEquals(code, 0, stderr);
  for (const file of ["needle.js", "needle.d.ts", "needle.js.map", "package.json"]) {
    assertHas(stdout, `  ${file}\n`);
  }
});

Deno.test("a wrong address of the bundle is refused", async () => {
  const { code, stderr } = await run(["run", "-A", "build.ts", "--bundle", "one.js", "two.js"]);
  assertEquals(code, 2);
  assertHas(stderr, "two.js");
});
