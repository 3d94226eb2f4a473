/**
 * Sets that are computed, for machines without files: images of ten classes in the sizes of CIFAR-10
 * and MNIST, and text with a simple grammar. They can be learnt, are not trivial, and are the same on
 * every machine up to rounding.
 * @module
 */
import { checkOptions } from "../options.ts";
import { sharedBytes } from "./dataset.ts";
import { drawDigit, SIDE } from "./digits.ts";
import { ImageDataset } from "./images.ts";
import { KeyedRandom } from "./keyed_random.ts";
import { TextDataset, Vocabulary } from "./ptb.ts";
import type { Transform } from "./transforms.ts";

/** Options of the synthetic sets. */
export interface SyntheticOptions {
  /** The training set or the test set, which have no sample in common (default true). */
  readonly train?: boolean;
  /** Number of samples (default 10,000 for training, 2,000 for testing). */
  readonly length?: number;
  /** What the samples follow (default 0). */
  readonly seed?: number;
  /** One transform or a list, applied to every image. */
  readonly transforms?: Transform | readonly Transform[];
}

/** Keeps the random numbers of the parts apart. */
const TRAIN_STREAM = 1;
const TEST_STREAM = 2;
const CLASS_STREAM = 3;

/** Draws the pixels of one sample. */
type Draw = (target: Uint8Array, label: number, random: KeyedRandom) => void;

function makeImages(
  what: string,
  options: SyntheticOptions,
  size: { channels: number; height: number; width: number },
  classes: readonly string[],
  draw: Draw,
): ImageDataset {
  checkOptions(what, options, ["train", "length", "seed", "transforms"]);
  const train = options.train ?? true;
  const length = options.length ?? (train ? 10_000 : 2_000);
  if (!Number.isInteger(length) || length < 0) {
    throw new RangeError(`Cannot make ${length} samples: a whole number of at least 0 is needed`);
  }
  const pixels = size.channels * size.height * size.width;
  const images = sharedBytes(length * pixels);
  const labels = sharedBytes(length);
  for (let i = 0; i < length; i++) {
    const random = new KeyedRandom(options.seed ?? 0, train ? TRAIN_STREAM : TEST_STREAM, i);
    const label = random.integer(classes.length);
    labels[i] = label;
    draw(images.subarray(i * pixels, (i + 1) * pixels), label, random);
  }
  const note = `${length.toLocaleString("en-US")} computed images, not photographs or handwriting`;
  return new ImageDataset({ images, labels, size, classes, transforms: options.transforms, note });
}

/** A byte from a number that may be outside of 0 to 255. */
function toByte(value: number): number {
  return value <= 0 ? 0 : value >= 255 ? 255 : Math.round(value);
}

/** A periodic texture: two waves, each with a direction, and a colour for each. */
interface Texture {
  readonly waves: readonly { readonly fy: number; readonly fx: number }[];
  readonly colors: readonly (readonly number[])[];
}

function textureOf(label: number): Texture {
  const random = new KeyedRandom(CLASS_STREAM, label);
  const wave = (): { fy: number; fx: number } => ({
    fy: (random.integer(7) - 3) * Math.PI / 16,
    fx: (random.integer(4) + (label % 2)) * Math.PI / 16,
  });
  const color = (): number[] => [random.normal(), random.normal(), random.normal()];
  return { waves: [wave(), wave()], colors: [color(), color()] };
}

/**
 * Images in the size of CIFAR-10, (3, 32, 32) of 10 classes: coloured textures, one kind per class, at
 * random places and strengths, under noise and a random tint.
 *
 * ```ts
 * import { syntheticCIFAR10 } from "./synthetic.ts";
 * const test = syntheticCIFAR10({ train: false, length: 100 });
 * console.log(test.length, test.get(0)[0].shape); // 100 [ 3, 32, 32 ]
 * ```
 *
 * @throws {RangeError} If `length` is not a whole number from 0.
 */
export function syntheticCIFAR10(options: SyntheticOptions = {}): ImageDataset {
  const textures = Array.from({ length: 10 }, (_, label) => textureOf(label));
  const classes = textures.map((_, label) => `texture ${label}`);
  const draw: Draw = (target, label, random) => {
    const { waves, colors } = textures[label]!;
    const phases = waves.map(() => random.uniform() * 2 * Math.PI);
    const strengths = waves.map(() => 8 + 22 * random.uniform());
    const tint = [0, 1, 2].map(() => 128 + 30 * random.normal());
    for (let y = 0; y < 32; y++) {
      for (let x = 0; x < 32; x++) {
        const a = strengths[0]! * Math.sin(waves[0]!.fy * y + waves[0]!.fx * x + phases[0]!);
        const b = strengths[1]! * Math.sin(waves[1]!.fy * y + waves[1]!.fx * x + phases[1]!);
        for (let c = 0; c < 3; c++) {
          const noise = 80 * (random.uniform() - 0.5);
          target[(c * 32 + y) * 32 + x] = toByte(
            tint[c]! + a * colors[0]![c]! + b * colors[1]![c]! + noise,
          );
        }
      }
    }
  };
  return makeImages(
    "syntheticCIFAR10",
    options,
    { channels: 3, height: 32, width: 32 },
    classes,
    draw,
  );
}

const DIGITS = Array.from({ length: 10 }, (_, digit) => String(digit));

/**
 * Images in the size of MNIST, (1, 28, 28) of 10 classes: digits drawn with a computed pen, in several
 * ways of writing, with random slant, proportions, bends and thickness.
 *
 * ```ts
 * import { syntheticMNIST } from "./synthetic.ts";
 * const train = syntheticMNIST({ length: 100 });
 * console.log(train.get(0)[0].shape); // [ 1, 28, 28 ]
 * ```
 *
 * @throws {RangeError} If `length` is not a whole number from 0.
 */
export function syntheticMNIST(options: SyntheticOptions = {}): ImageDataset {
  const size = { channels: 1, height: SIDE, width: SIDE };
  return makeImages("syntheticMNIST", options, size, DIGITS, drawDigit);
}

/** Options of {@linkcode syntheticPTB}. */
export interface SyntheticTextOptions {
  /** Which part: each goes its own way through the same grammar (default "train"). */
  readonly split?: "train" | "valid" | "test";
  /** Number of words (default 50,000 for training, 5,000 for the others). */
  readonly length?: number;
  /** What the text follows (default 0). */
  readonly seed?: number;
}

const WORDS = 200;
const CHOICES = 4;

/**
 * A text of 201 different words in the form of {@linkcode PTB}: after every word only four others can
 * come, with falling probability, so that a model that has learnt it reaches a perplexity of about 3.6.
 *
 * ```ts
 * import { syntheticPTB } from "./synthetic.ts";
 * const train = syntheticPTB({ length: 1000 });
 * console.log(train.tokens.length, train.vocabulary.length); // 1000 201
 * ```
 *
 * @throws {RangeError} If `length` is not a whole number from 0.
 */
export function syntheticPTB(options: SyntheticTextOptions = {}): TextDataset {
  checkOptions("syntheticPTB", options, ["split", "length", "seed"]);
  const split = options.split ?? "train";
  const length = options.length ?? (split === "train" ? 50_000 : 5_000);
  if (!Number.isInteger(length) || length < 0) {
    throw new RangeError(`Cannot make ${length} words: a whole number of at least 0 is needed`);
  }
  const vocabulary = new Vocabulary();
  vocabulary.add("<eos>");
  for (let word = 1; word <= WORDS; word++) vocabulary.add(`word${word}`);
  const grammar = new KeyedRandom(CLASS_STREAM, WORDS);
  const next = Array.from(
    { length: (WORDS + 1) * CHOICES },
    () => grammar.integer(WORDS + 1),
  );
  const random = new KeyedRandom(options.seed ?? 0, ["train", "valid", "test"].indexOf(split));
  const tokens = new Int32Array(length);
  let word = 0;
  for (let i = 0; i < length; i++) {
    // Probabilities 0.4, 0.3, 0.2, 0.1.
    const draw = random.uniform();
    const choice = draw < 0.4 ? 0 : draw < 0.7 ? 1 : draw < 0.9 ? 2 : 3;
    word = next[word * CHOICES + choice]!;
    tokens[i] = word;
  }
  return new TextDataset(tokens, vocabulary);
}
