/**
 * Downloads of dataset files. A download grows under the name `<file>.part`, goes on where an earlier
 * one stopped, is compared with the size and SHA-256 that the original site's file has, and only then
 * gets its real name: a file with the real name is always whole.
 * @module
 */
import { tqdm } from "../progress.ts";
import { builtin, fileSize, MISSING } from "./files.ts";

/** A file that can be downloaded. */
export interface RemoteFile {
  /** The name of the local file. */
  readonly name: string;
  /** Where it is, the preferred address first; every one holds the same bytes. */
  readonly urls: readonly string[];
  /** The number of bytes. */
  readonly size: number;
  /** The SHA-256 of the bytes, in lower-case hexadecimal. */
  readonly sha256: string;
}

/** Options of {@linkcode download}. */
export interface DownloadOptions {
  /** Give up on an address when nothing arrives for so long (default 30,000). */
  readonly timeoutMs?: number;
  /** Whether to draw a progress bar on stderr (default true). */
  readonly progress?: boolean;
}

type FileHandle = Awaited<ReturnType<typeof import("node:fs/promises").open>>;

/** A failure of one address, after which the next one may still work. */
class MirrorError extends Error {
  /** True if the bytes of an earlier attempt may be at fault, and not the address. */
  readonly again: boolean;

  constructor(message: string, again = false) {
    super(message);
    this.again = again;
  }
}

async function hashOf(file: FileHandle, size: number): Promise<string> {
  const hash = builtin("node:crypto").createHash("sha256");
  const chunk = new Uint8Array(1 << 20);
  for (let at = 0; at < size;) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, size - at), at);
    if (bytesRead === 0) break;
    hash.update(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash.digest("hex");
}

/** Where the body of a response belongs in the file, after checking that it can be the right file. */
function startOf(response: Response, from: number, remote: RemoteFile): number {
  let start = 0;
  if (response.status === 206) {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
    start = Number(range?.[1] ?? NaN);
    if (start !== from) {
      throw new MirrorError("the server sent another range than the one asked for");
    }
    if (range?.[2] !== "*" && Number(range?.[2]) !== remote.size) {
      throw new MirrorError(`the file there has ${range?.[2]} bytes, not ${remote.size}`);
    }
  } else if (response.status !== 200) {
    throw new MirrorError(`HTTP status ${response.status}`);
  }
  const length = response.headers.get("content-length");
  const encoded = response.headers.has("content-encoding");
  if (length !== null && !encoded && start + Number(length) !== remote.size) {
    throw new MirrorError(`the file there has ${start + Number(length)} bytes, not ${remote.size}`);
  }
  return start;
}

/** Gets the bytes from `from` on and writes each where it belongs. */
async function fetchInto(
  file: FileHandle,
  url: string,
  from: number,
  remote: RemoteFile,
  timeoutMs: number,
  report: (position: number) => void,
): Promise<void> {
  const stalled = new AbortController();
  const giveUp = (): void =>
    stalled.abort(new MirrorError(`nothing arrived for ${timeoutMs / 1000} seconds`));
  let timer = setTimeout(giveUp, timeoutMs);
  try {
    // The bytes must arrive as they are: sizes and ranges of a compressed transfer are others.
    const headers: Record<string, string> = { "accept-encoding": "identity" };
    if (from > 0) headers["range"] = `bytes=${from}-`;
    const response = await fetch(url, { headers, signal: stalled.signal });
    let position: number;
    try {
      position = startOf(response, from, remote);
    } catch (error) {
      await response.body?.cancel();
      throw error;
    }
    for await (const chunk of response.body ?? []) {
      clearTimeout(timer);
      timer = setTimeout(giveUp, timeoutMs);
      if (position + chunk.length > remote.size) {
        throw new MirrorError(`more than ${remote.size} bytes arrived`);
      }
      // Positions are explicit, so that two processes that download the same file write the same.
      for (let done = 0; done < chunk.length;) {
        const written = await file.write(chunk, done, chunk.length - done, position + done);
        done += written.bytesWritten;
      }
      position += chunk.length;
      report(position);
    }
    if (position < remote.size) {
      throw new MirrorError(`the connection ended after ${position} of ${remote.size} bytes`);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Reads and writes, created if it is not there, not emptied if it is. */
async function openPart(path: string): Promise<FileHandle> {
  const fs = builtin("node:fs/promises");
  return await fs.open(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
}

/** Tries one address; returns when the file is whole and verified, and has its name. */
async function fromMirror(
  remote: RemoteFile,
  url: string,
  path: string,
  options: DownloadOptions,
): Promise<void> {
  const fs = builtin("node:fs/promises");
  const part = `${path}.part`;
  const before = await fileSize(part);
  const from = typeof before === "number" && before <= remote.size ? before : 0;
  const file = await openPart(part);
  let verified = false;
  try {
    if (from < remote.size) {
      const bar = tqdm(null, {
        desc: remote.name,
        total: remote.size,
        unit: "B",
        unitScale: true,
        disable: options.progress === false,
      });
      let shown = 0;
      const report = (position: number): void => {
        bar.update(position - shown);
        shown = position;
      };
      try {
        await fetchInto(file, url, from, remote, options.timeoutMs ?? 30_000, report);
      } finally {
        bar.close();
      }
    }
    await file.truncate(remote.size);
    const sha256 = await hashOf(file, remote.size);
    if (sha256 !== remote.sha256) {
      throw new MirrorError(`its SHA-256 is ${sha256}, not ${remote.sha256}`, from > 0);
    }
    verified = true;
    await file.sync();
  } catch (error) {
    // Bytes that are as many as they should be, and wrong, are of no use to a later attempt.
    const size = (await file.stat()).size;
    if (!verified && size >= remote.size) await file.truncate(0);
    throw error;
  } finally {
    await file.close();
  }
  try {
    await fs.rename(part, path);
  } catch (error) {
    // Another process that downloaded the same file at the same time was first.
    if (await fileSize(path) !== remote.size) throw error;
  }
}

/**
 * Downloads a file into a folder, unless a file of that name and size is there already. Goes on where
 * an interrupted download stopped; tries the addresses in order; checks size and SHA-256; renames the
 * file to its name only when it is whole.
 *
 * @param remote The file.
 * @param folder The folder, made if it is not there.
 * @returns The path of the file.
 * @throws {Error} If no address delivers the right bytes: the message has the reason of each.
 */
export async function download(
  remote: RemoteFile,
  folder: string,
  options: DownloadOptions = {},
): Promise<string> {
  const path = `${folder}/${remote.name}`;
  if (await fileSize(path) === remote.size) return path;
  await builtin("node:fs/promises").mkdir(folder, { recursive: true });
  const reasons: string[] = [];
  const urls = [...remote.urls];
  for (let url = urls.shift(); url !== undefined; url = urls.shift()) {
    try {
      await fromMirror(remote, url, path, options);
      return path;
    } catch (error) {
      // fetch reports every network failure as a TypeError; other errors are this machine's.
      if (!(error instanceof MirrorError || error instanceof TypeError)) throw error;
      reasons.push(`${url}: ${error.message}`);
      if (error instanceof MirrorError && error.again) urls.unshift(url);
    }
  }
  throw new Error(
    `Cannot download ${remote.name}: ${reasons.join("; ")}; ` +
      `check the network and run again, or put the file into ${folder} yourself`,
    { cause: MISSING },
  );
}
