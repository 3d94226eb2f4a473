/**
 * Datasets of small labelled images that are held as bytes in memory that workers share. Batches are
 * made straight from the bytes, in one pass.
 * @module
 */
import { tensor } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { type Batch, checkIndex, Dataset, type DatasetDescriptor, FIRST_KEY } from "./dataset.ts";
import type { ModuleSpec } from "./module_spec.ts";
import { ImagePipeline, type ImageSize, type SampleKey, sizeOf } from "./pipeline.ts";
import {
  describeTransforms,
  groupTransforms,
  type Transform,
  type TransformGroup,
} from "./transforms.ts";

/** A sample: the image, float32 (channels, height, width) in [0, 1] before transforms, and its class. */
export type ImageSample = [Tensor, number];

/** What an {@linkcode ImageDataset} is made of. */
export interface ImageData {
  /** The pixels of all images, one after the other, plane by plane. */
  readonly images: Uint8Array;
  /** The class of every image. */
  readonly labels: Uint8Array;
  /** The size of every image. */
  readonly size: ImageSize;
  /** The names of the classes. */
  readonly classes?: readonly string[];
  /** One transform or a list, applied to every image. */
  readonly transforms?: Transform | readonly Transform[] | undefined;
  /** What a user should know about where the data come from. */
  readonly note?: string | undefined;
}

/** Labelled images, each with one class. */
export class ImageDataset extends Dataset<ImageSample> {
  /** Number of samples. */
  override readonly length: number;
  /** The names of the classes, by number. */
  readonly classes: readonly string[];
  /** What a user should know about where the data come from, or null. */
  readonly note: string | null;
  /** The pixels of all images, untransformed. */
  readonly images: Uint8Array;
  /** The class of every image. */
  readonly labels: Uint8Array;
  /** The size of every image, untransformed. */
  readonly size: ImageSize;
  /** The transforms, in order. */
  readonly transforms: readonly Transform[];
  /** The built-in transforms up to the first function. */
  readonly #pipeline: ImagePipeline;
  /** The transforms from the first function on. */
  readonly #later: readonly TransformGroup[];
  #scratch = new Float32Array(0);

  /**
   * Takes the data as they are; `CIFAR10` and the like make it from files.
   *
   * @throws {RangeError} If images and labels do not match, or a transform does not fit the images.
   */
  constructor(data: ImageData) {
    super();
    this.length = data.labels.length;
    if (data.images.length !== this.length * sizeOf(data.size)) {
      throw new RangeError(
        `Cannot make a dataset of ${this.length} labels and ${data.images.length} bytes of images: ` +
          `${sizeOf(data.size)} bytes per label are needed`,
      );
    }
    this.images = data.images;
    this.labels = data.labels;
    this.size = data.size;
    this.classes = data.classes ?? [];
    this.note = data.note ?? null;
    this.transforms = data.transforms === undefined
      ? []
      : Array.isArray(data.transforms)
      ? data.transforms as readonly Transform[]
      : [data.transforms as Transform];
    const groups = groupTransforms(this.transforms);
    const specs = groups[0]?.specs ?? null;
    this.#pipeline = new ImagePipeline(data.size, specs ?? []);
    this.#later = specs === null ? groups : groups.slice(1);
  }

  /** Image `index`, transformed as `key` says, and its class. */
  override get(index: number, key: SampleKey = FIRST_KEY): ImageSample {
    const i = checkIndex(index, this.length);
    const { channels, height, width } = this.#pipeline.output;
    const values = this.#pipeline.fromBytes(this.images, [i], key);
    let image = tensor(values, { shape: [channels, height, width] });
    for (const { apply } of this.#later) image = apply(image, { ...key, index: i });
    return [image, this.labels[i]!];
  }

  /** Many samples at once, already collated; null where `get` is needed. */
  override getBatch(indices: ArrayLike<number>, key: SampleKey): Batch<ImageSample> | null {
    // A subclass with a get of its own gives other samples.
    if (this.#later.length > 0 || this.get !== ImageDataset.prototype.get) return null;
    const { channels, height, width } = this.#pipeline.output;
    const values = this.#pipeline.fromBytes(
      this.images,
      indices,
      key,
      this.#scratchFor(indices.length * channels * height * width),
    );
    const labels = BigInt64Array.from(indices as number[], (i) => BigInt(this.labels[i]!));
    return [
      tensor(values, { shape: [indices.length, channels, height, width] }),
      tensor(labels),
    ];
  }

  /** Memory for the values of a batch, used again by the next: fresh memory costs more than the work. */
  #scratchFor(length: number): Float32Array<ArrayBuffer> {
    if (this.#scratch.length < length) this.#scratch = new Float32Array(length);
    return this.#scratch.subarray(0, length);
  }

  /** The dataset as plain data for workers; null if it cannot be sent to them. */
  override describe(): DatasetDescriptor | ModuleSpec | null {
    if (this.get !== ImageDataset.prototype.get) return null;
    const transforms = describeTransforms(this.transforms);
    const { images, labels, size } = this;
    return transforms === null ? null : { kind: "images", images, labels, size, transforms };
  }
}
