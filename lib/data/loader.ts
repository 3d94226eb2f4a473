/**
 * The DataLoader: goes through a dataset in batches, in order or shuffled, in this thread or with
 * workers. Which samples a batch has, and how they are augmented, follows (seed, epoch, index) and
 * nothing else.
 * @module
 */
import { checkOptions } from "../options.ts";
import { defaultCollate, type Packed, unpack } from "./collate.ts";
import {
  type Batch,
  Dataset,
  type DatasetDescriptor,
  type DatasetLike,
  describeDataset,
  type Sample,
} from "./dataset.ts";
import { builtin, hasFileSystem } from "./files.ts";
import { epochOrder } from "./keyed_random.ts";
import { isModuleSpec, loadSpec, type ModuleSpec, plainSpec } from "./module_spec.ts";
import type { SampleKey } from "./pipeline.ts";
import { isDataset } from "./worker.ts";
import { WorkerPool } from "./worker_pool.ts";

/** Options of {@linkcode DataLoader}. */
export interface DataLoaderOptions<S extends Sample, B> {
  /** Samples per batch (default 1). */
  readonly batchSize?: number;
  /** Whether every epoch has an order of its own (default false). */
  readonly shuffle?: boolean;
  /** Whether a last batch that is smaller is left out (default false). */
  readonly dropLast?: boolean;
  /** What the order and the augmentation follow, besides the epoch (default 0). */
  readonly seed?: number;
  /** Number of workers that make batches (default 0: this thread makes them when asked). */
  readonly workers?: number;
  /** Batches that each worker prepares ahead (default 2). */
  readonly prefetch?: number;
  /** Makes a batch of samples, in this thread (default: {@linkcode defaultCollate}). */
  readonly collate?: (samples: S[]) => B;
}

const OPTIONS = ["batchSize", "shuffle", "dropLast", "seed", "workers", "prefetch", "collate"];

function checkCount(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(
      `Cannot use ${name} ${value} in a DataLoader: a whole number of at least ${least} is needed`,
    );
  }
  return value;
}

/**
 * Lets the event loop turn once per batch: only then do finalizers recycle the memory of dropped batches and
 * activations. (It costs microseconds; in a browser, where only timers could do it, nothing is done.)
 */
function eventLoopTurn(): Promise<void> | undefined {
  if (!hasFileSystem()) return undefined;
  return new Promise((resolve) => builtin("node:timers").setImmediate(resolve));
}

/**
 * Batches of a dataset. Iterate with `for`, or with `for await`, which is needed for workers and for
 * datasets whose `get` is async. Every pass is an epoch: when it ends, `epoch` goes up by one.
 *
 * ```ts
 * import { DataLoader } from "./loader.ts";
 * import { syntheticMNIST } from "./synthetic.ts";
 * const train = syntheticMNIST({ length: 256 });
 * const loader = new DataLoader(train, { batchSize: 100, shuffle: true, seed: 1 });
 * for (const [x, y] of loader) {
 *   console.log(x.shape, y.dtype); // [ 100, 1, 28, 28 ] int64, the last time [ 56, 1, 28, 28 ] int64
 * }
 * console.log(loader.length, loader.epoch); // 3 1
 * ```
 */
export class DataLoader<S extends Sample = Sample, B = Batch<S>>
  implements Iterable<B>, AsyncIterable<B> {
  /** The dataset, or the module that makes it. */
  readonly dataset: DatasetLike<S> | ModuleSpec;
  /** Samples per batch. */
  readonly batchSize: number;
  /** Whether every epoch has an order of its own. */
  readonly shuffle: boolean;
  /** Whether a last batch that is smaller is left out. */
  readonly dropLast: boolean;
  /** What the order and the augmentation follow, besides the epoch. */
  readonly seed: number;
  /** Number of workers. */
  readonly workers: number;
  /** Batches that each worker prepares ahead. */
  readonly prefetch: number;
  readonly #collate: ((samples: S[]) => B) | null;
  #loaded: DatasetLike<S> | null;
  #epoch = 0;

  /**
   * Takes a dataset, or a module that makes one (`{ module, export, args }`), and options.
   *
   * @throws {TypeError} If the dataset is none, an option is unknown, or the dataset cannot be sent to
   * workers although some are asked for.
   * @throws {RangeError} If a number is not whole or too small.
   */
  constructor(dataset: DatasetLike<S> | ModuleSpec, options: DataLoaderOptions<S, B> = {}) {
    checkOptions("DataLoader", options, OPTIONS);
    this.batchSize = checkCount("batchSize", options.batchSize ?? 1, 1);
    this.shuffle = options.shuffle ?? false;
    this.dropLast = options.dropLast ?? false;
    this.seed = checkCount("seed", options.seed ?? 0, Number.MIN_SAFE_INTEGER);
    this.workers = checkCount("workers", options.workers ?? 0, 0);
    this.prefetch = checkCount("prefetch", options.prefetch ?? 2, 1);
    this.#collate = options.collate ?? null;
    this.dataset = dataset;
    if (isModuleSpec(dataset)) {
      plainSpec(dataset);
      this.#loaded = null;
    } else if (isDataset(dataset)) {
      this.#loaded = dataset;
      if (this.workers > 0) this.#describe();
    } else {
      throw new TypeError(
        "Cannot make a DataLoader: the dataset needs a length and a get(i), or to be a promise awaited",
      );
    }
  }

  /** The epoch that the next pass is, from 0. Set it to resume, or to repeat a pass. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Sets the epoch of the next pass. */
  set epoch(epoch: number) {
    this.#epoch = checkCount("epoch", epoch, 0);
  }

  /**
   * Number of batches of an epoch.
   *
   * @throws {Error} If the dataset is a module that is not loaded: await `ready()` first.
   */
  get length(): number {
    if (this.#loaded === null) {
      throw new Error(
        "Cannot tell the length of a DataLoader whose dataset is a module that is not loaded: " +
          "await loader.ready() first",
      );
    }
    return this.#batchCount(this.#loaded.length);
  }

  /** Loads the dataset if it is given as a module, so that `length` and plain `for` work. */
  async ready(): Promise<this> {
    await this.#load();
    return this;
  }

  /** The batches of this epoch, made one by one as the loop asks for them. */
  [Symbol.iterator](): Generator<B, void, undefined> {
    if (this.workers > 0) {
      throw new Error(
        `Cannot iterate over a DataLoader with ${this.workers} workers in a plain for loop: ` +
          "use for await, or workers: 0",
      );
    }
    if (this.#loaded === null) {
      throw new Error(
        "Cannot iterate over a DataLoader whose dataset is a module that is not loaded: " +
          "use for await, or await loader.ready() first",
      );
    }
    return this.#iterate(this.#loaded, this.#epoch);
  }

  /** The batches of this epoch; with workers, they are prepared ahead. Leaving the loop ends the workers. */
  [Symbol.asyncIterator](): AsyncGenerator<B, void, undefined> {
    return this.workers > 0 ? this.#iteratePool(this.#epoch) : this.#iterateAsync(this.#epoch);
  }

  *#iterate(dataset: DatasetLike<S>, epoch: number): Generator<B, void, undefined> {
    const key = this.#key(epoch);
    try {
      for (const indices of this.#indices(dataset.length, epoch)) {
        const samples = this.#fastBatch(dataset, indices, key) ??
          this.#samples(dataset, indices, key);
        if (Array.isArray(samples)) yield this.#join(this.#sync(samples));
        else yield samples.batch;
      }
    } finally {
      this.#advance(epoch);
    }
  }

  async *#iterateAsync(epoch: number): AsyncGenerator<B, void, undefined> {
    const dataset = await this.#load();
    const key = this.#key(epoch);
    try {
      for (const indices of this.#indices(dataset.length, epoch)) {
        const samples = this.#fastBatch(dataset, indices, key) ??
          this.#samples(dataset, indices, key);
        if (Array.isArray(samples)) yield this.#join(await Promise.all(samples));
        else yield samples.batch;
        await eventLoopTurn();
      }
    } finally {
      this.#advance(epoch);
    }
  }

  async *#iteratePool(epoch: number): AsyncGenerator<B, void, undefined> {
    const key = this.#key(epoch);
    const separate = this.#collate !== null;
    let pool: WorkerPool | undefined;
    try {
      pool = new WorkerPool(this.#describe(), this.workers);
      const lists = [...this.#indices(await pool.length, epoch)];
      const queue: Promise<readonly Packed[]>[] = [];
      let asked = 0;
      for (let done = 0; done < lists.length; done++) {
        while (asked < lists.length && asked < done + this.workers * this.prefetch) {
          queue.push(pool.batch(asked, lists[asked]!, key, separate));
          asked++;
        }
        const packed = (await queue.shift()!).map(unpack);
        yield separate ? this.#join(packed as unknown as S[]) : packed[0] as B;
      }
    } finally {
      pool?.close();
      this.#advance(epoch);
    }
  }

  #key(epoch: number): SampleKey {
    return Object.freeze({ seed: this.seed, epoch });
  }

  /** A pass that ends makes the next one a new epoch, unless the epoch was set meanwhile. */
  #advance(epoch: number): void {
    if (this.#epoch === epoch) this.#epoch++;
  }

  #batchCount(samples: number): number {
    return this.dropLast
      ? Math.floor(samples / this.batchSize)
      : Math.ceil(samples / this.batchSize);
  }

  /** The indices of every batch. */
  *#indices(length: number, epoch: number): Generator<Uint32Array, void, undefined> {
    const order = epochOrder(length, this.shuffle, this.seed, epoch);
    const count = this.#batchCount(length);
    // Copies: a view would be sent to a worker together with the whole order.
    for (let i = 0; i < count; i++) yield order.slice(i * this.batchSize, (i + 1) * this.batchSize);
  }

  /** The batch as the dataset itself makes it, where it can and no collate function is given. */
  #fastBatch(
    dataset: DatasetLike<S>,
    indices: Uint32Array,
    key: SampleKey,
  ): { readonly batch: B } | null {
    if (this.#collate !== null || !(dataset instanceof Dataset)) return null;
    const batch = (dataset as Dataset<S>).getBatch(indices, key);
    return batch === null ? null : { batch: batch as B };
  }

  #samples(dataset: DatasetLike<S>, indices: Uint32Array, key: SampleKey): (S | Promise<S>)[] {
    return Array.from(indices, (index) => dataset.get(index, key));
  }

  #sync(samples: readonly (S | Promise<S>)[]): S[] {
    return samples.map((sample) => {
      if (sample instanceof Promise) {
        throw new TypeError(
          "Cannot iterate in a plain for loop over a dataset whose get is async: use for await",
        );
      }
      return sample;
    });
  }

  #join(samples: S[]): B {
    return this.#collate === null ? defaultCollate(samples) as B : this.#collate(samples);
  }

  async #load(): Promise<DatasetLike<S>> {
    if (this.#loaded === null) {
      const loaded = await loadSpec(this.dataset as ModuleSpec, "dataset", isDataset);
      this.#loaded = loaded as DatasetLike<S>;
    }
    return this.#loaded;
  }

  #describe(): DatasetDescriptor {
    const { dataset } = this;
    if (isModuleSpec(dataset)) return { kind: "module", ...plainSpec(dataset) };
    const description = dataset instanceof Dataset ? describeDataset(dataset) : null;
    if (description === null) {
      throw new TypeError(
        "Cannot send this dataset to workers: only built-in datasets with built-in transforms can be " +
          "sent; pass { module: new URL(path, import.meta.url), export, args } in place of the dataset " +
          "or of the transform function, or use workers: 0",
      );
    }
    return description;
  }
}
