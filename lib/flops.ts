// How many floating point operations a call of a kernel does, for the profiler's GFLOP/s: products and sums of the
// matrix-like ops, as their definition counts them (an implementation that needs fewer looks faster than the machine).

import type { KernelOp } from "./ops/op.ts";
import type { OpName } from "./ops/mod.ts";
import type { Tensor } from "./tensor/mod.ts";

/** Tensors of a call by the names in the op's declaration. */
type Tensors = Record<string, Tensor>;

type Count = (tensors: Tensors, attrs: { readonly causal?: boolean }) => number;

/** An m × k by k × n product, where m n elements come from sums of k products. */
function product(y: Tensor, k: number): number {
  return 2 * y.numel() * k;
}

/** Each element of the output of a convolution is a sum over one filter. */
function filters(y: Tensor, w: Tensor): number {
  return product(y, w.numel() / Math.max(w.shape[0]!, 1));
}

/** Scores that attention looks at: all, or with causal masks those of keys up to the query. */
function scores({ q, k }: Tensors, causal: boolean): number {
  const [batch, heads, queries] = q!.shape as [number, number, number], keys = k!.shape[2]!;
  if (!causal) return batch * heads * queries * keys;
  const full = Math.min(queries, keys);
  return batch * heads * (full * (full + 1) / 2 + (queries - full) * keys);
}

const counts: Partial<Record<OpName, Count>> = {
  matmul: ({ a, y }) => product(y!, a!.shape.at(-1)!),
  linear: ({ w, y }) => product(y!, w!.shape[1]!),
  conv2d: ({ w, y }) => filters(y!, w!),
  conv2dInput: ({ g, w }) => filters(g!, w!),
  conv2dWeight: ({ g, dw }) => filters(g!, dw!),
  // q kᵀ and p v; backward: q kᵀ again, g vᵀ, pᵀ g, ds k and dsᵀ q.
  attention: (t, { causal = false }) => 2 * scores(t, causal) * (t.q!.shape[3]! + t.v!.shape[3]!),
  attentionBackward: (t, { causal = false }) =>
    2 * scores(t, causal) * (3 * t.q!.shape[3]! + 2 * t.v!.shape[3]!),
  // The recurrent product; that of the input is an op of its own.
  rnnLayer: ({ xg, w }) => product(xg!, w!.shape[1]!),
  rnnLayerBackward: ({ dx, w }) => product(dx!, w!.shape[1]!),
  lstmLayer: ({ xg, w }) => product(xg!, w!.shape[1]!),
  lstmLayerBackward: ({ dx, w }) => product(dx!, w!.shape[1]!),
  gruLayer: ({ xg, w }) => product(xg!, w!.shape[1]!),
  gruLayerBackward: ({ dr, w }) => product(dr!, w!.shape[1]!),
};

/** Names of the ops that are counted. */
export const countedOps: readonly string[] = Object.keys(counts);

/** Floating point operations of one call of `op`; 0 where they are not counted. */
export function flopsOf(
  op: KernelOp,
  inputs: readonly (Tensor | null)[],
  outputs: readonly Tensor[],
  attrs: unknown,
): number {
  const count = counts[op.name as OpName];
  if (count === undefined) return 0;
  const tensors: Tensors = {};
  op.inputs.forEach((name, i) => inputs[i] && (tensors[name] = inputs[i]));
  [...op.outputs, ...op.aux].forEach((name, i) => tensors[name] = outputs[i]!);
  return count(tensors, (attrs ?? {}) as { causal?: boolean });
}
