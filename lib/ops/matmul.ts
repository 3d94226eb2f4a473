// Matrix products: batched with broadcasting, and the linear layer x wᵀ + b as one op.
// Transposed operands are read through their strides; gradients are matrix products again.

import { canMeet } from "../amp_mode.ts";
import { isFloat, isInt } from "../dtype.ts";
import {
  broadcast,
  broadcastStrides,
  coalesce,
  numel,
  reducedDims,
  type Shape,
  show,
} from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { crossEntropyLinearGrads } from "./loss.ts";
import { declare, kernel } from "./op.ts";

/**
 * Checks operands of a matrix product (vectors count as a row on the left, a column on the right).
 *
 * @throws RangeError where sizes do not fit, TypeError where dtypes do not
 */
export function checkMatmul(name: string, a: Tensor, b: Tensor): void {
  const fail = (why: string): never => {
    throw new RangeError(`Cannot ${name} ${show(a.shape)} by ${show(b.shape)}: ${why}`);
  };
  if (a.ndim === 0 || b.ndim === 0) {
    fail("both need at least one dim; multiply by a scalar with mul");
  }
  if (!canMeet(a.dtype, b.dtype)) {
    throw new TypeError(
      `Cannot ${name} a ${a.dtype} tensor by a ${b.dtype} one: convert one of them with to(dtype) first`,
    );
  }
  if (a.dtype === "bool") {
    throw new TypeError(
      `Cannot ${name} bool tensors: convert them first, for example with to("int64")`,
    );
  }
  const inner = a.shape[a.ndim - 1]!, rows = b.shape[Math.max(b.ndim - 2, 0)]!;
  if (inner !== rows) fail(`inner sizes ${inner} and ${rows} differ`);
  if (a.ndim <= 2 || b.ndim <= 2) return;
  const batch = a.shape.slice(0, -2), other = b.shape.slice(0, -2);
  for (let i = 1; i <= Math.min(batch.length, other.length); i++) {
    const s = batch[batch.length - i]!, t = other[other.length - i]!;
    if (s !== t && s !== 1 && t !== 1) {
      fail(`batch sizes ${s} and ${t} of dim ${-i - 2} differ and neither is 1`);
    }
  }
}

/** The matrices of the last two dims, transposed: a view. */
function transposed(t: Tensor): Tensor {
  const dims = t.shape.map((_, i) => i);
  dims.push(...dims.splice(-2, 1));
  return t.permute(dims);
}

/** All dims but the last as one: matrices stacked on each other. */
function stacked(t: Tensor): Tensor {
  return t.ndim === 2 ? t : t.reshape([numel(t.shape.slice(0, -1)), t.shape[t.ndim - 1]!]);
}

/** g bᵀ, summed over the dims along which `a` was broadcast. */
function gradLeft(g: Tensor, b: Tensor, shape: Shape): Tensor {
  return sumBroadcast(g.matmul(transposed(b)), shape);
}

/** aᵀ g, summed over the dims along which `b` was broadcast. */
function gradRight(g: Tensor, a: Tensor, shape: Shape): Tensor {
  // One matrix for all products: the sum over the batch is part of one large product.
  if (shape.length === 2 && g.ndim > 2 && a.ndim === g.ndim) {
    return transposed(stacked(a)).matmul(stacked(g));
  }
  return sumBroadcast(transposed(a).matmul(g), shape);
}

function sumBroadcast(g: Tensor, shape: Shape): Tensor {
  return reducedDims(g.shape, shape).length === 0 ? g : g.sumTo(shape);
}

/** Row and column stride of the last two dims; a dim of size 1 counts as having the stride that it would have. */
function matrixStrides(t: Tensor): [number, number] {
  const rows = t.shape[t.ndim - 2]!, cols = t.shape[t.ndim - 1]!;
  const row = t._strides[t.ndim - 2]!, col = t._strides[t.ndim - 1]!;
  if (cols === 1) {
    return rows === 1 || row !== 1 ? [rows === 1 ? 1 : row, 1] : [1, Math.max(rows, 1)];
  }
  if (rows === 1) return [col === 1 ? cols : 1, col];
  return [row, col];
}

/** All matrix products. */
export const matmulOps = declare({
  // Descriptor: [m, n, k, a row stride, a column stride, b row stride, b column stride, batch ndim, batch shape...,
  // a batch strides..., b batch strides...]; strides in elements, 0 where an operand is repeated; y is contiguous.
  matmul: kernel({
    doc: "products of the matrices a (m, k) and b (k, n) over broadcast batch dims",
    inputs: ["a", "b"],
    outputs: ["y"],
    strided: ["a", "b"],
    halves: true,
    infer: ({ a, b }, _: Record<never, never>) => {
      checkMatmul("matmul", a, b);
      if (a.ndim === 2 && b.ndim === 2) {
        return [{ shape: [a.shape[0]!, b.shape[1]!], dtype: a.dtype }];
      }
      const batch = broadcast("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
      return [{ shape: [...batch, a.shape[a.ndim - 2]!, b.shape[b.ndim - 1]!], dtype: a.dtype }];
    },
    descriptor: ({ a, b }, { y }) => {
      let m = y.shape[y.ndim - 2]!;
      const n = y.shape[y.ndim - 1]!, k = a.shape[a.ndim - 1]!;
      if (y.ndim === 2) return [m, n, k, ...matrixStrides(a), ...matrixStrides(b), 0];
      const batch = y.shape.slice(0, -2);
      const along = (t: Tensor): number[] =>
        broadcastStrides(t.shape.slice(0, -2), t._strides.slice(0, -2), batch);
      let [nd, ...rest] = coalesce(batch, [along(a), along(b), y._strides.slice(0, -2)]) as [
        number,
        ...number[],
      ];
      let [rows, cols] = matrixStrides(a);
      // One b for all products of a batch that lies like one tall matrix.
      const [size, step] = [rest[nd - 1]!, rest[2 * nd - 1]!];
      if (nd > 0 && rest[3 * nd - 1] === 0 && (m === 1 || step === m * rows)) {
        if (m === 1) rows = step;
        m *= size;
        rest = rest.filter((_, i) => i % nd !== nd - 1);
        nd--;
      }
      return [m, n, k, rows, cols, ...matrixStrides(b), nd, ...rest.slice(0, 3 * nd)];
    },
    reference: ({ a, b }, { y }) => {
      const m = a.shape.at(-2)!, k = a.shape.at(-1)!, n = b.shape.at(-1)!;
      const batch = y.shape.slice(0, -2), count = numel(batch);
      for (let p = 0; p < count; p++) {
        const A = m * k * sourceIndex(p, batch, a.shape.slice(0, -2));
        const B = k * n * sourceIndex(p, batch, b.shape.slice(0, -2));
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            const at = (p * m + i) * n + j;
            if (isInt(y.dtype)) {
              for (let l = 0; l < k; l++) y.i[at]! += a.i[A + i * k + l]! * b.i[B + l * n + j]!;
            } else {
              for (let l = 0; l < k; l++) y.f[at]! += a.f[A + i * k + l]! * b.f[B + l * n + j]!;
            }
          }
        }
      }
    },
    saves: ["a", "b"],
    vjp: ({ y: g }, { a, b }, _, needs) => [
      needs.a ? gradLeft(g!, b, a.shape) : null,
      needs.b ? gradRight(g!, a, b.shape) : null,
    ],
  }),

  // Descriptor: [rows, in, out]; everything contiguous.
  linear: kernel({
    doc: "x wᵀ + bias over the last dim of x",
    inputs: ["x", "w"],
    optional: ["bias"],
    outputs: ["y"],
    halves: true,
    infer: ({ x, w, bias }, _: Record<never, never>) => {
      checkLinear(x, w, bias);
      return [{ shape: [...x.shape.slice(0, -1), w.shape[0]!], dtype: x.dtype }];
    },
    descriptor: ({ x, w }) => [numel(x.shape.slice(0, -1)), w.shape[1]!, w.shape[0]!],
    reference: ({ x, w, bias }, { y }) => {
      const [out, inner] = w.shape as [number, number];
      for (let at = 0; at < y.f.length; at++) {
        const row = Math.floor(at / out), j = at % out;
        let sum = bias === null ? 0 : bias.f[j]!;
        for (let l = 0; l < inner; l++) sum += x.f[row * inner + l]! * w.f[j * inner + l]!;
        y.f[at] = sum;
      }
    },
    saves: ["x", "w"],
    vjp: ({ y }, { x, w }, _, needs) => {
      const fused = needs.x && needs.w ? crossEntropyLinearGrads(y!, x, w) : null;
      if (fused !== null) return fused;
      const g = stacked(y!.ndim === 1 ? y!.reshape([1, w.shape[0]!]) : y!);
      const rows = needs.w ? stacked(x.ndim === 1 ? x.reshape([1, w.shape[1]!]) : x) : x;
      const dx = needs.x ? g.matmul(w) : null;
      return [
        dx === null || x.ndim === 2 ? dx : dx.reshape(x.shape),
        needs.w ? transposed(g).matmul(rows) : null,
        needs.bias ? g.sum(0) : null,
      ];
    },
  }),
});

/** The position, in a tensor of batch shape `from`, of product `p` of the broadcast batch `batch`. */
function sourceIndex(p: number, batch: Shape, from: Shape): number {
  const lead = batch.length - from.length;
  let index = 0, step = 1;
  for (let d = batch.length - 1; d >= 0; d--) {
    const i = p % batch[d]!;
    p = Math.floor(p / batch[d]!);
    if (d < lead) continue;
    if (from[d - lead] !== 1) index += i * step;
    step *= from[d - lead]!;
  }
  return index;
}

function checkLinear(x: Tensor, w: Tensor, bias: Tensor | null): void {
  if (!isFloat(x.dtype)) {
    throw new TypeError(
      `Cannot linear a ${x.dtype} tensor: convert it to a floating point dtype first`,
    );
  }
  for (const [name, t] of [["weight", w], ["bias", bias]] as const) {
    if (t !== null && t.dtype !== x.dtype) {
      throw new TypeError(
        `Cannot linear a ${x.dtype} tensor with a ${t.dtype} ${name}: convert one of them with to(dtype) first`,
      );
    }
  }
  const inner = x.shape[x.ndim - 1];
  if (w.ndim !== 2 || inner !== w.shape[1]) {
    throw new RangeError(
      `Cannot linear ${show(x.shape)} with a weight of shape ${show(w.shape)}: ${
        w.ndim === 2
          ? `inner sizes ${inner ?? "none"} and ${w.shape[1]} differ`
          : "it must be (out, in)"
      }`,
    );
  }
  if (bias !== null && (bias.ndim !== 1 || bias.shape[0] !== w.shape[0])) {
    throw new RangeError(
      `Cannot linear with a bias of shape ${show(bias.shape)}: the weight of shape ${
        show(w.shape)
      } needs [${w.shape[0]}]`,
    );
  }
}
