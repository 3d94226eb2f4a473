/**
 * The one reader of environment variables. `VARIABLES` is the full table of what Needle looks at;
 * `env` reads one of them, typed, in Deno and Node, and finds nothing in a browser. It never asks for
 * a permission: a variable that Deno would have to prompt for counts as unset.
 * @module
 */

/** How the text of a variable is read. */
export type VariableKind = "string" | "count" | "flag" | "list";

/** One row of the table of environment variables. */
export interface Variable {
  /** How the text is read. */
  readonly kind: VariableKind;
  /** What the variable does. */
  readonly doc: string;
  /** Which side reads it: TypeScript through {@linkcode env}, or the native libraries. */
  readonly reader: "typescript" | "native";
}

/** Every environment variable that Needle reads, with its meaning. */
export const VARIABLES = {
  NEEDLE_DEVICE: {
    kind: "string",
    doc: "Default device: dnnl, cpu, wasm, cuda, cuda:1 or reference; unset: the best that loads",
    reader: "typescript",
  },
  NEEDLE_THREADS: {
    kind: "count",
    doc: "Number of threads of the native libraries; unset: one per core",
    reader: "typescript",
  },
  NEEDLE_ISA: {
    kind: "string",
    doc: "Highest instruction set of our own kernels on x86-64: v2, v3 or v4; unset: the machine's",
    reader: "native",
  },
  NEEDLE_DATA_DIR: {
    kind: "string",
    doc: "Folder with datasets, looked at before the cache and before any download",
    reader: "typescript",
  },
  NEEDLE_CPU_PATH: {
    kind: "string",
    doc: "Full file name of the cpu library; nothing else is tried",
    reader: "typescript",
  },
  NEEDLE_DNNL_PATH: {
    kind: "string",
    doc: "Full file name of the dnnl library; nothing else is tried",
    reader: "typescript",
  },
  NEEDLE_CUDA_PATH: {
    kind: "string",
    doc: "Full file name of the cuda library; nothing else is tried",
    reader: "typescript",
  },
  NEEDLE_CUDA_LIBRARIES: {
    kind: "list",
    doc: "Folders of cuBLAS and cuDNN, with commas, looked at first; off: own CUDA kernels alone",
    reader: "typescript",
  },
  NEEDLE_EMULATE: {
    kind: "string",
    doc: "Order of threads in the emulation of CUDA that tests use: up (default) or random:SEED",
    reader: "native",
  },
  NEEDLE_CACHE_DIR: {
    kind: "string",
    doc: "Folder for installed libraries and downloaded data; unset: needle in the user's cache",
    reader: "typescript",
  },
  NEEDLE_REQUIRE: {
    kind: "list",
    doc: "Devices, with commas, that the tests must find: a missing one fails instead of skipping",
    reader: "typescript",
  },
  NEEDLE_CHECK: {
    kind: "flag",
    doc: "1: every op also runs on the reference backend and the results are compared",
    reader: "typescript",
  },
  NEEDLE_EAGER: {
    kind: "flag",
    doc: "1: every op is computed at once, not when its result is read and with those that follow",
    reader: "typescript",
  },
  NEEDLE_LAZY_FROM: {
    kind: "count",
    doc: "Elements from which elementwise results stay pending until they are read (4096)",
    reader: "typescript",
  },
  NEEDLE_PROFILE: {
    kind: "string",
    doc: "File for a Chrome trace of all kernels of the program; a table goes to stderr at the end",
    reader: "typescript",
  },
  HOME: {
    kind: "string",
    doc: "Home folder, to find the user's cache",
    reader: "typescript",
  },
  XDG_CACHE_HOME: {
    kind: "string",
    doc: "The user's cache folder on Linux; unset: ~/.cache",
    reader: "typescript",
  },
  LOCALAPPDATA: {
    kind: "string",
    doc: "The user's cache folder on Windows",
    reader: "typescript",
  },
  NO_COLOR: {
    kind: "string",
    doc: "Any text: progress bars use no colour",
    reader: "typescript",
  },
  CI: {
    kind: "string",
    doc:
      "Any text: the build installs a missing compiler (as root, on Debian); warnings are errors",
    reader: "typescript",
  },
  CXX: {
    kind: "string",
    doc: "The C++ compiler for the build; unset: the first of c++, g++ and clang++ on PATH",
    reader: "typescript",
  },
  PATH: {
    kind: "string",
    doc: "Where the build looks for cmake, a compiler and python",
    reader: "typescript",
  },
} as const satisfies Record<string, Variable>;

/** The name of an environment variable that Needle reads. */
export type VariableName = keyof typeof VARIABLES;

/** What each kind of variable is read as. */
export interface VariableValues {
  /** The text itself. */
  string: string;
  /** A whole number from 1 to 4096. */
  count: number;
  /** 0 or 1. */
  flag: boolean;
  /** Parts between commas, without spaces around them. */
  list: string[];
}

/** The type that {@linkcode env} gives for one variable. */
export type VariableValue<K extends VariableName> = VariableValues[(typeof VARIABLES)[K]["kind"]];

/** The part of Node's `process` that is used where there is no Deno. */
interface ProcessLike {
  readonly env?: Readonly<Record<string, string | undefined>>;
}

function read(name: string): string | undefined {
  if (typeof Deno !== "undefined") {
    const state = Deno.permissions.querySync({ name: "env", variable: name }).state;
    return state === "granted" ? Deno.env.get(name) : undefined;
  }
  const process = (globalThis as { process?: ProcessLike }).process;
  return process?.env?.[name];
}

const PARSERS: { [K in VariableKind]: (text: string, name: string) => VariableValues[K] } = {
  string: (text) => text,
  count: (text, name) => {
    const n = Number(text);
    if (!Number.isInteger(n) || n < 1 || n > 4096) {
      throw new RangeError(`Cannot use ${name}=${text}: a whole number from 1 to 4096 is needed`);
    }
    return n;
  },
  flag: (text, name) => {
    if (text !== "0" && text !== "1") {
      throw new RangeError(`Cannot use ${name}=${text}: 0 or 1 is needed`);
    }
    return text === "1";
  },
  list: (text) => text.split(",").map((s) => s.trim()).filter((s) => s !== ""),
};

/**
 * The value of an environment variable, or undefined where it is unset, empty, or may not be read.
 *
 * ```ts
 * import { env } from "./env.ts";
 * const threads: number | undefined = env("NEEDLE_THREADS");
 * const required: string[] = env("NEEDLE_REQUIRE") ?? [];
 * ```
 *
 * @throws {RangeError} If the text does not fit the variable's kind.
 */
export function env<K extends VariableName>(name: K): VariableValue<K> | undefined {
  const text = read(name)?.trim();
  if (text === undefined || text === "") return undefined;
  return PARSERS[VARIABLES[name].kind](text, name) as VariableValue<K>;
}
