/**
 * Transforms of images (channels, height, width): the built-in ones are descriptions that datasets turn
 * into few passes over the raw bytes and that workers receive as plain data. What the random ones draw
 * depends on (seed, epoch, index of the sample, place in the list) alone.
 * @module
 */
import { isFloat } from "../dtype.ts";
import { checkOptions } from "../options.ts";
import { show } from "../shape.ts";
import { tensor } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { KeyedRandom } from "./keyed_random.ts";
import { isModuleSpec, loadSpec, type ModuleSpec, plainSpec } from "./module_spec.ts";
import { ImagePipeline, type ImageSize, type SampleKey, type TransformSpec } from "./pipeline.ts";

/** The random numbers of one sample, for a transform of one's own. */
export interface SampleRandom {
  /** The next number in [0, 1). */
  uniform(): number;
  /** The next whole number in [0, n). */
  integer(n: number): number;
  /** The next number from the standard normal distribution. */
  normal(): number;
}

/** A transform of one's own as a function: a new image from an image, with the sample's random numbers. */
export type TransformFunction = (image: Tensor, random: SampleRandom) => Tensor;

/**
 * An element of the `transforms` option of a dataset. A function cannot be sent to workers; a
 * {@linkcode ModuleSpec} that makes one can.
 */
export type Transform = ImageTransform | Compose | TransformFunction | ModuleSpec;

/** Calls of `forward` without a key: each draws anew. */
let unkeyedCalls = 0;

/** Where a sample's random numbers come from. */
export interface TransformKey extends SampleKey {
  /** The index of the sample. */
  readonly index: number;
}

/** The key of a `forward` call: the given one, or one that no earlier call had. */
function keyOf(key: TransformKey | undefined): TransformKey {
  return key ?? { seed: 0, epoch: 0, index: unkeyedCalls++ };
}

/** The size of an image tensor. */
function imageSize(image: Tensor, what: string): ImageSize {
  const [channels, height, width] = image.shape;
  if (
    image.ndim !== 3 || channels === undefined || height === undefined || width === undefined ||
    !isFloat(image.dtype)
  ) {
    throw new TypeError(
      `Cannot apply ${what} to a ${image.dtype} tensor of shape ${show(image.shape)}: ` +
        "a floating point image of shape [channels, height, width] is needed",
    );
  }
  return { channels, height, width };
}

/** Applies built-in transforms to an image tensor; `position` is the place of the first one. */
export function applySpecs(
  image: Tensor,
  specs: readonly TransformSpec[],
  key: TransformKey,
  position = 0,
): Tensor {
  const size = imageSize(image, specs.map(({ kind }) => kind).join(", ") || "transforms");
  const pipeline = new ImagePipeline(size, specs, position);
  const values = Float32Array.from(image.toTypedArray() as Float32Array);
  const { channels, height, width } = pipeline.output;
  return tensor(pipeline.fromFloats(values, key.index, key), {
    shape: [channels, height, width],
    dtype: image.dtype,
    device: image.device,
  });
}

/** A built-in transform. */
export abstract class ImageTransform {
  /** The transform as plain data. */
  abstract readonly spec: TransformSpec;

  /**
   * The transformed image.
   *
   * @param image A floating point tensor of shape (channels, height, width).
   * @param key What the random numbers follow; without it, every call draws anew.
   * @returns A tensor of the same dtype and device.
   */
  forward(image: Tensor, key?: TransformKey): Tensor {
    return applySpecs(image, [this.spec], keyOf(key));
  }
}

function checkWhole(what: string, value: unknown, least: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < least) {
    throw new RangeError(
      `Cannot use ${what} ${value}: a whole number of at least ${least} is needed`,
    );
  }
  return value;
}

/** Mirrors the image left to right with probability `p`. */
export class RandomFlipHorizontal extends ImageTransform {
  /** The transform as plain data. */
  override readonly spec: TransformSpec;

  /**
   * Takes the probability.
   *
   * @param p A number from 0 to 1 (default 0.5), alone or as an option.
   * @throws {RangeError} If `p` is not from 0 to 1.
   */
  constructor(p: number | { readonly p?: number } = 0.5) {
    super();
    if (typeof p === "object") checkOptions("RandomFlipHorizontal", p, ["p"]);
    const probability = typeof p === "object" ? p.p ?? 0.5 : p;
    if (!(probability >= 0 && probability <= 1)) {
      throw new RangeError(
        `Cannot use p ${probability} in RandomFlipHorizontal: it is from 0 to 1`,
      );
    }
    this.spec = { kind: "flip", p: probability };
  }
}

/** Options of {@linkcode RandomCrop}. */
export interface RandomCropOptions {
  /** Rows and columns of the result, or one number for both (default: those of the image). */
  readonly size?: number | readonly [number, number];
  /** Zeros around the image: one number, [left and right, top and bottom], or [left, top, right, bottom]. */
  readonly padding?: number | readonly number[];
}

/**
 * Cuts a window out of the image at a random place, after putting zeros around it.
 *
 * ```ts
 * import { RandomCrop } from "./transforms.ts";
 * const shift = new RandomCrop(32, { padding: 4 }); // torchvision's RandomCrop(32, padding=4)
 * console.log(shift.spec.kind); // crop
 * ```
 */
export class RandomCrop extends ImageTransform {
  /** The transform as plain data. */
  override readonly spec: TransformSpec;

  /**
   * Takes the size of the window and the padding.
   *
   * @param size Rows and columns of the window, as torchvision takes them; or all options in one object.
   * @param options The padding (default 0).
   * @throws {RangeError} If a number is not whole or too small.
   */
  constructor(
    size: number | readonly [number, number] | RandomCropOptions,
    options: Omit<RandomCropOptions, "size"> = {},
  ) {
    super();
    const all: RandomCropOptions = typeof size === "number" || Array.isArray(size)
      ? { ...options, size: size as number | readonly [number, number] }
      : { ...options, ...size };
    checkOptions("RandomCrop", all, ["size", "padding"]);
    const [height, width] = all.size === undefined
      ? [null, null]
      : typeof all.size === "number"
      ? [all.size, all.size]
      : all.size;
    for (const side of [height, width]) if (side !== null) checkWhole("size", side, 1);
    const given = all.padding ?? 0;
    const sides = typeof given === "number" ? [given] : given;
    for (const side of sides) checkWhole("padding", side, 0);
    const [a, b = a, c = a, d = b] = sides;
    if (a === undefined || sides.length === 3 || sides.length > 4) {
      throw new RangeError(`Cannot use ${sides.length} numbers of padding: 1, 2 or 4 are needed`);
    }
    this.spec = { kind: "crop", height, width, padding: [a, b!, c!, d!] };
  }
}

/** Subtracts a mean from every channel and divides it by a standard deviation. */
export class Normalize extends ImageTransform {
  /** The transform as plain data. */
  override readonly spec: TransformSpec;

  /**
   * Takes the statistics, for pixels in [0, 1].
   *
   * @param mean One number per channel, or one for all.
   * @param std Likewise; not 0.
   * @throws {RangeError} If a number is not finite, or `std` has a 0.
   */
  constructor(mean: number | readonly number[], std: number | readonly number[]) {
    super();
    const means = typeof mean === "number" ? [mean] : [...mean];
    const stds = typeof std === "number" ? [std] : [...std];
    for (const value of [...means, ...stds]) {
      if (!Number.isFinite(value)) {
        throw new RangeError(`Cannot normalize with ${value}: finite numbers are needed`);
      }
    }
    if (means.length === 0 || stds.length === 0 || stds.some((value) => Math.fround(value) === 0)) {
      throw new RangeError(
        `Cannot normalize with mean [${means.join(", ")}] and std [${stds.join(", ")}]: ` +
          "one mean and one std other than 0 per channel are needed",
      );
    }
    this.spec = { kind: "normalize", mean: means, std: stds };
  }
}

/** Options of {@linkcode Cutout}. */
export interface CutoutOptions {
  /** Side of the square, in pixels. */
  readonly length: number;
  /** Number of squares (default 1). */
  readonly holes?: number;
}

/** Sets squares at random places to zero; a square may lie partly outside of the image. */
export class Cutout extends ImageTransform {
  /** The transform as plain data. */
  override readonly spec: TransformSpec;

  /**
   * Takes the size of the squares.
   *
   * @param length Side of a square, alone or as an option.
   * @throws {RangeError} If a number is not whole or less than 1.
   */
  constructor(length: number | CutoutOptions) {
    super();
    if (typeof length === "object") checkOptions("Cutout", length, ["length", "holes"]);
    const options = typeof length === "object" ? length : { length };
    this.spec = {
      kind: "cutout",
      length: checkWhole("length", options.length, 1),
      holes: checkWhole("holes", options.holes ?? 1, 1),
    };
  }
}

/**
 * Several transforms as one, applied from first to last.
 *
 * ```ts
 * import { Compose, RandomCrop, RandomFlipHorizontal } from "./transforms.ts";
 * const augment = new Compose([new RandomFlipHorizontal(), new RandomCrop(32, { padding: 4 })]);
 * console.log(augment.transforms.length); // 2
 * ```
 */
export class Compose {
  /** The transforms, in order. */
  readonly transforms: readonly Transform[];

  /** Takes the transforms. */
  constructor(transforms: readonly Transform[]) {
    this.transforms = [...transforms];
  }

  /** The transformed image; without a key, every call draws anew. */
  forward(image: Tensor, key?: TransformKey): Tensor {
    const shared = keyOf(key);
    let result = image;
    for (const part of groupTransforms(this.transforms)) result = part.apply(result, shared);
    return result;
  }
}

/** A transform as it is sent to workers. */
export type TransformEntry = TransformSpec | Required<ModuleSpec>;

/** Which module a loaded transform came from. */
const origins = new WeakMap<TransformFunction, Required<ModuleSpec>>();

/** Takes every Compose apart. */
function flatten(
  transforms: Transform | readonly Transform[],
): Exclude<Transform, Compose>[] {
  const list = Array.isArray(transforms) ? transforms as readonly Transform[] : [transforms];
  return (list as readonly Transform[]).flatMap((transform): Exclude<Transform, Compose>[] => {
    if (transform instanceof Compose) return flatten(transform.transforms);
    if (
      transform instanceof ImageTransform || typeof transform === "function" ||
      isModuleSpec(transform)
    ) return [transform];
    throw new TypeError(
      `Cannot use ${String(transform)} as a transform: ` +
        "a transform object, or a function (image, random) => image, is needed",
    );
  });
}

function isTransformFunction(value: unknown): value is TransformFunction {
  return typeof value === "function";
}

/** Imports the transforms that are given as modules; the others stay what they are. */
export async function loadTransforms(
  transforms: Transform | readonly Transform[],
): Promise<Transform[]> {
  const loaded: Transform[] = [];
  for (const transform of flatten(transforms)) {
    if (isModuleSpec(transform)) {
      const spec = plainSpec(transform);
      const made = await loadSpec(spec, "transform function", isTransformFunction);
      // Two specs may give the same function: each gets its own, so that each keeps its origin.
      const own: TransformFunction = (image, random) => made(image, random);
      origins.set(own, spec);
      loaded.push(own);
    } else {
      loaded.push(transform);
    }
  }
  return loaded;
}

/** The transforms as plain data for workers, or null if there is a function among them. */
export function describeTransforms(transforms: readonly Transform[]): TransformEntry[] | null {
  const entries: TransformEntry[] = [];
  for (const transform of flatten(transforms)) {
    const entry = transform instanceof ImageTransform
      ? transform.spec
      : typeof transform === "function"
      ? origins.get(transform)
      : plainSpec(transform);
    if (entry === undefined) return null;
    entries.push(entry);
  }
  return entries;
}

/** A built-in transform that was sent as plain data. */
class ReceivedTransform extends ImageTransform {
  /** The transform as plain data. */
  override readonly spec: TransformSpec;

  constructor(spec: TransformSpec) {
    super();
    this.spec = spec;
  }
}

/** The transforms that {@linkcode describeTransforms} described. */
export function receiveTransforms(entries: readonly TransformEntry[]): Promise<Transform[]> {
  return loadTransforms(
    entries.map((entry) => isModuleSpec(entry) ? entry : new ReceivedTransform(entry)),
  );
}

/** Neighbouring built-in transforms together, or one function. */
export interface TransformGroup {
  /** The built-in transforms, or null for a function. */
  readonly specs: readonly TransformSpec[] | null;
  /** Applies the group to one image. */
  readonly apply: (image: Tensor, key: TransformKey) => Tensor;
}

/** Puts neighbouring built-in transforms together, each still keyed by its place in the list. */
export function groupTransforms(transforms: Transform | readonly Transform[]): TransformGroup[] {
  const groups: TransformGroup[] = [];
  const list = flatten(transforms);
  for (let i = 0; i < list.length;) {
    const first = list[i]!;
    const position = i;
    if (first instanceof ImageTransform) {
      const specs: TransformSpec[] = [];
      for (let t = list[i]; t instanceof ImageTransform; t = list[++i]) specs.push(t.spec);
      const apply = (image: Tensor, key: TransformKey): Tensor =>
        applySpecs(image, specs, key, position);
      groups.push({ specs, apply });
    } else if (typeof first === "function") {
      const apply = (image: Tensor, key: TransformKey): Tensor =>
        first(image, new KeyedRandom(key.seed, key.epoch, key.index, position));
      groups.push({ specs: null, apply });
      i++;
    } else {
      throw new TypeError(
        `Cannot apply the transform of ${first.module} here: only the dataset functions, ` +
          "which are async, can load it",
      );
    }
  }
  return groups;
}
