// Functions on index tensors: oneHot and embedding.

import { noGrad } from "../autograd/mode.ts";
import { call } from "../dispatch.ts";
import { checkOptions, checkTensors } from "../options.ts";
import { show } from "../shape.ts";
import { checkIndexDType, indexOps as ops } from "../ops/index.ts";
import { scoped } from "../scope.ts";
import type { Tensor } from "./mod.ts";

/** Options of `embedding`. */
export interface EmbeddingOptions {
  /** The row that takes no gradient; negative ones count from the end. */
  readonly paddingIdx?: number | null;
  /** Rows that are looked up and whose norm is larger are first scaled down to it, in the weight itself. */
  readonly maxNorm?: number | null;
  /** The order of that norm (default 2). */
  readonly normType?: number;
  /** Divide the gradient of each row by how often it was looked up (default false). */
  readonly scaleGradByFreq?: boolean;
}

/** Keys of EmbeddingOptions beside paddingIdx. */
export const lookupKeys: readonly string[] = ["maxNorm", "normType", "scaleGradByFreq"];

/** Scales rows that are looked up down to a norm, in place. */
function renormalize(index: Tensor, weight: Tensor, maxNorm: number, p: number): void {
  noGrad(() => {
    scoped(() => {
      const norms = weight.norm(1, { p });
      const used = counts(index, weight).gt(0);
      const tooLarge = used.logicalAnd(norms.gt(maxNorm));
      const scale = tooLarge.where(norms.add(1e-7).reciprocal().mul(maxNorm), 1);
      weight.mul_(scale.unsqueeze(1));
      return null;
    });
  });
}

/** How often each row is looked up. */
function counts(index: Tensor, weight: Tensor): Tensor {
  const flat = index.reshape(-1);
  return weight._zeros([weight.shape[0]!]).indexAdd(0, flat, weight._filled(flat.shape, 1));
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
  checkOptions("embedding", options, ["paddingIdx", ...lookupKeys]);
  checkTensors("embedding", { index, weight });
  checkIndexDType("embedding", index);
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
  const { maxNorm = null, normType = 2, scaleGradByFreq = false } = options;
  if (maxNorm !== null) {
    if (!(maxNorm >= 0)) {
      throw new RangeError(`Cannot use maxNorm ${maxNorm}: it must not be negative`);
    }
    renormalize(index, weight, maxNorm, normType);
  }
  const y = call(ops.embedding, [weight, index], { rows, padding })[0]!;
  if (!scaleGradByFreq || !y.requiresGrad) return y;
  return scoped(() => {
    // y itself, but its gradient is scaled.
    const share = counts(index, weight).reciprocal().take(index).unsqueeze(-1);
    return y.detach().add(y.sub(y.detach()).mul(share));
  });
}
