/**
 * The Penn Treebank in Mikolov's split: three text files of one sentence per line. The words become
 * numbers in the order in which the training text first has them; every line ends with `<eos>`. The
 * text is cut into parallel streams and these into segments for truncated backpropagation through time.
 * @module
 */
import { checkOptions } from "../options.ts";
import { tensor } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { checkIndex, Dataset } from "./dataset.ts";
import {
  type DatasetFunction,
  datasetFunction,
  type FileDatasetOptions,
} from "./dataset_function.ts";
import { download, type RemoteFile } from "./download.ts";
import { askToRead, fileSize, missingDataset, readWhole, searchPlaces } from "./files.ts";

function remote(part: string, size: number, sha256: string): RemoteFile {
  const name = `ptb.${part}.txt`;
  const urls = ["wojzaremba", "tomsercu"].map((owner) =>
    `https://raw.githubusercontent.com/${owner}/lstm/master/data/${name}`
  );
  return { name, urls, size, sha256 };
}

/** The original files. */
export const PTB_FILES: readonly RemoteFile[] = [
  remote(
    "train",
    5_101_618,
    "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
  ),
  remote(
    "valid",
    399_782,
    "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
  ),
  remote(
    "test",
    449_945,
    "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
  ),
];

/** A part of the corpus. */
export type PTBSplit = "train" | "valid" | "test";

/** The words of a corpus, each with a number. */
export class Vocabulary {
  /** The words, by number. */
  readonly words: string[] = [];
  readonly #numbers = new Map<string, number>();

  /** Number of words. */
  get length(): number {
    return this.words.length;
  }

  /** The number of a word, which becomes a new one if it was not there. */
  add(word: string): number {
    let number = this.#numbers.get(word);
    if (number === undefined) {
      number = this.words.length;
      this.#numbers.set(word, number);
      this.words.push(word);
    }
    return number;
  }

  /** Whether a word has a number of its own. */
  has(word: string): boolean {
    return this.#numbers.has(word);
  }

  /**
   * The number of a word, or that of `<unk>`.
   *
   * @throws {RangeError} If neither is there.
   */
  encode(word: string): number {
    const number = this.#numbers.get(word) ?? this.#numbers.get("<unk>");
    if (number === undefined) {
      throw new RangeError(
        `Cannot encode ${
          JSON.stringify(word)
        }: it is not among the ${this.length} words, nor is <unk>`,
      );
    }
    return number;
  }

  /** The words of some numbers, with spaces between. */
  decode(numbers: Iterable<number>): string {
    return Array.from(numbers, (number) => this.words[number] ?? "<unk>").join(" ");
  }
}

/** A text as numbers of words: sample i is word i and the word after it. */
export class TextDataset extends Dataset<[number, number]> {
  /** Number of samples. */
  override readonly length: number;
  /** The words of the text, in order. */
  readonly tokens: Int32Array;
  /** The words that the numbers stand for; the same for all parts of a corpus. */
  readonly vocabulary: Vocabulary;

  /** Takes a text and its vocabulary. */
  constructor(tokens: Int32Array, vocabulary: Vocabulary) {
    super();
    this.tokens = tokens;
    this.vocabulary = vocabulary;
    this.length = Math.max(0, tokens.length - 1);
  }

  /** Word `index` and the word after it. */
  override get(index: number): [number, number] {
    const i = checkIndex(index, this.length);
    return [this.tokens[i]!, this.tokens[i + 1]!];
  }

  /** The text in segments for training a language model: see {@linkcode BPTTDataset}. */
  segments(batchSize: number, bptt: number): BPTTDataset {
    return new BPTTDataset(this.tokens, batchSize, bptt);
  }
}

/**
 * Cuts a text into `batchSize` streams of equal length, side by side; what is left over is dropped.
 *
 * @param tokens The text, as numbers.
 * @returns (time, batch), row by row: column b is stream b.
 * @throws {RangeError} If the text has fewer than two tokens for each stream.
 */
function batchify(
  tokens: Int32Array,
  batchSize: number,
): { data: Int32Array; rows: number } {
  if (!Number.isInteger(batchSize) || batchSize < 1 || 2 * batchSize > tokens.length) {
    throw new RangeError(
      `Cannot cut ${tokens.length} tokens into ${batchSize} streams: a whole number of at least 1 is ` +
        "needed, and two tokens for each stream: a word and the one that follows",
    );
  }
  const rows = Math.floor(tokens.length / batchSize);
  const data = new Int32Array(rows * batchSize);
  for (let b = 0; b < batchSize; b++) {
    for (let t = 0; t < rows; t++) data[t * batchSize + b] = tokens[b * rows + t]!;
  }
  return { data, rows };
}

/**
 * A text in segments: sample i is `[x, y]`, int64, with x of shape (time, batch) and y, the words that
 * follow, of shape (time · batch) as the loss takes them. Segments go on where the one before ended, so
 * that a recurrent state can be carried over; the last one may be shorter. Iterate over it directly, not
 * through a DataLoader.
 *
 * ```ts
 * import { BPTTDataset } from "./ptb.ts";
 * const text = Int32Array.from({ length: 21 }, (_, i) => i);
 * for (const [x, y] of new BPTTDataset(text, 2, 4)) {
 *   console.log(x.shape, y.shape); // [ 4, 2 ] [ 8 ], then [ 4, 2 ] [ 8 ], then [ 1, 2 ] [ 2 ]
 * }
 * ```
 */
export class BPTTDataset extends Dataset<[Tensor, Tensor]> {
  /** Number of samples. */
  override readonly length: number;
  /** Number of streams. */
  readonly batchSize: number;
  /** Time steps of a segment. */
  readonly bptt: number;
  readonly #data: Int32Array;
  readonly #rows: number;

  /**
   * Takes a text, the number of streams and the time steps of a segment.
   *
   * @throws {RangeError} If a number is not whole or too small.
   */
  constructor(tokens: Int32Array, batchSize: number, bptt: number) {
    super();
    if (!Number.isInteger(bptt) || bptt < 1) {
      throw new RangeError(`Cannot use bptt ${bptt}: a whole number of at least 1 is needed`);
    }
    const { data, rows } = batchify(tokens, batchSize);
    this.#data = data;
    this.#rows = rows;
    this.batchSize = batchSize;
    this.bptt = bptt;
    this.length = Math.ceil((rows - 1) / bptt);
  }

  /** Segment `index`: `[x, y]`. */
  override get(index: number): [Tensor, Tensor] {
    const start = checkIndex(index, this.length) * this.bptt;
    const steps = Math.min(this.bptt, this.#rows - 1 - start);
    const part = (from: number): BigInt64Array =>
      BigInt64Array.from(
        this.#data.subarray(
          from * this.batchSize,
          (from + steps) * this.batchSize,
        ) as unknown as number[],
        BigInt,
      );
    return [
      tensor(part(start), { shape: [steps, this.batchSize] }),
      tensor(part(start + 1), { shape: [steps * this.batchSize] }),
    ];
  }
}

/** The words of a text, line by line, with `<eos>` after each line. */
function* wordsOf(text: string): Generator<string, void, undefined> {
  for (const line of text.split("\n")) {
    if (line === "") continue;
    for (const word of line.split(" ")) if (word !== "") yield word;
    yield "<eos>";
  }
}

/** A text as numbers; new words join the vocabulary only if `grow` is set. */
export function tokenize(text: string, vocabulary: Vocabulary, grow: boolean): Int32Array {
  const numbers: number[] = [];
  for (const word of wordsOf(text)) {
    numbers.push(grow ? vocabulary.add(word) : vocabulary.encode(word));
  }
  return Int32Array.from(numbers);
}

async function readText(path: string): Promise<string> {
  const bytes = await readWhole(path, Number(await fileSize(path)));
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error(`Cannot read ${path}: it is no UTF-8 text; get the file again`);
  }
  text = text.replaceAll("\r\n", "\n");
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x08\x0e-\x1f]/.test(text)) {
    throw new Error(
      `Cannot read ${path}: it has control characters, so it is no text; get it again`,
    );
  }
  if (text.trim() === "") throw new Error(`Cannot read ${path}: it is empty; get the file again`);
  if (!text.endsWith("\n")) {
    throw new Error(
      `Cannot read ${path}: its last line does not end, so it is truncated; get the file again ` +
        "(or end the last line, if the text is your own)",
    );
  }
  return text;
}

/** Options of {@linkcode PTB}. */
export interface PTBOptions extends FileDatasetOptions {
  /** Which part (default: "train", or "test" if `train` is false). */
  readonly split?: PTBSplit;
}

/** The folder that has the files of all given parts, or null. */
async function findIn(
  place: string,
  parts: readonly PTBSplit[],
  forbidden: string[],
): Promise<string | null> {
  await askToRead(place);
  for (const folder of [`${place}/ptb`, place]) {
    const paths = parts.map((part) => `${folder}/ptb.${part}.txt`);
    const sizes = await Promise.all(paths.map(fileSize));
    if (sizes.every((size) => typeof size === "number")) return folder;
    forbidden.push(...paths.filter((_, i) => sizes[i] === "forbidden"));
  }
  return null;
}

async function loadPTB(options: PTBOptions): Promise<TextDataset> {
  checkOptions("PTB", options, ["root", "train", "split", "download"]);
  const split = options.split ?? (options.train ?? true ? "train" : "test");
  if (!["train", "valid", "test"].includes(split)) {
    throw new RangeError(`Cannot use split ${JSON.stringify(split)}: it is train, valid or test`);
  }
  const parts: PTBSplit[] = split === "train" ? ["train"] : ["train", split];
  const { places, target } = searchPlaces(options.root);
  const forbidden: string[] = [];
  let folder: string | null = null;
  for (const place of places) folder ??= await findIn(place.folder, parts, forbidden);
  if (folder === null && options.download === true && target !== undefined) {
    folder = `${target}/ptb`;
    for (const file of PTB_FILES) await download(file, folder);
  }
  if (folder === null) throw missingDataset("PTB", places, forbidden);
  const vocabulary = new Vocabulary();
  let tokens = tokenize(await readText(`${folder}/ptb.train.txt`), vocabulary, true);
  if (split !== "train") {
    tokens = tokenize(await readText(`${folder}/ptb.${split}.txt`), vocabulary, false);
  }
  return new TextDataset(tokens, vocabulary);
}

/**
 * The Penn Treebank: 929,589 training, 73,760 validation and 82,430 test words, 10,000 different ones.
 * The files `ptb.{train,valid,test}.txt` are looked for in `root`, or `NEEDLE_DATA_DIR` and the cache,
 * there in `ptb/`. The vocabulary is that of the training text, for every part.
 *
 * ```ts
 * import { isMissingDataset } from "./files.ts";
 * import { PTB } from "./ptb.ts";
 * try {
 *   const train = await PTB({ root: "/nowhere" });
 *   for (const [x, y] of train.segments(20, 35)) console.log(x.shape, y.shape); // [ 35, 20 ] [ 700 ]
 * } catch (error) {
 *   console.log(isMissingDataset(error)); // true
 * }
 * ```
 *
 * @throws {Error} If the files are nowhere ({@linkcode isMissingDataset}), damaged, or cannot be
 * downloaded.
 */
export const PTB: DatasetFunction<PTBOptions, TextDataset> = datasetFunction(loadPTB, {});
