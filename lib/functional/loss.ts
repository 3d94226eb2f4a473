// Loss functions under PyTorch's names and defaults. Cross entropy, nllLoss and binaryCrossEntropy run as ops of
// lib/ops/loss.ts; the others are compositions, whose temporaries are released at once.

import { call } from "../dispatch.ts";
import { autocast } from "../amp_mode.ts";
import { isFloat, isHalf, promote } from "../dtype.ts";
import { lossOps, type Reduction } from "../ops/loss.ts";
import { checkOptions, checkTensors } from "../options.ts";
import { scoped } from "../scope.ts";
import { same, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";

export type { Reduction };

/** What every loss takes. */
export interface LossOptions {
  /** `"mean"` (default), `"sum"`, or `"none"`: a loss per element (per row for classes). */
  readonly reduction?: Reduction;
}

/** Options of `nllLoss`. */
export interface NLLLossOptions extends LossOptions {
  /** A weight for each class, of shape [C]. */
  readonly weight?: Tensor | null;
  /** Rows with this label count neither in the loss nor in the mean (default -100). */
  readonly ignoreIndex?: number;
}

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends NLLLossOptions {
  /** The part of the probability that is spread evenly over all classes, from 0 (default) to 1. */
  readonly labelSmoothing?: number;
}

/** Options of `smoothL1Loss`. */
export interface SmoothL1Options extends LossOptions {
  /** The distance at which the loss turns from quadratic to linear (default 1). */
  readonly beta?: number;
}

/** Options of `mseLoss` and `l1Loss`. */
export interface WeightedLossOptions extends LossOptions {
  /** A factor of each element's loss, of its shape; the mean is divided by the sum of the factors. */
  readonly weight?: Tensor | null;
}

/** Options of `huberLoss`. */
export interface HuberOptions extends WeightedLossOptions {
  /** The distance at which the loss turns from quadratic to linear (default 1). */
  readonly delta?: number;
}

/** Options of `binaryCrossEntropy`. */
export interface BCEOptions extends LossOptions {
  /** A factor of each element's loss, broadcast to it. */
  readonly weight?: Tensor | null;
}

/** Options of `binaryCrossEntropyWithLogits`. */
export interface BCEWithLogitsOptions extends BCEOptions {
  /** How much more the positive part weighs, broadcast to the elements. */
  readonly posWeight?: Tensor | null;
}

/** Options of `klDiv`. */
export interface KLDivOptions {
  /** `"batchmean"` divides the sum by the size of dim 0: the divergence as mathematics defines it. */
  readonly reduction?: Reduction | "batchmean";
  /** Whether the target is log probabilities too. */
  readonly logTarget?: boolean;
}

function checkReduction(what: string, reduction: string, known: readonly string[]): void {
  if (known.includes(reduction)) return;
  throw new RangeError(
    `Cannot ${what} with reduction "${reduction}": it is one of ${
      known.map((k) => `"${k}"`).join(", ")
    }`,
  );
}

const reductions = ["mean", "sum", "none"];

function reduceLoss(loss: Tensor, reduction: Reduction): Tensor {
  return reduction === "none" ? loss : reduction === "sum" ? loss.sum() : loss.mean();
}

/** Checks the options, computes the loss of each element with `f`, reduces, and releases what lies between. */
function elementLoss(
  what: string,
  options: LossOptions,
  known: readonly string[],
  input: Tensor,
  target: Tensor,
  f: (input: Tensor, target: Tensor) => Tensor,
): Tensor {
  checkOptions(what, options, ["reduction", ...known]);
  checkTensors(what, { input, target });
  const reduction = options.reduction ?? "mean";
  checkReduction(what, reduction, reductions);
  // Halves are computed in float32; the result is rounded once, and not at all within autocast, as in PyTorch.
  const half = isHalf(input.dtype) || isHalf(target.dtype);
  return scoped(() => {
    if (!half) return reduceLoss(f(input, target), reduction);
    const y = reduceLoss(f(float32(input), float32(target)), reduction);
    return autocast === null ? y.to(promote(input.dtype, target.dtype)) : y;
  });
}

/** elementLoss with PyTorch's weights of the regression losses. */
function weightedLoss(
  what: string,
  options: WeightedLossOptions,
  known: readonly string[],
  input: Tensor,
  target: Tensor,
  f: (input: Tensor, target: Tensor) => Tensor,
): Tensor {
  const keys = [...known, "weight"];
  checkOptions(what, options, ["reduction", ...keys]);
  const { weight = null, ...rest } = options;
  if (weight === null) return elementLoss(what, rest, keys, input, target, f);
  checkTensors(what, { weight });
  const { reduction = "mean" } = rest;
  const sum = elementLoss(
    what,
    { ...rest, reduction: reduction === "mean" ? "sum" : reduction },
    keys,
    input,
    target,
    (x, y) => {
      requireSameShape(what, weight, input);
      return f(x, y).mul(weight);
    },
  );
  return reduction === "mean" ? scoped(() => sum.div(weight.sum())) : sum;
}

/** A half in float32; other tensors as they are. */
function float32(t: Tensor): Tensor {
  return isHalf(t.dtype) ? t.to("float32") : t;
}

function requireSameShape(what: string, input: Tensor, target: Tensor): void {
  if (same(input.shape, target.shape)) return;
  throw new RangeError(
    `Cannot ${what} ${show(input.shape)} against ${show(target.shape)}: the shapes must be equal`,
  );
}

/** Scores as [rows, C], labels as [rows], and the shape of a loss per row. */
function asRows(
  what: string,
  input: Tensor,
  target: Tensor,
): { x: Tensor; labels: Tensor; shape: Shape } {
  if (isFloat(target.dtype)) {
    throw new TypeError(
      `Cannot ${what} with ${target.dtype} labels of shape ${
        show(target.shape)
      }: class labels are integers, ` +
        `made with dtype: "int64"` +
        (what === "crossEntropy"
          ? `; probabilities must have the shape ${show(input.shape)} of the scores`
          : ""),
    );
  }
  const { shape } = input;
  const expected = shape.length === 1 ? [] : [shape[0]!, ...shape.slice(2)];
  if (shape.length === 0 || !same(target.shape, expected)) {
    throw new RangeError(
      `Cannot ${what} of scores ${show(shape)} with labels ${show(target.shape)}: ` +
        (shape.length === 0
          ? "scores are [C], [N, C] or [N, C, ...]"
          : `labels must be ${show(expected)}`),
    );
  }
  const classes = shape.length === 1 ? shape[0]! : shape[1]!;
  const rows = expected.reduce((n, s) => n * s, 1);
  const order = [0, ...shape.slice(2).map((_, i) => i + 2), 1];
  const x = shape.length === 2
    ? input
    : (shape.length === 1 ? input : input.permute(order)).reshape(rows, classes);
  const labels = target.dtype === "int32" || target.dtype === "int64" ? target : target.to("int64");
  return { x, labels: labels.ndim === 1 ? labels : labels.reshape(rows), shape: expected };
}

/**
 * Cross entropy of softmax(input) against classes or class probabilities.
 *
 * @param input logits [C], [N, C] or [N, C, ...]
 * @param target integer labels [], [N] or [N, ...]; or probabilities of the shape of `input`
 * @returns the mean over rows that count (weighted), the sum, or a loss per row
 * @throws TypeError for float labels; RangeError for labels outside [0, C) or shapes that do not fit
 */
export function crossEntropy(
  input: Tensor,
  target: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  checkOptions("crossEntropy", options, ["weight", "ignoreIndex", "labelSmoothing", "reduction"]);
  checkTensors("crossEntropy", { input, target });
  const { weight = null, ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" } = options;
  checkReduction("crossEntropy", reduction, reductions);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new RangeError(
      `Cannot crossEntropy with labelSmoothing ${labelSmoothing}: it lies in [0, 1]`,
    );
  }
  if (isFloat(target.dtype) && same(input.shape, target.shape)) {
    return scoped(() => againstProbabilities(input, target, weight, labelSmoothing, reduction));
  }
  return scoped(() => {
    const { x, labels, shape } = asRows("crossEntropy", input, target);
    const attrs = { reduction, ignoreIndex, labelSmoothing };
    const y = call(lossOps.crossEntropy, [x, labels, weight], attrs)[0]!;
    return reduction === "none" && shape.length !== 1 ? y.reshape(shape) : y;
  });
}

function againstProbabilities(
  input: Tensor,
  target: Tensor,
  weight: Tensor | null,
  labelSmoothing: number,
  reduction: Reduction,
): Tensor {
  const dim = input.ndim === 1 ? 0 : 1, classes = input.shape[dim]!;
  let p = target;
  if (labelSmoothing > 0) p = p.mul(1 - labelSmoothing).add(labelSmoothing / classes);
  if (weight !== null) {
    p = p.mul(weight.reshape([classes, ...input.shape.slice(dim + 1).map(() => 1)]));
  }
  return reduceLoss(input.logSoftmax(dim).mul(p).sum(dim).neg(), reduction);
}

/**
 * The negative log likelihood of the labels.
 *
 * @param input log probabilities [C], [N, C] or [N, C, ...]
 * @param target integer labels [], [N] or [N, ...]
 * @throws TypeError for float labels; RangeError for labels outside [0, C) or shapes that do not fit
 */
export function nllLoss(input: Tensor, target: Tensor, options: NLLLossOptions = {}): Tensor {
  checkOptions("nllLoss", options, ["weight", "ignoreIndex", "reduction"]);
  checkTensors("nllLoss", { input, target });
  const { weight = null, ignoreIndex = -100, reduction = "mean" } = options;
  checkReduction("nllLoss", reduction, reductions);
  return scoped(() => {
    const { x, labels, shape } = asRows("nllLoss", input, target);
    const attrs = { reduction, ignoreIndex, classes: x.shape[1]! };
    const y = call(lossOps.nllLoss, [x, labels, weight], attrs)[0]!;
    return reduction === "none" && shape.length !== 1 ? y.reshape(shape) : y;
  });
}

/** The squared distance (x - y)², broadcast. */
export function mseLoss(
  input: Tensor,
  target: Tensor,
  options: WeightedLossOptions = {},
): Tensor {
  return weightedLoss("mseLoss", options, [], input, target, (x, y) => x.sub(y).square());
}

/** The distance |x - y|, broadcast. */
export function l1Loss(
  input: Tensor,
  target: Tensor,
  options: WeightedLossOptions = {},
): Tensor {
  return weightedLoss("l1Loss", options, [], input, target, (x, y) => x.sub(y).abs());
}

/** d² / 2 up to `delta`, delta (d - delta / 2) above; written so that the slope at infinity is delta. */
function bent(d: Tensor, delta: number): Tensor {
  const near = d.ge(delta).where(delta, d); // NaN stays
  return near.mul(d.sub(near.mul(0.5)));
}

/**
 * (x - y)² / (2 beta) below the distance `beta`, |x - y| - beta / 2 above.
 *
 * @throws RangeError for a negative beta
 */
export function smoothL1Loss(input: Tensor, target: Tensor, options: SmoothL1Options = {}): Tensor {
  checkOptions("smoothL1Loss", options, ["reduction", "beta"]);
  const beta = options.beta ?? 1;
  if (!(beta >= 0)) {
    throw new RangeError(`Cannot smoothL1Loss with beta ${beta}: it must not be negative`);
  }
  return elementLoss("smoothL1Loss", options, ["beta"], input, target, (x, y) => {
    const d = x.sub(y).abs();
    return beta === 0 ? d : bent(d, beta).div(beta);
  });
}

/**
 * (x - y)² / 2 up to the distance `delta`, delta (|x - y| - delta / 2) above.
 *
 * @throws RangeError unless delta is positive
 */
export function huberLoss(input: Tensor, target: Tensor, options: HuberOptions = {}): Tensor {
  checkOptions("huberLoss", options, ["reduction", "delta", "weight"]);
  const delta = options.delta ?? 1;
  if (!(delta > 0)) {
    throw new RangeError(`Cannot huberLoss with delta ${delta}: it must be positive`);
  }
  return weightedLoss("huberLoss", options, ["delta"], input, target, (x, y) => {
    return bent(x.sub(y).abs(), delta);
  });
}

/**
 * -(y ln x + (1 - y) ln(1 - x)) for probabilities x; logarithms end at -100.
 *
 * @throws RangeError for elements outside [0, 1], or unequal shapes
 */
export function binaryCrossEntropy(
  input: Tensor,
  target: Tensor,
  options: BCEOptions = {},
): Tensor {
  return elementLoss("binaryCrossEntropy", options, ["weight"], input, target, (x, y) => {
    requireSameShape("binaryCrossEntropy", x, y);
    const loss = call(lossOps.binaryCrossEntropy, [x, y.to(x.dtype)], undefined)[0]!;
    return options.weight ? loss.mul(options.weight) : loss;
  });
}

/**
 * Binary cross entropy of sigmoid(x), finite for every finite x.
 *
 * @throws RangeError for unequal shapes
 */
export function binaryCrossEntropyWithLogits(
  input: Tensor,
  target: Tensor,
  options: BCEWithLogitsOptions = {},
): Tensor {
  const known = ["weight", "posWeight"];
  return elementLoss("binaryCrossEntropyWithLogits", options, known, input, target, (x, y) => {
    requireSameShape("binaryCrossEntropyWithLogits", x, y);
    // (1 - y) x + ln(1 + exp(-x)), whose second part a positive label weighs with posWeight.
    let softplus = x.neg().softplus(1, 40);
    if (options.posWeight) softplus = softplus.mul(options.posWeight.sub(1).mul(y).add(1));
    const loss = y.neg().add(1).mul(x).add(softplus);
    return options.weight ? loss.mul(options.weight) : loss;
  });
}

/**
 * The divergence y (ln y - x) of log probabilities x from the target, broadcast; 0 where y is 0.
 *
 * As in PyTorch, the default divides by the number of elements; `"batchmean"` is the mathematical definition.
 */
export function klDiv(input: Tensor, target: Tensor, options: KLDivOptions = {}): Tensor {
  checkOptions("klDiv", options, ["reduction", "logTarget"]);
  checkTensors("klDiv", { input, target });
  const reduction = options.reduction ?? "mean";
  checkReduction("klDiv", reduction, [...reductions, "batchmean"]);
  const known = ["logTarget"], of = reduction === "batchmean" ? "sum" : reduction;
  const { logTarget = false } = options;
  const loss = elementLoss(
    "klDiv",
    { reduction: of },
    known,
    input,
    target,
    (x, y) =>
      logTarget ? y.exp().mul(y.sub(x)) : y.mul(y.maskedFill(y.eq(0), 1).log()).sub(y.mul(x)),
  );
  return reduction === "batchmean" ? scoped(() => loss.div(input.shape[0] ?? 1)) : loss;
}
