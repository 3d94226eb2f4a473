/**
 * Data: datasets, transforms of images, and the loader that makes batches of them, with workers where
 * asked. Exported as `ndl.data`.
 * @module
 */
export { Dataset, randomSplit, Subset, TensorDataset } from "./dataset.ts";
export type { Batch, DatasetDescriptor, DatasetLike, RowColumn, Sample } from "./dataset.ts";
export { defaultCollate } from "./collate.ts";
export { DataLoader } from "./loader.ts";
export type { DataLoaderOptions } from "./loader.ts";
export { CIFAR10 } from "./cifar10.ts";
export { MNIST } from "./mnist.ts";
export { BPTTDataset, PTB, TextDataset, Vocabulary } from "./ptb.ts";
export type { PTBOptions, PTBSplit } from "./ptb.ts";
export type {
  DatasetFunction,
  FileDatasetOptions,
  ImageDatasetOptions,
} from "./dataset_function.ts";
export { ImageDataset } from "./images.ts";
export type { ImageData, ImageSample } from "./images.ts";
export { syntheticCIFAR10, syntheticMNIST, syntheticPTB } from "./synthetic.ts";
export type { SyntheticOptions, SyntheticTextOptions } from "./synthetic.ts";
export {
  Compose,
  Cutout,
  ImageTransform,
  Normalize,
  RandomCrop,
  RandomFlipHorizontal,
} from "./transforms.ts";
export type {
  CutoutOptions,
  RandomCropOptions,
  SampleRandom,
  Transform,
  TransformEntry,
  TransformFunction,
  TransformKey,
} from "./transforms.ts";
export type { ImageSize, SampleKey, TransformSpec } from "./pipeline.ts";
export type { ModuleSpec } from "./module_spec.ts";
export { isMissingDataset } from "./files.ts";
export { download } from "./download.ts";
export type { DownloadOptions, RemoteFile } from "./download.ts";
// Not for users: a worker finds it here when the library is one bundled file.
export { runDataWorker } from "./worker.ts";
