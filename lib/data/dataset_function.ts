/**
 * What `CIFAR10`, `MNIST` and `PTB` are: functions that promise a dataset, since reading files is async.
 * @module
 */
import type { Transform } from "./transforms.ts";

/** Options of the datasets that come from files. */
export interface FileDatasetOptions {
  /** The folder with the files; nothing else is searched. Default: `NEEDLE_DATA_DIR`, then the cache. */
  readonly root?: string | URL;
  /** The training set or the test set (default true). */
  readonly train?: boolean;
  /** Whether to download files that are nowhere: into `root`, else into the cache (default false). */
  readonly download?: boolean;
}

/** Options of the datasets of images. */
export interface ImageDatasetOptions extends FileDatasetOptions {
  /** One transform or a list, applied to every image. */
  readonly transforms?: Transform | readonly Transform[];
}

/** A function that promises a dataset. `f(options)`, `f.load(options)` and `new f(options)` are the same. */
export interface DatasetFunction<O, D> {
  /** Finds, checks and reads the files. */
  (options?: O): Promise<D>;
  /** The same, for those who write `new`: the result is a promise. */
  new (options?: O): Promise<D>;
  /** The same, by name. */
  load(options?: O): Promise<D>;
}

/** Makes a {@linkcode DatasetFunction} of a function. */
export function datasetFunction<O, D>(
  load: (options: O) => Promise<D>,
  defaults: O,
): DatasetFunction<O, D> {
  // An arrow function could not be called with `new`.
  const call = function (options: O = defaults): Promise<D> {
    return load(options);
  };
  return Object.assign(call, { load: call }) as unknown as DatasetFunction<O, D>;
}
