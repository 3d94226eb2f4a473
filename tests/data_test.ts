/**
 * Datasets, transforms and the DataLoader: batches and single samples agree, random numbers follow
 * (seed, epoch, index) alone, and workers change nothing.
 */
import {
  BPTTDataset,
  Compose,
  Cutout,
  DataLoader,
  type DataLoaderOptions,
  Dataset,
  type DatasetLike,
  defaultCollate,
  ImageDataset,
  type ImageSize,
  ImageTransform,
  type ModuleSpec,
  Normalize,
  RandomCrop,
  RandomFlipHorizontal,
  randomSplit,
  type Sample,
  Subset,
  syntheticCIFAR10,
  syntheticMNIST,
  syntheticPTB,
  TensorDataset,
  type Transform,
} from "../lib/data/mod.ts";
import { ImagePipeline } from "../lib/data/pipeline.ts";
import { epochOrder, KeyedRandom } from "../lib/data/keyed_random.ts";
import { loadTransforms } from "../lib/data/transforms.ts";
import { tensor } from "../lib/tensor/create.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import {
  assert,
  assertEquals,
  assertRejects,
  assertThrows,
  brighten,
  Broken,
  Counting,
  Described,
} from "./data_support.ts";

const SUPPORT = new URL("./data_support.ts", import.meta.url);

/** A small set of images of 2 channels, 5 rows and 7 columns, whose bytes are all different at first. */
function smallImages(count: number, transforms: readonly Transform[] = []): ImageDataset {
  const images = Uint8Array.from({ length: count * 70 }, (_, i) => i * 37 + (i >> 8));
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 10);
  return new ImageDataset({
    images,
    labels,
    size: { channels: 2, height: 5, width: 7 },
    transforms,
  });
}

type Plain = [string, readonly number[], number[]];

/** Tensors as dtype, shape and values, to compare bit by bit. */
function plain(batch: Sample): Plain[] {
  return batch.map((t) => {
    if (typeof t === "number") throw new TypeError("a batch has no plain numbers");
    return [t.dtype, t.shape, Array.from(t.toTypedArray() as ArrayLike<number | bigint>, Number)];
  });
}

async function batches<S extends Sample>(
  dataset: DatasetLike<S> | ModuleSpec,
  options: DataLoaderOptions<S, Sample>,
  epoch = 0,
): Promise<Plain[][]> {
  const loader = new DataLoader<S, Sample>(dataset, options);
  loader.epoch = epoch;
  const all: Plain[][] = [];
  for await (const batch of loader) all.push(plain(batch));
  return all;
}

Deno.test("KeyedRandom depends on every word of the key, and is uniform", () => {
  const draws = new Set<number>();
  const keys = [[0], [1], [0, 0], [0, 1], [1, 0], [2 ** 40], [2 ** 41], [-1], [2 ** 32 - 1]];
  for (const key of keys) draws.add(new KeyedRandom(...key).uint32());
  assertEquals(draws.size, keys.length);
  const counts = new Array<number>(10).fill(0);
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < 20_000; i++) {
    counts[new KeyedRandom(7, 0, i).integer(10)]!++;
    const z = new KeyedRandom(8, 0, i).normal();
    sum += z;
    squares += z * z;
  }
  assert(counts.every((count) => Math.abs(count - 2000) < 200), counts.join(" "));
  assert(Math.abs(sum / 20_000) < 0.03 && Math.abs(squares / 20_000 - 1) < 0.05);
});

Deno.test("epochOrder is a permutation that follows seed and epoch", () => {
  const order = epochOrder(1000, true, 3, 0);
  assertEquals([...order].sort((a, b) => a - b), [...epochOrder(1000, false, 3, 0)]);
  assertEquals(epochOrder(1000, true, 3, 0), order);
  const same = (other: Uint32Array): number => order.filter((v, i) => v === other[i]).length;
  assert(same(epochOrder(1000, true, 3, 1)) < 10 && same(epochOrder(1000, true, 4, 0)) < 10);
});

Deno.test("TensorDataset, Subset and randomSplit", () => {
  const x = tensor([[1, 2], [3, 4], [5, 6]]);
  const data = new TensorDataset(x, tensor([7, 8, 9], { dtype: "int32" }));
  assertEquals(data.get(-1).map((t) => t.tolist()), [[5, 6], 9]);
  assertThrows(() => data.get(3), RangeError, "Cannot get sample 3 of a dataset of 3");
  assertThrows(() => new TensorDataset(x, tensor([1, 2])), RangeError, "[3, 2] and [2]");
  assertThrows(() => new TensorDataset(), RangeError, "no tensors");
  const part = new Subset(data, [2, 0]);
  assertEquals([...part].map(([, y]) => y.item()), [9, 7]);
  assertThrows(() => new Subset(data, [3]), RangeError, "index 3");

  const numbers = new Counting(10);
  const [a, b] = randomSplit(numbers, [0.75, 0.25], { seed: 1 });
  assertEquals([a!.length, b!.length], [8, 2]);
  const all = [...a!.indices, ...b!.indices].sort((i, j) => i - j);
  assertEquals(all, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(randomSplit(numbers, [8, 2], { seed: 1 })[1]!.indices, b!.indices);
  assertThrows(() => randomSplit(numbers, [8, 3]), RangeError, "add up to 11");
});

Deno.test("collate stacks tensors and makes int64 of integers and float32 of other numbers", () => {
  const batch = defaultCollate([[tensor([1, 2]), 3, 0.5], [tensor([4, 5]), 6, 1]]);
  assertEquals(plain(batch), [
    ["float32", [2, 2], [1, 2, 4, 5]],
    ["int64", [2], [3, 6]],
    ["float32", [2], [0.5, 1]],
  ]);
  assertThrows(
    () => defaultCollate([[tensor([1])], [tensor([1, 2])]]),
    RangeError,
    "Cannot collate element 0 of the samples: float32 [1] and float32 [2] differ",
  );
  assertThrows(() => defaultCollate([[1], [tensor(1)]]), TypeError, "Cannot collate element 0");
  assertThrows(() => defaultCollate([[1, 2], [1]]), TypeError, "Cannot collate element 1");
});

Deno.test("images are bytes / 255, normalised as PyTorch does it", () => {
  const set = smallImages(3, [new Normalize([0.5, 0.25], 0.2)]);
  const [x, y] = set.get(2);
  assertEquals([x.shape, x.dtype, y], [[2, 5, 7], "float32", 2]);
  const f = Math.fround;
  const expected = Array.from(set.images.subarray(140), (byte, i) => {
    return f(f(f(byte / 255) - f(i < 35 ? 0.5 : 0.25)) / f(0.2));
  });
  assertEquals([...x.toTypedArray() as Float32Array], expected);
});

Deno.test("flip and crop move pixels as they should", () => {
  const image = tensor([[[1, 2, 3], [4, 5, 6]]]);
  assertEquals(new RandomFlipHorizontal(1).forward(image).tolist(), [[[3, 2, 1], [6, 5, 4]]]);
  assertEquals(new RandomFlipHorizontal({ p: 0 }).forward(image).tolist(), image.tolist());
  const windows = new Set<string>();
  for (let index = 0; index < 400; index++) {
    const crop = new RandomCrop({ padding: 1 }).forward(image, { seed: 0, epoch: 0, index });
    assertEquals(crop.shape, [1, 2, 3]);
    windows.add(JSON.stringify(crop.tolist()));
  }
  assertEquals(windows.size, 9);
  assert(windows.has("[[[0,0,0],[0,1,2]]]") && windows.has("[[[5,6,0],[0,0,0]]]"));
  const wide = new RandomCrop([1, 5], { padding: [2, 0] }).forward(image);
  assertEquals(wide.shape, [1, 1, 5]);
  assertThrows(() => new RandomCrop(4).forward(image), RangeError, "Cannot crop 4x4");
  assertThrows(() => new Normalize([0, 0], 1).forward(image), RangeError, "2 values of mean");
  assertThrows(() => new RandomFlipHorizontal(2), RangeError, "from 0 to 1");
  assertThrows(() => new Normalize(0, 0), RangeError, "std other than 0");
  assertThrows(() => new RandomFlipHorizontal().forward(tensor([1])), TypeError, "shape [1]");
});

Deno.test("Cutout zeroes squares, clipped at the border", () => {
  const image = tensor(new Float32Array(2 * 6 * 6).fill(1), { shape: [2, 6, 6] });
  const sizes = new Set<number>();
  for (let index = 0; index < 200; index++) {
    const cut = new Cutout(4).forward(image, { seed: 0, epoch: 0, index });
    const zeros = [...cut.toTypedArray() as Float32Array].map((v) => v === 0 ? 1 : 0);
    assertEquals(zeros.slice(0, 36), zeros.slice(36));
    sizes.add(zeros.reduce<number>((a, b) => a + b, 0) / 2);
  }
  assert(sizes.has(16) && Math.min(...sizes) >= 4 && Math.max(...sizes) === 16);
});

/** Lists of transforms whose fused and separate application must agree. */
const LISTS: readonly (readonly Transform[])[] = [
  [],
  [new RandomFlipHorizontal(), new RandomCrop({ padding: 2 })],
  [new RandomCrop({ padding: [1, 2, 3, 0] }), new RandomFlipHorizontal(), new Normalize(0.4, 0.3)],
  [new Normalize([0.4, 0.5], [0.3, 0.2]), new RandomCrop(5, { padding: 2 })],
  [
    new RandomFlipHorizontal(),
    new RandomCrop([4, 9], { padding: 2 }),
    new RandomFlipHorizontal(0.3),
    new Cutout(3),
    new Normalize(0.4, 0.3),
    new RandomCrop([3, 3], { padding: 1 }),
  ],
  [new Compose([new RandomFlipHorizontal(), brighten(0.5)]), new RandomCrop({ padding: 1 })],
];

Deno.test("single samples, batches and transforms one by one give the same bits", () => {
  for (const list of LISTS) {
    const set = smallImages(12, list);
    const key = { seed: 5, epoch: 2 };
    const samples = [11, 3, 3, 0].map((i) => set.get(i, key));
    const batch = set.getBatch([11, 3, 3, 0], key);
    if (batch !== null) assertEquals(plain(batch), plain(defaultCollate(samples)));
    const composed = new Compose(list).forward(smallImages(12).get(3)[0], { ...key, index: 3 });
    assertEquals(plain([composed]), plain([samples[1]![0]]));
  }
});

Deno.test("transforms fused into one pass give the bits of one pass each", () => {
  const size = { channels: 2, height: 5, width: 7 };
  const { images } = smallImages(12);
  for (const list of LISTS) {
    if (!list.every((transform) => transform instanceof ImageTransform)) continue;
    const specs = list.map(({ spec }) => spec);
    for (let index = 0; index < 12; index++) {
      const key = { seed: 1, epoch: index };
      const fused = new ImagePipeline(size, specs).fromBytes(images, [index], key);
      let values = new ImagePipeline(size, []).fromBytes(images, [index], key) as Float32Array;
      let current: ImageSize = size;
      specs.forEach((spec, position) => {
        const step = new ImagePipeline(current, [spec], position);
        values = step.fromFloats(values, index, key);
        current = step.output;
      });
      assertEquals([...fused], [...values]);
    }
  }
});

Deno.test("augmentation follows seed, epoch and index", () => {
  const set = smallImages(40, [new RandomFlipHorizontal(), new RandomCrop({ padding: 2 })]);
  const values = (seed: number, epoch: number): string =>
    JSON.stringify(plain(set.getBatch(epochOrder(40, false, 0, 0), { seed, epoch })!));
  assertEquals(values(1, 2), values(1, 2));
  assertEquals(new Set([values(1, 2), values(1, 3), values(2, 2)]).size, 3);
});

Deno.test("DataLoader: length, last batch, order, epochs", async () => {
  const set = smallImages(10);
  const labels = (loader: DataLoader<[Tensor, number]>): number[][] =>
    [...loader].map(([, y]) => [...y.toTypedArray() as BigInt64Array].map(Number));
  const plainLoader = new DataLoader(set, { batchSize: 4 });
  assertEquals(labels(plainLoader), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]);
  assertEquals([plainLoader.length, plainLoader.epoch], [3, 1]);
  assertEquals(new DataLoader(set, { batchSize: 4, dropLast: true }).length, 2);
  assertEquals(labels(new DataLoader(set, { batchSize: 4, dropLast: true })).length, 2);
  assertEquals(labels(new DataLoader(smallImages(0), { batchSize: 4 })), []);

  const shuffled = new DataLoader(set, { batchSize: 4, shuffle: true, seed: 9 });
  const first = labels(shuffled);
  const second = labels(shuffled);
  assert(JSON.stringify(first) !== JSON.stringify(second));
  assertEquals(first.flat().sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  shuffled.epoch = 0;
  assertEquals(labels(shuffled), first);
  assertEquals(shuffled.epoch, 1);
  // A new loader that is set to epoch 1 goes on as the first one did: resuming.
  const resumed = new DataLoader(set, { batchSize: 4, shuffle: true, seed: 9 });
  resumed.epoch = 1;
  assertEquals(labels(resumed), second);
  for (const [x] of shuffled) if (x.ndim === 4) break;
  assertEquals(shuffled.epoch, 2);
  for await (const [x] of shuffled) if (x.ndim === 4) break;
  assertEquals(shuffled.epoch, 3);
});

Deno.test("DataLoader refuses what it cannot do", async () => {
  const set = smallImages(4);
  assertThrows(() => new DataLoader(set, { batchSize: 0 }), RangeError, "batchSize 0");
  assertThrows(() => new DataLoader(set, { workers: 1.5 }), RangeError, "workers 1.5");
  const misspelt = { batchsize: 3 } as unknown as { batchSize: number };
  assertThrows(() => new DataLoader(set, misspelt), TypeError, 'Unknown option "batchsize"');
  const none = Promise.resolve(set) as unknown as ImageDataset;
  assertThrows(() => new DataLoader(none), TypeError, "the dataset needs a length and a get(i)");
  assertThrows(() => [...new DataLoader(set, { workers: 2 })], Error, "use for await");
  const own = { length: 3, get: (i: number): [number] => [i] };
  assertThrows(() => new DataLoader(own, { workers: 1 }), TypeError, "Cannot send this dataset");
  const dark = smallImages(4, [(image) => image]);
  assertThrows(() => new DataLoader(dark, { workers: 1 }), TypeError, "the transform function");
  const relative = { module: "./data_support.ts" };
  assertThrows(() => new DataLoader(relative), TypeError, "new URL(path, import.meta.url)");
  const spec = { module: SUPPORT, export: "nothing" };
  assertThrows(() => new DataLoader(spec).length, Error, "await loader.ready() first");
  assertThrows(() => [...new DataLoader(spec)], Error, "await loader.ready() first");
  await assertRejects(() => new DataLoader(spec).ready(), TypeError, 'no export "nothing"');
  const slow = { length: 2, get: (i: number): Promise<[number]> => Promise.resolve([i]) };
  assertThrows(() => [...new DataLoader(slow)], TypeError, "use for await");
  assertEquals(await batches(slow, { batchSize: 2 }), [[["int64", [2], [0, 1]]]]);
});

Deno.test("a subclass with a get of its own is asked for it", () => {
  class Doubled extends TensorDataset<[Tensor]> {
    override get(index: number): [Tensor] {
      return [tensor([2 * super.get(index)[0].item()])];
    }
  }
  const loader = new DataLoader(new Doubled(tensor([1, 2, 3])), { batchSize: 3 });
  assertEquals([...loader].map(([x]) => x.tolist()), [[[2], [4], [6]]]);
});

/** Datasets of every kind that workers take. */
async function workerDatasets(): Promise<[string, DatasetLike | ModuleSpec][]> {
  const augmented = smallImages(23, [new RandomFlipHorizontal(), new RandomCrop({ padding: 2 })]);
  const own = await loadTransforms([
    new RandomFlipHorizontal(),
    { module: SUPPORT, export: "brighten", args: [0.5] },
    new RandomCrop({ padding: 1 }),
  ]);
  const rows = new TensorDataset(
    tensor(Float32Array.from({ length: 66 }, (_, i) => i / 7), { shape: [22, 3] }),
    tensor(Float32Array.from({ length: 22 }, (_, i) => i / 3), { dtype: "bfloat16" }),
    tensor(Uint8Array.from({ length: 22 }, (_, i) => i % 2), { dtype: "bool" }),
  );
  return [
    ["images", augmented],
    ["subset of images", new Subset(augmented, [22, 5, 5, 7, 1, 0])],
    ["rows", rows],
    ["subset of a subset of rows", new Subset(new Subset(rows, [9, 8, 7, 6, 5]), [4, 3, 0])],
    ["images with a transform of one's own", smallImages(9, own)],
    ["class that describes itself", new Described(7, 3)],
    ["class", { module: SUPPORT, export: "Counting", args: [17] }],
    ["function", { module: SUPPORT.href, export: "counting", args: [9] }],
  ];
}

Deno.test("workers give the same batches as none", async () => {
  for (const [name, dataset] of await workerDatasets()) {
    const options = { batchSize: 4, shuffle: true, seed: 3 };
    const expected = await batches(dataset, options, 2);
    for (const [workers, prefetch] of [[1, 1], [2, 3]] as const) {
      assertEquals(await batches(dataset, { ...options, workers, prefetch }, 2), expected, name);
    }
  }
});

Deno.test("a collate function gets the same samples with and without workers", async () => {
  const collate = (samples: Sample[]): Sample =>
    samples.flatMap((sample) =>
      sample.map((value) => typeof value === "number" ? tensor([value, -1]) : value)
    );
  for (const [name, dataset] of await workerDatasets()) {
    const options = { batchSize: 5, collate };
    const expected = await batches(dataset, options);
    assertEquals(await batches(dataset, { ...options, workers: 2 }), expected, name);
  }
});

Deno.test("an error in a worker reaches the loop, and leaving a loop ends the workers", async () => {
  const broken = { module: SUPPORT, export: "Broken", args: [10] };
  await assertRejects(
    () => batches(broken, { batchSize: 2, workers: 2 }),
    RangeError,
    "sample 5 is broken on purpose",
  );
  await assertRejects(() => batches(new Broken(10), { batchSize: 2 }), RangeError, "sample 5");
  const missing = { module: new URL("./no_such_module.ts", import.meta.url) };
  await assertRejects(() => batches(missing, { workers: 1 }), TypeError, "no_such_module.ts");

  const started: Worker[] = [];
  const ended = new Set<Worker>();
  const Original = globalThis.Worker;
  globalThis.Worker = class extends Original {
    constructor(address: string | URL, options?: WorkerOptions) {
      super(address, options);
      started.push(this);
    }
    override terminate(): void {
      ended.add(this);
      super.terminate();
    }
  };
  try {
    const loader = new DataLoader(smallImages(50), { batchSize: 2, workers: 2 });
    for await (const [x] of loader) if (x.ndim === 4) break;
    assertEquals([started.length, ended.size, loader.epoch], [2, 2, 1]);
    const fail = async (): Promise<void> => {
      for await (const _ of loader) throw new Error("left on purpose");
    };
    await assertRejects(fail, Error, "left on purpose");
    for await (const _ of loader);
    assertEquals([started.length, ended.size, loader.epoch], [6, 6, 3]);
  } finally {
    globalThis.Worker = Original;
  }
});

Deno.test("synthetic sets are deterministic, balanced, and differ between train and test", () => {
  for (const make of [syntheticCIFAR10, syntheticMNIST]) {
    const train = make({ length: 500 });
    assertEquals(make({ length: 500 }).images, train.images);
    assert(make({ length: 500, train: false }).images.some((v, i) => v !== train.images[i]));
    const counts = new Array<number>(10).fill(0);
    for (const label of train.labels) counts[label]!++;
    assert(counts.every((count) => count > 20), counts.join(" "));
  }
  const text = syntheticPTB({ length: 5000 });
  assertEquals(syntheticPTB({ length: 5000 }).tokens, text.tokens);
  const followers = new Map<number, Set<number>>();
  for (const [a, b] of text) followers.set(a, (followers.get(a) ?? new Set()).add(b));
  assert([...followers.values()].every((set) => set.size <= 4));
});

Deno.test("BPTT segments go through all streams in order", () => {
  const text = Int32Array.from({ length: 23 }, (_, i) => i);
  const segments = new BPTTDataset(text, 2, 4);
  assertEquals(segments.length, 3);
  const [x, y] = segments.get(0);
  assertEquals([x.dtype, x.tolist()], ["int64", [[0, 11], [1, 12], [2, 13], [3, 14]]]);
  assertEquals(y.tolist(), [1, 12, 2, 13, 3, 14, 4, 15]);
  assertEquals([...segments].map(([x]) => x.shape), [[4, 2], [4, 2], [2, 2]]);
  assertThrows(() => new BPTTDataset(text, 24, 4), RangeError, "24 streams");
  assert(segments instanceof Dataset);
});
