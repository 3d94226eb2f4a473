/**
 * Readers for the two wrappings that datasets come in: gzip, through the platform's
 * DecompressionStream, and tar, of which only regular files are read. Both bound what they hold, and
 * say which file is damaged and how.
 * @module
 */

/** The stream of bytes of a file or a download. */
export type ByteStream = ReadableStream<Uint8Array<ArrayBuffer>>;

/** A regular file of a tar archive, while the archive is being read. */
export interface TarEntry {
  /** The path inside the archive. */
  readonly name: string;
  /** The number of bytes. */
  readonly size: number;
  /** Reads exactly `target.length` further bytes of the file into `target`. */
  readonly readInto: (target: Uint8Array) => Promise<void>;
}

/** True if the bytes begin as a gzip file does. */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** A stream of the bytes, in one piece. */
export function streamOf(bytes: Uint8Array<ArrayBuffer>): ByteStream {
  return new Blob([bytes]).stream();
}

/** The message of whatever was thrown. */
function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Pulls exact numbers of bytes out of a stream of chunks of any size. */
class ByteReader {
  readonly #chunks: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #wrap: (error: unknown) => Error;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(stream: ByteStream, wrap: (error: unknown) => Error) {
    this.#chunks = stream.getReader();
    this.#wrap = wrap;
  }

  /** Fills `target` as far as the stream goes; the number of bytes read. */
  async fill(target: Uint8Array): Promise<number> {
    let done = 0;
    while (done < target.length && await this.#more()) {
      const piece = this.#chunk.subarray(0, target.length - done);
      target.set(piece, done);
      this.#chunk = this.#chunk.subarray(piece.length);
      done += piece.length;
    }
    return done;
  }

  /** Passes over up to `count` bytes; the number passed over. */
  async skip(count: number): Promise<number> {
    let done = 0;
    while (done < count && await this.#more()) {
      const step = Math.min(count - done, this.#chunk.length);
      this.#chunk = this.#chunk.subarray(step);
      done += step;
    }
    return done;
  }

  async close(): Promise<void> {
    await this.#chunks.cancel().catch(() => {});
  }

  async #more(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      let next;
      try {
        next = await this.#chunks.read();
      } catch (error) {
        throw this.#wrap(error);
      }
      if (next.done) return false;
      this.#chunk = next.value;
    }
    return true;
  }
}

function gzipError(name: string): (error: unknown) => Error {
  return (error) =>
    new Error(
      `Cannot read ${name}: its gzip data is truncated or corrupt (${textOf(error)}); ` +
        "delete the file and get it again",
    );
}

function decompressed(stream: ByteStream): ByteStream {
  return stream.pipeThrough(new DecompressionStream("gzip"));
}

/**
 * Unpacks gzip data.
 *
 * @param bytes The compressed bytes.
 * @param name The file's name, for errors.
 * @param limit The most bytes to accept: a small file that unpacks to more is refused.
 * @throws {Error} If the data are truncated, corrupt or longer than `limit`.
 */
export async function gunzip(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
  limit: number,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  const reader = decompressed(streamOf(bytes)).getReader();
  for (;;) {
    let next;
    try {
      next = await reader.read();
    } catch (error) {
      throw gzipError(name)(error);
    }
    if (next.done) break;
    total += next.value.length;
    if (total > limit) {
      await reader.cancel().catch(() => {});
      throw new Error(`Cannot read ${name}: it unpacks to more than ${limit} bytes`);
    }
    parts.push(next.value);
  }
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const BLOCK = 512;

/** The text of a header field: bytes up to the first zero. */
function fieldText(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

/** The value of an octal header field, or NaN. */
function fieldNumber(header: Uint8Array, start: number, length: number): number {
  const text = fieldText(header, start, length).trim();
  return /^[0-7]+$/.test(text) ? parseInt(text, 8) : NaN;
}

/** The sum of the header's bytes, with spaces for the checksum field itself. */
function headerSum(header: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : header[i]!;
  return sum;
}

/**
 * Reads a .tar.gz file from front to back and hands every regular file to `visit`; what `visit` does
 * not read is passed over. Links and directories are ignored.
 *
 * @param stream The compressed bytes.
 * @param name The archive's name, for errors.
 * @throws {Error} If the archive is truncated or corrupt.
 */
export async function readTarGz(
  stream: ByteStream,
  name: string,
  visit: (entry: TarEntry) => Promise<void>,
): Promise<void> {
  const reader = new ByteReader(decompressed(stream), gzipError(name));
  const broken = (what: string): Error =>
    new Error(`Cannot read ${name}: ${what}; delete the file and get it again`);
  const header = new Uint8Array(BLOCK);
  try {
    for (;;) {
      const got = await reader.fill(header);
      if (got < BLOCK) throw broken("the tar archive ends without its closing blocks");
      if (header.every((byte) => byte === 0)) break;
      if (fieldNumber(header, 148, 8) !== headerSum(header)) {
        throw broken("a header of the tar archive has a wrong checksum");
      }
      const size = fieldNumber(header, 124, 12);
      if (Number.isNaN(size)) throw broken("a header of the tar archive has no valid size");
      const prefix = fieldText(header, 257, 6) === "ustar" ? fieldText(header, 345, 155) : "";
      const path = (prefix === "" ? "" : `${prefix}/`) + fieldText(header, 0, 100);
      let left = size;
      if (header[156] === 0x30 || header[156] === 0) {
        const readInto = async (target: Uint8Array): Promise<void> => {
          if (target.length > left) {
            throw broken(`${path} has ${size} bytes, fewer than it should have`);
          }
          left -= target.length;
          if (await reader.fill(target) < target.length) throw broken(`it ends inside ${path}`);
        };
        await visit({ name: path, size, readInto });
      }
      const rest = left + (BLOCK - size % BLOCK) % BLOCK;
      if (await reader.skip(rest) < rest) throw broken(`it ends inside ${path}`);
    }
  } finally {
    await reader.close();
  }
}
