// Multi-head attention as a layer: projections around lib/ops/attention.ts.

import { call } from "../dispatch.ts";
import { linear } from "../functional/layers.ts";
import { attentionOps, attentionWeights } from "../ops/attention.ts";
import { checkOptions } from "../options.ts";
import { scoped } from "../scope.ts";
import { same, show } from "../shape.ts";
import { empty, zeros } from "../tensor/create.ts";
import { cat } from "../tensor/join.ts";
import type { Tensor } from "../tensor/mod.ts";
import { dropout } from "../tensor/random.ts";
import { factoryKeys, type FactoryOptions, positiveSizes } from "./factory.ts";
import * as init from "./init.ts";
import { Linear } from "./linear.ts";
import { markBuiltin, Module, Parameter } from "./module.ts";

/** Options of MultiheadAttention. */
export interface MultiheadAttentionOptions extends FactoryOptions {
  /** Probability of dropping an attention weight in training (default 0). */
  readonly dropout?: number;
  /** Learn biases (default true). */
  readonly bias?: boolean;
  /** Learn a key and its value that every query sees beside those given (default false). */
  readonly addBiasKv?: boolean;
  /** Let every query see a key and value of zeros as well (default false). */
  readonly addZeroAttn?: boolean;
  /** Features of the keys (default embedDim). */
  readonly kdim?: number;
  /** Features of the values (default embedDim). */
  readonly vdim?: number;
  /** Sequences are (N, L, features) instead of (L, N, features) (default false). */
  readonly batchFirst?: boolean;
}

/** Options of MultiheadAttention.forward. */
export interface AttendOptions {
  /** (L, S) or (N · heads, L, S). bool: true where attending is NOT allowed; else added to the scores. */
  readonly attnMask?: Tensor | null;
  /** (N, S), or (S) without a batch. bool: true where a key is padding; else added to the scores. */
  readonly keyPaddingMask?: Tensor | null;
  /** Return the attention weights (default true); without them attention is fused, and faster. */
  readonly needWeights?: boolean;
  /** The weights are the mean over heads (default true) instead of one matrix per head. */
  readonly averageAttnWeights?: boolean;
  /** Query i sees keys 0 to i alone (default false). */
  readonly isCausal?: boolean;
}

/** The sizes of a call. */
interface Sizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
}

/**
 * Multi-head attention, Vaswani et al. 2017. Parameters and mask meanings as torch.nn.MultiheadAttention; queries that
 * see no key attend to nothing (their weights are 0).
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const attention = new ndl.nn.MultiheadAttention(8, 2, { batchFirst: true });
 * const x = ndl.randn([3, 5, 8]);
 * const [y, weights] = attention.forward(x, x, x);
 * console.log(y.shape, weights!.shape); // [3, 5, 8] [3, 5, 5]
 * ```
 */
export class MultiheadAttention extends Module<
  [query: Tensor, key: Tensor, value: Tensor, options?: AttendOptions],
  [Tensor, Tensor | null]
> {
  /** Projections of queries, keys and values below each other, (3 embedDim, embedDim); null where kdim or vdim differ. */
  in_proj_weight: Parameter | null = null;
  /** (embedDim, embedDim), where kdim or vdim differ. */
  q_proj_weight: Parameter | null = null;
  /** (embedDim, kdim), where kdim or vdim differ. */
  k_proj_weight: Parameter | null = null;
  /** (embedDim, vdim), where kdim or vdim differ. */
  v_proj_weight: Parameter | null = null;
  /** (3 embedDim), or null. */
  in_proj_bias: Parameter | null;
  /** A key that every query sees beside those given, (1, 1, embedDim), with addBiasKv. */
  bias_k: Parameter | null = null;
  /** The value of that key, (1, 1, embedDim). */
  bias_v: Parameter | null = null;
  /** The projection of the joined heads. */
  out_proj: Linear;
  readonly #zeroKey: boolean;
  /** Features of queries and outputs. */
  readonly embedDim: number;
  /** Heads. */
  readonly numHeads: number;
  /** Whether sequences are (N, L, features). */
  readonly batchFirst: boolean;
  /** Probability of dropping an attention weight. */
  dropout: number;

  /** `embedDim` features in `numHeads` heads, which must divide them. */
  constructor(embedDim: number, numHeads: number, options: MultiheadAttentionOptions = {}) {
    super();
    checkOptions("MultiheadAttention", options, [
      "dropout",
      "bias",
      "addBiasKv",
      "addZeroAttn",
      "kdim",
      "vdim",
      "batchFirst",
      ...factoryKeys,
    ]);
    const {
      dropout = 0,
      bias = true,
      kdim = embedDim,
      vdim = embedDim,
      batchFirst = false,
      addBiasKv = false,
      addZeroAttn = false,
      ...factory
    } = options;
    positiveSizes("MultiheadAttention", { embedDim, numHeads, kdim, vdim });
    if (embedDim % numHeads !== 0) {
      throw new RangeError(
        `Cannot split ${embedDim} features into ${numHeads} heads: it must divide`,
      );
    }
    if (!(dropout >= 0 && dropout <= 1)) {
      throw new RangeError(
        `Cannot make MultiheadAttention with dropout ${dropout}: it must be in [0, 1]`,
      );
    }
    this.embedDim = embedDim;
    this.numHeads = numHeads;
    this.batchFirst = batchFirst;
    this.dropout = dropout;
    const make = (rows: number, columns: number): Parameter => {
      const p = new Parameter(empty([rows, columns], factory));
      init.xavierUniform_(p);
      return p;
    };
    if (kdim === embedDim && vdim === embedDim) this.in_proj_weight = make(3 * embedDim, embedDim);
    else {
      this.q_proj_weight = make(embedDim, embedDim);
      this.k_proj_weight = make(embedDim, kdim);
      this.v_proj_weight = make(embedDim, vdim);
    }
    this.in_proj_bias = bias ? new Parameter(zeros([3 * embedDim], factory)) : null;
    if (addBiasKv) {
      this.bias_k = init.xavierNormal_(new Parameter(empty([1, 1, embedDim], factory)));
      this.bias_v = init.xavierNormal_(new Parameter(empty([1, 1, embedDim], factory)));
    }
    this.#zeroKey = addZeroAttn;
    this.out_proj = new Linear(embedDim, embedDim, { bias, ...factory });
    if (this.out_proj.bias !== null) init.zeros_(this.out_proj.bias);
  }

  /** Throws where the inputs do not fit; gives their sizes. */
  #check(query: Tensor, key: Tensor, value: Tensor): Sizes {
    const what = `Cannot attend with query ${show(query.shape)}, key ${show(key.shape)} and value ${
      show(value.shape)
    }`;
    const nd = query.ndim;
    if ((nd !== 2 && nd !== 3) || key.ndim !== nd || value.ndim !== nd) {
      throw new RangeError(
        `${what}: all must be batches of sequences (3 dims) or single sequences (2 dims)`,
      );
    }
    const widths = this.in_proj_weight !== null
      ? [this.embedDim, this.embedDim, this.embedDim]
      : [this.embedDim, this.k_proj_weight!.shape[1]!, this.v_proj_weight!.shape[1]!];
    [query, key, value].forEach((t, i) => {
      if (t.shape[nd - 1] !== widths[i]) {
        throw new RangeError(
          `${what}: their last dims must hold ${widths.join(", ")} features`,
        );
      }
    });
    const rows = nd === 3 && this.batchFirst ? 1 : 0, at = (t: Tensor): number => t.shape[rows]!;
    const batch = nd === 3 ? query.shape[1 - rows]! : 1;
    const batches = nd === 3 ? [key, value].map((t) => t.shape[1 - rows]!) : [];
    if (at(key) !== at(value) || batches.some((b) => b !== batch)) {
      throw new RangeError(`${what}: keys and values must be as many, and batches must be equal`);
    }
    return { batch, queries: at(query), keys: at(key) };
  }

  /** The projected queries, keys and values. */
  #project(query: Tensor, key: Tensor, value: Tensor): Tensor[] {
    const width = this.embedDim, bias = this.in_proj_bias;
    if (this.in_proj_weight !== null && query === key && key === value) {
      const all = linear(query, this.in_proj_weight, { bias });
      return all.unflatten(-1, [3, width]).unbind(-2);
    }
    const weights = this.in_proj_weight !== null
      ? this.in_proj_weight.chunk(3)
      : [this.q_proj_weight!, this.k_proj_weight!, this.v_proj_weight!];
    const biases = bias === null ? [null, null, null] : bias.chunk(3);
    return [query, key, value].map((t, i) => linear(t, weights[i]!, { bias: biases[i]! }));
  }

  /** (L, N, E), (N, L, E) or (L, E) as heads: (N, H, L, E / H), a view. */
  #heads(t: Tensor): Tensor {
    const rows = t.unflatten(-1, [this.numHeads, this.embedDim / this.numHeads]);
    if (t.ndim === 2) return rows.unsqueeze(0).transpose(1, 2);
    return this.batchFirst ? rows.transpose(1, 2) : rows.permute(1, 2, 0, 3);
  }

  /** The reverse of #heads. */
  #join(y: Tensor, nd: number): Tensor {
    const rows = nd === 2 || this.batchFirst ? y.transpose(1, 2) : y.permute(2, 0, 1, 3);
    const joined = rows.flatten(-2);
    return nd === 2 ? joined.squeeze(0) : joined;
  }

  /** Both masks as one that broadcasts to (N, H, L, S), true (or not -Infinity) where a key may be seen. */
  #mask(dtype: Tensor, options: AttendOptions, { batch, queries, keys }: Sizes): Tensor | null {
    const { attnMask = null, keyPaddingMask = null } = options;
    let mask: Tensor | null = null;
    if (attnMask !== null) {
      const full = [batch * this.numHeads, queries, keys];
      if (!same(attnMask.shape, full) && !same(attnMask.shape, full.slice(1))) {
        throw new RangeError(
          `Cannot attend with an attnMask of shape ${show(attnMask.shape)}: it must be ${
            show(full.slice(1))
          } or ${show(full)}`,
        );
      }
      mask = attnMask.ndim === 2
        ? attnMask.unsqueeze(0).unsqueeze(0)
        : attnMask.reshape([batch, this.numHeads, queries, keys]);
    }
    if (keyPaddingMask !== null) {
      const rows = keyPaddingMask.ndim === 1 && batch === 1
        ? keyPaddingMask.unsqueeze(0)
        : keyPaddingMask;
      if (!same(rows.shape, [batch, keys])) {
        throw new RangeError(
          `Cannot attend with a keyPaddingMask of shape ${show(keyPaddingMask.shape)}: it must be ${
            show([batch, keys])
          }`,
        );
      }
      const padding = rows.unsqueeze(1).unsqueeze(1);
      if (mask === null) mask = padding;
      else if (mask.dtype === "bool" && padding.dtype === "bool") mask = mask.logicalOr(padding);
      else mask = added(mask, dtype).add(added(padding, dtype));
    }
    if (mask === null) return null;
    return mask.dtype === "bool" ? mask.logicalNot() : added(mask, dtype);
  }

  /** Keys or values (N, H, S, E / H) with the learned one and the zero behind them, where there are such. */
  #extended(t: Tensor, learned: Parameter | null): Tensor {
    const [batch, heads, , width] = t.shape as [number, number, number, number];
    const rows = [t];
    if (learned !== null) {
      rows.push(learned.reshape([1, heads, 1, width]).expand([batch, heads, 1, width]));
    }
    if (this.#zeroKey) rows.push(t._zeros([batch, heads, 1, width]));
    return rows.length === 1 ? t : cat(rows, 2);
  }

  /** How many keys #extended adds. */
  get #extraKeys(): number {
    return Number(this.bias_k !== null) + Number(this.#zeroKey);
  }

  /** The options with isCausal put into the mask where there are keys that every query sees. */
  #explicit(options: AttendOptions, q: Tensor, { queries, keys }: Sizes): AttendOptions {
    if (this.#extraKeys === 0 || !options.isCausal) return options;
    const hidden = q._filled([queries, keys], 1).triu(1).to("bool"),
      given = options.attnMask ?? null;
    const attnMask = given === null
      ? hidden
      : given.dtype === "bool"
      ? given.logicalOr(hidden)
      : given.maskedFill(hidden, -Infinity);
    return { ...options, attnMask, isCausal: false };
  }

  /**
   * @param query (L, N, embedDim), (N, L, embedDim) with batchFirst, or (L, embedDim)
   * @param key (S, N, kdim), likewise
   * @param value (S, N, vdim), likewise
   * @returns the output, shaped as the query, and the weights: (N, L, S), (N, heads, L, S) without
   * averageAttnWeights, null without needWeights; S counts the keys of addBiasKv and addZeroAttn too
   */
  override forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttendOptions = {},
  ): [Tensor, Tensor | null] {
    checkOptions("MultiheadAttention.forward", options, [
      "attnMask",
      "keyPaddingMask",
      "needWeights",
      "averageAttnWeights",
      "isCausal",
    ]);
    const { needWeights = true, averageAttnWeights = true } = options;
    const sizes = this.#check(query, key, value), nd = query.ndim;
    const p = this.training ? this.dropout : 0;
    return scoped(() => {
      const [q, ownK, ownV] = this.#project(query, key, value).map((t) => this.#heads(t)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const asked = this.#explicit(options, q, sizes), extra = this.#extraKeys;
      const k = this.#extended(ownK, this.bias_k), v = this.#extended(ownV, this.bias_v);
      let mask = this.#mask(q, asked, sizes);
      if (mask !== null && extra > 0) {
        mask = mask.pad([0, extra], { value: mask.dtype === "bool" ? 1 : 0 });
      }
      const scale = 1 / Math.sqrt(this.embedDim / this.numHeads);
      const attrs = { scale, causal: asked.isCausal ?? false };
      const project = (y: Tensor): Tensor =>
        linear(this.#join(y, nd), this.out_proj.weight, { bias: this.out_proj.bias });
      if (!needWeights && p === 0) {
        return [project(call(attentionOps.attention, [q, k, v, mask], attrs)[0]!), null];
      }
      const weights = dropout(attentionWeights(q, k, mask, attrs), p);
      const y = project(weights.matmul(v));
      if (!needWeights) return [y, null];
      const shown = averageAttnWeights ? weights.mean(1) : weights;
      return [y, nd === 2 ? shown.squeeze(0) : shown];
    });
  }

  /** The sizes. */
  override extraRepr(): string {
    return `${this.embedDim}, ${this.numHeads}${this.batchFirst ? ", batchFirst=true" : ""}`;
  }
}

/** A mask (bool: true hides) as what is added to scores of the dtype of `like`. */
function added(mask: Tensor, like: Tensor): Tensor {
  if (mask.dtype !== "bool") return mask.to(like.dtype);
  return like._zeros(mask.shape).maskedFill(mask, -Infinity);
}

markBuiltin(MultiheadAttention);
