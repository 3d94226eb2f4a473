/**
 * Datasets: anything with a `length` and a `get(i)`. Here are the base class, datasets over tensors,
 * and parts of other datasets.
 * @module
 */
import type { DType, TypedArray } from "../dtype.ts";
import { checkOptions } from "../options.ts";
import { show } from "../shape.ts";
import { tensor } from "../tensor/create.ts";
// Only with this class loaded can tensors be made.
import "../tensor/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import { epochOrder } from "./keyed_random.ts";
import { type ModuleSpec, plainSpec } from "./module_spec.ts";
import type { ImageSize, SampleKey } from "./pipeline.ts";
import type { TransformEntry } from "./transforms.ts";

/** What `get(i)` gives: an array of tensors and numbers, usually `[x, y]`. */
export type Sample = readonly (Tensor | number)[];

/** A batch of samples: one tensor per element of the sample. */
export type Batch<S extends Sample> = number extends S["length"] ? [Tensor, Tensor, ...Tensor[]]
  : { -readonly [K in keyof S]: Tensor };

/** What a DataLoader needs of a dataset. */
export interface DatasetLike<S extends Sample = Sample> {
  /** Number of samples. */
  readonly length: number;
  /** Sample `index`; random augmentation follows `key`. */
  get(index: number, key?: SampleKey): S | Promise<S>;
}

/** A column of rows that lie one after the other, as workers receive it. */
export interface RowColumn {
  /** The values; bfloat16 as float32. */
  readonly data: TypedArray;
  /** The shape of one row. */
  readonly shape: readonly number[];
  /** The dtype of the batches. */
  readonly dtype: DType;
}

/** A dataset as plain data over shared memory, which workers receive. */
export type DatasetDescriptor =
  | {
    readonly kind: "images";
    readonly images: Uint8Array;
    readonly labels: Uint8Array;
    readonly size: ImageSize;
    readonly transforms: readonly TransformEntry[];
  }
  | { readonly kind: "rows"; readonly columns: readonly RowColumn[] }
  | { readonly kind: "subset"; readonly base: DatasetDescriptor; readonly indices: Uint32Array }
  | ({ readonly kind: "module" } & Required<ModuleSpec>);

/** The key of samples that are taken without a loader. */
export const FIRST_KEY: SampleKey = Object.freeze({ seed: 0, epoch: 0 });

/** Bytes that workers can share where the platform allows it. */
export function sharedBytes(length: number): Uint8Array {
  return typeof SharedArrayBuffer === "undefined"
    ? new Uint8Array(length)
    : new Uint8Array(new SharedArrayBuffer(length));
}

/** A copy of a typed array in memory that workers share. */
export function shareArray<T extends TypedArray | Uint32Array>(values: T): T {
  const bytes = sharedBytes(values.byteLength);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  const Array = values.constructor as new (buffer: ArrayBufferLike) => T;
  return new Array(bytes.buffer);
}

/** The index itself, counted from the end if negative. */
export function checkIndex(index: number, length: number): number {
  const i = index < 0 ? index + length : index;
  if (!Number.isInteger(index) || i < 0 || i >= length) {
    throw new RangeError(
      `Cannot get sample ${index} of a dataset of ${length}: ` +
        (length === 0 ? "it is empty" : `indices are from ${-length} to ${length - 1}`),
    );
  }
  return i;
}

/**
 * The base class of datasets. A dataset of one's own has a `length` and a `get(i)`:
 *
 * ```ts
 * import { Dataset } from "./dataset.ts";
 * class Squares extends Dataset<[number, number]> {
 *   override readonly length = 10;
 *   override get(i: number): [number, number] {
 *     return [i, i * i];
 *   }
 * }
 * console.log([...new Squares()][3]); // [ 3, 9 ]
 * ```
 */
export abstract class Dataset<S extends Sample = Sample> implements DatasetLike<S> {
  /** Number of samples. */
  abstract readonly length: number;

  /**
   * Sample `index`.
   *
   * @param index From 0 to length − 1.
   * @param key The seed and epoch that random augmentation follows, besides the index.
   */
  abstract get(index: number, key?: SampleKey): S | Promise<S>;

  /**
   * Many samples at once, already collated; null where the dataset has no faster way than `get`. The
   * values are those of `get` and the default collate.
   */
  getBatch(_indices: ArrayLike<number>, _key: SampleKey): Batch<S> | null {
    return null;
  }

  /** The dataset as plain data for workers; null if it cannot be sent to them. */
  describe(): DatasetDescriptor | ModuleSpec | null {
    return null;
  }

  /** The samples in order. */
  *[Symbol.iterator](): Generator<S, void, undefined> {
    for (let i = 0; i < this.length; i++) {
      const sample = this.get(i);
      if (sample instanceof Promise) {
        throw new TypeError(
          "Cannot iterate over a dataset whose get is async: await get(i) instead",
        );
      }
      yield sample;
    }
  }
}

/**
 * A dataset over the rows of tensors: sample i is row i of each.
 *
 * ```ts
 * import { TensorDataset } from "./dataset.ts";
 * import { tensor } from "../tensor/create.ts";
 * const data = new TensorDataset(tensor([[1, 2], [3, 4]]), tensor([0, 1], { dtype: "int64" }));
 * console.log(data.get(1)[0].tolist()); // [ 3, 4 ]
 * ```
 */
export class TensorDataset<T extends readonly Tensor[]>
  extends Dataset<{ -readonly [K in keyof T]: Tensor }> {
  /** Number of samples. */
  override readonly length: number;
  /** The tensors. */
  readonly tensors: T;

  /**
   * Takes tensors of the same first size.
   *
   * @throws {RangeError} If there is none, or the first sizes differ.
   */
  constructor(...tensors: T) {
    super();
    const length = tensors[0]?.shape[0];
    if (length === undefined || tensors.some((t) => t.shape[0] !== length)) {
      const shapes = tensors.map((t) => show(t.shape)).join(" and ") || "no tensors";
      throw new RangeError(
        `Cannot make a TensorDataset of ${shapes}: tensors of the same first size are needed`,
      );
    }
    this.tensors = tensors;
    this.length = length;
  }

  /** Row `index` of every tensor. */
  override get(index: number): { -readonly [K in keyof T]: Tensor } {
    const i = checkIndex(index, this.length);
    return this.tensors.map((t) => t.select(0, i)) as { -readonly [K in keyof T]: Tensor };
  }

  /** Many samples at once, already collated; null where `get` is needed. */
  override getBatch(
    indices: ArrayLike<number>,
    _key: SampleKey,
  ): Batch<{ -readonly [K in keyof T]: Tensor }> | null {
    // A subclass with a get of its own gives other samples than the rows.
    if (this.get !== TensorDataset.prototype.get) return null;
    const rows = Int32Array.from(indices);
    const batch = this.tensors.map((t) => {
      const index = tensor(rows, { device: t.device });
      const selected = t.indexSelect(0, index);
      index.dispose();
      return selected;
    });
    return batch as Batch<{ -readonly [K in keyof T]: Tensor }>;
  }

  /** The dataset as plain data for workers; null if it cannot be sent to them. */
  override describe(): DatasetDescriptor | ModuleSpec | null {
    if (this.get !== TensorDataset.prototype.get) return null;
    const columns = this.tensors.map((t): RowColumn => ({
      data: shareArray(t.toTypedArray()),
      shape: t.shape.slice(1),
      dtype: t.dtype,
    }));
    return { kind: "rows", columns };
  }
}

/** The samples of another dataset at some indices. */
export class Subset<S extends Sample> extends Dataset<S> {
  /** The dataset that the indices are of. */
  readonly dataset: DatasetLike<S>;
  /** The indices. */
  readonly indices: Uint32Array;

  /**
   * Takes a dataset and indices into it, from 0.
   *
   * @throws {RangeError} If an index is out of range.
   */
  constructor(dataset: DatasetLike<S>, indices: Iterable<number>) {
    super();
    const list = [...indices];
    for (const index of list) {
      if (!Number.isInteger(index) || index < 0 || index >= dataset.length) {
        throw new RangeError(
          `Cannot take index ${index} into a Subset of a dataset of ${dataset.length}`,
        );
      }
    }
    this.dataset = dataset;
    this.indices = Uint32Array.from(list);
  }

  /** Number of samples. */
  override get length(): number {
    return this.indices.length;
  }

  /** The sample that the index at `index` says. */
  override get(index: number, key: SampleKey = FIRST_KEY): S | Promise<S> {
    return this.dataset.get(this.indices[checkIndex(index, this.length)]!, key);
  }

  /** Many samples at once, already collated; null where `get` is needed. */
  override getBatch(indices: ArrayLike<number>, key: SampleKey): Batch<S> | null {
    if (!(this.dataset instanceof Dataset) || this.get !== Subset.prototype.get) return null;
    const base = Uint32Array.from(indices, (i) => this.indices[i]!);
    return (this.dataset as Dataset<S>).getBatch(base, key);
  }

  /** The dataset as plain data for workers; null if it cannot be sent to them. */
  override describe(): DatasetDescriptor | ModuleSpec | null {
    if (this.get !== Subset.prototype.get) return null;
    const base = this.dataset instanceof Dataset ? describeDataset(this.dataset) : null;
    return base === null ? null : { kind: "subset", base, indices: shareArray(this.indices) };
  }
}

/** What `describe` of a dataset gives, with modules in the form that workers take. */
export function describeDataset(dataset: Dataset): DatasetDescriptor | null {
  const description = dataset.describe();
  if (description === null || "kind" in description) return description;
  return { kind: "module", ...plainSpec(description) };
}

/** Whole lengths from fractions: rounded down, with what is left over given out from the front. */
function wholeLengths(total: number, parts: readonly number[]): number[] {
  const sum = parts.reduce((a, b) => a + b, 0);
  if (parts.length === 0 || parts.some((part) => !(part >= 0))) {
    throw new RangeError(`Cannot split into [${parts.join(", ")}]: numbers from 0 are needed`);
  }
  if (sum === total && parts.every(Number.isInteger)) return [...parts];
  if (Math.abs(sum - 1) > 1e-9 || parts.some((part) => part > 1)) {
    throw new RangeError(
      `Cannot split a dataset of ${total} into [${parts.join(", ")}]: ` +
        `the lengths add up to ${sum}; they must add up to ${total}, or fractions to 1`,
    );
  }
  const lengths = parts.map((part) => Math.floor(total * part));
  let left = total - lengths.reduce((a, b) => a + b, 0);
  for (let i = 0; left > 0; i = (i + 1) % lengths.length, left--) lengths[i]!++;
  return lengths;
}

/**
 * Splits a dataset at random into parts that do not overlap.
 *
 * @param lengths The lengths of the parts, which add up to the dataset's, or fractions, which add up to 1.
 * @param options.seed What the split follows (default 0).
 * @throws {RangeError} If the lengths do not add up.
 */
export function randomSplit<S extends Sample>(
  dataset: DatasetLike<S>,
  lengths: readonly number[],
  options: { readonly seed?: number } = {},
): Subset<S>[] {
  checkOptions("randomSplit", options, ["seed"]);
  const whole = wholeLengths(dataset.length, lengths);
  const order = epochOrder(dataset.length, true, options.seed ?? 0, 0);
  let start = 0;
  return whole.map((length) => new Subset(dataset, order.subarray(start, start += length)));
}
