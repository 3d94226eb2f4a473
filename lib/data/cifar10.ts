/**
 * CIFAR-10: 50,000 training and 10,000 test images of 32x32 pixels in 10 classes, in the "binary
 * version" of the original site: files of 10,000 records of one label byte and 3,072 bytes of pixels.
 * @module
 */
import { checkOptions } from "../options.ts";
import { readTarGz } from "./archive.ts";
import { sharedBytes } from "./dataset.ts";
import {
  type DatasetFunction,
  datasetFunction,
  type ImageDatasetOptions,
} from "./dataset_function.ts";
import { download, type RemoteFile } from "./download.ts";
import {
  askToRead,
  builtin,
  fileSize,
  missingDataset,
  type Place,
  readInto,
  searchPlaces,
  streamFile,
  writeWhole,
} from "./files.ts";
import { ImageDataset } from "./images.ts";
import { loadTransforms } from "./transforms.ts";

const FOLDER = "cifar-10-batches-bin";
const TRAIN_FILES = [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`);
const TEST_FILES = ["test_batch.bin"];
const SIZE = { channels: 3, height: 32, width: 32 };
const PIXELS = 3072;
const RECORD = PIXELS + 1;
const RECORDS = 10_000;
const FILE_SIZE = RECORDS * RECORD;

const CLASSES = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
];

/** The original archive. */
export const CIFAR10_ARCHIVE: RemoteFile = {
  name: "cifar-10-binary.tar.gz",
  urls: [
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
  ],
  size: 170_052_171,
  sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
};

/** Where the records are: a folder of files, or the archive. */
type Found = { readonly folder: string } | { readonly archive: string };

/** Looks for the files in one place; what lacks read permission is added to `forbidden`. */
async function findIn(
  place: string,
  files: readonly string[],
  forbidden: string[],
): Promise<Found | null> {
  await askToRead(place);
  let partial: { present: string; absent: string } | null = null;
  for (const folder of [`${place}/${FOLDER}`, place]) {
    const sizes = await Promise.all(files.map((file) => fileSize(`${folder}/${file}`)));
    const absent = files.find((_, i) => typeof sizes[i] !== "number");
    if (absent === undefined) return { folder };
    if (sizes.includes("forbidden")) forbidden.push(`${folder}/${absent}`);
    const present = files.find((_, i) => typeof sizes[i] === "number");
    if (present !== undefined) partial ??= { present: `${folder}/${present}`, absent };
  }
  const archive = `${place}/${CIFAR10_ARCHIVE.name}`;
  const size = await fileSize(archive);
  if (typeof size === "number") return { archive };
  if (size === "forbidden") forbidden.push(archive);
  if (partial !== null) {
    throw new Error(
      `Cannot read CIFAR-10: there is ${partial.present} but no ${partial.absent} beside it; ` +
        `unpack ${CIFAR10_ARCHIVE.name} again`,
    );
  }
  return null;
}

/** Takes the records of one file apart. */
function splitRecords(
  records: Uint8Array,
  name: string,
  images: Uint8Array,
  labels: Uint8Array,
  first: number,
): void {
  for (let i = 0; i < RECORDS; i++) {
    const label = records[i * RECORD]!;
    if (label > 9) {
      throw new Error(
        `Cannot read ${name}: record ${i} has label ${label}, and labels are from 0 to 9; ` +
          "the file is corrupt or no CIFAR-10 file, get it again",
      );
    }
    labels[first + i] = label;
    images.set(
      records.subarray(i * RECORD + 1, (i + 1) * RECORD),
      (first + i) * PIXELS,
    );
  }
}

function checkFileSize(name: string, size: number): void {
  if (size !== FILE_SIZE) {
    throw new Error(
      `Cannot read ${name}: it has ${size} bytes, not ${FILE_SIZE} (${RECORDS} records of ${RECORD}); ` +
        "it is truncated or no CIFAR-10 file, get it again",
    );
  }
}

async function readRecords(
  found: Found,
  files: readonly string[],
  images: Uint8Array,
  labels: Uint8Array,
): Promise<void> {
  const records = new Uint8Array(FILE_SIZE);
  if ("folder" in found) {
    for (const [i, file] of files.entries()) {
      const path = `${found.folder}/${file}`;
      checkFileSize(path, Number(await fileSize(path)));
      await readInto(path, records);
      splitRecords(records, path, images, labels, i * RECORDS);
    }
    return;
  }
  const left = new Set(files);
  await readTarGz(await streamFile(found.archive), found.archive, async (entry) => {
    const file = entry.name.slice(entry.name.lastIndexOf("/") + 1);
    if (!left.delete(file)) return;
    const name = `${found.archive} (${entry.name})`;
    checkFileSize(name, entry.size);
    await entry.readInto(records);
    splitRecords(records, name, images, labels, files.indexOf(file) * RECORDS);
  });
  if (left.size > 0) {
    throw new Error(
      `Cannot read ${found.archive}: it has no ${[...left].join(", ")}; get it again`,
    );
  }
}

/** Downloads the archive, unpacks it and drops it. */
async function fetchInto(target: string): Promise<Found> {
  const archive = await download(CIFAR10_ARCHIVE, target);
  const folder = `${target}/${FOLDER}`;
  const fs = builtin("node:fs/promises");
  await fs.mkdir(folder, { recursive: true });
  await readTarGz(await streamFile(archive), archive, async (entry) => {
    const file = entry.name.slice(entry.name.lastIndexOf("/") + 1);
    if (!file.endsWith(".bin")) return;
    const bytes = new Uint8Array(entry.size);
    await entry.readInto(bytes);
    await writeWhole(`${folder}/${file}`, bytes);
  });
  await fs.rm(archive);
  return { folder };
}

async function find(
  places: readonly Place[],
  files: readonly string[],
  forbidden: string[],
): Promise<Found | null> {
  for (const { folder } of places) {
    const found = await findIn(folder, files, forbidden);
    if (found !== null) return found;
  }
  return null;
}

async function loadCIFAR10(options: ImageDatasetOptions): Promise<ImageDataset> {
  checkOptions("CIFAR10", options, ["root", "train", "transforms", "download"]);
  const files = options.train ?? true ? TRAIN_FILES : TEST_FILES;
  const transforms = await loadTransforms(options.transforms ?? []);
  const { places, target } = searchPlaces(options.root);
  const forbidden: string[] = [];
  let found = await find(places, files, forbidden);
  if (found === null && options.download === true && target !== undefined) {
    found = await fetchInto(target);
  }
  if (found === null) throw missingDataset("CIFAR-10", places, forbidden);
  const length = files.length * RECORDS;
  const images = sharedBytes(length * PIXELS);
  const labels = sharedBytes(length);
  await readRecords(found, files, images, labels);
  return new ImageDataset({ images, labels, size: SIZE, classes: CLASSES, transforms });
}

/**
 * CIFAR-10: samples `[x, y]` with x float32 (3, 32, 32) in [0, 1], before transforms, and y from 0 to 9.
 * The files are looked for in `root`, or `NEEDLE_DATA_DIR` and the cache: `cifar-10-batches-bin/*.bin`
 * or `cifar-10-binary.tar.gz`. They are checked for their structure; downloads also for their SHA-256.
 *
 * ```ts
 * import { CIFAR10 } from "./cifar10.ts";
 * import { isMissingDataset } from "./files.ts";
 * try {
 *   const train = await CIFAR10({ root: "/nowhere", train: true });
 *   console.log(train.length); // 50000
 * } catch (error) {
 *   console.log(isMissingDataset(error)); // true
 * }
 * ```
 *
 * @throws {Error} If the files are nowhere ({@linkcode isMissingDataset}), damaged, or cannot be
 * downloaded.
 */
export const CIFAR10: DatasetFunction<ImageDatasetOptions, ImageDataset> = datasetFunction(
  loadCIFAR10,
  {},
);
