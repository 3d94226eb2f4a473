// @ts-check
// MNIST's own files, as a user picks them: idx format, packed with gzip or not, told apart by their contents.

/**
 * The bytes of a file, unpacked where it is packed.
 *
 * @param {File} file
 * @returns {Promise<Uint8Array>}
 */
async function unpacked(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = file.stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error(`Cannot unpack ${file.name}: it is damaged`);
  }
}

/** @typedef {{ images: Uint8Array, labels: Uint8Array }} Pair */

/**
 * The training and test pairs among some files. Where only one pair is there, its last tenth is the test set.
 *
 * @param {readonly File[]} files
 * @returns {Promise<{ train: Pair, test: Pair }>}
 * @throws {Error} If a file is of another kind, or an image file has no label file of its length.
 */
export async function readMnist(files) {
  /** @type {Uint8Array[]} */
  const images = [];
  /** @type {Uint8Array[]} */
  const labels = [];
  for (const file of files) {
    const bytes = await unpacked(file);
    const view = new DataView(bytes.buffer);
    const magic = bytes.length < 16 ? 0 : view.getUint32(0);
    const header = magic === 0x803 ? 16 : 8;
    const side = magic === 0x803 ? view.getUint32(8) * view.getUint32(12) : 1;
    const known = (magic === 0x803 && side === 784) || magic === 0x801;
    if (!known || bytes.length !== header + view.getUint32(4) * side) {
      throw new Error(`Cannot use ${file.name}: it is no file of MNIST's images or labels`);
    }
    (magic === 0x803 ? images : labels).push(bytes.subarray(header));
  }
  const pairs = images.map((pixels) => {
    const own = labels.find((l) => l.length * 784 === pixels.length);
    if (own === undefined) {
      throw new Error(
        `Cannot use ${pixels.length / 784} images: pick the file of their labels, too`,
      );
    }
    return { images: pixels, labels: own };
  }).sort((a, b) => b.labels.length - a.labels.length);
  const [train, test] = pairs;
  if (train === undefined) throw new Error("Cannot train on labels alone: pick images, too");
  if (train.labels.some((label) => label > 9)) {
    throw new Error("Cannot use labels above 9: the file is damaged");
  }
  if (test !== undefined) return { train, test };
  const split = Math.floor(train.labels.length * 0.9);
  return {
    train: {
      images: train.images.subarray(0, split * 784),
      labels: train.labels.subarray(0, split),
    },
    test: { images: train.images.subarray(split * 784), labels: train.labels.subarray(split) },
  };
}
