// Softmax, its logarithm, and the logarithm of sums of exponentials, along one dim of row-major x seen as
// [outer, size, inner]. Backward ops are fused and have derivatives of their own.

import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { isHalf } from "../dtype.ts";
import { reduceShape } from "../shape.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp } from "./op.ts";
import { type DimAttrs, eachLine, splitAt } from "./reduce.ts";

/** The dim of a softmax. */
export interface SoftmaxAttrs {
  /** Wrapped dim. */
  readonly dim: number;
}

/** The largest of one line, and ln Σ exp(x_k - max). */
function lineSums(
  x: RefTensor,
  first: number,
  step: number,
  size: number,
): { max: number; logSum: number } {
  let max = -Infinity, sum = 0;
  for (let k = 0; k < size; k++) max = Math.max(max, x.f[first + k * step]!);
  for (let k = 0; k < size; k++) sum += Math.exp(x.f[first + k * step]! - max);
  return { max, logSum: Math.log(sum) };
}

function total(a: Tensor, b: Tensor, dim: number): Tensor {
  return a.mul(b).sum(dim, { keepdim: true });
}

const same = ({ x }: { readonly x: Tensor }) => [{ shape: x.shape, dtype: x.dtype }];
const sameAsY = ({ y }: { readonly y: Tensor }) => [{ shape: y.shape, dtype: y.dtype }];

const softmaxBackward: TypedKernelOp<SoftmaxAttrs> = kernel({
  doc: "the gradient of softmax: y (g - Σ g y)",
  inputs: ["g", "y"],
  outputs: ["dx"],
  infer: (inputs, _: SoftmaxAttrs) => sameAsY(inputs),
  // [outer, size, inner]
  descriptor: ({ y }, _, { dim }) => splitAt(y.shape, dim),
  reference: ({ g, y }, { dx }, { dim }) => {
    eachLine(y.shape, dim, (first, step, size) => {
      let s = 0;
      for (let k = 0; k < size; k++) s += g.f[first + k * step]! * y.f[first + k * step]!;
      for (let k = 0; k < size; k++) {
        const at = first + k * step;
        dx.f[at] = y.f[at]! * (g.f[at]! - s);
      }
    });
  },
  saves: ["g", "y"],
  vjp: ({ dx: h }, { g, y }, a, needs) => [
    needs.g ? call(softmaxBackward, [h!, y], a)[0]! : null,
    needs.y ? h!.mul(g.sub(total(g, y, a.dim))).sub(g.mul(total(h!, y, a.dim))) : null,
  ],
});

const logSoftmaxBackward: TypedKernelOp<SoftmaxAttrs> = kernel({
  doc: "the gradient of logSoftmax: g - eʸ Σ g",
  inputs: ["g", "y"],
  outputs: ["dx"],
  infer: (inputs, _: SoftmaxAttrs) => sameAsY(inputs),
  // [outer, size, inner]
  descriptor: ({ y }, _, { dim }) => splitAt(y.shape, dim),
  reference: ({ g, y }, { dx }, { dim }) => {
    eachLine(y.shape, dim, (first, step, size) => {
      let s = 0;
      for (let k = 0; k < size; k++) s += g.f[first + k * step]!;
      for (let k = 0; k < size; k++) {
        const at = first + k * step;
        dx.f[at] = g.f[at]! - Math.exp(y.f[at]!) * s;
      }
    });
  },
  saves: ["g", "y"],
  vjp: ({ dx: h }, { g, y }, a, needs) => {
    const p = y.exp();
    return [
      needs.g ? h!.sub(total(h!, p, a.dim)) : null,
      needs.y ? h!.mul(p).mul(g.sum(a.dim, { keepdim: true })).neg() : null,
    ];
  },
});

/** Softmax and its relatives. */
export const softmaxOps = declare({
  softmax: kernel({
    doc: "exp(x) / Σ exp(x) along dim",
    inputs: ["x"],
    outputs: ["y"],
    infer: (inputs, _: SoftmaxAttrs) => same(inputs),
    // [outer, size, inner]
    descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
    reference: ({ x }, { y }, { dim }) => {
      eachLine(x.shape, dim, (first, step, size) => {
        const { max, logSum } = lineSums(x, first, step, size);
        for (let k = 0; k < size; k++) {
          y.f[first + k * step] = Math.exp(x.f[first + k * step]! - max - logSum);
        }
      });
    },
    saves: ["y"],
    vjp: ({ y: g }, { y }, a) => [call(softmaxBackward, [g!, y], a)[0]!],
  }),
  softmaxBackward,
  logSoftmax: kernel({
    doc: "x - ln Σ exp(x) along dim",
    inputs: ["x"],
    outputs: ["y"],
    infer: (inputs, _: SoftmaxAttrs) => same(inputs),
    // [outer, size, inner]
    descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
    reference: ({ x }, { y }, { dim }) => {
      eachLine(x.shape, dim, (first, step, size) => {
        const { max, logSum } = lineSums(x, first, step, size);
        for (let k = 0; k < size; k++) {
          y.f[first + k * step] = x.f[first + k * step]! - max - logSum;
        }
      });
    },
    saves: ["y"],
    vjp: ({ y: g }, { y }, a) => [call(logSoftmaxBackward, [g!, y], a)[0]!],
  }),
  logSoftmaxBackward,
  logsumexp: kernel({
    doc: "ln Σ exp(x) along dim, without overflow (-∞ of none)",
    inputs: ["x"],
    outputs: ["y"],
    infer: ({ x }, a: DimAttrs) => [{
      shape: reduceShape(x.shape, [a.dim], a.keepdim),
      dtype: x.dtype,
    }],
    // [outer, size, inner]
    descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
    reference: ({ x }, { y }, { dim }) => {
      eachLine(x.shape, dim, (first, step, size, line) => {
        const { max, logSum } = lineSums(x, first, step, size);
        y.f[line] = Math.abs(max) === Infinity ? max : max + logSum;
      });
    },
    saves: ["x", "y"],
    vjp: ({ y: g }, { x, y }, a) => {
      const shape = reduceShape(x.shape, [a.dim], true);
      // The rounding of a large half y would be a large relative error of exp(x - y).
      const half = isHalf(x.dtype), from = half ? x.to("float32") : x;
      const sum = half ? from.logsumexp(a.dim) : y;
      return [from.sub(sum.reshape(shape)).exp().to(x.dtype).mul(g!.reshape(shape))];
    },
  }),
});
