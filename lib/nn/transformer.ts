// The encoder layer of the transformer.

import { checkOptions } from "../options.ts";
import { scoped } from "../scope.ts";
import type { Tensor } from "../tensor/mod.ts";
import { MultiheadAttention } from "./attention.ts";
import { Dropout } from "./dropout.ts";
import { factoryKeys, type FactoryOptions } from "./factory.ts";
import { Linear } from "./linear.ts";
import { isPlainBuiltin, markBuiltin, Module } from "./module.ts";
import { LayerNorm } from "./norm.ts";

/** Options of TransformerEncoderLayer. */
export interface TransformerEncoderLayerOptions extends FactoryOptions {
  /** Features between the two linear layers (default 2048). */
  readonly dimFeedforward?: number;
  /** Probability of dropout (default 0.1). */
  readonly dropout?: number;
  /** "relu" (default), "gelu", or any function of a tensor. */
  readonly activation?: "relu" | "gelu" | ((x: Tensor) => Tensor);
  /** Added to variances (default 1e-5). */
  readonly layerNormEps?: number;
  /** Sequences are (N, L, features) instead of (L, N, features) (default false). */
  readonly batchFirst?: boolean;
  /** Normalise before attention and before the feedforward part instead of after them (default false). */
  readonly normFirst?: boolean;
  /** Learn biases (default true). */
  readonly bias?: boolean;
}

/** Options of TransformerEncoderLayer.forward; masks as in MultiheadAttention. */
export interface EncodeOptions {
  /** (L, L) or (N · heads, L, L). bool: true where attending is NOT allowed; else added to the scores. */
  readonly srcMask?: Tensor | null;
  /** (N, L). bool: true where a position is padding; else added to the scores. */
  readonly srcKeyPaddingMask?: Tensor | null;
  /** Position i sees positions 0 to i alone (default false). */
  readonly isCausal?: boolean;
}

function activationOf(
  activation: TransformerEncoderLayerOptions["activation"],
): (x: Tensor) => Tensor {
  if (typeof activation === "function") return activation;
  if (activation === "gelu") return (x) => x.gelu();
  if (activation === undefined || activation === "relu") return (x) => x.relu();
  throw new TypeError(
    `Cannot make TransformerEncoderLayer with activation "${activation}": it is "relu", "gelu" or a function`,
  );
}

/**
 * Self-attention and a feedforward part, each with dropout, a residual connection and layer norm, Vaswani et al. 2017.
 * Parameters as torch.nn.TransformerEncoderLayer.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const layer = new ndl.nn.TransformerEncoderLayer(16, 4, { dimFeedforward: 32, batchFirst: true });
 * const y = layer.forward(ndl.randn([2, 5, 16]), { isCausal: true });
 * console.log(y.shape); // [2, 5, 16]
 * ```
 */
export class TransformerEncoderLayer extends Module<[x: Tensor, options?: EncodeOptions], Tensor> {
  /** Self-attention. */
  self_attn: MultiheadAttention;
  /** dModel to dimFeedforward features. */
  linear1: Linear;
  /** After the activation. */
  dropout: Dropout;
  /** dimFeedforward to dModel features. */
  linear2: Linear;
  /** Of the attention part. */
  norm1: LayerNorm;
  /** Of the feedforward part. */
  norm2: LayerNorm;
  /** Of the attention's output. */
  dropout1: Dropout;
  /** Of the feedforward part's output. */
  dropout2: Dropout;
  readonly #normFirst: boolean;
  readonly #activation: (x: Tensor) => Tensor;
  readonly #ownActivation: boolean;

  /** `dModel` features in `nhead` heads. */
  constructor(dModel: number, nhead: number, options: TransformerEncoderLayerOptions = {}) {
    super();
    checkOptions("TransformerEncoderLayer", options, [
      "dimFeedforward",
      "dropout",
      "activation",
      "layerNormEps",
      "batchFirst",
      "normFirst",
      "bias",
      ...factoryKeys,
    ]);
    const {
      dimFeedforward = 2048,
      dropout = 0.1,
      activation,
      layerNormEps: eps = 1e-5,
      batchFirst = false,
      normFirst = false,
      bias = true,
      ...factory
    } = options;
    this.#normFirst = normFirst;
    this.#activation = activationOf(activation);
    this.#ownActivation = typeof activation !== "function";
    this.self_attn = new MultiheadAttention(dModel, nhead, {
      dropout,
      bias,
      batchFirst,
      ...factory,
    });
    this.linear1 = new Linear(dModel, dimFeedforward, { bias, ...factory });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias, ...factory });
    this.norm1 = new LayerNorm(dModel, { eps, bias, ...factory });
    this.norm2 = new LayerNorm(dModel, { eps, bias, ...factory });
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
  }

  #attend(x: Tensor, options: EncodeOptions): Tensor {
    const [y] = this.self_attn.forward(x, x, x, {
      attnMask: options.srcMask ?? null,
      keyPaddingMask: options.srcKeyPaddingMask ?? null,
      isCausal: options.isCausal ?? false,
      needWeights: false,
    });
    return this.dropout1.forward(y);
  }

  #feedforward(x: Tensor): Tensor {
    const inner = this.dropout.forward(this.#activation(this.linear1.forward(x)));
    return this.dropout2.forward(this.linear2.forward(inner));
  }

  /** (L, N, dModel), (N, L, dModel) with batchFirst, or (L, dModel) -> the same shape. */
  override forward(x: Tensor, options: EncodeOptions = {}): Tensor {
    checkOptions("TransformerEncoderLayer.forward", options, [
      "srcMask",
      "srcKeyPaddingMask",
      "isCausal",
    ]);
    // What happens inside is released at once, unless somebody else may have kept it.
    const alone = this.#ownActivation && [...this.children()].every(isPlainBuiltin);
    return alone ? scoped(() => this.#encode(x, options)) : this.#encode(x, options);
  }

  #encode(x: Tensor, options: EncodeOptions): Tensor {
    if (this.#normFirst) {
      const y = x.add(this.#attend(this.norm1.forward(x), options));
      return y.add(this.#feedforward(this.norm2.forward(y)));
    }
    const y = this.norm1.forward(x.add(this.#attend(x, options)));
    return this.norm2.forward(y.add(this.#feedforward(y)));
  }
}

markBuiltin(TransformerEncoderLayer);
