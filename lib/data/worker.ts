/**
 * What runs inside a data worker: it receives a dataset as plain data, makes batches of plain arrays
 * and hands their memory over. Images and rows need no tensor library here; it is imported for
 * datasets and transforms of the user's own, on the single-threaded reference device.
 * @module
 */
import type { TypedArray } from "../dtype.ts";
import type { Packed, PackedTensor } from "./collate.ts";
import type { DatasetDescriptor, DatasetLike, RowColumn } from "./dataset.ts";
import { ImagePipeline, type SampleKey, type TransformSpec } from "./pipeline.ts";

/** The address of the module that exports {@linkcode runDataWorker}: this file, or a bundle. */
export const workerAddress: string = import.meta.url;

/** What the main thread sends to a worker. */
export type WorkerRequest =
  | { readonly kind: "open"; readonly dataset: DatasetDescriptor }
  | {
    readonly kind: "batch";
    readonly id: number;
    readonly indices: Uint32Array;
    readonly key: SampleKey;
    /** False: a batch as the default collate makes it. True: the samples one by one. */
    readonly separate: boolean;
  };

/** What a worker answers. */
export type WorkerResponse =
  | { readonly kind: "ready"; readonly length: number }
  | { readonly kind: "batch"; readonly id: number; readonly packed: readonly Packed[] }
  | { readonly kind: "error"; readonly id: number | null; readonly error: unknown };

/** A dataset inside a worker. */
interface Source {
  readonly length: number;
  /** The batch of some samples, or each of them by itself. */
  make(indices: Uint32Array, key: SampleKey, separate: boolean): Promise<Packed[]>;
}

/** Row `i` of every column of a batch, and numbers in place of the columns `numbers`. */
function separateRows(batch: PackedTensor[], numbers: readonly number[]): Packed[] {
  const count = batch[0]?.shape[0] ?? 0;
  return Array.from({ length: count }, (_, i) =>
    batch.map(({ data, shape, dtype }, column) => {
      if (numbers.includes(column)) return Number(data[i]);
      const size = data.length / count;
      return { data: data.slice(i * size, (i + 1) * size), shape: shape.slice(1), dtype };
    }));
}

function openImages(
  dataset: Extract<DatasetDescriptor, { kind: "images" }>,
  specs: readonly TransformSpec[],
): Source {
  const { images, labels } = dataset;
  const pipeline = new ImagePipeline(dataset.size, specs);
  const { channels, height, width } = pipeline.output;
  return {
    length: labels.length,
    make: (indices, key, separate): Promise<Packed[]> => {
      const batch: PackedTensor[] = [
        {
          data: pipeline.fromBytes(images, indices, key),
          shape: [indices.length, channels, height, width],
          dtype: "float32",
        },
        {
          data: BigInt64Array.from(indices as unknown as number[], (i) => BigInt(labels[i]!)),
          shape: [indices.length],
          dtype: "int64",
        },
      ];
      return Promise.resolve(separate ? separateRows(batch, [1]) : [batch]);
    },
  };
}

/** The rows of a column at some indices, one after the other. */
function gatherRows({ data, shape, dtype }: RowColumn, indices: Uint32Array): PackedTensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const Values = data.constructor as new (length: number) => TypedArray;
  const rows = new Values(indices.length * size);
  indices.forEach((index, i) => {
    rows.set(data.subarray(index * size, (index + 1) * size) as never, i * size);
  });
  return { data: rows, shape: [indices.length, ...shape], dtype };
}

function openRows({ columns }: Extract<DatasetDescriptor, { kind: "rows" }>): Source {
  const [first] = columns;
  const size = first?.shape.reduce((a, b) => a * b, 1) ?? 1;
  return {
    length: first === undefined || size === 0 ? 0 : first.data.length / size,
    make: (indices, _key, separate): Promise<Packed[]> => {
      const batch = columns.map((column) => gatherRows(column, indices));
      return Promise.resolve(separate ? separateRows(batch, []) : [batch]);
    },
  };
}

async function openObject(make: () => Promise<DatasetLike>): Promise<Source> {
  const { reference, setDefaultDevice } = await import("../device.ts");
  // Native libraries start threads of their own in every worker, which slows the main thread down.
  setDefaultDevice(reference());
  const { defaultCollate, pack } = await import("./collate.ts");
  const dataset = await make();
  return {
    length: dataset.length,
    make: async (indices, key, separate): Promise<Packed[]> => {
      const samples = [];
      for (const index of indices) samples.push(await dataset.get(index, key));
      return separate ? samples.map(pack) : [pack(defaultCollate(samples))];
    },
  };
}

/** True if a value has what a DataLoader needs of a dataset. */
export function isDataset(value: unknown): value is DatasetLike {
  return typeof value === "object" && value !== null && "length" in value && "get" in value &&
    typeof value.length === "number" && typeof value.get === "function";
}

async function openSource(dataset: DatasetDescriptor): Promise<Source> {
  switch (dataset.kind) {
    case "images": {
      const specs = dataset.transforms.filter((entry) => "kind" in entry);
      if (specs.length === dataset.transforms.length) return openImages(dataset, specs);
      return await openObject(async () => {
        const { ImageDataset } = await import("./images.ts");
        const { receiveTransforms } = await import("./transforms.ts");
        return new ImageDataset({
          ...dataset,
          transforms: await receiveTransforms(dataset.transforms),
        });
      });
    }
    case "rows":
      return openRows(dataset);
    case "module":
      return await openObject(async () => {
        const { loadSpec } = await import("./module_spec.ts");
        return await loadSpec(dataset, "dataset", isDataset);
      });
    case "subset": {
      const base = await openSource(dataset.base);
      return {
        length: dataset.indices.length,
        make: (indices, key, separate): Promise<Packed[]> =>
          base.make(indices.map((i) => dataset.indices[i]!), key, separate),
      };
    }
  }
}

/** The memory of all tensors of a message, each piece once. */
function buffersOf(packed: readonly Packed[]): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  for (const value of packed.flat()) {
    if (typeof value !== "number") buffers.add(value.data.buffer as ArrayBuffer);
  }
  return [...buffers];
}

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerRequest>) => void) | null;
  postMessage(message: WorkerResponse, transfer?: Transferable[]): void;
}

/** Answers the requests of the main thread. Called once, in a worker. */
export function runDataWorker(): void {
  const scope = globalThis as unknown as WorkerScope;
  let source: Promise<Source> | undefined;
  const answer = async (request: WorkerRequest): Promise<void> => {
    if (request.kind === "open") {
      source = openSource(request.dataset);
      scope.postMessage({ kind: "ready", length: (await source).length });
    } else {
      const { id, indices, key, separate } = request;
      const packed = await (await source)!.make(indices, key, separate);
      scope.postMessage({ kind: "batch", id, packed }, buffersOf(packed));
    }
  };
  scope.onmessage = ({ data: request }) => {
    answer(request).catch((error: unknown) => {
      scope.postMessage({ kind: "error", id: "id" in request ? request.id : null, error });
    });
  };
}
