/**
 * What every file format here boils down to: named blocks of little-endian bytes with a dtype and a
 * shape. Parsers give records whose bytes are views on the file's; writers take them. Sizes are
 * checked against the bytes that are there, so that no file can ask for more memory than it has.
 */

import { type DType, dtypes } from "../dtype.ts";

/** A tensor as bytes: C order, little-endian. */
export interface TensorRecord {
  /** Its name in the file. */
  readonly name: string;
  /** Its element type. */
  readonly dtype: DType;
  /** Its sizes. */
  readonly shape: readonly number[];
  /** Its elements. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * The error of a file that breaks its format.
 *
 * @param file the file's name
 * @param what what is wrong, beginning with the field
 * @returns an error to throw
 */
export function malformed(file: string, what: string): Error {
  return new Error(`Cannot read ${file}: ${what}`);
}

/**
 * A value from a file as text for an error message, cut where it is long.
 *
 * @param value anything
 * @returns its JSON
 */
export function showValue(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = "a list within itself";
  }
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

/**
 * Checks sizes read from a file.
 *
 * @param file the file's name
 * @param what whose shape it is
 * @param shape the sizes as found
 * @param itemBytes bytes per element
 * @returns bytes that the shape stands for
 * @throws Error unless all sizes are integers ≥ 0 whose product is below 2^53
 */
export function shapeBytes(
  file: string,
  what: string,
  shape: readonly unknown[],
  itemBytes: number,
): number {
  let bytes = itemBytes;
  let empty = false;
  for (const size of shape) {
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
      throw malformed(file, `${what} has the size ${showValue(size)} in its shape`);
    }
    if (size === 0) empty = true;
    else bytes *= size;
    if (bytes > Number.MAX_SAFE_INTEGER) {
      throw malformed(file, `${what} has the impossible shape ${showValue(shape)}`);
    }
  }
  return empty ? 0 : bytes;
}

/**
 * Checks that a bool tensor holds only 0 and 1, which all kernels rely on.
 *
 * @param file the file's name
 * @param record the tensor
 * @throws Error naming the first other value
 */
export function checkBools(file: string, record: TensorRecord): void {
  if (record.dtype !== "bool") return;
  const at = record.bytes.findIndex((byte) => byte > 1);
  if (at >= 0) {
    throw malformed(
      file,
      `bool tensor "${record.name}" holds the byte ${record.bytes[at]}; only 0 and 1 are bools`,
    );
  }
}

/**
 * Checks records before they are written.
 *
 * @param file the file's name
 * @param records what is to be written
 * @throws Error for two equal names, or bytes that do not fit the shape
 */
export function checkRecords(file: string, records: readonly TensorRecord[]): void {
  const names = new Set<string>();
  for (const { name, dtype, shape, bytes } of records) {
    if (names.has(name)) throw new Error(`Cannot write ${file}: two tensors are named "${name}"`);
    names.add(name);
    const expected = shapeBytes(file, `tensor "${name}"`, shape, dtypes[dtype].bytes);
    if (bytes.length !== expected) {
      throw new Error(
        `Cannot write ${file}: tensor "${name}" has ${bytes.length} bytes where its shape ` +
          `[${shape.join(", ")}] of ${dtype} needs ${expected}`,
      );
    }
  }
}

/**
 * Reverses the bytes of every element, in a copy.
 *
 * @param bytes elements of a big-endian file
 * @param itemBytes bytes per element
 * @returns the same elements, little-endian
 */
export function swapBytes(
  bytes: Uint8Array<ArrayBuffer>,
  itemBytes: number,
): Uint8Array<ArrayBuffer> {
  if (itemBytes === 1) return bytes;
  const swapped = bytes.slice().reverse();
  const result = new Uint8Array(bytes.length);
  for (let from = 0, to = bytes.length; from < bytes.length; from += itemBytes) {
    result.set(swapped.subarray(from, from + itemBytes), to -= itemBytes);
  }
  return result;
}

/**
 * Copies a strided tensor into C order.
 *
 * @param source bytes that hold the elements
 * @param itemBytes bytes per element
 * @param shape sizes
 * @param strides elements from one position to the next, per dim
 * @param offset element to start from
 * @returns the elements one after another
 */
export function gatherStrided(
  source: Uint8Array<ArrayBuffer>,
  itemBytes: number,
  shape: readonly number[],
  strides: readonly number[],
  offset: number,
): Uint8Array<ArrayBuffer> {
  const count = shape.reduce((product, size) => product * size, 1);
  const result = new Uint8Array(count * itemBytes);
  const index = new Array<number>(shape.length).fill(0);
  let from = offset;
  for (let to = 0; to < count; to++) {
    for (let b = 0; b < itemBytes; b++) {
      result[to * itemBytes + b] = source[from * itemBytes + b] ?? 0;
    }
    for (let dim = shape.length - 1; dim >= 0; dim--) {
      const stride = strides[dim] ?? 0;
      from += stride;
      if ((index[dim] = (index[dim] ?? 0) + 1) < (shape[dim] ?? 0)) break;
      from -= stride * (shape[dim] ?? 0);
      index[dim] = 0;
    }
  }
  return result;
}

/**
 * Sets a key of an object that came from a file; `"__proto__"` becomes a key like any other.
 *
 * @param target the object
 * @param key its new key
 * @param value the key's value
 */
export function setOwn(target: object, key: string, value: unknown): void {
  Object.defineProperty(target, key, {
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

/**
 * Decodes text that must be UTF-8.
 *
 * @param file the file's name
 * @param what which text it is
 * @param bytes the text
 * @returns the text
 * @throws Error where the bytes are no UTF-8
 */
export function decodeText(file: string, what: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed(file, `${what} is not valid UTF-8`);
  }
}
