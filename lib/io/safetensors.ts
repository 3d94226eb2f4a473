/**
 * safetensors: eight bytes with the header's length, a JSON header that gives every tensor's dtype,
 * shape and place, then the tensors one after another. The reader refuses all that the format
 * forbids (holes, overlaps, trailing bytes, duplicate names) and gives views on the file's bytes.
 */

import { type DType, dtypes } from "../dtype.ts";
import {
  checkBools,
  checkRecords,
  decodeText,
  malformed,
  shapeBytes,
  showValue,
  type TensorRecord,
} from "./record.ts";
import { parseJson } from "./json.ts";

/** The contents of a safetensors file. */
export interface Safetensors {
  /** The tensors, in the header's order. */
  readonly records: TensorRecord[];
  /** The header's `__metadata__`: text by name. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** The format's own limit for the header, 100 MB. */
const MAX_HEADER_BYTES = 100_000_000;
/** The header key that is no tensor. */
const METADATA_KEY = "__metadata__";

/** The format's names of our dtypes. */
const NAMES: Readonly<Record<DType, string>> = {
  float32: "F32",
  float64: "F64",
  float16: "F16",
  bfloat16: "BF16",
  int32: "I32",
  int64: "I64",
  uint8: "U8",
  bool: "BOOL",
};
const DTYPES: ReadonlyMap<unknown, DType> = new Map(
  Object.entries(NAMES).map(([dtype, name]) => [name, dtype as DType]),
);

/**
 * Reads a safetensors file.
 *
 * @param bytes the whole file
 * @param file its name, for error messages
 * @returns tensors whose bytes are views on `bytes`, and the metadata
 * @throws Error for anything that the format forbids, or a dtype that tensors cannot have
 */
export function parseSafetensors(bytes: Uint8Array<ArrayBuffer>, file: string): Safetensors {
  if (bytes.length < 8) throw malformed(file, `${bytes.length} bytes are too few for safetensors`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw malformed(file, `the header's length ${length} is above ${MAX_HEADER_BYTES} bytes`);
  }
  const start = 8 + Number(length);
  if (start > bytes.length) {
    throw malformed(file, `the header's length ${length} reaches past the file's end`);
  }
  const header = parseHeader(decodeText(file, "the header", bytes.subarray(8, start)), file);

  const data = bytes.subarray(start);
  const metadata = new Map<string, string>();
  const placed: { record: TensorRecord; begin: number }[] = [];
  for (const [name, info] of Object.entries(header)) {
    if (name === METADATA_KEY) readMetadata(info, metadata, file);
    else placed.push(readTensor(name, info, data, file));
  }
  const records = placed.map((entry) => entry.record);
  checkPlaces(placed, data.length, file);
  for (const record of records) checkBools(file, record);
  return { records, metadata };
}

function parseHeader(text: string, file: string): object {
  if (!text.startsWith("{")) throw malformed(file, 'the header does not begin with "{"');
  const header = parseJson(text, "the header", file) as object;
  if (!/} *$/.test(text)) throw malformed(file, "the header is padded with other than spaces");
  return header;
}

function readMetadata(info: unknown, metadata: Map<string, string>, file: string): void {
  if (typeof info !== "object" || info === null || Array.isArray(info)) {
    throw malformed(file, `"${METADATA_KEY}" is not an object`);
  }
  for (const [key, value] of Object.entries(info)) {
    if (typeof value !== "string") throw malformed(file, `metadata "${key}" is not a string`);
    metadata.set(key, value);
  }
}

function readTensor(
  name: string,
  info: unknown,
  data: Uint8Array<ArrayBuffer>,
  file: string,
): { record: TensorRecord; begin: number } {
  const what = `tensor "${name}"`;
  if (typeof info !== "object" || info === null) throw malformed(file, `${what} is not an object`);
  const { dtype: code, shape, data_offsets: offsets } = info as Record<string, unknown>;
  const dtype = DTYPES.get(code);
  if (dtype === undefined) {
    const known = [...DTYPES.keys()].join(", ");
    throw malformed(file, `${what} has dtype ${showValue(code)}; known are ${known}`);
  }
  if (!Array.isArray(shape)) throw malformed(file, `${what} has no shape`);
  const size = shapeBytes(file, what, shape, dtypes[dtype].bytes);
  const [begin, end]: unknown[] = Array.isArray(offsets) && offsets.length === 2 ? offsets : [];
  if (!isOffset(begin) || !isOffset(end) || begin > end) {
    throw malformed(file, `${what} has the data_offsets ${showValue(offsets)}`);
  }
  if (end > data.length) {
    throw malformed(
      file,
      `${what} ends at byte ${end} of ${data.length} bytes of data: the file is cut short`,
    );
  }
  if (end - begin !== size) {
    throw malformed(
      file,
      `${what} has ${end - begin} bytes where its shape ${showValue(shape)} of ${code} ` +
        `needs ${size}`,
    );
  }
  return { record: { name, dtype, shape, bytes: data.subarray(begin, end) }, begin };
}

function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Checks that the tensors fill the data without holes and overlaps. */
function checkPlaces(
  placed: { record: TensorRecord; begin: number }[],
  length: number,
  file: string,
): void {
  let end = 0;
  const order = [...placed].sort((a, b) =>
    a.begin - b.begin || a.record.bytes.length - b.record.bytes.length
  );
  for (const { record, begin } of order) {
    if (begin !== end) {
      const what = begin < end ? "overlaps the tensor before it" : "leaves a hole before it";
      throw malformed(file, `tensor "${record.name}" ${what} (it begins at ${begin}, not ${end})`);
    }
    end += record.bytes.length;
  }
  if (end !== length) throw malformed(file, `${length - end} bytes follow the last tensor`);
}

/**
 * Lays out a safetensors file. Tensors stand in the header as given, and in the data by falling
 * element size, so that every one is aligned.
 *
 * @param records the tensors
 * @param metadata text by name for the header
 * @param file the file's name, for error messages
 * @returns the file, in pieces
 * @throws Error for equal or reserved names, or a header above the format's limit
 */
export function formatSafetensors(
  records: readonly TensorRecord[],
  metadata: ReadonlyMap<string, string>,
  file: string,
): Uint8Array<ArrayBuffer>[] {
  checkRecords(file, records);
  const order = [...records].sort((a, b) => dtypes[b.dtype].bytes - dtypes[a.dtype].bytes);
  const begins = new Map<TensorRecord, number>();
  let end = 0;
  for (const record of order) {
    begins.set(record, end);
    end += record.bytes.length;
  }
  const fields: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${quote(key)}:${quote(value)}`);
    fields.push(`"${METADATA_KEY}":{${pairs.join(",")}}`);
  }
  for (const record of records) {
    if (record.name === METADATA_KEY) {
      throw new Error(`Cannot write ${file}: "${METADATA_KEY}" cannot be a tensor's name`);
    }
    const begin = begins.get(record) ?? 0;
    const info = {
      dtype: NAMES[record.dtype],
      shape: record.shape,
      data_offsets: [begin, begin + record.bytes.length],
    };
    fields.push(`${quote(record.name)}:${JSON.stringify(info)}`);
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new Error(`Cannot write ${file}: its header has more than ${MAX_HEADER_BYTES} bytes`);
  }
  const head = new Uint8Array(8 + length).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, 8);
  return [head, ...order.map((record) => record.bytes)];
}

function quote(text: string): string {
  return JSON.stringify(text);
}
