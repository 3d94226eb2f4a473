// The build and the loader: what is up to date stays, builds wait for each other, libraries are installed whole, and
// a library that cannot be used gives its reason. Programs run as subprocesses, with the permissions of each case.

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import config from "../deno.json" with { type: "json" };
import { ensureBuilt } from "../build.ts";
import { abiHash, headerText } from "../lib/abi.ts";
import { buildFolder, libraryFileName, VERSION } from "../lib/backends/loader.ts";
import { env, VARIABLES } from "../lib/env.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname);
const BUILD = buildFolder() ?? "";

function assertIncludes(text: string, part: string): void {
  assert(text.includes(part), `${JSON.stringify(part)} is missing in: ${text}`);
}

/** Runs Deno on a program of the repository and gives its status and all that it printed. */
async function deno(
  args: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<{ code: number; output: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...variables },
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** What `locate("cpu")` answers in a fresh process. */
async function locateCpu(
  permissions: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<{ path?: string; reason?: string }> {
  const program = `import { locate } from "${import.meta.resolve("../lib/backends/loader.ts")}";
    console.log("answer " + JSON.stringify(locate("cpu")));`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, program);
    const run = ["run", "--no-prompt", `--config=${ROOT}/deno.json`, ...permissions, file];
    const { output } = await deno(run, variables);
    const answer = /^answer (.*)$/m.exec(output)?.[1];
    assert(answer !== undefined, output);
    return JSON.parse(answer ?? "") as { path?: string; reason?: string };
  } finally {
    await Deno.remove(file);
  }
}

/** Overwrites every occurrence of a text in a file's bytes with another one as long. */
function replaceBytes(bytes: Uint8Array, from: string, to: string): void {
  const old = new TextEncoder().encode(from);
  for (let i = bytes.indexOf(old[0] ?? 0); i >= 0; i = bytes.indexOf(old[0] ?? 0, i + 1)) {
    if (old.every((b, j) => bytes[i + j] === b)) bytes.set(new TextEncoder().encode(to), i);
  }
}

const built = await ensureBuilt({ quiet: true });
const library = `${BUILD}/${libraryFileName("cpu")}`;
const needsCpu = { ignore: !built.built.includes("cpu") };
if (needsCpu.ignore) console.log(`build_test: without the cpu library: ${built.skipped.cpu}`);

Deno.test("the version of the loader is that of deno.json", () => {
  assertEquals(VERSION, config.version);
});

Deno.test("the header in csrc is the one that lib/abi.ts gives", async () => {
  const text = await Deno.readTextFile(`${ROOT}/csrc/include/needle.h`);
  assertEquals(text, headerText());
  assertIncludes(text, abiHash());
});

Deno.test("a build without changes takes less than a second", needsCpu, async () => {
  const start = performance.now();
  const { code, output } = await deno(["run", "-A", "build.ts"]);
  const seconds = (performance.now() - start) / 1000;
  assertEquals(code, 0, output);
  assertIncludes(output, "is up to date");
  assert(seconds < 1, `${seconds} s`);
});

Deno.test("build refuses unknown options and explains the known ones", async () => {
  const unknown = await deno(["run", "-A", "build.ts", "--instal"]);
  assertEquals(unknown.code, 2);
  assertIncludes(unknown.output, "Unknown option --instal");
  const help = await deno(["run", "-A", "build.ts", "--help"]);
  assertEquals(help.code, 0);
  for (const option of ["--install", "--bundle", "--install-compiler", "--force"]) {
    assertIncludes(help.output, option);
  }
});

Deno.test("build without a compiler says what to install and does not fail", async () => {
  const { code, output } = await deno(["run", "-A", "build.ts"], { CXX: "no-such-compiler" });
  assertEquals(code, 0, output);
  assertIncludes(output, "cpu       skipped: CXX=no-such-compiler is not a program");
});

Deno.test("a build waits for another one", async () => {
  const lock = await Deno.open(`${BUILD}/lock`, { read: true, write: true, create: true });
  await lock.lock(true);
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "build.ts"],
    cwd: ROOT,
    stdout: "piped",
    stderr: "null",
  });
  const process = command.spawn();
  const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const first = await reader.read();
  assertIncludes(first.value ?? "", "waiting for another build");
  lock.close();
  while (!(await reader.read()).done);
  assertEquals((await process.status).code, 0);
});

Deno.test("--install copies whole files into the cache and overwrites none", needsCpu, async () => {
  const cache = await Deno.makeTempDir();
  try {
    const first = await deno(["run", "-A", "build.ts", "--install"], { NEEDLE_CACHE_DIR: cache });
    assertEquals(first.code, 0, first.output);
    const { os, arch } = Deno.build;
    const folder = `${cache}/libraries/${VERSION}-${abiHash()}-${os}-${arch}`;
    const target = `${folder}/${libraryFileName("cpu")}`;
    assertEquals((await Deno.stat(target)).size, (await Deno.stat(library)).size);
    for await (const { name } of Deno.readDir(folder)) assert(!name.endsWith(".tmp"), name);
    const marked = await Deno.stat(target);
    const second = await deno(["run", "-A", "build.ts", "--install"], { NEEDLE_CACHE_DIR: cache });
    assertIncludes(second.output, "is there already");
    assertEquals((await Deno.stat(target)).mtime, marked.mtime);
    const answer = await locateCpu([`--allow-ffi=${folder}`, "--allow-env=NEEDLE_CACHE_DIR"], {
      NEEDLE_CACHE_DIR: cache,
    });
    assertEquals(answer, { path: target });
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("each library has every function of the header", () => {
  const names = [...headerText().matchAll(/NEEDLE_API \w+ (needle_\w+)\(/g)].map((m) => m[1] ?? "");
  assert(names.length > 50, `${names.length} functions`);
  for (const backend of built.built) {
    const path = `${BUILD}/${libraryFileName(backend)}`;
    const optional = { type: "pointer", optional: true } as const;
    const library = Deno.dlopen(path, Object.fromEntries(names.map((name) => [name, optional])));
    const missing = names.filter((name) => library.symbols[name] === null);
    assertEquals(missing, [], `${backend} lacks functions`);
  }
});

Deno.test("the library loads with FFI for its folder alone", needsCpu, async () => {
  assertEquals(await locateCpu([`--allow-ffi=${BUILD}`]), { path: library });
});

Deno.test("without FFI permission the reason names the flag", async () => {
  const { reason = "" } = await locateCpu([]);
  assertIncludes(reason, `--allow-ffi=${BUILD}`);
});

Deno.test("a library named by its variable is the only one tried", async () => {
  const missing = await locateCpu(["-A"], { NEEDLE_CPU_PATH: "/no/such/library.so" });
  assertEquals(
    missing.reason,
    "Cannot load /no/such/library.so, named by NEEDLE_CPU_PATH: not found",
  );
  const wrong = await locateCpu(["-A"], { NEEDLE_CPU_PATH: `${ROOT}/deno.json` });
  assertIncludes(wrong.reason ?? "", "named by NEEDLE_CPU_PATH");
});

Deno.test("a library with another ABI hash is refused", needsCpu, async () => {
  const folder = await Deno.makeTempDir();
  try {
    const stale = `${folder}/stale.so`;
    const other = "0123456789abcdef";
    const bytes = await Deno.readFile(library);
    // Halves, since a compiler may hold the text as two numbers of 8 bytes.
    replaceBytes(bytes, abiHash().slice(0, 8), other.slice(0, 8));
    replaceBytes(bytes, abiHash().slice(8), other.slice(8));
    await Deno.writeFile(stale, bytes);
    const { reason = "" } = await locateCpu(["-A"], { NEEDLE_CPU_PATH: stale });
    assertIncludes(reason, `its ABI hash is ${other} but this version needs ${abiHash()}`);
    assertIncludes(reason, "run deno task build");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("env reads each kind of variable and refuses what does not fit", () => {
  const set = (name: string, value: string, check: () => void): void => {
    const before = Deno.env.get(name);
    Deno.env.set(name, value);
    try {
      check();
    } finally {
      if (before === undefined) Deno.env.delete(name);
      else Deno.env.set(name, before);
    }
  };
  set("NEEDLE_THREADS", "3", () => assertEquals(env("NEEDLE_THREADS"), 3));
  set("NEEDLE_THREADS", "two", () => {
    assertThrows(() => env("NEEDLE_THREADS"), RangeError, "Cannot use NEEDLE_THREADS=two");
  });
  set("NEEDLE_CHECK", "1", () => assertEquals(env("NEEDLE_CHECK"), true));
  set("NEEDLE_CHECK", "yes", () => {
    assertThrows(() => env("NEEDLE_CHECK"), RangeError, "0 or 1 is needed");
  });
  set("NEEDLE_REQUIRE", "cpu, dnnl,", () => assertEquals(env("NEEDLE_REQUIRE"), ["cpu", "dnnl"]));
  set("NEEDLE_DEVICE", "", () => assertEquals(env("NEEDLE_DEVICE"), undefined));
});

Deno.test("a variable that may not be read counts as unset", async () => {
  const program = `import { env } from ${JSON.stringify(import.meta.resolve("../lib/env.ts"))};
    console.log("value", env("NEEDLE_DEVICE"));`;
  const url = `data:application/typescript,${encodeURIComponent(program)}`;
  const { output } = await deno(["run", "--no-prompt", url], { NEEDLE_DEVICE: "cpu" });
  assertIncludes(output, "value undefined");
});

Deno.test("the table of variables holds every variable that native code reads", async () => {
  const named = new Set<string>();
  async function scan(folder: string): Promise<void> {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      if (isDirectory) await scan(`${folder}/${name}`);
      else {
        const text = await Deno.readTextFile(`${folder}/${name}`);
        for (const [, variable = ""] of text.matchAll(/getenv\("(NEEDLE_\w+)"\)/g)) {
          named.add(variable);
        }
      }
    }
  }
  await scan(`${ROOT}/csrc`);
  for (const name of named) assert(name in VARIABLES, `${name} is not in lib/env.ts`);
});
