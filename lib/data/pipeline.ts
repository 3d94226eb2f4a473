/**
 * The arithmetic of images, on plain arrays: bytes become floats, and the built-in transforms become
 * few passes over the data. Flips, one crop and normalisation need a single pass from the raw bytes,
 * through a table of 256 values per channel. Workers run this file without the tensor library.
 * @module
 */
import { KeyedRandom } from "./keyed_random.ts";

/** The size of an image whose pixels are stored plane by plane. */
export interface ImageSize {
  /** Number of planes. */
  readonly channels: number;
  /** Rows. */
  readonly height: number;
  /** Columns. */
  readonly width: number;
}

/** What randomness follows, together with the index of the sample. */
export interface SampleKey {
  /** The loader's seed. */
  readonly seed: number;
  /** The epoch, from 0. */
  readonly epoch: number;
}

/** A built-in transform as plain data, which a worker can receive. */
export type TransformSpec =
  | { readonly kind: "flip"; readonly p: number }
  | {
    readonly kind: "crop";
    /** Rows of the result; null: those of the image. */
    readonly height: number | null;
    /** Columns of the result; null: those of the image. */
    readonly width: number | null;
    /** Zeros put around the image first: left, top, right, bottom. */
    readonly padding: readonly [number, number, number, number];
  }
  | {
    readonly kind: "normalize";
    readonly mean: readonly number[];
    readonly std: readonly number[];
  }
  | { readonly kind: "cutout"; readonly length: number; readonly holes: number };

type Crop = Extract<TransformSpec, { kind: "crop" }>;
type Normalize = Extract<TransformSpec, { kind: "normalize" }>;
type Cutout = Extract<TransformSpec, { kind: "cutout" }>;

/** A transform with its place in the whole list, which is part of its random key. */
type Placed<T> = { readonly spec: T; readonly position: number };

/**
 * Transforms that run as one pass: any flips, at most one crop and any normalisations in any order
 * (they commute, but for the values of the padding), then any cutouts.
 */
interface Stage {
  readonly input: ImageSize;
  output: ImageSize;
  readonly geometry: Placed<Exclude<TransformSpec, Normalize | Cutout>>[];
  readonly pointwise: Normalize[];
  /** The normalisations from this one on apply to the zeros of the crop's padding, too. */
  padded: number;
  readonly cutouts: Placed<Cutout>[];
}

/** Pixel (y, x) of the result is pixel (y + dy, x + dx) of the source, counted from the right if flipped. */
interface Window {
  flipped: boolean;
  dy: number;
  dx: number;
}

/** Values of one channel, or the same for all. */
function ofChannel(values: readonly number[], channel: number): number {
  return Math.fround(values[values.length === 1 ? 0 : channel]!);
}

/** A value after normalisations, each step rounded to float32 as PyTorch does. */
function normalized(x: number, steps: readonly Normalize[], channel: number): number {
  for (const { mean, std } of steps) {
    x = Math.fround(Math.fround(x - ofChannel(mean, channel)) / ofChannel(std, channel));
  }
  return x;
}

function cropSize(spec: Crop, { channels, height, width }: ImageSize): ImageSize {
  const [left, top, right, bottom] = spec.padding;
  const size = { channels, height: spec.height ?? height, width: spec.width ?? width };
  if (size.height > height + top + bottom || size.width > width + left + right) {
    throw new RangeError(
      `Cannot crop ${size.height}x${size.width} from an image of ${height}x${width} with padding ` +
        `[${spec.padding.join(", ")}]: the crop is larger; use a smaller size or more padding`,
    );
  }
  return size;
}

function checkChannels(spec: Normalize, channels: number): void {
  for (const [name, values] of [["mean", spec.mean], ["std", spec.std]] as const) {
    if (values.length !== 1 && values.length !== channels) {
      throw new RangeError(
        `Cannot normalize an image of ${channels} channels with ${values.length} values of ${name}: ` +
          "give one per channel, or one for all",
      );
    }
  }
}

function newStage(input: ImageSize): Stage {
  return { input, output: input, geometry: [], pointwise: [], padded: 0, cutouts: [] };
}

function makeStages(size: ImageSize, specs: readonly TransformSpec[], first: number): Stage[] {
  let stage = newStage(size);
  const stages = [stage];
  specs.forEach((spec, i) => {
    const position = first + i;
    const full = spec.kind === "crop" && stage.geometry.some((g) => g.spec.kind === "crop");
    if (full || (stage.cutouts.length > 0 && spec.kind !== "cutout")) {
      stage = newStage(stage.output);
      stages.push(stage);
    }
    switch (spec.kind) {
      case "flip":
        stage.geometry.push({ spec, position });
        break;
      case "crop":
        stage.geometry.push({ spec, position });
        stage.output = cropSize(spec, stage.output);
        stage.padded = stage.pointwise.length;
        break;
      case "normalize":
        checkChannels(spec, size.channels);
        stage.pointwise.push(spec);
        break;
      case "cutout":
        stage.cutouts.push({ spec, position });
        break;
    }
  });
  return stages;
}

/** Draws what the flips and the crop of a stage do to one sample. */
function drawWindow(stage: Stage, key: SampleKey, index: number): Window {
  const full = stage.input.width;
  let { height, width } = stage.input;
  let flipped = false;
  let dy = 0;
  let dx = 0;
  for (const { spec, position } of stage.geometry) {
    const random = new KeyedRandom(key.seed, key.epoch, index, position);
    if (spec.kind === "flip") {
      if (random.uniform() < spec.p) {
        flipped = !flipped;
        dx = full - width - dx;
      }
    } else {
      const [left, top, right, bottom] = spec.padding;
      const { height: h, width: w } = stage.output;
      dy += random.integer(height + top + bottom - h + 1) - top;
      dx += random.integer(width + left + right - w + 1) - left;
      height = h;
      width = w;
    }
  }
  return { flipped, dy, dx };
}

/** One pass from the bytes of an image to floats: window, table per channel, padding value per channel. */
function gatherBytes(
  source: Uint8Array,
  sourceStart: number,
  input: ImageSize,
  target: Float32Array,
  targetStart: number,
  output: ImageSize,
  { flipped, dy, dx }: Window,
  table: Float32Array,
  padding: Float32Array,
): void {
  const { height: rows, width: columns } = input;
  const { channels, height, width } = output;
  const from = Math.min(Math.max(0, -dx), width);
  const to = Math.max(from, Math.min(width, columns - dx));
  let o = targetStart;
  for (let c = 0; c < channels; c++) {
    const zero = padding[c]!;
    const entry = c * 256;
    for (let y = 0; y < height; y++, o += width) {
      const row = y + dy;
      if (row < 0 || row >= rows) {
        target.fill(zero, o, o + width);
        continue;
      }
      const start = sourceStart + (c * rows + row) * columns;
      for (let x = 0; x < from; x++) target[o + x] = zero;
      if (flipped) {
        const last = start + columns - 1 - dx;
        for (let x = from; x < to; x++) target[o + x] = table[entry + source[last - x]!]!;
      } else {
        const begin = start + dx;
        for (let x = from; x < to; x++) target[o + x] = table[entry + source[begin + x]!]!;
      }
      for (let x = to; x < width; x++) target[o + x] = zero;
    }
  }
}

/** The window of a float image, with zeros where it leaves the image. */
function gatherFloats(
  source: Float32Array,
  input: ImageSize,
  output: ImageSize,
  { flipped, dy, dx }: Window,
): Float32Array {
  const { height: rows, width: columns } = input;
  const { channels, height, width } = output;
  const target = new Float32Array(channels * height * width);
  let o = 0;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++, o += width) {
      const row = y + dy;
      if (row < 0 || row >= rows) continue;
      const start = (c * rows + row) * columns;
      for (let x = 0; x < width; x++) {
        const column = flipped ? columns - 1 - dx - x : x + dx;
        if (column >= 0 && column < columns) target[o + x] = source[start + column]!;
      }
    }
  }
  return target;
}

function normalizeFloats(image: Float32Array, size: ImageSize, steps: readonly Normalize[]): void {
  if (steps.length === 0) return;
  const plane = size.height * size.width;
  for (let c = 0; c < size.channels; c++) {
    for (let i = c * plane; i < (c + 1) * plane; i++) image[i] = normalized(image[i]!, steps, c);
  }
}

function cutHoles(
  image: Float32Array,
  start: number,
  { channels, height, width }: ImageSize,
  { spec, position }: Placed<Cutout>,
  key: SampleKey,
  index: number,
): void {
  const random = new KeyedRandom(key.seed, key.epoch, index, position);
  const half = spec.length >> 1;
  for (let hole = 0; hole < spec.holes; hole++) {
    const top = random.integer(height) - half;
    const left = random.integer(width) - half;
    const right = Math.min(width, left + spec.length);
    for (let c = 0; c < channels; c++) {
      for (let y = Math.max(0, top); y < Math.min(height, top + spec.length); y++) {
        const row = start + (c * height + y) * width;
        image.fill(0, row + Math.max(0, left), row + right);
      }
    }
  }
}

/** Number of values of an image. */
export function sizeOf({ channels, height, width }: ImageSize): number {
  return channels * height * width;
}

/** A list of built-in transforms, made ready for images of one size. */
export class ImagePipeline {
  /** The size of the images that come out. */
  readonly output: ImageSize;
  readonly #input: ImageSize;
  readonly #stages: readonly Stage[];
  readonly #table: Float32Array;
  readonly #padding: Float32Array;

  /**
   * @param input The size of the images that go in.
   * @param specs The transforms, in order.
   * @param first The place of the first one in a longer list, for its random key.
   * @throws {RangeError} If a crop is larger than its image or the numbers of channels differ.
   */
  constructor(input: ImageSize, specs: readonly TransformSpec[], first = 0) {
    this.#input = input;
    this.#stages = makeStages(input, specs, first);
    this.output = this.#stages.at(-1)!.output;
    const { pointwise, padded } = this.#stages[0]!;
    this.#table = new Float32Array(256 * input.channels);
    this.#padding = new Float32Array(input.channels);
    for (let c = 0; c < input.channels; c++) {
      for (let byte = 0; byte < 256; byte++) {
        this.#table[c * 256 + byte] = normalized(Math.fround(byte / 255), pointwise, c);
      }
      this.#padding[c] = normalized(0, pointwise.slice(padded), c);
    }
  }

  /**
   * Images of a set of bytes as floats in [0, 1], transformed.
   *
   * @param images The pixels of all images, one after the other, planes first.
   * @param indices Which images.
   * @param key The seed and epoch that the random transforms follow.
   * @param result Where the values go.
   * @returns The values of the images, in the order of `indices`: (length, channels, height, width).
   */
  fromBytes(
    images: Uint8Array,
    indices: ArrayLike<number>,
    key: SampleKey,
    result: Float32Array<ArrayBuffer> = new Float32Array(indices.length * sizeOf(this.output)),
  ): Float32Array<ArrayBuffer> {
    const [stage, ...later] = this.#stages as [Stage, ...Stage[]];
    const bytes = sizeOf(this.#input);
    const size = sizeOf(this.output);
    const single = later.length === 0 ? null : new Float32Array(sizeOf(stage.output));
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i]!;
      const target = single ?? result;
      const at = single === null ? i * size : 0;
      gatherBytes(
        images,
        index * bytes,
        stage.input,
        target,
        at,
        stage.output,
        drawWindow(stage, key, index),
        this.#table,
        this.#padding,
      );
      for (const cutout of stage.cutouts) cutHoles(target, at, stage.output, cutout, key, index);
      if (single !== null) result.set(this.#runStages(single, later, index, key), i * size);
    }
    return result;
  }

  /** One image of floats, transformed as sample `index`; the argument is left as it is. */
  fromFloats(image: Float32Array, index: number, key: SampleKey): Float32Array {
    return this.#runStages(image, this.#stages, index, key);
  }

  #runStages(
    image: Float32Array,
    stages: readonly Stage[],
    index: number,
    key: SampleKey,
  ): Float32Array {
    for (const stage of stages) {
      const source = image.slice();
      normalizeFloats(source, stage.input, stage.pointwise.slice(0, stage.padded));
      image = gatherFloats(source, stage.input, stage.output, drawWindow(stage, key, index));
      normalizeFloats(image, stage.output, stage.pointwise.slice(stage.padded));
      for (const cutout of stage.cutouts) cutHoles(image, 0, stage.output, cutout, key, index);
    }
    return image;
  }
}
