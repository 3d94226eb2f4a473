// Classification losses on logits or log-probabilities (N, C) and class labels (N), as PyTorch defines them.
// Losses that are plain compositions stand in lib/functional/loss.ts.

import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { isFloat } from "../dtype.ts";
import { type Shape, show } from "../shape.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp } from "./op.ts";
import { softmaxOps } from "./softmax.ts";
import { callLater, mayWait, pendingCall } from "../later.ts";

/** What becomes of the losses of a batch. */
export type Reduction = "mean" | "sum" | "none";

/** Attributes of the losses on class labels. */
export interface LabelLossAttrs {
  /** `mean` divides by the weights of the labels that count. */
  readonly reduction: Reduction;
  /** Rows with this label have no loss. */
  readonly ignoreIndex: number;
}

/** Attributes of `nllLoss`. */
export interface NllLossAttrs extends LabelLossAttrs {
  /** The number of classes. */
  readonly classes: number;
}

/** Attributes of `crossEntropy`. */
export interface CrossEntropyAttrs extends LabelLossAttrs {
  /** The part of the probability that is spread evenly over the classes. */
  readonly labelSmoothing: number;
}

interface LabelInputs {
  readonly x: Tensor;
  readonly target: Tensor;
  readonly weight: Tensor | null;
}

const reductionCode: Readonly<Record<Reduction, number>> = { none: 0, mean: 1, sum: 2 };

function checkLabels(what: string, { x, target, weight }: LabelInputs): void {
  const [n, classes] = x.shape;
  if (!isFloat(x.dtype)) {
    throw new TypeError(`Cannot ${what} of ${x.dtype} scores: convert them with to("float32")`);
  }
  if (target.dtype !== "int64" && target.dtype !== "int32") {
    throw new TypeError(
      `Cannot ${what} with ${target.dtype} labels: class labels are integers; make them with dtype: "int64"`,
    );
  }
  if (x.ndim !== 2 || target.ndim !== 1 || target.shape[0] !== n) {
    throw new RangeError(
      `Cannot ${what} of scores ${show(x.shape)} with labels ${
        show(target.shape)
      }: it takes [N, C] and [N]`,
    );
  }
  if (weight !== null && (weight.ndim !== 1 || weight.shape[0] !== classes)) {
    throw new RangeError(
      `Cannot ${what} with weights ${
        show(weight.shape)
      }: there must be one for each of ${classes} classes`,
    );
  }
  if (weight !== null && weight.dtype !== x.dtype) {
    throw new TypeError(
      `Cannot ${what} of ${x.dtype} scores with ${weight.dtype} weights: convert them with to("${x.dtype}")`,
    );
  }
}

function lossShape(n: number, a: LabelLossAttrs): Shape {
  return a.reduction === "none" ? [n] : [];
}

/** Calls `f(row, label, weight)` for each row that counts. Throws on labels that are no class. */
function eachLabel(
  what: string,
  target: RefTensor,
  weight: RefTensor | null,
  classes: number,
  a: LabelLossAttrs,
  f: (row: number, label: number, weight: number) => void,
): void {
  for (let r = 0; r < target.i.length; r++) {
    const label = Number(target.i[r]!);
    if (label === a.ignoreIndex) continue;
    if (label < 0 || label >= classes) {
      throw new RangeError(
        `Cannot ${what}: label ${label} at position ${r} is not in [0, ${classes}); ` +
          `labels are class indices, and ignoreIndex (${a.ignoreIndex}) marks rows to skip`,
      );
    }
    f(r, label, weight === null ? 1 : weight.f[label]!);
  }
}

/** Adds a row's loss to the result. */
function addLoss(y: RefTensor, row: number, loss: number, a: LabelLossAttrs): void {
  const at = a.reduction === "none" ? row : 0;
  y.f[at] = y.f[at]! + loss;
}

function rowGrad(g: RefTensor, row: number, total: number, a: LabelLossAttrs): number {
  if (a.reduction === "none") return g.f[row]!;
  return a.reduction === "sum" ? g.f[0]! : g.f[0]! / total;
}

/** The largest score of a row, and Σ exp(x - max). */
function rowSums(x: RefTensor, from: number, to: number): { max: number; sum: number } {
  let max = -Infinity, sum = 0;
  for (let k = from; k < to; k++) max = Math.max(max, x.f[k]!);
  for (let k = from; k < to; k++) sum += Math.exp(x.f[k]! - max);
  return { max, sum };
}

/** Calls `f(row, class, gradient)` for each score of the rows that count. */
function eachScoreGrad(
  g: RefTensor,
  x: RefTensor,
  target: RefTensor,
  stats: RefTensor,
  total: RefTensor,
  weight: RefTensor | null,
  a: CrossEntropyAttrs,
  f: (row: number, c: number, grad: number) => void,
): void {
  const classes = x.shape[1]!, even = a.labelSmoothing / classes;
  const all = weight === null ? classes : weight.f.reduce((s, w) => s + w, 0);
  eachLabel("crossEntropy", target, weight, classes, a, (r, label, w) => {
    const scale = rowGrad(g, r, total.f[0]!, a);
    for (let c = 0; c < classes; c++) {
      const p = Math.exp(x.f[r * classes + c]! - stats.f[2 * r]!) / stats.f[2 * r + 1]!;
      const hard = (1 - a.labelSmoothing) * w * (p - (c === label ? 1 : 0));
      const soft = even * (all * p - (weight === null ? 1 : weight.f[c]!));
      f(r, c, scale * (hard + soft));
    }
  });
}

const crossEntropyBackward = kernel({
  doc: "the gradient of crossEntropy from the saved largest score and Σ exp(x - max) of each row",
  inputs: ["g", "x", "target", "stats", "total"],
  optional: ["weight"],
  outputs: ["dx"],
  infer: ({ x }, _: CrossEntropyAttrs) => [{ shape: x.shape, dtype: x.dtype }],
  // [N, C, reduction (none 0, mean 1, sum 2), ignoreIndex, labelSmoothing]; second dtype: labels.
  descriptor: ({ x }, _, a) => [
    ...x.shape,
    reductionCode[a.reduction],
    a.ignoreIndex,
    a.labelSmoothing,
  ],
  extraDTypes: (inputs) => inputs[2]!._code << 8,
  reference: ({ g, x, target, stats, total, weight }, { dx }, a) => {
    const classes = x.shape[1]!;
    eachScoreGrad(g, x, target, stats, total, weight, a, (r, c, d) => dx.f[r * classes + c] = d);
  },
  saves: [],
  vjp: "nondifferentiable",
});

const crossEntropyLinearBackward = kernel({
  doc:
    "the gradients of h, w and bias in crossEntropy(h wᵀ + bias, target), from what crossEntropyBackward takes",
  inputs: ["g", "x", "target", "stats", "total", "h", "w"],
  optional: ["weight"],
  outputs: ["dh", "dw", "db"],
  infer: ({ h, w }, _: CrossEntropyAttrs) =>
    [h.shape, w.shape, [w.shape[0]!]].map((shape) => ({ shape, dtype: h.dtype })),
  // [N, C, reduction (none 0, mean 1, sum 2), ignoreIndex, labelSmoothing, features of h]; second dtype: labels.
  descriptor: ({ x, h }, _, a) => [
    ...x.shape,
    reductionCode[a.reduction],
    a.ignoreIndex,
    a.labelSmoothing,
    h.shape[1]!,
  ],
  extraDTypes: (inputs) => inputs[2]!._code << 8,
  reference: ({ g, x, target, stats, total, h, w, weight }, { dh, dw, db }, a) => {
    const size = w.shape[1]!;
    eachScoreGrad(g, x, target, stats, total, weight, a, (r, c, d) => {
      db.f[c]! += d;
      for (let k = 0; k < size; k++) {
        dh.f[r * size + k]! += d * w.f[c * size + k]!;
        dw.f[c * size + k]! += d * h.f[r * size + k]!;
      }
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

const nllLossBackward: TypedKernelOp<NllLossAttrs> = kernel({
  doc: "the gradient of nllLoss: -weight at each row's label, zeros elsewhere",
  inputs: ["g", "target", "total"],
  optional: ["weight"],
  outputs: ["dx"],
  infer: ({ g, target }, a: NllLossAttrs) => [{
    shape: [target.shape[0]!, a.classes],
    dtype: g.dtype,
  }],
  // [N, C, reduction (none 0, mean 1, sum 2), ignoreIndex]; second dtype: labels.
  descriptor: ({ target }, _, a) => [
    target.shape[0]!,
    a.classes,
    reductionCode[a.reduction],
    a.ignoreIndex,
  ],
  extraDTypes: (inputs) => inputs[1]!._code << 8,
  reference: ({ g, target, total, weight }, { dx }, a) => {
    eachLabel("nllLoss", target, weight, a.classes, a, (r, label, w) => {
      dx.f[r * a.classes + label] = -w * rowGrad(g, r, total.f[0]!, a);
    });
  },
  saves: ["target", "weight"],
  vjp: ({ dx: h }, { target, weight }, a) => [call(nllLoss, [h!, target, weight], a)[0]!],
});

const nllLoss: TypedKernelOp<NllLossAttrs> = kernel({
  doc: "-x at each row's label, weighted",
  inputs: ["x", "target"],
  optional: ["weight"],
  outputs: ["y"],
  aux: ["total"],
  infer: (inputs, a: NllLossAttrs) => {
    checkLabels("nllLoss", inputs);
    const { shape, dtype } = inputs.x;
    return [{ shape: lossShape(shape[0]!, a), dtype }, { shape: [], dtype }];
  },
  // [N, C, reduction (none 0, mean 1, sum 2), ignoreIndex]; second dtype: labels.
  descriptor: ({ x }, _, a) => [...x.shape, reductionCode[a.reduction], a.ignoreIndex],
  extraDTypes: (inputs) => inputs[1]!._code << 8,
  reference: ({ x, target, weight }, { y, total }, a) => {
    const classes = x.shape[1]!;
    eachLabel("nllLoss", target, weight, classes, a, (r, label, w) => {
      addLoss(y, r, -w * x.f[r * classes + label]!, a);
      total.f[0] = total.f[0]! + w;
    });
    if (a.reduction === "mean") y.f[0] = y.f[0]! / total.f[0]!;
  },
  saves: ["target", "weight", "total"],
  vjp: ({ y: g }, { target, weight, total }, a) => [
    call(nllLossBackward, [g!, target, total, weight], a)[0]!,
  ],
});

/** Losses on class labels. */
export const lossOps = declare({
  crossEntropy: kernel({
    doc: "-ln softmax(x) at each row's label, weighted, with label smoothing",
    inputs: ["x", "target"],
    optional: ["weight"],
    outputs: ["y"],
    aux: ["stats", "total"],
    infer: (inputs, a: CrossEntropyAttrs) => {
      checkLabels("crossEntropy", inputs);
      const n = inputs.x.shape[0]!, dtype = inputs.x.dtype;
      return [
        { shape: lossShape(n, a), dtype },
        { shape: [n, 2], dtype },
        { shape: [], dtype },
      ];
    },
    // [N, C, reduction (none 0, mean 1, sum 2), ignoreIndex, labelSmoothing]; second dtype: labels.
    descriptor: ({ x }, _, a) => [
      ...x.shape,
      reductionCode[a.reduction],
      a.ignoreIndex,
      a.labelSmoothing,
    ],
    extraDTypes: (inputs) => inputs[1]!._code << 8,
    reference: ({ x, target, weight }, { y, stats, total }, a) => {
      const classes = x.shape[1]!, even = a.labelSmoothing / classes;
      eachLabel("crossEntropy", target, weight, classes, a, (r, label, w) => {
        const at = r * classes;
        const { max, sum } = rowSums(x, at, at + classes);
        const log = max + Math.log(sum);
        let loss = (1 - a.labelSmoothing) * w * (log - x.f[at + label]!);
        for (let c = 0; even > 0 && c < classes; c++) {
          loss += even * (weight === null ? 1 : weight.f[c]!) * (log - x.f[at + c]!);
        }
        addLoss(y, r, loss, a);
        stats.f.set([max, sum], 2 * r);
        total.f[0] = total.f[0]! + w;
      });
      if (a.reduction === "mean") y.f[0] = y.f[0]! / total.f[0]!;
    },
    saves: ["x", "target", "weight", "stats", "total"],
    vjp: ({ y: g }, { x, target, weight, stats, total }, a) => {
      const inputs = [g!, x, target, stats, total, weight];
      // Linear may compute its gradients without that of the scores (crossEntropyLinearGrads).
      return mayWait(x.device, x.dtype, x.numel())
        ? [callLater(crossEntropyBackward, inputs, a, false)]
        : call(crossEntropyBackward, inputs, a);
    },
    composition: ({ x, target, weight }, a) => {
      const logp = call(softmaxOps.logSoftmax, [x], { dim: 1 })[0]!;
      const { reduction, ignoreIndex } = a, classes = x.shape[1]!;
      const labels = { reduction, ignoreIndex, classes };
      const hard = call(nllLoss, [logp, target, weight], labels)[0]!;
      if (a.labelSmoothing === 0) return [hard];
      const ignored = target.eq(a.ignoreIndex);
      const rows = (weight === null ? logp : logp.mul(weight)).sum(1).maskedFill(ignored, 0).neg();
      let soft = a.reduction === "none" ? rows : rows.sum();
      if (a.reduction === "mean") {
        const sums: NllLossAttrs = { ...labels, reduction: "sum" };
        soft = soft.div(call(nllLoss, [logp.detach()._full(-1), target, weight], sums)[0]!);
      }
      return [hard.mul(1 - a.labelSmoothing).add(soft.mul(a.labelSmoothing / classes))];
    },
  }),
  crossEntropyBackward,
  crossEntropyLinearBackward,
  nllLoss,
  nllLossBackward,
  binaryCrossEntropy: kernel({
    doc: "-(y ln x + (1 - y) ln(1 - x)) for x in [0, 1], with logarithms not below -100",
    inputs: ["x", "target"],
    outputs: ["y"],
    infer: ({ x }) => {
      if (!isFloat(x.dtype)) {
        throw new TypeError(
          `Cannot binaryCrossEntropy of ${x.dtype} probabilities: convert them with to("float32")`,
        );
      }
      return [{ shape: x.shape, dtype: x.dtype }];
    },
    descriptor: () => [],
    reference: ({ x, target }, { y }) => {
      for (let i = 0; i < y.f.length; i++) {
        const p = x.f[i]!, t = target.f[i]!;
        if (!(p >= 0 && p <= 1)) {
          throw new RangeError(
            `Cannot binaryCrossEntropy: element ${i} is ${p}, and probabilities lie in [0, 1]; ` +
              `apply sigmoid first, or use binaryCrossEntropyWithLogits`,
          );
        }
        y.f[i] = (t - 1) * Math.max(Math.log1p(-p), -100) - t * Math.max(Math.log(p), -100);
      }
    },
    saves: ["x", "target"],
    vjp: ({ y: g }, { x, target }, _, needs) => [
      // The divisor is kept off 0 as in PyTorch, so that gradients stay finite.
      needs.x ? g!.mul(x.sub(target)).div(x.sub(x.square()).clamp(1e-12)) : null,
      needs.target ? g!.mul(x.neg().log1p().sub(x.log())) : null,
    ],
  }),
});

/**
 * Where the gradient `g` of the scores x wᵀ + bias comes from cross entropy and was not read: the gradients of x, w and
 * bias by one kernel that never stores it; else null.
 */
export function crossEntropyLinearGrads(g: Tensor, x: Tensor, w: Tensor): Tensor[] | null {
  const pending = pendingCall(g, crossEntropyBackward);
  if (pending === null) return null;
  const [gy, scores, target, stats, total, weight] = pending.inputs();
  const [classes, size] = w.shape as [number, number];
  if (scores!.dtype !== x.dtype || scores!.shape[1] !== classes) return null;
  const rows = x.reshape([scores!.shape[0]!, size]);
  const [dh, dw, db] = call(
    crossEntropyLinearBackward,
    [gy!, scores!, target!, stats!, total!, rows, w, weight!],
    pending.attrs,
  ) as [Tensor, Tensor, Tensor];
  return [dh.reshape(x.shape), dw, db];
}
