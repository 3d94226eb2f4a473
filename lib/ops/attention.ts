// Scaled dot-product attention, fused: softmax(scale q kᵀ + mask) v without ever holding the scores of a head.
// Backward recomputes the probabilities from the saved log-sum-exp of each row.
// Shapes: N batch, H heads, L queries, S keys, E features of queries and keys, F features of values.

import { isFloat, isHalf } from "../dtype.ts";
import { contiguousStrides, memoryOrder, orderedStrides, type Shape, show } from "../shape.ts";
import { call } from "../dispatch.ts";
import type { Tensor } from "../tensor/mod.ts";
import { declare, kernel, type OutputSpec, type RefTensor, type TypedKernelOp } from "./op.ts";

/** Attributes of attention. */
export interface AttentionAttrs {
  /** What scores are multiplied by. */
  readonly scale: number;
  /** Whether query i sees keys 0 to i alone. */
  readonly causal: boolean;
}

interface Inputs {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly mask: Tensor | null;
}

function check({ q, k, v, mask }: Inputs): void {
  const shapes = `queries ${show(q.shape)}, keys ${show(k.shape)} and values ${show(v.shape)}`;
  if (!isFloat(q.dtype) || k.dtype !== q.dtype || v.dtype !== q.dtype) {
    throw new TypeError(
      `Cannot run attention on ${q.dtype} queries, ${k.dtype} keys and ${v.dtype} values: ` +
        "they must have one floating point dtype",
    );
  }
  const fits = q.ndim === 4 && k.ndim === 4 && v.ndim === 4 &&
    [k, v].every((t) => t.shape[0] === q.shape[0] && t.shape[1] === q.shape[1]) &&
    k.shape[3] === q.shape[3] && k.shape[2] === v.shape[2];
  if (!fits) {
    throw new RangeError(
      `Cannot run attention on ${shapes}: they must be (N, H, L, E), (N, H, S, E) and (N, H, S, F)`,
    );
  }
  if (mask === null) return;
  if (mask.dtype !== "bool" && mask.dtype !== q.dtype) {
    throw new TypeError(
      `Cannot run attention on ${q.dtype} queries with a ${mask.dtype} mask: it must be bool or ${q.dtype}`,
    );
  }
  const full = scoreShape(q, k);
  if (mask.ndim !== 4 || mask.shape.some((s, d) => s !== 1 && s !== full[d])) {
    throw new RangeError(
      `Cannot run attention on ${shapes} with a mask of shape ${
        show(mask.shape)
      }: it must broadcast to ${show(full)}`,
    );
  }
}

function scoreShape(q: Tensor, k: Tensor): number[] {
  return [q.shape[0]!, q.shape[1]!, q.shape[2]!, k.shape[2]!];
}

/** Row-major, or in the order of memory of `like`, with the features innermost. */
function orderedAs(like: Tensor, shape: Shape): OutputSpec {
  const order = memoryOrder(like.shape, like._strides).filter((d) => d !== 3);
  return { shape, dtype: like.dtype, strides: orderedStrides(shape, [...order, 3]) };
}

/** Strides of a mask along the scores, 0 where it is repeated. */
function maskStrides(mask: Tensor | null): number[] {
  return mask === null ? [0, 0, 0, 0] : mask.shape.map((s, d) => s === 1 ? 0 : mask._strides[d]!);
}

/** [N, H, L, S, E, F, scale, causal, mask (0 none, 1 bool, 2 added)], then strides of the mask and of `tensors`. */
function describe(
  { q, k, v, mask }: Inputs,
  tensors: readonly Tensor[],
  a: AttentionAttrs,
): number[] {
  const kind = mask === null ? 0 : mask.dtype === "bool" ? 1 : 2;
  return [
    ...scoreShape(q, k),
    q.shape[3]!,
    v.shape[3]!,
    a.scale,
    Number(a.causal),
    kind,
    ...maskStrides(mask),
    ...tensors.flatMap((t) => t._strides),
  ];
}

/** Calls `f(row of q, head, scores)` for each query; hidden keys score -Infinity. */
function eachQuery(
  q: RefTensor,
  k: RefTensor,
  mask: RefTensor | null,
  a: AttentionAttrs,
  f: (row: number, head: number, scores: Float64Array) => void,
): void {
  const [batch, heads, queries, features] = q.shape as [number, number, number, number];
  const keys = k.shape[2]!, scores = new Float64Array(keys);
  const steps = mask === null
    ? []
    : contiguousStrides(mask.shape).map((s, d) => mask.shape[d] === 1 ? 0 : s);
  for (let row = 0; row < batch * heads * queries; row++) {
    const head = Math.floor(row / queries), i = row % queries;
    for (let j = 0; j < keys; j++) {
      let s = 0;
      for (let e = 0; e < features; e++) {
        s += q.f[row * features + e]! * k.f[(head * keys + j) * features + e]!;
      }
      s *= a.scale;
      if (mask !== null) {
        const at = Math.floor(head / heads) * steps[0]! + head % heads * steps[1]! + i * steps[2]! +
          j * steps[3]!;
        if (mask.dtype !== "bool") s += mask.f[at]!;
        else if (mask.f[at] === 0) s = -Infinity;
      }
      scores[j] = a.causal && j > i ? -Infinity : s;
    }
    f(row, head, scores);
  }
}

const attentionBackward: TypedKernelOp<AttentionAttrs> = kernel({
  doc: "the gradients of attention's queries, keys and values",
  inputs: ["g", "q", "k", "v", "y", "lse"],
  optional: ["mask"],
  outputs: ["dq", "dk", "dv"],
  strided: ["g", "q", "k", "v", "y", "mask"],
  gpuHalves: ["g", "q", "k", "v", "y", "mask", "dq", "dk", "dv"],
  infer: ({ q, k, v }, _: AttentionAttrs) => [q, k, v].map((t) => orderedAs(t, t.shape)),
  // As of attention; strides of g, q, k, v, y, dq, dk, dv.
  descriptor: (inputs, { dq, dk, dv }, a) => {
    const { g, q, k, v, y } = inputs;
    return describe(inputs, [g, q, k, v, y, dq, dk, dv], a);
  },
  reference: ({ g, q, k, v, y, lse, mask }, { dq, dk, dv }, a) => {
    const features = q.shape[3]!, wide = v.shape[3]!, keys = k.shape[2]!;
    eachQuery(q, k, mask, a, (row, head, scores) => {
      let total = 0;
      for (let e = 0; e < wide; e++) total += g.f[row * wide + e]! * y.f[row * wide + e]!;
      scores.forEach((s, j) => {
        if (s === -Infinity) return;
        const p = Math.exp(s - lse.f[row]!), key = head * keys + j;
        let dp = 0;
        for (let e = 0; e < wide; e++) {
          dp += g.f[row * wide + e]! * v.f[key * wide + e]!;
          dv.f[key * wide + e]! += p * g.f[row * wide + e]!;
        }
        const ds = p * (dp - total) * a.scale;
        for (let e = 0; e < features; e++) {
          dq.f[row * features + e]! += ds * k.f[key * features + e]!;
          dk.f[key * features + e]! += ds * q.f[row * features + e]!;
        }
      });
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** The gradient of an added mask, of the shape of the scores: p (g vᵀ - Σ g y). */
function maskGrad(
  g: Tensor,
  saved: { q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor },
  mask: Tensor,
  a: AttentionAttrs,
): Tensor {
  const { q, k, v, y, lse } = saved;
  const dead = lse.eq(-Infinity).unsqueeze(3);
  const p = maskedScores(q, k, mask, a).sub(lse.unsqueeze(3)).exp().maskedFill(dead, 0);
  return p.mul(g.matmul(v.transpose(2, 3)).sub(g.mul(y).sum(3, { keepdim: true })));
}

/** scale q kᵀ + mask, -Infinity where a key is hidden. */
function maskedScores(q: Tensor, k: Tensor, mask: Tensor | null, a: AttentionAttrs): Tensor {
  let scores = q.matmul(k.transpose(2, 3)).mul(a.scale);
  if (mask !== null) {
    scores = mask.dtype === "bool"
      ? scores.maskedFill(mask.logicalNot(), -Infinity)
      : scores.add(mask);
  }
  if (!a.causal) return scores;
  const future = scores.detach()._full(1).triu(1).ne(0);
  return scores.maskedFill(future, -Infinity);
}

/**
 * softmax(scale q kᵀ + mask): the probabilities of attention by differentiable ops, (N, H, L, S).
 * Queries that see no key have probabilities 0.
 */
export function attentionWeights(
  q: Tensor,
  k: Tensor,
  mask: Tensor | null,
  a: AttentionAttrs,
): Tensor {
  const scores = maskedScores(q, k, mask, a);
  if (mask === null || k.shape[2] === 0) return scores.softmax(3);
  const dead = scores.detach().amax(3, { keepdim: true }).eq(-Infinity);
  return scores.maskedFill(dead, 0).softmax(3).maskedFill(dead, 0);
}

/** Attention and its backward op. */
export const attentionOps = declare({
  // Descriptor: [N, H, L, S, E, F, scale, causal, mask (0 none, 1 bool, 2 added)], strides of the mask (0: repeated),
  // of q, k, v and y.
  attention: kernel({
    doc: "softmax(scale q kᵀ + mask) v; queries that see no key get 0",
    inputs: ["q", "k", "v"],
    optional: ["mask"],
    outputs: ["y"],
    aux: ["lse"],
    strided: ["q", "k", "v", "mask"],
    gpuHalves: ["q", "k", "v", "mask", "y"],
    infer: (inputs, _: AttentionAttrs) => {
      check(inputs);
      const { q, v } = inputs, rows = q.shape.slice(0, 3);
      const dtype = isHalf(q.dtype) ? "float32" : q.dtype;
      return [orderedAs(q, [...rows, v.shape[3]!]), { shape: rows, dtype }];
    },
    descriptor: (inputs, { y }, a) => describe(inputs, [inputs.q, inputs.k, inputs.v, y], a),
    reference: ({ q, k, v, mask }, { y, lse }, a) => {
      const wide = v.shape[3]!, keys = k.shape[2]!;
      eachQuery(q, k, mask, a, (row, head, scores) => {
        let max = -Infinity, sum = 0;
        for (const s of scores) max = s > max || s !== s ? s : max;
        lse.f[row] = max;
        if (max === -Infinity) return;
        for (const s of scores) sum += Math.exp(s - max);
        lse.f[row] = max + Math.log(sum);
        scores.forEach((s, j) => {
          const p = Math.exp(s - max) / sum;
          for (let e = 0; e < wide; e++) {
            y.f[row * wide + e]! += p * v.f[(head * keys + j) * wide + e]!;
          }
        });
      });
    },
    saves: ["q", "k", "v", "mask", "y", "lse"],
    vjp: ({ y: g }, saved, a, needs) => {
      const { q, k, v, y, lse, mask } = saved;
      const [dq, dk, dv] = call(attentionBackward, [g, q, k, v, y, lse, mask], a);
      return [dq!, dk!, dv!, needs.mask ? maskGrad(g!, saved, mask!, a) : null];
    },
    composition: ({ q, k, v, mask }, a) => [attentionWeights(q, k, mask, a).matmul(v)],
  }),
  attentionBackward,
});
