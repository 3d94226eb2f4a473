/**
 * Builds the native libraries: writes csrc/include/needle.h from lib/abi.ts, finds cmake, a compiler
 * and oneDNN, runs CMake, and prints one line per thing found or skipped and why. Nothing changed
 * since the last build: it returns at once. `deno task build --help` lists the options.
 * @module
 */
import { abiHash, headerText } from "./lib/abi.ts";
import {
  installFolder,
  libraryFileName,
  type NativeBackend,
  VERSION,
} from "./lib/backends/loader.ts";
import { env } from "./lib/env.ts";
import {
  BUILD,
  DEPS,
  exists,
  findTools,
  HEADER,
  lastLines,
  message,
  pip,
  publish,
  readText,
  ROOT,
  run,
  say,
  sayOnStandardError,
  sha256,
  sources,
  type Tools,
  which,
  writeWhole,
} from "./lib/tools/build_support.ts";
import { buildCuda } from "./lib/tools/cuda_build.ts";
import { buildWasm } from "./lib/tools/wasm_build.ts";

const HELP = `Builds Needle's native libraries into build/.

Usage: deno task build [options]
  --install           also copy the libraries into the user's cache, for programs that import mod.ts
                      from a URL
  --bundle [FILE]     only write the whole of mod.ts as one ESM file (default dist/needle.js), its
                      source map and its types
  --pack [--dry-run]  only make an npm package of that in dist/npm, or list what it would hold
  --cuda[=ARCHS]      also build the CUDA library (ARCHS: what for, as CMake lists it, for example 90;
                      default: sm_75 to sm_90, and PTX for later ones)
  --wasm              only build the WebAssembly module and write lib/backends/wasm_module.ts, which is
                      committed (clang 19.1.7 and lld from Debian; with --check only compare)
  --cuda-emulated     also build the emulation of the CUDA library that tests use
  --cuda-sanitized    also build that emulation with the sanitizers, in build/sanitized/
  --install-compiler  install a missing compiler with apt-get (as root on Debian or Ubuntu)
  --force             build even if nothing changed, and look again for what was skipped
  --quiet             print nothing if nothing changed, else on standard error, so that standard
                      output is left to the program that follows
  --help              this text`;

const CMAKE_BUILD = `${BUILD}/cmake`;
const STAMP = `${BUILD}/stamp.json`;

/** The oneDNN wheels of PyPI: oneDNN 3.2 with GNU OpenMP, for Linux on x86-64. */
const ONEDNN_WHEELS = [
  {
    name: "onednn-cpu-gomp",
    version: "2023.2.0",
    sha256: "2f22a54d6a890ed14bfa185d42a4be65d8b5b1df85dc1f0f3a9abe31620416fb",
  },
  {
    name: "onednn-devel-cpu-gomp",
    version: "2023.2.0",
    sha256: "9763c69e8c907e119056bd52ad918ca84ac9ba939d130a99dfa95ccca3e5e284",
  },
] as const;
const ONEDNN_ROOT = `${DEPS}/onednn-2023.2.0`;
const ONEDNN_LIBRARY = "libdnnl.so.3";

/** Options of {@linkcode ensureBuilt}. */
export interface BuildOptions {
  /** Install a missing compiler with apt-get. */
  readonly installCompiler?: boolean;
  /** Build even if nothing changed. */
  readonly force?: boolean;
  /** Print nothing when there is nothing to build. */
  readonly quiet?: boolean;
  /** Also build the CUDA library: for these architectures, or where empty for all. */
  readonly cuda?: string;
  /** Also build the emulation of the CUDA library. */
  readonly cudaEmulated?: boolean;
  /** Also build that emulation with the address and undefined-behaviour sanitizers. */
  readonly cudaSanitized?: boolean;
}

/** What a build left in `build/`. */
export interface BuildResult {
  /** The libraries that were built. */
  readonly built: readonly NativeBackend[];
  /** The libraries that were not, with the reason. */
  readonly skipped: Readonly<Partial<Record<NativeBackend, string>>>;
}

/** The record of the last build: what went in, what came out. */
interface Stamp extends BuildResult {
  readonly key: string;
}

/** Downloads the oneDNN wheels and unpacks headers and library into .deps/; throws where it cannot. */
async function fetchOneDnn(): Promise<void> {
  if (exists(ONEDNN_ROOT)) return;
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new Error("no oneDNN 3 on this system, and its PyPI wheels are for Linux on x86-64 only");
  }
  const python = which("python3");
  if (python === undefined) {
    throw new Error("no oneDNN 3 on this system, and no python3 to fetch it from PyPI");
  }
  const temporary = `${ONEDNN_ROOT}.${Deno.pid}.tmp`;
  Deno.mkdirSync(temporary, { recursive: true });
  try {
    say("oneDNN", "not on this system: fetching oneDNN 3.2 from PyPI into .deps/");
    const requirements = ONEDNN_WHEELS.map(({ name, version }) => `${name}==${version}`);
    await pip(["download", "--no-deps", "--only-binary=:all:", "-d", temporary, ...requirements]);
    for (const { name, version, sha256: expected } of ONEDNN_WHEELS) {
      const prefix = `${name.replaceAll("-", "_")}-${version}`;
      const wheel = [...Deno.readDirSync(temporary)]
        .find((file) => file.name.startsWith(prefix) && file.name.endsWith(".whl"));
      if (wheel === undefined) throw new Error(`pip downloaded no wheel of ${name}`);
      const path = `${temporary}/${wheel.name}`;
      if (await sha256(Deno.readFileSync(path)) !== expected) {
        throw new Error(`the wheel of ${name} ${version} is not the expected file (SHA-256)`);
      }
      const unzip = await run(python, ["-m", "zipfile", "-e", path, temporary]);
      if (!unzip.ok) throw new Error(`cannot unpack ${wheel.name}: ${lastLines(unzip.output, 1)}`);
      Deno.removeSync(path);
    }
    // The wheel holds the library three times (links become copies in a zip): one is kept.
    const unpacked = `${temporary}/tree`;
    const data = (wheel: number): string =>
      `${temporary}/${ONEDNN_WHEELS[wheel]?.name.replaceAll("-", "_")}-2023.2.0.data/data`;
    Deno.mkdirSync(`${unpacked}/lib`, { recursive: true });
    Deno.renameSync(`${data(0)}/lib/${ONEDNN_LIBRARY}`, `${unpacked}/lib/${ONEDNN_LIBRARY}`);
    Deno.renameSync(`${data(0)}/share/doc/onednn`, `${unpacked}/doc`);
    Deno.renameSync(`${data(1)}/include`, `${unpacked}/include`);
    Deno.renameSync(unpacked, ONEDNN_ROOT);
  } finally {
    Deno.removeSync(temporary, { recursive: true });
  }
}

/** A hash of everything that the libraries are made from. */
async function buildKey(compiler: string): Promise<string> {
  const parts = [headerText(), VERSION];
  const { size, mtime } = Deno.statSync(compiler);
  parts.push(`${Deno.realPathSync(compiler)} ${size} ${mtime?.getTime()}`);
  for (const path of [...sources(`${ROOT}/csrc`), `${ROOT}/build.ts`]) {
    if (path.startsWith(`${ROOT}/csrc/cuda/`)) continue; // cuda_build.ts looks at these
    parts.push(path, Deno.readTextFileSync(path));
  }
  return await sha256(new TextEncoder().encode(parts.join("\0")));
}

function upToDate(key: string): Stamp | undefined {
  const text = readText(STAMP);
  if (text === undefined) return undefined;
  const stamp = JSON.parse(text) as Stamp;
  const whole = stamp.built.every((name) => exists(`${BUILD}/${libraryFileName(name)}`));
  return stamp.key === key && whole ? stamp : undefined;
}

function report(result: BuildResult, note: string): void {
  for (const name of result.built) say(name, `build/${libraryFileName(name)}${note}`);
  for (const [name, reason] of Object.entries(result.skipped)) say(name, `skipped: ${reason}`);
}

/** Waits for the lock on build/, which a finished or killed process loses by itself. */
async function lockBuild(): Promise<Deno.FsFile> {
  const path = `${BUILD}/lock`;
  const file = Deno.openSync(path, { read: true, write: true, create: true });
  if (!await file.tryLock(true)) {
    say("build", `waiting for another build (process ${readText(path)?.trim() || "unknown"})`);
    await file.lock(true);
  }
  file.truncateSync();
  file.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
  return file;
}

async function configure(tools: Tools, dnnlRoot: string): Promise<string> {
  // CMake refuses a cache that was made for another folder: this checkout was moved or copied.
  const cache = readText(`${CMAKE_BUILD}/CMakeCache.txt`);
  if (cache !== undefined && !cache.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${ROOT}/csrc\n`)) {
    Deno.removeSync(CMAKE_BUILD, { recursive: true });
  }
  const { ok, output } = await run(tools.cmake, [
    ...["-S", `${ROOT}/csrc`, "-B", CMAKE_BUILD, ...tools.generator],
    "-DCMAKE_BUILD_TYPE=Release",
    `-DCMAKE_CXX_COMPILER=${tools.compiler}`,
    `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${CMAKE_BUILD}/lib`,
    `-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=${CMAKE_BUILD}/lib`,
    `-DNEEDLE_VERSION=${VERSION}`,
    `-DNEEDLE_DNNL_ROOT=${dnnlRoot}`,
    `-DNEEDLE_WERROR=${env("CI") === undefined ? "OFF" : "ON"}`,
  ]);
  if (!ok) throw new Error(`CMake failed:\n${lastLines(output, 40)}`);
  return output;
}

/** Finds oneDNN: CMake looks on the system, else the wheels are fetched and CMake runs again. */
async function configureWithDnnl(tools: Tools): Promise<string | undefined> {
  const found = /NEEDLE_DNNL: (.*)/;
  const first = await configure(tools, exists(ONEDNN_ROOT) ? ONEDNN_ROOT : "");
  let answer = found.exec(first)?.[1];
  if (answer === undefined) {
    try {
      await fetchOneDnn();
    } catch (error) {
      say("oneDNN", `not found: ${message(error)}`);
      return message(error);
    }
    answer = found.exec(await configure(tools, ONEDNN_ROOT))?.[1];
  }
  if (answer === undefined) throw new Error(`CMake does not accept the oneDNN in ${ONEDNN_ROOT}`);
  say("oneDNN", answer);
  return undefined;
}

async function compile(tools: Tools, key: string): Promise<Stamp> {
  const start = performance.now();
  say("compiler", tools.compiler);
  say("cmake", tools.cmake);
  // A build folder of another generator or compiler cannot be used again.
  const setup = JSON.stringify(tools);
  if (readText(`${BUILD}/setup.json`) !== setup && exists(CMAKE_BUILD)) {
    Deno.removeSync(CMAKE_BUILD, { recursive: true });
  }
  writeWhole(`${BUILD}/setup.json`, setup);
  const dnnlSkipped = await configureWithDnnl(tools);
  say("build", "compiling, which takes minutes the first time");
  const jobs = String(navigator.hardwareConcurrency);
  const { ok, output } = await run(tools.cmake, ["--build", CMAKE_BUILD, "-j", jobs]);
  if (!ok) throw new Error(`Compiling failed:\n${lastLines(output, 60)}`);
  const built: NativeBackend[] = dnnlSkipped === undefined ? ["cpu", "dnnl"] : ["cpu"];
  for (const name of ["spin", ...built] as const) {
    const file = libraryFileName(name);
    publish(`${CMAKE_BUILD}/lib/${file}`, `${BUILD}/${file}`);
  }
  const bundled = `${ONEDNN_ROOT}/lib/${ONEDNN_LIBRARY}`;
  if (dnnlSkipped === undefined && exists(bundled)) publish(bundled, `${BUILD}/${ONEDNN_LIBRARY}`);
  const stamp = { key, built, skipped: dnnlSkipped === undefined ? {} : { dnnl: dnnlSkipped } };
  writeWhole(STAMP, JSON.stringify(stamp));
  report(stamp, ` (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  return stamp;
}

/**
 * Builds what is missing or out of date in `build/`; without a compiler or cmake the libraries are
 * skipped with the reason, and Needle works on its reference backend.
 *
 * @throws {Error} If the compiler refuses the sources.
 */
export async function ensureBuilt(options: BuildOptions = {}): Promise<BuildResult> {
  Deno.mkdirSync(BUILD, { recursive: true });
  Deno.mkdirSync(DEPS, { recursive: true });
  const lock = await lockBuild();
  try {
    const text = headerText();
    if (readText(HEADER) !== text) {
      Deno.mkdirSync(`${ROOT}/csrc/include`, { recursive: true });
      writeWhole(HEADER, text);
      say("header", `wrote csrc/include/needle.h (ABI hash ${abiHash()})`);
    }
    let tools: Tools;
    try {
      tools = await findTools(options.installCompiler === true);
    } catch (error) {
      const reason = message(error);
      const result: BuildResult = { built: [], skipped: { cpu: reason, dnnl: reason } };
      report(result, "");
      return result;
    }
    const key = await buildKey(tools.compiler);
    const done = options.force === true ? undefined : upToDate(key);
    if (done !== undefined && options.quiet !== true) report(done, " is up to date");
    const result = done ?? await compile(tools, key);
    const { cuda, cudaEmulated, cudaSanitized, ...rest } = options;
    if (cudaEmulated === true) await buildCuda("cudaemu", tools, rest);
    if (cudaSanitized === true) await buildCuda("cudaemu", tools, { ...rest, sanitize: true });
    if (cuda === undefined) return result;
    await buildCuda("cuda", tools, { ...rest, ...(cuda === "" ? {} : { architectures: cuda }) });
    return { ...result, built: [...result.built, "cuda"] };
  } finally {
    lock.close();
  }
}

/** Copies the libraries into the user's cache; what is installed already stays as it is. */
function install(result: BuildResult): void {
  const folder = installFolder();
  if (folder === undefined) throw new Error("Cannot install: HOME and NEEDLE_CACHE_DIR are unset");
  Deno.mkdirSync(folder, { recursive: true });
  const files = result.built.map((name) => libraryFileName(name));
  if (files.length > 0) files.unshift(libraryFileName("spin"));
  if (result.built.includes("dnnl") && exists(`${BUILD}/${ONEDNN_LIBRARY}`)) {
    files.unshift(ONEDNN_LIBRARY);
  }
  for (const file of files) {
    const target = `${folder}/${file}`;
    if (exists(target)) {
      say("install", `${target} is there already`);
      continue;
    }
    const temporary = `${target}.${Deno.pid}.tmp`;
    Deno.copyFileSync(`${BUILD}/${file}`, temporary);
    Deno.renameSync(temporary, target);
    say("install", target);
  }
}

/** Writes mod.ts and everything it imports as one ESM file: where told, or dist/needle.js unless it is up to date. */
async function bundle(file: string | undefined): Promise<void> {
  // Loaded here: the bundler comes from npm, and no other build needs it.
  const { ensureBundle, writeBundle } = await import("./lib/tools/bundle.ts");
  const written = file === undefined
    ? await ensureBundle(ROOT)
    : await writeBundle(`${ROOT}/mod.ts`, file);
  const kb = (n: number): number => Math.round(n / 1000);
  say(
    "bundle",
    `${file ?? `${ROOT}/dist/needle.js`} ` +
      (written === null
        ? "is up to date"
        : `(${kb(written.bytes)} KB, ${kb(written.gzipped)} KB gzipped), its source map and types`),
  );
}

/** Makes an npm package of the bundle. */
async function pack(dryRun: boolean): Promise<void> {
  const { writePackage } = await import("./lib/tools/bundle.ts");
  say("pack", await writePackage(ROOT, dryRun));
}

async function main(args: readonly string[]): Promise<number> {
  const known =
    "--install --bundle --pack --dry-run --cuda --cuda-emulated --cuda-sanitized --wasm --check " +
    "--install-compiler --force --quiet --help";
  const bundleAt = args.indexOf("--bundle");
  const named = bundleAt >= 0 ? args[bundleAt + 1] : undefined;
  const output = named === undefined || named.startsWith("-") ? undefined : named;
  const unknown = args.find((arg, i) =>
    !known.split(" ").includes(arg.replace(/^--cuda=.*/, "--cuda")) &&
    (output === undefined || i !== bundleAt + 1)
  );
  if (unknown !== undefined) {
    console.error(`Unknown option ${unknown}; deno task build --help lists the options`);
    return 2;
  }
  if (args.includes("--help")) {
    console.log(HELP);
    return 0;
  }
  const quiet = args.includes("--quiet");
  if (quiet) sayOnStandardError();
  try {
    if (bundleAt >= 0) {
      await bundle(output);
      return 0;
    }
    if (args.includes("--pack")) {
      await pack(args.includes("--dry-run"));
      return 0;
    }
    if (args.includes("--wasm")) {
      await buildWasm(args.includes("--check"));
      return 0;
    }
    const cuda = args.find((arg) => /^--cuda(=|$)/.test(arg));
    const result = await ensureBuilt({
      ...(cuda === undefined ? {} : { cuda: cuda.slice("--cuda=".length) }),
      cudaEmulated: args.includes("--cuda-emulated"),
      cudaSanitized: args.includes("--cuda-sanitized"),
      installCompiler: args.includes("--install-compiler"),
      force: args.includes("--force"),
      quiet,
    });
    if (args.includes("--install")) install(result);
    return 0;
  } catch (error) {
    console.error(message(error));
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
