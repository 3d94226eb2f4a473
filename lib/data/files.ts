/**
 * File access of the datasets: the same few functions in Deno and Node, through Node's file API, which
 * is fetched when a file is first touched and not before. Where there is no file system, or no
 * permission, files count as not there, with the reason.
 * @module
 */
import { cacheFolder } from "../backends/loader.ts";
import { env } from "../env.ts";

type FileSystem = typeof import("node:fs/promises");
type Crypto = typeof import("node:crypto");
type Url = typeof import("node:url");
type Timers = typeof import("node:timers");

interface Builtins {
  "node:fs/promises": FileSystem;
  "node:crypto": Crypto;
  "node:url": Url;
  "node:timers": Timers;
}

/** One of the built-in modules that Deno and Node share; bundlers do not see it. */
export function builtin<K extends keyof Builtins>(name: K): Builtins[K] {
  const host = globalThis as {
    process?: { getBuiltinModule?: (name: K) => Builtins[K] | undefined };
  };
  const module = host.process?.getBuiltinModule?.(name);
  if (module === undefined) {
    throw new Error(
      "Cannot read or write files here: there is no file system; " +
        "in a browser use the synthetic datasets or a dataset of your own",
    );
  }
  return module;
}

/** True where files can be read at all. */
export function hasFileSystem(): boolean {
  const host = globalThis as { process?: { getBuiltinModule?: unknown } };
  return typeof host.process?.getBuiltinModule === "function";
}

/** The path of a folder given as a path or as a file: URL. */
export function folderPath(folder: string | URL): string {
  if (typeof folder === "string" && folder !== "") return folder;
  if (folder instanceof URL) return builtin("node:url").fileURLToPath(folder);
  throw new TypeError(`Cannot use root ${JSON.stringify(folder)}: a path or a file: URL is needed`);
}

/** The `code` or `name` by which Node and Deno tell kinds of errors apart. */
function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const code = (error as { code?: unknown }).code;
  return typeof code === "string" ? code : error.name;
}

/** The size of a file, or why it cannot be read: it is not there, or a permission is not. */
export async function fileSize(path: string): Promise<number | "missing" | "forbidden"> {
  if (!hasFileSystem()) return "missing";
  try {
    const info = await builtin("node:fs/promises").stat(path);
    return info.isFile() ? info.size : "missing";
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR" || code === "NotFound") return "missing";
    if (["EACCES", "EPERM", "NotCapable", "PermissionDenied", "ERR_ACCESS_DENIED"].includes(code)) {
      return "forbidden";
    }
    throw error;
  }
}

/**
 * On a terminal, asks once for permission to read a folder, where Deno would ask for every file in it.
 * Elsewhere nothing is asked, and a file without permission counts as forbidden.
 */
export async function askToRead(folder: string): Promise<void> {
  if (typeof Deno === "undefined" || !Deno.stdin.isTerminal()) return;
  const descriptor = { name: "read", path: folder } as const;
  const { state } = await Deno.permissions.query(descriptor);
  if (state === "prompt") await Deno.permissions.request(descriptor);
}

/**
 * Reads a whole file whose size is known.
 *
 * @throws {Error} If the file has become shorter.
 */
export async function readWhole(path: string, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(size);
  await readInto(path, bytes);
  return bytes;
}

/** Fills `target` with the bytes of a file that has exactly as many. */
export async function readInto(path: string, target: Uint8Array): Promise<void> {
  const file = await builtin("node:fs/promises").open(path, "r");
  try {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await file.read(target, done, target.length - done, done);
      if (bytesRead === 0) {
        throw new Error(
          `Cannot read ${path}: it ends after ${done} of ${target.length} bytes; ` +
            "delete the file and get it again",
        );
      }
      done += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/** A stream of a file's bytes. */
export async function streamFile(path: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const file = await builtin("node:fs/promises").open(path, "r");
  let position = 0;
  return new ReadableStream({
    async pull(controller): Promise<void> {
      const chunk = new Uint8Array(1 << 20);
      const { bytesRead } = await file.read(chunk, 0, chunk.length, position);
      if (bytesRead === 0) {
        await file.close();
        controller.close();
      } else {
        position += bytesRead;
        controller.enqueue(chunk.subarray(0, bytesRead));
      }
    },
    cancel: (): Promise<void> => file.close(),
  });
}

/** Writes a file under a temporary name and renames it when it is whole. */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const fs = builtin("node:fs/promises");
  const part = `${path}.part`;
  const file = await fs.open(part, "w");
  try {
    let done = 0;
    while (done < bytes.length) {
      done += (await file.write(bytes, done, bytes.length - done, done)).bytesWritten;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  await fs.rename(part, path);
}

/** A folder that may hold datasets, and how it came to be looked at. */
export interface Place {
  /** The folder. */
  readonly folder: string;
  /** What named it, for errors. */
  readonly from: string;
}

/** The folder for downloads when no root is given, or undefined where the environment tells none. */
function cachePlace(): string | undefined {
  if (typeof Deno !== "undefined") {
    const cache = cacheFolder();
    return cache === undefined ? undefined : `${cache}/data`;
  }
  const home = env("HOME");
  const cache = env("NEEDLE_CACHE_DIR") ??
    (home === undefined ? undefined : `${home}/.cache/needle`);
  return cache === undefined ? undefined : `${cache}/data`;
}

/**
 * Where to look for a dataset, in order: only the root if one is given, else `NEEDLE_DATA_DIR` and
 * the cache. Downloads go to `target`.
 */
export function searchPlaces(
  root: string | URL | undefined,
): { places: Place[]; target: string | undefined } {
  if (root !== undefined) {
    const folder = folderPath(root);
    return { places: [{ folder, from: "root" }], target: folder };
  }
  const places: Place[] = [];
  const own = env("NEEDLE_DATA_DIR");
  if (own !== undefined) places.push({ folder: own, from: "NEEDLE_DATA_DIR" });
  const cache = cachePlace();
  if (cache !== undefined) places.push({ folder: cache, from: "the cache" });
  return { places, target: cache };
}

/**
 * The error for a dataset that is nowhere. {@linkcode isMissingDataset} tells it from damaged files.
 *
 * @param title The dataset's name.
 * @param places The folders that were searched.
 * @param forbidden Files that a permission kept from being read.
 */
export function missingDataset(
  title: string,
  places: readonly Place[],
  forbidden: readonly string[],
): Error {
  const searched = places.map(({ folder, from }) => `${folder} (${from})`).join(", ");
  const reason = forbidden.length > 0
    ? `no permission to read ${forbidden[0]}; allow it with --allow-read`
    : places.length > 0
    ? `its files are not in ${searched}`
    : "no root is given and neither NEEDLE_DATA_DIR nor a cache folder is known";
  return new Error(
    `Cannot find ${title}: ${reason}; ` +
      "pass root, set NEEDLE_DATA_DIR, or pass download: true",
    { cause: MISSING },
  );
}

/** The cause of errors that say that a dataset is nowhere, also not on the network. */
export const MISSING: { readonly missingDataset: true } = { missingDataset: true };

/**
 * True if a dataset's function failed because its files are nowhere, and not because they are damaged.
 *
 * ```ts
 * import { CIFAR10 } from "./cifar10.ts";
 * import { isMissingDataset } from "./files.ts";
 * import { syntheticCIFAR10 } from "./synthetic.ts";
 * const train = await CIFAR10({ root: "/nowhere" }).catch((error: unknown) => {
 *   if (isMissingDataset(error)) return syntheticCIFAR10({ length: 100 });
 *   throw error;
 * });
 * console.log(train.length); // 100
 * ```
 */
export function isMissingDataset(error: unknown): boolean {
  return error instanceof Error && error.cause === MISSING;
}
