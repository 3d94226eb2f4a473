/**
 * Zip archives as NumPy and PyTorch write them: stored or deflated members, zip64 for large ones.
 * The reader goes by the central directory, checks that members follow one another without overlap
 * or gap, and verifies sizes and checksums; the writer gives an archive in pieces.
 */

import { crc32 } from "./crc32.ts";
import { decodeText, malformed } from "./record.ts";

/** One member of an archive that was read. */
export interface ZipEntry {
  /** Its path in the archive. */
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  /** Bytes once unpacked. */
  readonly size: number;
  /** Checksum of the unpacked bytes. */
  readonly crc: number;
  /** The bytes as they stand in the archive. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/** One member of an archive to be written. */
export interface ZipInput {
  /** Its path in the archive. */
  readonly name: string;
  /** Its contents, in pieces. */
  readonly pieces: readonly Uint8Array<ArrayBuffer>[];
}

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const FULL16 = 0xffff;
const FULL32 = 0xffffffff;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED_FLAG = 1;
const DESCRIPTOR_FLAG = 8;
const UTF8_FLAG = 0x800;
/** Sizes of the record that may follow a member whose sizes were unknown at its start. */
const DESCRIPTOR_BYTES: ReadonlySet<number> = new Set([0, 12, 16, 20, 24]);
/** deflate makes no more than 1032 bytes out of one. */
const MAX_DEFLATE_RATIO = 1032;

/** Where the central directory lies. */
interface Directory {
  readonly count: number;
  readonly begin: number;
  readonly end: number;
}

/**
 * Lists a zip archive.
 *
 * @param bytes the whole archive
 * @param file its name, for error messages
 * @returns its members in the directory's order; their data are views on `bytes`
 * @throws Error where the archive is damaged, encrypted, in several volumes, or has a name twice
 */
export function parseZip(bytes: Uint8Array<ArrayBuffer>, file: string): ZipEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const directory = findDirectory(view, file);
  const entries: ZipEntry[] = [];
  const names = new Set<string>();
  const regions: Region[] = [];
  let at = directory.begin;
  for (let i = 0; i < directory.count; i++) {
    if (at + 46 > directory.end || view.getUint32(at, true) !== CENTRAL) {
      throw malformed(file, `entry ${i} of the zip directory is damaged`);
    }
    const next = at + 46 + view.getUint16(at + 28, true) + view.getUint16(at + 30, true) +
      view.getUint16(at + 32, true);
    if (next > directory.end) throw malformed(file, `entry ${i} of the zip directory is cut short`);
    const { entry, region } = readMember(bytes, view, at, directory.begin, file);
    if (names.has(entry.name)) throw malformed(file, `the member "${entry.name}" stands twice`);
    names.add(entry.name);
    entries.push(entry);
    regions.push(region);
    at = next;
  }
  if (at !== directory.end) throw malformed(file, "the zip directory has trailing bytes");
  checkRegions(regions, directory.begin, file);
  return entries;
}

function findDirectory(view: DataView, file: string): Directory {
  const size = view.byteLength;
  // The end record is 22 bytes and a comment, whose length must reach the file's end exactly.
  let end = size - 22;
  const lowest = Math.max(0, end - FULL16);
  while (end >= lowest) {
    if (view.getUint32(end, true) === END && view.getUint16(end + 20, true) === size - end - 22) {
      break;
    }
    end--;
  }
  if (end < lowest) {
    throw malformed(file, "it is no zip archive, or it is cut short or has trailing bytes");
  }
  let count = view.getUint16(end + 10, true);
  let length = view.getUint32(end + 12, true);
  let begin = view.getUint32(end + 16, true);
  let stop = end;
  if (end >= 20 && view.getUint32(end - 20, true) === LOCATOR64) {
    stop = getSize(view, end - 12, file);
    if (stop + 56 > end - 20 || view.getUint32(stop, true) !== END64) {
      throw malformed(file, "the zip64 end record is damaged");
    }
    if (getSize(view, stop + 4, file) !== end - 20 - stop - 12) {
      throw malformed(file, "the zip64 end record has a wrong length");
    }
    count = getSize(view, stop + 32, file);
    length = getSize(view, stop + 40, file);
    begin = getSize(view, stop + 48, file);
  } else if (view.getUint32(end + 4, true) !== 0) {
    throw malformed(file, "it is one volume of a zip archive in several");
  }
  if (begin + length !== stop) throw malformed(file, "the zip directory has a wrong place or size");
  return { count, begin, end: stop };
}

/** A 64-bit number that must be a possible size. */
function getSize(view: DataView, at: number, file: string): number {
  const value = Number(view.getBigUint64(at, true));
  if (value > Number.MAX_SAFE_INTEGER) throw malformed(file, `a zip64 size is ${value}`);
  return value;
}

/** From a member's local header to its last byte, and what may stand after it. */
interface Region {
  readonly name: string;
  readonly begin: number;
  readonly end: number;
  readonly described: boolean;
}

function readMember(
  bytes: Uint8Array<ArrayBuffer>,
  view: DataView,
  at: number,
  limit: number,
  file: string,
): { entry: ZipEntry; region: Region } {
  const flags = view.getUint16(at + 8, true);
  const method = view.getUint16(at + 10, true);
  const crc = view.getUint32(at + 16, true);
  const nameEnd = at + 46 + view.getUint16(at + 28, true);
  const name = decodeText(file, "the name of a member", bytes.subarray(at + 46, nameEnd));
  const what = `member "${name}"`;
  if (flags & ENCRYPTED_FLAG) throw malformed(file, `${what} is encrypted`);
  if (method !== STORED && method !== DEFLATED) {
    throw malformed(file, `${what} has compression method ${method}; known are 0 and 8`);
  }
  // Sizes that are full stand in the zip64 field instead, in this order.
  const sizes = [view.getUint32(at + 24, true), view.getUint32(at + 20, true)];
  sizes.push(view.getUint32(at + 42, true));
  let wide = findWideSizes(view, nameEnd, view.getUint16(at + 30, true));
  const [size = 0, packed = 0, begin = 0] = sizes.map((value) => {
    if (value !== FULL32) return value;
    if (wide === undefined || wide.begin + 8 > wide.end) {
      throw malformed(file, `${what} lacks its zip64 sizes`);
    }
    const found = getSize(view, wide.begin, file);
    wide = { begin: wide.begin + 8, end: wide.end };
    return found;
  });
  if (begin + 30 > limit || view.getUint32(begin, true) !== LOCAL) {
    throw malformed(file, `${what} has no header at byte ${begin}`);
  }
  const localName = bytes.subarray(begin + 30, begin + 30 + view.getUint16(begin + 26, true));
  const dataBegin = begin + 30 + localName.length + view.getUint16(begin + 28, true);
  const end = dataBegin + packed;
  if (end > limit) throw malformed(file, `${what} reaches past byte ${limit}: its size is wrong`);
  const sameName = decodeText(file, "the name of a member", localName) === name;
  if (!sameName || view.getUint16(begin + 8, true) !== method) {
    throw malformed(file, `${what} disagrees with its own header`);
  }
  if (method === STORED ? packed !== size : size > packed * MAX_DEFLATE_RATIO) {
    throw malformed(file, `${what} has ${packed} bytes, which cannot stand for ${size}`);
  }
  return {
    entry: { name, method, size, crc, data: bytes.subarray(dataBegin, end) },
    region: { name, begin, end, described: (flags & DESCRIPTOR_FLAG) !== 0 },
  };
}

/** The zip64 field among a member's extra fields. */
function findWideSizes(
  view: DataView,
  begin: number,
  length: number,
): { begin: number; end: number } | undefined {
  const stop = begin + length;
  for (let at = begin; at + 4 <= stop;) {
    const end = at + 4 + view.getUint16(at + 2, true);
    if (view.getUint16(at, true) === 1 && end <= stop) return { begin: at + 4, end };
    at = end;
  }
  return undefined;
}

/** Checks that the members follow one another from the first byte to the directory. */
function checkRegions(regions: Region[], limit: number, file: string): void {
  regions.sort((a, b) => a.begin - b.begin);
  let end = 0;
  let described = false;
  const check = (begin: number, what: string): void => {
    const gap = begin - end;
    if (gap < 0) throw malformed(file, `${what} overlaps what stands before it`);
    if (described ? !DESCRIPTOR_BYTES.has(gap) : gap > 0) {
      throw malformed(file, `${what} has ${gap} stray bytes before it`);
    }
  };
  for (const region of regions) {
    check(region.begin, `member "${region.name}"`);
    end = region.end;
    described = region.described;
  }
  check(limit, "the zip directory");
}

/**
 * Unpacks a member.
 *
 * @param entry the member
 * @param file the archive's name, for error messages
 * @returns its contents: a view on the archive's bytes if it is stored
 * @throws Error where size or checksum differ from the directory's
 */
export async function readZipEntry(
  entry: ZipEntry,
  file: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = entry.method === STORED ? entry.data : await inflate(entry, file);
  if (crc32(bytes) !== entry.crc) {
    throw malformed(file, `member "${entry.name}" is damaged: its checksum differs`);
  }
  return bytes;
}

async function inflate(entry: ZipEntry, file: string): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const piece of pipe([entry.data], new DecompressionStream("deflate-raw"))) {
      pieces.push(piece);
      length += piece.length;
      if (length > entry.size) break;
    }
  } catch {
    throw malformed(file, `member "${entry.name}" is damaged: it cannot be unpacked`);
  }
  if (length !== entry.size) {
    throw malformed(file, `member "${entry.name}" does not unpack to its ${entry.size} bytes`);
  }
  return join(pieces, length);
}

/** Sends bytes through a (de)compressor; leaving the loop early cancels it. */
async function* pipe(
  pieces: readonly Uint8Array<ArrayBuffer>[],
  transform: TransformStream<BufferSource, Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const source = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller): void {
      for (const piece of pieces) if (piece.length > 0) controller.enqueue(piece);
      controller.close();
    },
  });
  const reader = source.pipeThrough(transform).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function join(pieces: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

/** How an archive is written. */
export interface ZipOptions {
  /** Deflate the members. */
  readonly compressed: boolean;
  /** Use zip64 records even where the sizes are small. */
  readonly zip64?: boolean;
}

/**
 * Lays out a zip archive.
 *
 * @param inputs the members
 * @param options see {@linkcode ZipOptions}
 * @param file the archive's name, for error messages
 * @returns the archive, in pieces
 * @throws Error for a name that stands twice or is longer than 65,535 bytes
 */
export async function formatZip(
  inputs: readonly ZipInput[],
  options: ZipOptions,
  file: string,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const central: Uint8Array<ArrayBuffer>[] = [];
  const names = new Set<string>();
  let at = 0;
  for (const input of inputs) {
    const name = new TextEncoder().encode(input.name);
    if (name.length > FULL16 || names.has(input.name)) {
      throw new Error(`Cannot write ${file}: two members "${input.name}", or too long a name`);
    }
    names.add(input.name);
    const size = totalLength(input.pieces);
    const crc = input.pieces.reduce((before, piece) => crc32(piece, before), 0);
    const data = options.compressed ? await deflate(input.pieces) : input.pieces;
    const packed = totalLength(data);
    const member: Member = {
      name,
      method: options.compressed ? DEFLATED : STORED,
      crc,
      size,
      packed,
      at,
    };
    const wide = options.zip64 === true || Math.max(size, packed, at) >= FULL32;
    const head = formatHeader(member, wide, false);
    pieces.push(head, ...data);
    central.push(formatHeader(member, wide, true));
    at += head.length + packed;
  }
  const length = totalLength(central);
  const wide = options.zip64 === true || inputs.length >= FULL16 || at + length >= FULL32;
  return [...pieces, ...central, formatEnd(inputs.length, at, length, wide)];
}

async function deflate(
  pieces: readonly Uint8Array<ArrayBuffer>[],
): Promise<Uint8Array<ArrayBuffer>[]> {
  const packed: Uint8Array<ArrayBuffer>[] = [];
  for await (const piece of pipe(pieces, new CompressionStream("deflate-raw"))) packed.push(piece);
  return packed;
}

function totalLength(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((length, piece) => length + piece.length, 0);
}

interface Member {
  readonly name: Uint8Array;
  readonly method: number;
  readonly crc: number;
  readonly size: number;
  readonly packed: number;
  readonly at: number;
}

/** A member's local header, or its entry in the central directory. */
function formatHeader(m: Member, wide: boolean, central: boolean): Uint8Array<ArrayBuffer> {
  const sizes = central ? [m.size, m.packed, m.at] : [m.size, m.packed];
  const extra = wide ? 4 + 8 * sizes.length : 0;
  const fixed = central ? 46 : 30;
  const bytes = new Uint8Array(fixed + m.name.length + extra);
  const view = new DataView(bytes.buffer);
  const version = wide ? 45 : 20;
  view.setUint32(0, central ? CENTRAL : LOCAL, true);
  if (central) view.setUint16(4, version, true);
  const at = central ? 6 : 4; // from here on both have the same fields
  view.setUint16(at, version, true);
  view.setUint16(at + 2, UTF8_FLAG, true);
  view.setUint16(at + 4, m.method, true);
  view.setUint16(at + 8, (1 << 5) | 1, true); // 1 January 1980: the same input gives the same file
  view.setUint32(at + 10, m.crc, true);
  view.setUint32(at + 14, wide ? FULL32 : m.packed, true);
  view.setUint32(at + 18, wide ? FULL32 : m.size, true);
  view.setUint16(at + 22, m.name.length, true);
  view.setUint16(at + 24, extra, true);
  if (central) view.setUint32(42, wide ? FULL32 : m.at, true);
  bytes.set(m.name, fixed);
  if (wide) {
    const field = fixed + m.name.length;
    view.setUint16(field, 1, true);
    view.setUint16(field + 2, 8 * sizes.length, true);
    sizes.forEach((size, i) => view.setBigUint64(field + 4 + 8 * i, BigInt(size), true));
  }
  return bytes;
}

function formatEnd(
  count: number,
  begin: number,
  length: number,
  wide: boolean,
): Uint8Array<ArrayBuffer> {
  const end = wide ? 76 : 0;
  const bytes = new Uint8Array(end + 22);
  const view = new DataView(bytes.buffer);
  if (wide) {
    view.setUint32(0, END64, true);
    view.setBigUint64(4, 44n, true);
    view.setUint16(12, 45, true);
    view.setUint16(14, 45, true);
    view.setBigUint64(24, BigInt(count), true);
    view.setBigUint64(32, BigInt(count), true);
    view.setBigUint64(40, BigInt(length), true);
    view.setBigUint64(48, BigInt(begin), true);
    view.setUint32(56, LOCATOR64, true);
    view.setBigUint64(64, BigInt(begin + length), true);
    view.setUint32(72, 1, true);
  }
  view.setUint32(end, END, true);
  view.setUint16(end + 8, wide ? FULL16 : count, true);
  view.setUint16(end + 10, wide ? FULL16 : count, true);
  view.setUint32(end + 12, wide ? FULL32 : length, true);
  view.setUint32(end + 16, wide ? FULL32 : begin, true);
  return bytes;
}
