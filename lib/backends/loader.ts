/**
 * Where the native libraries are and how their symbols are opened. Searched in this order:
 * `NEEDLE_<BACKEND>_PATH`, `build/` beside the package, the user's cache (one folder per version, ABI
 * hash and platform). Nothing throws for a library that cannot be used: the reason is the result.
 * Permissions are queried, never asked for, and `--allow-ffi=<folder>` is enough.
 * @module
 */
import { abiHash } from "../abi.ts";
import { env } from "../env.ts";

/** The backends that are native libraries. */
export type NativeBackend = "cpu" | "dnnl" | "cuda" | "cudaemu";

/** A usable library (`path`), or why there is none (`reason`). */
export type Located =
  | { readonly path: string; readonly reason?: undefined }
  | { readonly path?: undefined; readonly reason: string };

/** What a library says about itself. */
export interface LibraryInfo {
  /** Version of the library. */
  readonly version: string;
  /** Instruction set level that its kernels use. */
  readonly isa: string;
  /** Number of threads. */
  readonly threads: number;
  /** Name of the library, with the version of what it is built on. */
  readonly library: string;
}

/** The version of this package, which names the folder of installed libraries. */
export const VERSION = "0.1.0";

/** File names of libraries by operating system: prefix, suffix and what a missing file is called. */
const LIBRARY_NAMES: Readonly<Record<string, readonly [prefix: string, suffix: string]>> = {
  linux: ["lib", ".so"],
  android: ["lib", ".so"],
  freebsd: ["lib", ".so"],
  darwin: ["lib", ".dylib"],
  windows: ["", ".dll"],
};

/** The variables that name a library's file; the emulation of CUDA is for tests and lies in build/. */
const PATH_VARIABLES = {
  cpu: "NEEDLE_CPU_PATH",
  dnnl: "NEEDLE_DNNL_PATH",
  cuda: "NEEDLE_CUDA_PATH",
  cudaemu: null,
} as const satisfies Record<NativeBackend, string | null>;

/** What builds a library. */
const BUILD_COMMANDS: Readonly<Record<NativeBackend, string>> = {
  cpu: "deno task build",
  dnnl: "deno task build",
  cuda: "deno task build --cuda",
  cudaemu: "deno task build --cuda-emulated",
};

/** The file name of a library on this system: `libneedle_cpu.so`, `needle_cpu.dll`, ... */
export function libraryFileName(library: NativeBackend | "spin"): string {
  const [prefix, suffix] = LIBRARY_NAMES[Deno.build.os] ?? ["lib", ".so"];
  return `${prefix}needle_${library}${suffix}`;
}

/** The folder `build/` beside the package, or undefined where the package is not a local file. */
export function buildFolder(): string | undefined {
  if (!import.meta.url.startsWith("file:")) return undefined;
  // In the bundle this module is dist/needle.js, one level below the root instead of two.
  const inPlace = /\/lib\/backends\/loader\.[jt]s$/.test(import.meta.url);
  const url = new URL(inPlace ? "../../build" : "../build", import.meta.url);
  const path = decodeURIComponent(url.pathname);
  return Deno.build.os === "windows" ? path.replace(/^\//, "") : path;
}

/** Needle's folder in the user's cache, or undefined where the environment does not tell. */
export function cacheFolder(): string | undefined {
  const own = env("NEEDLE_CACHE_DIR");
  if (own !== undefined) return own;
  const home = env("HOME");
  switch (Deno.build.os) {
    case "windows": {
      const local = env("LOCALAPPDATA");
      return local === undefined ? undefined : `${local}/needle`;
    }
    case "darwin":
      return home === undefined ? undefined : `${home}/Library/Caches/needle`;
    default: {
      const cache = env("XDG_CACHE_HOME") ?? (home === undefined ? undefined : `${home}/.cache`);
      return cache === undefined ? undefined : `${cache}/needle`;
    }
  }
}

/** The folder of the libraries installed for this version, ABI and platform, or undefined. */
export function installFolder(): string | undefined {
  const cache = cacheFolder();
  const { os, arch } = Deno.build;
  return cache === undefined
    ? undefined
    : `${cache}/libraries/${VERSION}-${abiHash()}-${os}-${arch}`;
}

// Every handle is kept: a library is never closed, since its OpenMP threads may still be running.
const handles: unknown[] = [];

/** Opens symbols of a library with the call signatures of `definitions`. */
export function open<const S extends Deno.ForeignLibraryInterface>(
  path: string,
  definitions: S,
): Deno.DynamicLibrary<S>["symbols"] {
  const library = Deno.dlopen(path, definitions);
  handles.push(library);
  return library.symbols;
}

/**
 * Opens one symbol by its own `dlopen`: opening costs 0.1 to 0.7 ms each, so every symbol waits for
 * its first use.
 *
 * @throws {Error} If the library has no such symbol.
 */
export function openSymbol<const D extends Deno.ForeignFunction>(
  path: string,
  name: string,
  definition: D,
): Deno.DynamicLibrary<{ symbol: D }>["symbols"]["symbol"] {
  const symbols = open(path, { symbol: { ...definition, name } });
  return symbols.symbol as Deno.DynamicLibrary<{ symbol: D }>["symbols"]["symbol"];
}

/** Calls a function `(buffer, capacity)` of a library that copies text out and returns its length. */
function readText(path: string, name: string, capacity: number): string {
  const copyText = openSymbol(path, name, { parameters: ["buffer", "f64"], result: "i32" });
  const buffer = new Uint8Array(capacity);
  const length = Math.max(0, Math.min(capacity, copyText(buffer, capacity)));
  return new TextDecoder().decode(buffer.subarray(0, length));
}

/** The text of the last error in the library. */
export function lastError(path: string): string {
  return readText(path, "needle_last_error", 1024);
}

/** What the library says about itself: version, instruction set, threads. */
export function libraryInfo(path: string): LibraryInfo {
  return JSON.parse(readText(path, "needle_info", 2048)) as LibraryInfo;
}

/** Sets the number of threads of the library. */
export function setLibraryThreads(path: string, threads: number): void {
  openSymbol(path, "needle_set_threads", { parameters: ["i32"], result: "i32" })(threads);
}

let largePages: ((memory: ArrayBuffer, bytes: number) => number) | null = null;

/**
 * Asks the system to back `memory`, which begins at a page boundary and was not touched yet, with large pages: kernels
 * that go down the rows of a matrix touch a page a row. The library at `path` makes the call; refusal does no harm.
 */
export function askForLargePages(path: string, memory: ArrayBuffer): void {
  largePages ??= openSymbol(path, "needle_large_pages", {
    parameters: ["buffer", "f64"],
    result: "i32",
  });
  largePages(memory, memory.byteLength);
}

function granted(path: string): boolean {
  return Deno.permissions.querySync({ name: "ffi", path }).state === "granted";
}

function folderOf(path: string): string {
  return path.replace(/[/\\][^/\\]*$/, "");
}

let spinningLimited = false;

/**
 * Bounds how long idle OpenMP threads spin. It must run before the OpenMP runtime is loaded, which is
 * why it lives in a library of its own, beside the others; where that is missing nothing is lost but
 * speed on a machine whose cores are busy with something else.
 */
function limitSpinning(folder: string): void {
  if (spinningLimited) return;
  const path = `${folder}/${libraryFileName("spin")}`;
  if (!granted(path)) return;
  try {
    openSymbol(path, "needle_limit_spinning", { parameters: [], result: "i32" })();
    spinningLimited = true;
  } catch {
    // Not there: libraries that a user built or copied one by one need not have it.
  }
}

const NOT_FOUND = "not found";

/** Undefined if the library at `path` can be used, else why not; `command` would build it. */
function refusal(path: string, command: string): string | undefined {
  if (!granted(path)) return `FFI is not permitted; run with --allow-ffi=${folderOf(path)}`;
  limitSpinning(folderOf(path));
  let hash: string;
  try {
    const copyHash = openSymbol(path, "needle_abi_hash", { parameters: ["buffer"], result: "i32" });
    const buffer = new Uint8Array(16);
    copyHash(buffer);
    hash = new TextDecoder().decode(buffer);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const missing = text.includes(path) && /no such file|cannot open shared object/i.test(text);
    return missing ? NOT_FOUND : text.replace(/^(Could not open library: )+/, "");
  }
  const needed = abiHash();
  if (hash === needed) return undefined;
  return `its ABI hash is ${hash} but this version needs ${needed}; run ${command}`;
}

function search(backend: NativeBackend): Located {
  if (typeof Deno === "undefined" || typeof Deno.dlopen !== "function") {
    return { reason: "Native libraries need Deno" };
  }
  const file = libraryFileName(backend);
  const variable = PATH_VARIABLES[backend];
  const command = BUILD_COMMANDS[backend];
  const own = variable === null ? undefined : env(variable);
  if (own !== undefined) {
    const reason = refusal(own, command);
    return reason === undefined
      ? { path: own }
      : { reason: `Cannot load ${own}, named by ${variable}: ${reason}` };
  }
  const tried: string[] = [];
  let missing = true;
  for (const folder of [buildFolder(), installFolder()]) {
    if (folder === undefined) continue;
    const path = `${folder}/${file}`;
    const reason = refusal(path, command);
    if (reason === undefined) return { path };
    missing &&= reason === NOT_FOUND;
    tried.push(`${path}: ${reason}`);
  }
  if (tried.length === 0) {
    return {
      reason: `No place to look for ${file}: this module is remote and HOME is unknown; ` +
        `allow reading HOME (--allow-env=HOME)${
          variable === null ? "" : ` or name the file in ${variable}`
        }`,
    };
  }
  const hint = missing ? `; run ${command}` : "";
  return { reason: `Cannot load ${file}: ${tried.join("; ")}${hint}` };
}

const located = new Map<NativeBackend, Located>();

/**
 * Where the library of a backend is, once it has been opened and its ABI hash found right, or why it
 * cannot be used. The answer is found once and kept.
 */
export function locate(backend: NativeBackend): Located {
  let result = located.get(backend);
  if (result === undefined) {
    result = search(backend);
    located.set(backend, result);
  }
  return result;
}
