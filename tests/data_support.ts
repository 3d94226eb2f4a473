/**
 * What the data tests share: asserts with types, folders, tar and gzip makers, a server of bytes, and
 * the datasets that workers load from this module.
 */
import {
  assert as stdAssert,
  assertEquals as stdEquals,
  assertRejects as stdRejects,
  assertThrows as stdThrows,
} from "@std/assert";
import { Dataset } from "../lib/data/mod.ts";
import type { ModuleSpec, SampleKey, SampleRandom } from "../lib/data/mod.ts";
import { tensor } from "../lib/tensor/create.ts";
import type { Tensor } from "../lib/tensor/mod.ts";

/** Bytes of one's own. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Fails unless the condition holds. */
export const assert = stdAssert as (condition: boolean, message?: string) => void;
/** Fails unless the values are deeply equal. */
export const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
/** Fails unless the function throws this error with this text. */
export const assertThrows = stdThrows as (
  f: () => unknown,
  type: ErrorConstructor,
  text: string,
) => void;
/** Fails unless the promise is rejected by this error with this text. */
export const assertRejects = stdRejects as (
  f: () => Promise<unknown>,
  type: ErrorConstructor,
  text: string,
) => Promise<void>;

/** Runs a test in a folder of its own, which is removed afterwards. */
export async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "needle-data-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Compresses bytes. */
export async function gzip(bytes: Bytes): Promise<Bytes> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A tar archive of some files. */
export function tar(files: Readonly<Record<string, Bytes>>): Bytes {
  const blocks: Bytes[] = [];
  const encoder = new TextEncoder();
  for (const [name, bytes] of Object.entries(files)) {
    const header = new Uint8Array(512);
    const put = (text: string, at: number): void => header.set(encoder.encode(text), at);
    put(name, 0);
    put("0000644\0", 100);
    put(`${bytes.length.toString(8).padStart(11, "0")}\0`, 124);
    put("        ", 148);
    put("0ustar\x0000", 156);
    put(`${header.reduce((a, b) => a + b, 0).toString(8).padStart(6, "0")}\0 `, 148);
    blocks.push(header, bytes, new Uint8Array((512 - bytes.length % 512) % 512));
  }
  return concat([...blocks, new Uint8Array(1024)]);
}

/** All pieces in one. */
export function concat(pieces: readonly Uint8Array[]): Bytes {
  const bytes = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** An idx file. */
export function idx(magic: number, dims: readonly number[], values: Uint8Array): Bytes {
  const header = new DataView(new ArrayBuffer(4 + 4 * dims.length));
  header.setUint32(0, magic);
  dims.forEach((dim, i) => header.setUint32(4 + 4 * i, dim));
  return concat([new Uint8Array(header.buffer), values]);
}

/** The SHA-256 of bytes in hexadecimal. */
export async function sha256(bytes: Bytes): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How a {@linkcode ByteServer} answers. */
export interface Answer {
  /** Whether it honours ranges (default true). */
  readonly ranges?: boolean;
  /** Bytes after which the answer ends, although there should be more. */
  readonly breakAfter?: number;
  /** Bytes after which nothing comes any more, while the connection stays. */
  readonly stallAfter?: number;
  /** Another status than 200 or 206. */
  readonly status?: number;
}

/** A server of one file on localhost, which keeps the requested ranges. */
export class ByteServer implements AsyncDisposable {
  /** The Range headers of all requests; null: none. */
  readonly ranges: (string | null)[] = [];
  /** How the next requests are answered, in turn; the last one stays. */
  answers: Answer[] = [{}];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #stop = new AbortController();

  constructor(readonly bytes: Bytes) {
    this.#server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {}, signal: this.#stop.signal },
      (request) => this.#answer(request),
    );
  }

  /** The file's address. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/file`;
  }

  #answer(request: Request): Response {
    const range = request.headers.get("range");
    this.ranges.push(range);
    const answer = this.answers.length > 1 ? this.answers.shift()! : this.answers[0]!;
    if (answer.status !== undefined) return new Response("no", { status: answer.status });
    const asked = answer.ranges === false ? null : /bytes=(\d+)-/.exec(range ?? "");
    const start = Number(asked?.[1] ?? 0);
    const total = this.bytes.length;
    const rest = this.bytes.subarray(start);
    const end = answer.breakAfter ?? answer.stallAfter;
    const body = end === undefined ? rest : new ReadableStream<Uint8Array>({
      start(controller): void {
        controller.enqueue(rest.subarray(0, end));
        if (answer.breakAfter !== undefined) controller.close();
      },
    });
    const headers: Record<string, string> = end === undefined
      ? { "content-length": String(rest.length) }
      : {};
    if (asked === null) return new Response(body, { headers });
    headers["content-range"] = `bytes ${start}-${total - 1}/${total}`;
    return new Response(body, { status: 206, headers });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#server.finished;
  }
}

/** A dataset that workers load from this module: x is [i, epoch], y is i + offset. */
export class Counting extends Dataset<[Tensor, number]> {
  override readonly length: number;

  constructor(length: number, readonly offset = 0) {
    super();
    this.length = length;
  }

  override get(index: number, key?: SampleKey): [Tensor, number] {
    return [tensor([index, key?.epoch ?? -1]), index + this.offset];
  }
}

/** A dataset that tells workers by itself how to make it. */
export class Described extends Counting {
  override describe(): ModuleSpec {
    return { module: import.meta.url, export: "Described", args: [this.length, this.offset] };
  }
}

/** A dataset whose sample 5 cannot be had. */
export class Broken extends Counting {
  override get(index: number, key?: SampleKey): [Tensor, number] {
    if (index === 5) throw new RangeError("sample 5 is broken on purpose");
    return super.get(index, key);
  }
}

/** The same as a function that promises a dataset. */
export function counting(length: number): Promise<Counting> {
  return Promise.resolve(new Counting(length, 100));
}

/** A transform of one's own: adds a number of the sample's own stream to every pixel. */
export function brighten(amount: number): (image: Tensor, random: SampleRandom) => Tensor {
  return (image, random) => {
    const shift = amount * random.uniform();
    const values = Float32Array.from(image.toTypedArray() as Float32Array, (x) => x + shift);
    return tensor(values, { shape: image.shape });
  };
}
