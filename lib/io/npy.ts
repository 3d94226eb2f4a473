/**
 * NumPy's npy format, versions 1 to 3: a magic string, the text of a Python dict with dtype, order
 * and shape, and the elements. Structured and object arrays are refused; nothing is unpickled.
 */

import { type DType, dtypes } from "../dtype.ts";
import { contiguousStrides } from "../shape.ts";
import {
  checkBools,
  checkRecords,
  decodeText,
  gatherStrided,
  malformed,
  shapeBytes,
  showValue,
  swapBytes,
  type TensorRecord,
} from "./record.ts";

const MAGIC = "\x93NUMPY";
/** Far above what plain arrays need: the header of a 64-dimensional one has under 2000 bytes. */
const MAX_HEADER_BYTES = 1 << 20;
/** NumPy aligns the elements to 64 bytes. */
const ALIGNMENT = 64;

/** The format's names of our dtypes, without byte order; it has none for bfloat16. */
const NAMES: Readonly<Record<DType, string | undefined>> = {
  float32: "f4",
  float64: "f8",
  float16: "f2",
  bfloat16: undefined,
  int32: "i4",
  int64: "i8",
  uint8: "u1",
  bool: "b1",
};
const DTYPES: ReadonlyMap<string, DType> = new Map(
  Object.entries(NAMES).flatMap(([dtype, name]) =>
    name === undefined ? [] : [[name, dtype as DType]]
  ),
);

/**
 * Reads an npy file.
 *
 * @param bytes the whole file
 * @param name the name to give the record
 * @param file the file's name, for error messages
 * @returns the array in C order; its bytes are a view on `bytes` where the file has that order
 * @throws Error for a damaged file, or a dtype that tensors cannot have
 */
export function parseNpy(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
  file: string,
): TensorRecord {
  if (bytes.length < 10 || String.fromCharCode(...bytes.subarray(0, 6)) !== MAGIC) {
    throw malformed(file, "it does not begin as an npy file does");
  }
  const version = bytes[6]!;
  if (version < 1 || version > 3 || bytes[7] !== 0) {
    throw malformed(file, `npy version ${version}.${bytes[7]} is unknown; known are 1.0 to 3.0`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const begin = version === 1 ? 10 : 12;
  const length = version === 1
    ? view.getUint16(8, true)
    : bytes.length >= 12
    ? view.getUint32(8, true)
    : 0;
  const start = begin + length;
  if (start > bytes.length) throw malformed(file, "the npy header is cut short");
  if (length > MAX_HEADER_BYTES) throw malformed(file, `the npy header has ${length} bytes`);
  // Versions 1 and 2 are Latin-1, but say nothing in it that is not ASCII.
  const header = decodeText(file, "the npy header", bytes.subarray(begin, start));
  const { descr, fortran, shape } = parseHeader(header, file);

  const dtype = DTYPES.get(descr.slice(1));
  const order = descr.charAt(0);
  if (dtype === undefined || !"<>|=".includes(order)) {
    throw malformed(
      file,
      `its dtype is '${descr}', which tensors do not have; convert it in NumPy to one of ` +
        [...DTYPES.values()].join(", "),
    );
  }
  const itemBytes = dtypes[dtype].bytes;
  const size = shapeBytes(file, "the array", shape, itemBytes);
  if (bytes.length - start !== size) {
    throw malformed(
      file,
      `${bytes.length - start} bytes follow the header where shape ${showValue(shape)} of ` +
        `${dtype} needs ${size}`,
    );
  }
  let data = bytes.subarray(start);
  if (order === ">") data = swapBytes(data, itemBytes);
  if (fortran && shape.length > 1) {
    const strides = contiguousStrides([...shape].reverse()).reverse();
    data = gatherStrided(data, itemBytes, shape, strides, 0);
  }
  const record: TensorRecord = { name, dtype, shape, bytes: data };
  checkBools(file, record);
  return record;
}

interface Header {
  readonly descr: string;
  readonly fortran: boolean;
  readonly shape: number[];
}

/** Reads the header's dict literal, with no more of Python's grammar than NumPy writes. */
function parseHeader(text: string, file: string): Header {
  const found = new Map<string, string>();
  const body = /^\{(.*)\}\s*$/s.exec(text)?.[1];
  const item =
    /\s*(?:'(\w+)'|"(\w+)")\s*:\s*('[^']*'|"[^"]*"|True|False|\([\d\sL,]*\)|\[.*\])\s*(,|$)/sy;
  while (body !== undefined && item.lastIndex < body.trimEnd().length) {
    const match = item.exec(body);
    const key = match?.[1] ?? match?.[2];
    if (match === null || key === undefined) break;
    if (found.has(key)) throw malformed(file, `the npy header has '${key}' twice`);
    found.set(key, match[3] ?? "");
    if (item.lastIndex === body.length) break;
  }
  const descr = found.get("descr");
  const fortran = found.get("fortran_order");
  const shape = found.get("shape");
  if (descr?.startsWith("[")) {
    throw malformed(file, "it holds a structured array, which tensors cannot; save its fields");
  }
  const sizes = shape === undefined ? undefined : parseShape(shape);
  if (
    found.size !== 3 || descr === undefined || !/^['"]/.test(descr) ||
    (fortran !== "True" && fortran !== "False") || sizes === undefined
  ) {
    throw malformed(file, "the npy header is not {'descr', 'fortran_order', 'shape'}");
  }
  return { descr: descr.slice(1, -1), fortran: fortran === "True", shape: sizes };
}

function parseShape(text: string): number[] | undefined {
  if (/^\(\s*\)$/.test(text)) return [];
  // A tuple of one has a comma; old files have long integers (3L).
  if (!/^\(\s*\d+L?\s*,\s*(\d+L?\s*(,\s*\d+L?\s*)*,?\s*)?\)$/.test(text)) return undefined;
  return (text.match(/\d+/g) ?? []).map(Number);
}

/**
 * Lays out an npy file of version 1 (2 for a header that does not fit).
 *
 * @param record the tensor
 * @param file the file's name, for error messages
 * @returns the file, in pieces
 * @throws TypeError for bfloat16, which the format does not have
 */
export function formatNpy(record: TensorRecord, file: string): Uint8Array<ArrayBuffer>[] {
  checkRecords(file, [record]);
  const { dtype, shape } = record;
  const name = NAMES[dtype];
  if (name === undefined) {
    throw new TypeError(
      `Cannot write ${file}: npy has no ${dtype}; convert "${record.name}" by to("float32") first`,
    );
  }
  const order = dtypes[dtype].bytes === 1 ? "|" : "<";
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const dict = `{'descr': '${order}${name}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const version = dict.length + 1 + ALIGNMENT <= 0xffff ? 1 : 2;
  const begin = version === 1 ? 10 : 12;
  const start = Math.ceil((begin + dict.length + 1) / ALIGNMENT) * ALIGNMENT;
  const head = new Uint8Array(start).fill(0x20);
  const text = MAGIC + String.fromCharCode(version, 0);
  for (let i = 0; i < text.length; i++) head[i] = text.charCodeAt(i);
  const view = new DataView(head.buffer);
  if (version === 1) view.setUint16(8, start - begin, true);
  else view.setUint32(8, start - begin, true);
  new TextEncoder().encodeInto(dict, head.subarray(begin));
  head[start - 1] = 0x0a;
  return [head, record.bytes];
}
