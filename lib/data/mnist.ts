/**
 * MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 pixels, in the idx files of
 * the original site, with or without gzip. Where only the test files are there, they are split in two.
 * @module
 */
import { checkOptions } from "../options.ts";
import { gunzip, isGzip } from "./archive.ts";
import { sharedBytes } from "./dataset.ts";
import {
  type DatasetFunction,
  datasetFunction,
  type ImageDatasetOptions,
} from "./dataset_function.ts";
import { download, type RemoteFile } from "./download.ts";
import { askToRead, fileSize, missingDataset, readWhole, searchPlaces } from "./files.ts";
import { ImageDataset } from "./images.ts";
import { loadTransforms } from "./transforms.ts";

const SIDE = 28;
const PIXELS = SIDE * SIDE;
const SIZE = { channels: 1, height: SIDE, width: SIDE };
const CLASSES = Array.from({ length: 10 }, (_, digit) => String(digit));

function remote(file: string, size: number, sha256: string): RemoteFile {
  const name = `${file}.gz`;
  const urls = [
    `https://ossci-datasets.s3.amazonaws.com/mnist/${name}`,
    `https://storage.googleapis.com/cvdf-datasets/mnist/${name}`,
  ];
  return { name, urls, size, sha256 };
}

/** The original files. */
export const MNIST_FILES: readonly RemoteFile[] = [
  remote(
    "train-images-idx3-ubyte",
    9_912_422,
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
  ),
  remote(
    "train-labels-idx1-ubyte",
    28_881,
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
  ),
  remote(
    "t10k-images-idx3-ubyte",
    1_648_877,
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
  ),
  remote(
    "t10k-labels-idx1-ubyte",
    4_542,
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
  ),
];

/** The two files of a part of the set. */
interface Pair {
  readonly images: string;
  readonly labels: string;
}

/** The files of a place. */
interface Found {
  readonly folder: string;
  readonly train: Pair | null;
  readonly test: Pair | null;
}

/** One file, packed or not, or null. */
async function findFile(path: string, forbidden: string[]): Promise<string | null> {
  for (const candidate of [`${path}.gz`, path]) {
    const size = await fileSize(candidate);
    if (typeof size === "number") return candidate;
    if (size === "forbidden") forbidden.push(candidate);
  }
  return null;
}

async function findPair(folder: string, part: string, forbidden: string[]): Promise<Pair | null> {
  const images = await findFile(`${folder}/${part}-images-idx3-ubyte`, forbidden);
  const labels = await findFile(`${folder}/${part}-labels-idx1-ubyte`, forbidden);
  if (images !== null && labels !== null) return { images, labels };
  if (images === null && labels === null) return null;
  throw new Error(
    `Cannot read MNIST: there is ${images ?? labels} but no ${part}-` +
      `${images === null ? "images-idx3" : "labels-idx1"}-ubyte.gz beside it; get that file, too`,
  );
}

/** Looks for the files in one place, in the layouts of this library and of torchvision. */
async function findIn(place: string, forbidden: string[]): Promise<Found | null> {
  await askToRead(place);
  for (const folder of [`${place}/mnist`, `${place}/MNIST/raw`, place]) {
    const train = await findPair(folder, "train", forbidden);
    const test = await findPair(folder, "t10k", forbidden);
    if (train !== null || test !== null) return { folder, train, test };
  }
  return null;
}

/** The bytes of an idx file after its header, checked against what the header says. */
async function readIdx(path: string, dims: readonly number[]): Promise<Uint8Array> {
  const most = 16 + 60_000 * PIXELS;
  const size = Number(await fileSize(path));
  if (size > most) {
    throw new Error(`Cannot read ${path}: it has ${size} bytes, more than an MNIST file`);
  }
  const file = await readWhole(path, size);
  const bytes = isGzip(file) ? await gunzip(file, path, most) : file;
  const header = 8 + 4 * dims.length;
  const broken = (what: string): Error =>
    new Error(`Cannot read ${path}: ${what}; it is truncated or no MNIST file, get it again`);
  if (bytes.length < header) {
    throw broken(`it has ${bytes.length} bytes, fewer than the ${header} of an idx header`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0);
  const expected = 0x0801 + dims.length;
  if (magic !== expected) {
    throw broken(`its magic number is ${magic}, not ${expected}`);
  }
  dims.forEach((dim, i) => {
    const found = view.getUint32(8 + 4 * i);
    if (found !== dim) throw broken(`its images have a side of ${found} pixels, not ${dim}`);
  });
  const count = view.getUint32(4);
  const needed = header + count * dims.reduce((a, b) => a * b, 1);
  if (bytes.length !== needed) {
    throw broken(`it has ${bytes.length} bytes unpacked, not the ${needed} that its header says`);
  }
  return bytes.subarray(header);
}

async function readPair(pair: Pair): Promise<{ images: Uint8Array; labels: Uint8Array }> {
  const images = await readIdx(pair.images, [SIDE, SIDE]);
  const labels = await readIdx(pair.labels, []);
  if (images.length !== labels.length * PIXELS) {
    throw new Error(
      `Cannot read MNIST: ${pair.images} has ${images.length / PIXELS} images and ${pair.labels} ` +
        `${labels.length} labels; they do not belong together, get both again`,
    );
  }
  const wrong = labels.findIndex((label) => label > 9);
  if (wrong >= 0) {
    throw new Error(
      `Cannot read ${pair.labels}: label ${wrong} is ${
        labels[wrong]
      }, and labels are from 0 to 9; ` +
        "the file is corrupt, get it again",
    );
  }
  return { images, labels };
}

/** Looks in all places. Where files are to be downloaded, a place that lacks some is no find. */
async function find(options: ImageDatasetOptions): Promise<Found> {
  const { places, target } = searchPlaces(options.root);
  const wanted = options.download === true ? target : undefined;
  const forbidden: string[] = [];
  for (const { folder } of places) {
    const found = await findIn(folder, forbidden);
    const whole = found !== null && found.train !== null && found.test !== null;
    const usable = found !== null && (found.test !== null || options.train !== false);
    if (whole || (usable && folder !== wanted)) return found;
  }
  if (wanted === undefined) throw missingDataset("MNIST", places, forbidden);
  for (const file of MNIST_FILES) await download(file, `${wanted}/mnist`);
  const found = await findIn(wanted, forbidden);
  if (found === null) throw missingDataset("MNIST", places, forbidden);
  return found;
}

async function loadMNIST(options: ImageDatasetOptions): Promise<ImageDataset> {
  checkOptions("MNIST", options, ["root", "train", "transforms", "download"]);
  const train = options.train ?? true;
  const transforms = await loadTransforms(options.transforms ?? []);
  const { folder, train: trainPair, test: testPair } = await find(options);
  const own = train ? trainPair : testPair;
  const pair = own ?? testPair;
  if (pair === null) throw new Error(`Cannot find MNIST: ${folder} has no test files`);
  let { images, labels } = await readPair(pair);
  let note: string | undefined;
  if (trainPair === null) {
    const total = labels.length;
    const split = total - Math.floor(total / 10);
    const [from, to] = train ? [0, split] : [split, total];
    images = images.subarray(from * PIXELS, to * PIXELS);
    labels = labels.subarray(from, to);
    const text = (n: number): string => n.toLocaleString("en-US");
    note =
      `Only MNIST's ${text(total)} test images are in ${folder}: the first ${text(split)} are ` +
      `the training set here, the last ${text(total - split)} the test set`;
  }
  const sharedImages = sharedBytes(images.length);
  const sharedLabels = sharedBytes(labels.length);
  sharedImages.set(images);
  sharedLabels.set(labels);
  return new ImageDataset({
    images: sharedImages,
    labels: sharedLabels,
    size: SIZE,
    classes: CLASSES,
    transforms,
    note,
  });
}

/**
 * MNIST: samples `[x, y]` with x float32 (1, 28, 28) in [0, 1], before transforms, and y from 0 to 9. The
 * idx files are looked for in `root`, or `NEEDLE_DATA_DIR` and the cache, there in `mnist/`. Where only
 * the test files are there, the first nine tenths of them are the training set and the rest is the test
 * set, and the dataset's `note` says so.
 *
 * ```ts
 * import { isMissingDataset } from "./files.ts";
 * import { MNIST } from "./mnist.ts";
 * try {
 *   const test = await MNIST({ root: "/nowhere", train: false });
 *   console.log(test.length); // 10000
 * } catch (error) {
 *   console.log(isMissingDataset(error)); // true
 * }
 * ```
 *
 * @throws {Error} If the files are nowhere ({@linkcode isMissingDataset}), damaged, or cannot be
 * downloaded.
 */
export const MNIST: DatasetFunction<ImageDatasetOptions, ImageDataset> = datasetFunction(
  loadMNIST,
  {},
);
