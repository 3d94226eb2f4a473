/**
 * Whole files, read and written, in Deno and in Node; URLs other than `file:` are fetched. A file is
 * written under a temporary name in its folder, flushed to the disk and renamed, so that a file that
 * bears its final name is whole.
 */

/** The file operations used here, of one runtime. */
interface FileSystem {
  read(path: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Makes a new file, which must not exist, and flushes it to the disk. */
  write(path: string, pieces: readonly Uint8Array[]): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
}

/** The part of Node's fs/promises that is used. */
interface NodeFiles {
  readFile(path: string): Promise<Uint8Array<ArrayBuffer>>;
  open(path: string, flags: string): Promise<{
    write(bytes: Uint8Array): Promise<{ bytesWritten: number }>;
    sync(): Promise<void>;
    close(): Promise<void>;
  }>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
}

/** A file's name for messages. */
export function showPath(path: string | URL): string {
  return String(path);
}

/**
 * Reads a whole file.
 *
 * @param path a path, or a URL: `file:` ones are read, others fetched
 * @returns its bytes
 * @throws Error naming the file where it cannot be read
 */
export async function readFile(path: string | URL): Promise<Uint8Array<ArrayBuffer>> {
  const place = locate(path);
  if (typeof place === "string") {
    try {
      return await fileSystem("read", place).read(place);
    } catch (error) {
      throw failure("read", path, error);
    }
  }
  const response = await fetch(place);
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`Cannot read ${place}: the server answers ${response.status}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * Writes a whole file, or leaves what was there untouched.
 *
 * @param path a path or a `file:` URL
 * @param pieces the file's contents
 * @throws Error naming the file where it cannot be written
 */
export async function writeFile(
  path: string | URL,
  pieces: readonly Uint8Array[],
): Promise<void> {
  const place = locate(path);
  if (typeof place !== "string") {
    throw new TypeError(`Cannot write ${place}: only files can be written`);
  }
  const files = fileSystem("write", place);
  const folderEnd = Math.max(place.lastIndexOf("/"), place.lastIndexOf("\\")) + 1;
  const name = `.${place.slice(folderEnd)}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  const temporary = place.slice(0, folderEnd) + name;
  try {
    await files.write(temporary, pieces);
    await files.rename(temporary, place);
  } catch (error) {
    await files.remove(temporary).catch(() => {});
    throw failure("write", path, error);
  }
}

/** A path of the file system, or a URL to fetch. */
function locate(path: string | URL): string | URL {
  if (typeof path !== "string" && !(path instanceof URL)) {
    throw new TypeError(`Cannot use ${typeof path} as a path: it must be a string or a URL`);
  }
  const url = typeof path !== "string"
    ? path
    : /^(https?|file|data|blob):/.test(path)
    ? new URL(path)
    : undefined;
  if (url === undefined) return path;
  if (url.protocol !== "file:") return url;
  const name = decodeURIComponent(url.pathname);
  return /^\/[A-Za-z]:/.test(name) ? name.slice(1) : name; // file:///C:/x is C:/x
}

function failure(action: string, path: string | URL, cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Error(`Cannot ${action} ${showPath(path)}: ${reason}`, { cause });
}

function fileSystem(action: string, path: string): FileSystem {
  const host = globalThis as {
    Deno?: typeof Deno;
    process?: { getBuiltinModule?: (name: string) => unknown };
  };
  if (host.Deno !== undefined) return denoFiles(host.Deno);
  const node = host.process?.getBuiltinModule?.("node:fs/promises");
  if (node !== undefined) return nodeFiles(node as NodeFiles);
  throw new Error(`Cannot ${action} ${path}: there are no files here; give a URL to fetch`);
}

function denoFiles(deno: typeof Deno): FileSystem {
  return {
    read: (path) => deno.readFile(path),
    async write(path, pieces): Promise<void> {
      // Not `using`: Node 20 and many browsers cannot parse it.
      const file = await deno.open(path, { write: true, createNew: true });
      try {
        for (const piece of pieces) {
          for (let at = 0; at < piece.length;) at += await file.write(piece.subarray(at));
        }
        await file.sync();
      } finally {
        file.close();
      }
    },
    rename: (from, to) => deno.rename(from, to),
    remove: (path) => deno.remove(path),
  };
}

function nodeFiles(node: NodeFiles): FileSystem {
  return {
    async read(path): Promise<Uint8Array<ArrayBuffer>> {
      // Node's own Buffer has a slice() that does not copy.
      const { buffer, byteOffset, length } = await node.readFile(path);
      return new Uint8Array(buffer, byteOffset, length);
    },
    async write(path, pieces): Promise<void> {
      const file = await node.open(path, "wx");
      try {
        for (const piece of pieces) {
          for (let at = 0; at < piece.length;) {
            at += (await file.write(piece.subarray(at))).bytesWritten;
          }
        }
        await file.sync();
      } finally {
        await file.close();
      }
    },
    rename: (from, to) => node.rename(from, to),
    remove: (path) => node.unlink(path),
  };
}
