/**
 * Tensors in files: safetensors ({@linkcode save}, {@linkcode load}), NumPy's npy and npz, and
 * PyTorch's checkpoints. Readers take all that the formats allow for the dtypes tensors have and
 * refuse the rest with an error that says what is wrong; writers never leave half a file.
 */

import { defaultDevice, type Device } from "../device.ts";
import { checkOptions } from "../options.ts";
import { contiguousStrides } from "../shape.ts";
import { Storage } from "../storage.ts";
import { makeTensor } from "../tensor/base.ts";
import { Tensor } from "../tensor/mod.ts";
import { readFile, showPath, writeFile } from "./files.ts";
import { formatNpy, parseNpy } from "./npy.ts";
import { formatNpz, parseNpz } from "./npz.ts";
import { setOwn, type TensorRecord } from "./record.ts";
import { formatSafetensors, parseSafetensors } from "./safetensors.ts";
import { flatten, unflatten } from "./structure.ts";
import { parseTorch, type TorchStorage, type TorchTensor } from "./torch.ts";

/** Options of {@linkcode save}. */
export interface SaveOptions {
  /** Text to keep in the file's header, by name. */
  metadata?: Readonly<Record<string, string>> | undefined;
}

/** Options of everything that loads. */
export interface LoadOptions {
  /** Where the tensors go; by default to `defaultDevice()`. */
  device?: Device | undefined;
}

/** Options of {@linkcode saveNpz}. */
export interface SaveNpzOptions {
  /** Deflate the arrays, as `np.savez_compressed` does. */
  compressed?: boolean | undefined;
}

/** The metadata key that holds the nesting of what was saved. */
const STRUCTURE_KEY = "needle.structure";

/**
 * Saves nested plain objects and arrays of tensors, numbers, strings, booleans and null as a
 * safetensors file. A flat state dict gives a file that any safetensors reader understands; in a
 * nested one the tensors have dotted names and the rest is JSON in the header.
 *
 * ```ts
 * import * as ndl from "../../mod.ts";
 *
 * const path = await Deno.makeTempFile();
 * await ndl.save(path, { model: { weight: ndl.tensor([1, 2]) }, epoch: 3 });
 * const { model, epoch } = await ndl.load<
 *   { model: Record<string, ndl.Tensor>; epoch: number }
 * >(path);
 * console.log(model["weight"]?.tolist(), epoch); // [1, 2] 3
 * ```
 *
 * @param path where to; an existing file is replaced when the new one is whole
 * @param state what to save
 * @param options see {@linkcode SaveOptions}
 * @throws TypeError for a value that cannot be saved, naming its place
 */
export async function save(
  path: string | URL,
  state: object,
  options: SaveOptions = {},
): Promise<void> {
  checkOptions("save", options, ["metadata"]);
  const file = showPath(path);
  const { tensors, structure } = flatten(state, isTensor);
  const metadata = new Map<string, string>();
  for (const [key, value] of Object.entries(options.metadata ?? {})) {
    if (typeof value !== "string" || key === STRUCTURE_KEY) {
      throw new TypeError(`Cannot save metadata "${key}": it must be a string of another name`);
    }
    metadata.set(key, value);
  }
  if (structure !== undefined) metadata.set(STRUCTURE_KEY, structure);
  const records = [...tensors].map(([name, tensor]) => toRecord(name, tensor));
  await writeFile(path, formatSafetensors(records, metadata, file));
}

/**
 * Loads a safetensors file: what {@linkcode save} was given, or a flat object of tensors by name.
 *
 * @param path a path or URL
 * @param options see {@linkcode LoadOptions}
 * @returns the tensors, nested as saved; `T` is what the caller expects it to be
 * @throws Error where the file cannot be read or breaks the format
 */
export async function load<T = Record<string, Tensor>>(
  path: string | URL,
  options: LoadOptions = {},
): Promise<T> {
  checkOptions("load", options, ["device"]);
  const file = showPath(path);
  const { records, metadata } = parseSafetensors(await readFile(path), file);
  const tensors = new Map(records.map((r) => [r.name, fromRecord(r, options.device)]));
  const structure = metadata.get(STRUCTURE_KEY);
  return (structure === undefined ? toObject(tensors) : unflatten(structure, tensors, file)) as T;
}

/**
 * Reads the text in the header of a safetensors file.
 *
 * @param path a path or URL
 * @returns text by name
 * @throws Error where the file cannot be read or breaks the format
 */
export async function loadMetadata(path: string | URL): Promise<Record<string, string>> {
  const { metadata } = parseSafetensors(await readFile(path), showPath(path));
  return toObject([...metadata].filter(([key]) => key !== STRUCTURE_KEY));
}

/**
 * Loads an array of NumPy's `np.save`.
 *
 * @param path a path or URL of an npy file
 * @param options see {@linkcode LoadOptions}
 * @returns the array, in C order
 * @throws Error where the file cannot be read or is damaged, and for dtypes that tensors do not have
 */
export async function loadNpy(path: string | URL, options: LoadOptions = {}): Promise<Tensor> {
  checkOptions("loadNpy", options, ["device"]);
  return fromRecord(parseNpy(await readFile(path), "array", showPath(path)), options.device);
}

/**
 * Saves a tensor for NumPy's `np.load`.
 *
 * @param path where to
 * @param tensor what to save; bfloat16 has no place in the format
 * @throws TypeError for bfloat16
 */
export async function saveNpy(path: string | URL, tensor: Tensor): Promise<void> {
  checkTensor("saveNpy", "the value", tensor);
  await writeFile(path, formatNpy(toRecord("array", tensor), showPath(path)));
}

/**
 * Loads the arrays of NumPy's `np.savez` or `np.savez_compressed`.
 *
 * @param path a path or URL of an npz file
 * @param options see {@linkcode LoadOptions}
 * @returns the arrays by name
 * @throws Error where the file cannot be read or is damaged, and for dtypes that tensors do not have
 */
export async function loadNpz(
  path: string | URL,
  options: LoadOptions = {},
): Promise<Record<string, Tensor>> {
  checkOptions("loadNpz", options, ["device"]);
  const records = await parseNpz(await readFile(path), showPath(path));
  return toObject(records.map((r) => [r.name, fromRecord(r, options.device)] as const));
}

/**
 * Saves tensors by name for NumPy's `np.load`.
 *
 * @param path where to
 * @param tensors what to save; bfloat16 has no place in the format
 * @param options see {@linkcode SaveNpzOptions}
 * @throws TypeError for bfloat16
 */
export async function saveNpz(
  path: string | URL,
  tensors: Readonly<Record<string, Tensor>>,
  options: SaveNpzOptions = {},
): Promise<void> {
  checkOptions("saveNpz", options, ["compressed"]);
  const records = Object.entries(tensors).map(([name, tensor]) => {
    checkTensor("saveNpz", `"${name}"`, tensor);
    return toRecord(name, tensor);
  });
  await writeFile(path, await formatNpz(records, options.compressed ?? false, showPath(path)));
}

/**
 * Loads a checkpoint of PyTorch's `torch.save` (1.6 and later). Tensors that share memory in the
 * file share it here. Nothing in the file is executed: pickle opcodes and globals that are not
 * needed for tensors in dicts, lists and tuples are refused by name.
 *
 * @param path a path or URL of a `.pt` or `.pth` file
 * @param options see {@linkcode LoadOptions}
 * @returns what was saved: dicts as plain objects, lists and tuples as arrays, None as null;
 * `T` is what the caller expects it to be
 * @throws Error where the file cannot be read, is damaged, or holds more than plain values
 */
export async function loadTorch<T = Record<string, Tensor>>(
  path: string | URL,
  options: LoadOptions = {},
): Promise<T> {
  checkOptions("loadTorch", options, ["device"]);
  const storages = new Map<TorchStorage, Storage>();
  const make = ({ storage: source, shape, strides, offset }: TorchTensor): Tensor => {
    let storage = storages.get(source);
    if (storage === undefined) {
      storage = toStorage(source.bytes, options.device);
      storages.set(source, storage);
    }
    return makeTensor(storage, shape, strides, offset, source.dtype, -1);
  };
  return await parseTorch(await readFile(path), make, showPath(path)) as T;
}

function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

function checkTensor(name: string, what: string, value: unknown): void {
  if (!isTensor(value)) throw new TypeError(`Cannot ${name}: ${what} is no tensor`);
}

/** A tensor's elements as they are now: later changes do not reach the file being written. */
function toRecord(name: string, tensor: Tensor): TensorRecord {
  const { buffer, byteOffset, byteLength } = tensor._read();
  const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  return { name, dtype: tensor.dtype, shape: tensor.shape, bytes };
}

function fromRecord(record: TensorRecord, device: Device | undefined): Tensor {
  const { dtype, shape, bytes } = record;
  return makeTensor(toStorage(bytes, device), shape, contiguousStrides(shape), 0, dtype, 0);
}

function toStorage(bytes: Uint8Array, device: Device = defaultDevice()): Storage {
  const storage = new Storage(device, bytes.length);
  device.backend.write(storage.memory, storage.base, bytes);
  return storage;
}

/** An object with these keys, whatever they are called. */
function toObject<V>(entries: Iterable<readonly [string, V]>): Record<string, V> {
  const object: Record<string, V> = {};
  for (const [key, value] of entries) setOwn(object, key, value);
  return object;
}
