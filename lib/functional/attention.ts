// Attention as a function. Read next: lib/ops/attention.ts for what it computes, lib/nn/attention.ts for the layer.

import { call } from "../dispatch.ts";
import { attentionOps, attentionWeights } from "../ops/attention.ts";
import { checkOptions, checkTensors } from "../options.ts";
import { scoped } from "../scope.ts";
import { broadcast, numel, same, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { dropout } from "../tensor/random.ts";

/** Options of scaledDotProductAttention. */
export interface AttentionOptions {
  /** Broadcasts to (..., L, S). bool: true where a query may see a key; else added to the scores. */
  readonly attnMask?: Tensor | null;
  /** Probability of dropping an attention weight (default 0). It applies always: pass 0 in evaluation. */
  readonly dropoutP?: number;
  /** Query i sees keys 0 to i alone (default false). Excludes attnMask. */
  readonly isCausal?: boolean;
  /** What scores are multiplied by (default 1/√E). */
  readonly scale?: number | null;
  /** Let the heads of q (dim -3) share those of k and v in equal groups, Ainslie et al. 2023 (default false). */
  readonly enableGqa?: boolean;
}

/** `t` with the leading dims `lead` as two: all but the last of them together, and the last. */
function fourDims(t: Tensor, lead: Shape): Tensor {
  const [rows, features] = t.shape.slice(-2) as [number, number];
  const full = same(t.shape.slice(0, -2), lead) ? t : t.expand([...lead, rows, features]);
  if (lead.length === 2) return full;
  return full.reshape([numel(lead.slice(0, -1)), lead.at(-1) ?? 1, rows, features]);
}

/** A mask that broadcasts to (...lead, L, S), with four dims that go with those of `fourDims`. */
function fourMaskDims(mask: Tensor, lead: Shape): Tensor {
  const dims = lead.length + 2;
  const all = mask.reshape([
    ...new Array<number>(Math.max(0, dims - mask.ndim)).fill(1),
    ...mask.shape,
  ]);
  if (lead.length === 2) return all;
  if (lead.length < 2) return all.reshape([...new Array<number>(4 - dims).fill(1), ...all.shape]);
  return fourDims(all.expand([...lead, ...all.shape.slice(-2)]), lead);
}

/** Keys or values with each head as often as there are queries' heads for it. */
function sharedHeads(t: Tensor, q: Tensor): Tensor {
  const heads = q.shape.at(-3) ?? 1, own = t.shape.at(-3) ?? 1;
  if (own === heads) return t;
  if (t.ndim < 3 || heads % own !== 0) {
    throw new RangeError(
      `Cannot share the heads of keys or values ${show(t.shape)} among queries ${
        show(q.shape)
      }: their number must divide that of the queries' heads`,
    );
  }
  const [lead, [rows, features]] = [t.shape.slice(0, -3), t.shape.slice(-2) as [number, number]];
  return t.unsqueeze(-3).expand([...lead, own, heads / own, rows, features]).reshape([
    ...lead,
    heads,
    rows,
    features,
  ]);
}

function checkShapes(q: Tensor, k: Tensor, v: Tensor): number[] {
  const what = "attend with";
  if (q.ndim < 2 || k.ndim < 2 || v.ndim < 2) {
    throw new RangeError(
      `Cannot ${what} queries ${show(q.shape)}, keys ${show(k.shape)} and values ${
        show(v.shape)
      }: they must be (..., L, E), (..., S, E) and (..., S, F)`,
    );
  }
  return broadcast(what, ...[q, k, v].map((t) => t.shape.slice(0, -2)));
}

/**
 * softmax(scale q kᵀ + mask) v, Vaswani et al. 2017, fused: no matrix of scores is ever stored. Queries that see no
 * key give 0. Leading dims broadcast; usually they are batch and head.
 *
 * @param q queries (..., L, E)
 * @param k keys (..., S, E)
 * @param v values (..., S, F)
 * @returns (..., L, F)
 * @throws RangeError where shapes do not fit, TypeError where dtypes differ, Error for a mask beside isCausal
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const q = ndl.randn([2, 4, 5, 8]); // batch, heads, positions, features
 * const y = ndl.nn.functional.scaledDotProductAttention(q, q, q, { isCausal: true });
 * console.log(y.shape); // [2, 4, 5, 8]
 * ```
 */
export function scaledDotProductAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions = {},
): Tensor {
  const name = "scaledDotProductAttention";
  checkTensors(name, { query: q, key: k, value: v });
  checkOptions(name, options, ["attnMask", "dropoutP", "isCausal", "scale", "enableGqa"]);
  if (options.enableGqa) {
    const rest = { ...options, enableGqa: false };
    return scoped(() => scaledDotProductAttention(q, sharedHeads(k, q), sharedHeads(v, q), rest));
  }
  const { attnMask = null, dropoutP = 0, isCausal = false } = options;
  if (attnMask !== null && isCausal) {
    throw new Error(
      `Cannot run ${name} with both attnMask and isCausal: put the triangle into the mask`,
    );
  }
  const lead = checkShapes(q, k, v);
  const attrs = {
    scale: options.scale ?? 1 / Math.sqrt(Math.max(q.shape[q.ndim - 1]!, 1)),
    causal: isCausal,
  };
  return scoped(() => {
    const [q4, k4, v4] = [q, k, v].map((t) => fourDims(t, lead)) as [Tensor, Tensor, Tensor];
    const mask = attnMask === null ? null : fourMaskDims(attnMask, lead);
    // The fused kernel has no dropout; its checks hold for the composition too.
    const y = dropoutP > 0
      ? dropout(attentionWeights(q4, k4, mask, attrs), dropoutP).matmul(v4)
      : call(attentionOps.attention, [q4, k4, v4, mask], attrs)[0]!;
    return lead.length === 2 ? y : y.reshape([...lead, ...y.shape.slice(-2)]);
  });
}
