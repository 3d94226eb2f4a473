/**
 * Putting samples together to batches, and taking batches apart into plain arrays that a worker can
 * hand over without a copy.
 * @module
 */
import type { DType, TypedArray } from "../dtype.ts";
import { show } from "../shape.ts";
import { stack, tensor } from "../tensor/create.ts";
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
  return stack(column);
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
