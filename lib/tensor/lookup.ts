// Functions on index tensors: oneHot and embedding.

import { call } from "../dispatch.ts";
import { checkOptions } from "../options.ts";
import { show } from "../shape.ts";
import { checkIndexDType, indexOps as ops } from "../ops/index.ts";
import type { Tensor } from "./mod.ts";

/** Options of `embedding`. */
export interface EmbeddingOptions {
  /** The row that takes no gradient; negative ones count from the end. */
  readonly paddingIdx?: number | null;
}

/**
 * A row of `numClasses` numbers per index: 1 there, 0 elsewhere. int64, of shape [...index.shape, numClasses].
 *
 * @param numClasses one more than the largest index where omitted (or -1)
 * @throws RangeError for indices that are negative or too large
 */
export function oneHot(index: Tensor, numClasses = -1): Tensor {
  checkIndexDType("oneHot", index);
  let classes = numClasses;
  if (classes === -1) {
    if (index.numel() === 0) {
      throw new RangeError("Cannot count the classes of no indices: give oneHot numClasses");
    }
    classes = 1;
    for (const i of index.toTypedArray()) classes = Math.max(classes, Number(i) + 1);
  }
  if (!Number.isInteger(classes) || classes < 1) {
    throw new RangeError(
      `Cannot make oneHot rows of ${numClasses} classes: give a positive integer`,
    );
  }
  return call(ops.oneHot, [index], { classes })[0]!;
}

/**
 * The rows of `weight` ([rows, width]) at the indices: [...index.shape, width].
 *
 * @throws RangeError where an index is out of range
 */
export function embedding(index: Tensor, weight: Tensor, options: EmbeddingOptions = {}): Tensor {
  checkOptions("embedding", options, ["paddingIdx"]);
  if (weight.ndim !== 2) {
    throw new RangeError(
      `Cannot look up rows of a weight of shape ${show(weight.shape)}: it must be 2-d`,
    );
  }
  const rows = weight.shape[0]!, given = options.paddingIdx ?? null;
  const padding = given === null ? -1 : given < 0 ? given + rows : given;
  if (given !== null && !(Number.isInteger(given) && padding >= 0 && padding < rows)) {
    throw new RangeError(
      `Cannot use paddingIdx ${given} with ${rows} rows: it must be one of them`,
    );
  }
  return call(ops.embedding, [weight, index], { rows, padding })[0]!;
}
