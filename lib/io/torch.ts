/**
 * PyTorch's checkpoints (`torch.save` since 1.6): a zip archive with a pickle that describes nested
 * values, and one member of raw bytes per storage. The globals allowed are those that state dicts
 * of tensors need; nothing in a file is executed.
 */

import { type DType, dtypes } from "../dtype.ts";
import { parsePickle, type PickleFunction, type PickleReader, type PickleValue } from "./pickle.ts";
import { checkBools, decodeText, malformed, shapeBytes, showValue, swapBytes } from "./record.ts";
import { parseZip, readZipEntry, type ZipEntry } from "./zip.ts";

/** Memory that tensors of a checkpoint share. */
export class TorchStorage {
  /**
   * @param key its name in the archive
   * @param dtype the element type
   * @param bytes its elements, little-endian: a view on the file's bytes
   */
  constructor(
    readonly key: string,
    readonly dtype: DType,
    readonly bytes: Uint8Array<ArrayBuffer>,
  ) {}
}

/** A tensor of a checkpoint: a strided window on a storage, checked to lie inside. */
export interface TorchTensor {
  /** Where its elements are. */
  readonly storage: TorchStorage;
  /** Sizes. */
  readonly shape: readonly number[];
  /** Elements of the storage from one position to the next, per dim. */
  readonly strides: readonly number[];
  /** Element of the storage to start from. */
  readonly offset: number;
}

/** Makes what stands in the result for a tensor of the checkpoint. */
export type MakeTorchTensor = (tensor: TorchTensor) => unknown;

/** Storage types, and their dtypes. A type stands on the pickle's stack as its name. */
const STORAGES: ReadonlyMap<string, DType> = new Map([
  ["torch.FloatStorage", "float32"],
  ["torch.DoubleStorage", "float64"],
  ["torch.HalfStorage", "float16"],
  ["torch.BFloat16Storage", "bfloat16"],
  ["torch.IntStorage", "int32"],
  ["torch.LongStorage", "int64"],
  ["torch.ByteStorage", "uint8"],
  ["torch.BoolStorage", "bool"],
]);

/** The magic number that files of torch.save before 1.6 begin with, as pickled. */
const LEGACY_MAGIC = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc];

/**
 * Reads a checkpoint.
 *
 * @param bytes the whole file
 * @param makeTensor makes the tensors
 * @param file the file's name, for error messages
 * @returns the value saved: dicts as plain objects, lists and tuples as arrays, None as null
 * @throws Error for a damaged file, an old format, or a global or opcode that is not allowed
 */
export async function parseTorch(
  bytes: Uint8Array<ArrayBuffer>,
  makeTensor: MakeTorchTensor,
  file: string,
): Promise<unknown> {
  if (LEGACY_MAGIC.every((byte, i) => bytes[i] === byte)) {
    throw malformed(file, "it has the format of PyTorch before 1.6; load and save it there again");
  }
  const entries = new Map(parseZip(bytes, file).map((entry) => [entry.name, entry]));
  const pickleName = [...entries.keys()].find((name) => /^[^/]+\/data\.pkl$/.test(name));
  const pickle = pickleName === undefined ? undefined : entries.get(pickleName);
  if (pickleName === undefined || pickle === undefined) {
    throw malformed(file, "it has no data.pkl: it is no checkpoint of torch.save");
  }
  const root = pickleName.slice(0, -"data.pkl".length);
  if (entries.has(`${root}constants.pkl`)) {
    throw malformed(file, "it is a TorchScript program; save its state_dict() by torch.save");
  }
  const bigEndian = await isBigEndian(entries.get(`${root}byteorder`), file);
  const contents = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const [name, entry] of entries) {
    if (!name.startsWith(`${root}data/`)) continue;
    contents.set(name.slice(root.length + 5), await readZipEntry(entry, file));
  }
  const storages = new StorageTable(contents, bigEndian, file);
  const rules = {
    globals: globalTable(makeTensor, file),
    persistent: (id: unknown): TorchStorage => storages.get(id),
  };
  return parsePickle(await readZipEntry(pickle, file), rules, file);
}

async function isBigEndian(entry: ZipEntry | undefined, file: string): Promise<boolean> {
  if (entry === undefined) return false;
  const order = decodeText(file, "the byte order", await readZipEntry(entry, file));
  if (order !== "little" && order !== "big") {
    throw malformed(file, `its byte order is "${order}"; known are "little" and "big"`);
  }
  return order === "big";
}

/** The storages of one file, each read once. */
class StorageTable {
  private readonly read = new Map<string, TorchStorage>();

  constructor(
    private readonly contents: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
    private readonly bigEndian: boolean,
    private readonly file: string,
  ) {}

  /** The storage that a persistent id ("storage", type, key, location, length) names. */
  get(id: unknown): TorchStorage {
    const [kind, type, key, , length]: unknown[] = Array.isArray(id) && id.length === 5 ? id : [];
    const dtype = typeof type === "string" ? STORAGES.get(type) : undefined;
    if (kind !== "storage" || dtype === undefined || typeof key !== "string") {
      throw malformed(this.file, "its pickle refers to something other than a storage");
    }
    const known = this.read.get(key);
    if (known !== undefined) {
      if (known.dtype === dtype) return known;
      throw malformed(this.file, `storage "${key}" is used as ${known.dtype} and as ${dtype}`);
    }
    let bytes = this.contents.get(key);
    if (bytes === undefined) throw malformed(this.file, `storage "${key}" is missing`);
    const itemBytes = dtypes[dtype].bytes;
    const expected = shapeBytes(this.file, `storage "${key}"`, [length], itemBytes);
    if (bytes.length !== expected) {
      throw malformed(
        this.file,
        `storage "${key}" has ${bytes.length} bytes where ${
          showValue(length)
        } elements of ${dtype} ` +
          `need ${expected}`,
      );
    }
    if (this.bigEndian) bytes = swapBytes(bytes, itemBytes);
    checkBools(this.file, { name: `storage ${key}`, dtype, shape: [bytes.length], bytes });
    const storage = new TorchStorage(key, dtype, bytes);
    this.read.set(key, storage);
    return storage;
  }
}

function globalTable(
  makeTensor: MakeTorchTensor,
  file: string,
): ReadonlyMap<string, PickleValue | PickleFunction> {
  const rebuildTensor = (args: readonly unknown[]): unknown => makeTensor(checkTensor(args, file));
  const first = (args: readonly unknown[]): unknown => args[0];
  const table = new Map<string, PickleValue | PickleFunction>([
    ["collections.OrderedDict", { call: makeDict }],
    ["collections.Counter", { call: makeDict }],
    ["torch._utils._rebuild_tensor", { call: rebuildTensor }],
    ["torch._utils._rebuild_tensor_v2", { call: rebuildTensor }],
    ["torch._utils._rebuild_parameter", { call: first }],
    ["torch._utils._rebuild_parameter_with_state", { call: first }],
    ["torch.Size", { call: first }],
    ["torch.device", { call: makeDeviceName }],
  ]);
  for (const name of STORAGES.keys()) table.set(name, { value: name });
  for (const dtype of Object.keys(dtypes)) table.set(`torch.${dtype}`, { value: dtype });
  return table;
}

/** A device as PyTorch writes it: "cuda:0". */
function makeDeviceName(args: readonly unknown[], pickle: PickleReader): string {
  if (!args.every((arg) => typeof arg === "string" || typeof arg === "number")) {
    throw pickle.error("it makes a device of what is no name and number");
  }
  return args.join(":");
}

/** An OrderedDict or Counter: empty, of a dict, or of a list of pairs. */
function makeDict(args: readonly unknown[], pickle: PickleReader): Record<string, unknown> {
  const dict = pickle.newDict();
  const [source = []] = args;
  const items: unknown = pickle.isDict(source) ? Object.entries(source) : source;
  if (!Array.isArray(items)) throw pickle.error("it makes a dict of what is no dict");
  for (const item of items as unknown[]) {
    if (!Array.isArray(item) || item.length !== 2) {
      throw pickle.error("it makes a dict of what are no pairs");
    }
    pickle.setItem(dict, item[0], item[1]);
  }
  return dict;
}

/** Checks the arguments (storage, offset, size, stride, ...) of a tensor. */
function checkTensor(args: readonly unknown[], file: string): TorchTensor {
  const [storage, offset, shape, strides] = args;
  if (!(storage instanceof TorchStorage) || !Array.isArray(shape) || !isSizes(strides)) {
    throw malformed(file, "its pickle makes a tensor of something other than storage and sizes");
  }
  const what = `a tensor of storage "${storage.key}"`;
  const itemBytes = dtypes[storage.dtype].bytes;
  const isEmpty = shapeBytes(file, what, shape as unknown[], itemBytes) === 0;
  const sizes = shape as number[];
  if (!isSizes([offset]) || strides.length !== sizes.length) {
    throw malformed(
      file,
      `${what} has offset ${showValue(offset)} and strides ${showValue(strides)} for its shape ` +
        showValue(sizes),
    );
  }
  const start = offset as number;
  const last = sizes.reduce((at, size, dim) => at + (size - 1) * (strides[dim] ?? 0), start);
  const count = storage.bytes.length / itemBytes;
  if (isEmpty ? start > count : last >= count) {
    throw malformed(file, `${what} reaches to element ${last} of ${count}`);
  }
  // Copies: the pickle may change its lists later on.
  return { storage, shape: [...sizes], strides: [...strides], offset: start };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) &&
    value.every((size: unknown) => Number.isSafeInteger(size) && (size as number) >= 0);
}
