/**
 * Putting samples together to batches, and taking batches apart into plain arrays that a worker can
 * hand over without a copy.
 * @module
 */
import type { DType, TypedArray } from "../dtype.ts";
import { show } from "../shape.ts";
import { tensor } from "../tensor/create.ts";
// Only with this class loaded can tensors be made.
import "../tensor/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Batch, Sample } from "./dataset.ts";

/** A tensor as plain data. */
export interface PackedTensor {
  /** The values in order; bfloat16 as float32. */
  readonly data: TypedArray;
  /** The shape. */
  readonly shape: readonly number[];
  /** The dtype. */
  readonly dtype: DType;
}

/** A sample or batch as plain data. */
export type Packed = readonly (PackedTensor | number)[];

/** Tensors of one shape and dtype along a new first dim. Samples are data: their graph is not kept. */
function stackSamples(samples: readonly Tensor[], first: Tensor): Tensor {
  const { shape, dtype, device } = first;
  const size = first.numel();
  const values = first.toTypedArray();
  const Values = values.constructor as new (length: number) => TypedArray;
  const all = new Values(samples.length * size);
  // One copy into one batch: hundreds of small samples would be hundreds of calls of kernels.
  samples.forEach((t, i) => all.set((i === 0 ? values : t.toTypedArray()) as never, i * size));
  return tensor(all, { shape: [samples.length, ...shape], dtype, device });
}

function collateColumn(column: readonly (Tensor | number | undefined)[], at: number): Tensor {
  if (column.every((value) => typeof value === "number")) {
    return column.every(Number.isInteger)
      ? tensor(BigInt64Array.from(column, BigInt))
      : tensor(Float32Array.from(column));
  }
  if (!column.every((value) => typeof value === "object")) {
    throw new TypeError(
      `Cannot collate element ${at} of the samples: it is a tensor in some and a number, or missing, ` +
        "in others; give every sample the same form, or a collate function",
    );
  }
  const first = column[0]!;
  const odd = column.find((t) => show(t.shape) !== show(first.shape) || t.dtype !== first.dtype);
  if (odd !== undefined) {
    throw new RangeError(
      `Cannot collate element ${at} of the samples: ${first.dtype} ${show(first.shape)} and ` +
        `${odd.dtype} ${show(odd.shape)} differ; make them equal, or give a collate function`,
    );
  }
  return stackSamples(column, first);
}

/**
 * Makes a batch of samples: tensors are stacked along a new first dim; numbers become an int64 tensor if
 * all of them are integers, else a float32 one.
 *
 * @throws {TypeError} If the samples differ in form.
 * @throws {RangeError} If tensors differ in shape or dtype.
 */
export function defaultCollate<S extends Sample>(samples: readonly S[]): Batch<S> {
  const width = Math.max(0, ...samples.map((sample) => sample.length));
  const batch: Tensor[] = [];
  for (let at = 0; at < width; at++) {
    batch.push(collateColumn(samples.map((sample) => sample[at]), at));
  }
  return batch as Batch<S>;
}

/** A sample or batch as plain data. */
export function pack(values: Sample): Packed {
  return values.map((value) =>
    typeof value === "number"
      ? value
      : { data: value.toTypedArray(), shape: value.shape, dtype: value.dtype }
  );
}

/** The sample or batch that was packed, on the default device. */
export function unpack(packed: Packed): (Tensor | number)[] {
  return packed.map((value) =>
    typeof value === "number"
      ? value
      : tensor(value.data, { shape: value.shape, dtype: value.dtype })
  );
}
