// Dropout and Embedding layers.

import { argumentsOf, checkOptions } from "../options.ts";
import { noGrad } from "../autograd/mode.ts";
import { empty } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { factoryKeys, type FactoryOptions, positiveSizes } from "./factory.ts";
import { embedding, type EmbeddingOptions as LookupOptions, lookupKeys } from "../tensor/lookup.ts";
import { dropout } from "../tensor/random.ts";
import * as init from "./init.ts";
import { markBuiltin, Module, Parameter } from "./module.ts";

/** Zeroes each element with probability p in training and scales the others by 1 / (1 - p), Srivastava et al. 2014. */
export class Dropout extends Module {
  /** Probability of zeroing. */
  p: number;
  readonly #inplace: boolean;

  /** `p` in [0, 1] (default 0.5), by position or by name; `inplace`: write the result into x (default false). */
  constructor(
    p: number | { readonly p?: number; readonly inplace?: boolean } = 0.5,
    options?: { readonly inplace?: boolean },
  ) {
    super();
    const a = argumentsOf("Dropout", [p, options], { p: 0.5, inplace: false });
    if (!(a.p >= 0 && a.p <= 1)) {
      throw new RangeError(`Cannot make Dropout with probability ${a.p}: it must be in [0, 1]`);
    }
    this.p = a.p;
    this.#inplace = a.inplace;
  }

  /** Same shape as x; x itself in evaluation. */
  override forward(x: Tensor): Tensor {
    return dropout(x, this.p, { training: this.training, inplace: this.#inplace });
  }

  /** The probability. */
  override extraRepr(): string {
    return `p=${this.p}${this.#inplace ? ", inplace=true" : ""}`;
  }
}

/** Options of Embedding. */
export interface EmbeddingOptions extends FactoryOptions {
  /** A row that stays zero and gets no gradient. */
  readonly paddingIdx?: number | null;
  /** Rows that are looked up and whose norm is larger are first scaled down to it, in the weight itself. */
  readonly maxNorm?: number | null;
  /** The order of that norm (default 2). */
  readonly normType?: number;
  /** Divide the gradient of each row by how often it was looked up (default false). */
  readonly scaleGradByFreq?: boolean;
}

/** A table of vectors looked up by integer. */
export class Embedding extends Module {
  /** (numEmbeddings, embeddingDim), standard normal at first. */
  weight: Parameter;
  readonly #paddingIdx: number | null;
  readonly #lookup: LookupOptions;

  /** `numEmbeddings` vectors of `embeddingDim` features. */
  constructor(numEmbeddings: number, embeddingDim: number, options: EmbeddingOptions = {}) {
    super();
    checkOptions("Embedding", options, ["paddingIdx", ...lookupKeys, ...factoryKeys]);
    positiveSizes("Embedding", { numEmbeddings, embeddingDim });
    const { paddingIdx = null, maxNorm = null, normType = 2, scaleGradByFreq = false, ...factory } =
      options;
    if (
      paddingIdx !== null &&
      !(Number.isInteger(paddingIdx) && paddingIdx >= -numEmbeddings && paddingIdx < numEmbeddings)
    ) {
      throw new RangeError(`Cannot pad with row ${paddingIdx} of ${numEmbeddings}`);
    }
    this.#paddingIdx = paddingIdx !== null && paddingIdx < 0
      ? paddingIdx + numEmbeddings
      : paddingIdx;
    this.#lookup = { paddingIdx: this.#paddingIdx, maxNorm, normType, scaleGradByFreq };
    this.weight = new Parameter(empty([numEmbeddings, embeddingDim], factory));
    init.normal_(this.weight);
    const row = this.#paddingIdx;
    if (row !== null) noGrad(() => this.weight.select(0, row).zero_());
  }

  /** (...) of int64 or int32 -> (..., embeddingDim). */
  override forward(indices: Tensor): Tensor {
    return embedding(indices, this.weight, this.#lookup);
  }

  /** The table's sizes. */
  override extraRepr(): string {
    return this.weight.shape.join(", ");
  }
}

markBuiltin(Dropout, Embedding);
