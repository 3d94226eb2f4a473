// Importing from a URL: mod.ts and the bundle, served over HTTP, train a small net without an import map and without
// reading a file; native libraries come from NEEDLE_CPU_PATH or from where `build --install` puts them.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import { buildFolder, libraryFileName } from "../lib/backends/loader.ts";
import { nativeDevices } from "./harness.ts";
import { assertHas, type Outcome, root, run, withFolder } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const hasCpu = nativeDevices().some((d) => d.name === "cpu");
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

/** Serves `folder` on localhost while `body` runs. */
async function serving(folder: string, body: (origin: string) => Promise<void>): Promise<void> {
  const types: Record<string, string> = { ts: "application/typescript", js: "text/javascript" };
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const path = new URL(request.url).pathname;
      try {
        const bytes = await Deno.readFile(`${folder}${path}`);
        const type = types[path.split(".").at(-1)!] ?? "application/octet-stream";
        return new Response(bytes, { headers: { "content-type": type } });
      } catch {
        return new Response("not found", { status: 404 });
      }
    },
  );
  try {
    await body(`http://127.0.0.1:${(server.addr as Deno.NetAddr).port}`);
  } finally {
    await server.shutdown();
  }
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

Deno.test("mod.ts trains through a URL, on the reference device without permissions", () =>
  withFolder((folder) =>
    serving(root, async (origin) => {
      const outcome = await importing(`${origin}/mod.ts`, folder);
      assertLearnt(outcome, "reference");
      assertHas(outcome.stderr, "needle: computing on the slow reference device");
    })
  ));

Deno.test({
  name: "mod.ts trains through a URL on the library that NEEDLE_CPU_PATH names",
  ignore: !hasCpu,
  fn: () =>
    withFolder((folder) =>
      serving(root, async (origin) => {
        const permissions = [`--allow-ffi=${buildFolder()}`, "--allow-env"];
        const variables = { NEEDLE_CPU_PATH: library };
        assertLearnt(await importing(`${origin}/mod.ts`, folder, permissions, variables), "cpu");
      })
    ),
});

Deno.test({
  name: "build --install puts libraries where the import of a URL finds them",
  ignore: !hasCpu,
  fn: () =>
    withFolder((folder) =>
      serving(root, async (origin) => {
        const variables = { NEEDLE_CACHE_DIR: `${folder}/cache`, NEEDLE_DEVICE: "cpu" };
        const built = await run(["run", "-A", "build.ts", "--install"], { env: variables });
        assertEquals(built.code, 0, built.stdout + built.stderr);
        const permissions = [`--allow-ffi=${folder}/cache`, "--allow-env"];
        assertLearnt(await importing(`${origin}/mod.ts`, folder, permissions, variables), "cpu");
      })
    ),
});

Deno.test("the bundle is one file that trains through a URL and in Node", () =>
  withFolder(async (folder) => {
    const bundled = await run(["run", "-A", "build.ts", "--bundle", `${folder}/www/needle.js`]);
    assertEquals(bundled.code, 0, bundled.stdout + bundled.stderr);
    await serving(`${folder}/www`, async (origin) => {
      assertLearnt(await importing(`${origin}/needle.js`, folder), "reference");
      if (hasCpu) {
        const permissions = [`--allow-ffi=${buildFolder()}`, "--allow-env"];
        const variables = { NEEDLE_CPU_PATH: library };
        const native = await importing(`${origin}/needle.js`, folder, permissions, variables);
        assertLearnt(native, "cpu");
      }
    });
    await Deno.rename(`${folder}/www/needle.js`, `${folder}/needle.mjs`);
    await Deno.writeTextFile(`${folder}/main.mjs`, xor("./needle.mjs"));
    try {
      assertLearnt(await run(["main.mjs"], { program: "node", cwd: folder }), "reference");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      console.warn("not tested in Node: there is no program called node");
    }
  }));

Deno.test("a wrong address of the bundle is refused", async () => {
  const { code, stderr } = await run(["run", "-A", "build.ts", "--bundle", "one.js", "two.js"]);
  assertEquals(code, 2);
  assertHas(stderr, "two.js");
});
