// Dropout and Embedding layers.

import { checkOptions } from "../options.ts";
import { noGrad } from "../autograd/mode.ts";
import { empty } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { factoryKeys, type FactoryOptions, positiveSizes } from "./factory.ts";
import { embedding } from "../tensor/lookup.ts";
import { dropout } from "../tensor/random.ts";
import * as init from "./init.ts";
import { markBuiltin, Module, Parameter } from "./module.ts";

/** Zeroes each element with probability p in training and scales the others by 1 / (1 - p), Srivastava et al. 2014. */
export class Dropout extends Module {
  /** Probability of zeroing. */
  p: number;

  /** `p` in [0, 1]. */
  constructor(p = 0.5) {
    super();
    if (!(p >= 0 && p <= 1)) {
      throw new RangeError(`Cannot make Dropout with probability ${p}: it must be in [0, 1]`);
    }
    this.p = p;
  }

  /** Same shape as x; x itself in evaluation. */
  override forward(x: Tensor): Tensor {
    return dropout(x, this.p, { training: this.training });
  }

  /** The probability. */
  override extraRepr(): string {
    return `p=${this.p}`;
  }
}

/** Options of Embedding. */
export interface EmbeddingOptions extends FactoryOptions {
  /** A row that stays zero and gets no gradient. */
  readonly paddingIdx?: number;
}

/** A table of vectors looked up by integer. */
export class Embedding extends Module {
  /** (numEmbeddings, embeddingDim), standard normal at first. */
  weight: Parameter;
  readonly #paddingIdx: number | null;

  /** `numEmbeddings` vectors of `embeddingDim` features. */
  constructor(numEmbeddings: number, embeddingDim: number, options: EmbeddingOptions = {}) {
    super();
    checkOptions("Embedding", options, ["paddingIdx", ...factoryKeys]);
    positiveSizes("Embedding", { numEmbeddings, embeddingDim });
    const { paddingIdx, ...factory } = options;
    if (
      paddingIdx !== undefined &&
      !(Number.isInteger(paddingIdx) && paddingIdx >= -numEmbeddings && paddingIdx < numEmbeddings)
    ) {
      throw new RangeError(`Cannot pad with row ${paddingIdx} of ${numEmbeddings}`);
    }
    this.#paddingIdx = paddingIdx === undefined
      ? null
      : paddingIdx < 0
      ? paddingIdx + numEmbeddings
      : paddingIdx;
    this.weight = new Parameter(empty([numEmbeddings, embeddingDim], factory));
    init.normal_(this.weight);
    const row = this.#paddingIdx;
    if (row !== null) noGrad(() => this.weight.select(0, row).zero_());
  }

  /** (...) of int64 or int32 -> (..., embeddingDim). */
  override forward(indices: Tensor): Tensor {
    return embedding(
      indices,
      this.weight,
      this.#paddingIdx === null ? {} : { paddingIdx: this.#paddingIdx },
    );
  }

  /** The table's sizes. */
  override extraRepr(): string {
    return this.weight.shape.join(", ");
  }
}

markBuiltin(Dropout, Embedding);
