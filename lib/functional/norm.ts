// Norms as functions, in PyTorch's terms. Results keep the memory order of the images.

import { call } from "../dispatch.ts";
import { noGrad } from "../autograd/mode.ts";
import { inMemoryOrder } from "./image.ts";
import { type BatchNormAttrs, normOps } from "../ops/norm.ts";
import { mayWait } from "../later.ts";
import { checkOptions, checkTensors, told } from "../options.ts";
import { same, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";

/** Options of layerNorm and groupNorm. */
export interface NormOptions {
  /** Scale: of the normalised shape, or per channel. */
  readonly weight?: Tensor | null;
  /** Shift: likewise. */
  readonly bias?: Tensor | null;
  /** Added to the variance (default 1e-5). */
  readonly eps?: number;
}

/** Options of batchNorm. */
export interface BatchNormOptions extends NormOptions {
  /** Normalise by the batch's own statistics and update the running ones (default false). */
  readonly training?: boolean;
  /** Weight of the batch in the running statistics (default 0.1). */
  readonly momentum?: number;
}

/** Options of rmsNorm. */
export interface RmsNormOptions {
  /** Scale, of the normalised shape. */
  readonly weight?: Tensor | null;
  /** Added to the mean square; null (default): the machine epsilon of the dtype. */
  readonly eps?: number | null;
}

const batchKeys = ["weight", "bias", "training", "momentum", "eps"];

/**
 * Normalises each channel (dim 1), by the batch's mean and variance when training, else by the running ones.
 * Training moves the running statistics in place towards the batch's, with the unbiased variance.
 *
 * @param x (N, C, ...)
 * @param runningMean (C), or null
 * @param runningVar (C), or null
 * @throws RangeError where sizes do not fit, or when training on one value per channel
 */
export function batchNorm(
  x: Tensor,
  runningMean: Tensor | null,
  runningVar: Tensor | null,
  options: BatchNormOptions = {},
): Tensor {
  checkOptions("batchNorm", options, batchKeys);
  return batchNormRelu(x, runningMean, runningVar, options, false);
}

/** batchNorm, with negative results set to 0 in the same pass if `relu`. */
export function batchNormRelu(
  x: Tensor,
  runningMean: Tensor | null,
  runningVar: Tensor | null,
  options: BatchNormOptions,
  relu: boolean,
): Tensor {
  checkTensors("batchNorm", { input: x });
  const { weight = null, bias = null, training = false, momentum = 0.1, eps = 1e-5 } = options;
  if (x.ndim < 2) {
    throw new RangeError(`Cannot batchNorm ${show(x.shape)}: it takes (N, C, ...)`);
  }
  if ((runningMean === null) !== (runningVar === null)) {
    throw new TypeError("Cannot batchNorm with one running statistic: give both or none");
  }
  if (!training) {
    if (runningMean === null) {
      throw new TypeError(
        "Cannot batchNorm without running statistics unless training: pass { training: true }",
      );
    }
    return inMemoryOrder(x, (rows, channelsLast) => {
      const axis = channelsLast ? rows.ndim - 1 : 1;
      const inputs = [rows, runningMean, runningVar, weight, bias];
      return call(normOps.batchNormEval, inputs, { axis, eps, relu, own: false });
    })[0]!;
  }
  const count = x.numel() / x.shape[1]!;
  if (count === 1) {
    throw new RangeError(
      `Cannot batchNorm ${
        show(x.shape)
      }: Expected more than 1 value per channel when training; use a larger batch, or eval()`,
    );
  }
  return inMemoryOrder(x, (rows, channelsLast) => {
    const axis = channelsLast ? rows.ndim - 1 : 1, attrs = { axis, eps, relu };
    const [y, mean, variance] = !relu && mayWait(rows.device, rows.dtype, rows.numel())
      ? statsThenNorm(rows, weight, bias, attrs)
      : call(normOps.batchNorm, [rows, weight, bias], attrs);
    if (runningMean !== null && count > 0) {
      noGrad(() => {
        const inputs = [runningMean, runningVar, mean!, variance!];
        call(normOps.updateRunningStats, inputs, { momentum, count });
      });
    }
    mean!.dispose();
    variance!.dispose();
    return [y!];
  })[0]!;
}

/** batchNorm in two ops: its result waits for a ReLU, which then takes no pass of its own, forward or backward. */
function statsThenNorm(
  x: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  attrs: BatchNormAttrs,
): Tensor[] {
  const [mean, variance] = call(normOps.batchNormStats, [x], attrs);
  const [y] = call(normOps.batchNormEval, [x, mean!, variance!, weight, bias], {
    ...attrs,
    own: true,
  });
  return [y!, mean!, variance!];
}

/** How many of the last dims `normalizedShape` covers. */
function lastDims(what: string, x: Tensor, normalizedShape: number | readonly number[]): number {
  checkTensors(what, { input: x });
  const shape = typeof normalizedShape === "number" ? [normalizedShape] : normalizedShape;
  if (!Array.isArray(shape)) {
    throw new TypeError(`Cannot ${what} over ${told(shape)}: give one size or a list of them`);
  }
  if (shape.length === 0 || !same(x.shape.slice(-shape.length), shape)) {
    throw new RangeError(
      `Cannot ${what} ${show(x.shape)} over ${show(shape)}: its last dims must have these sizes`,
    );
  }
  return shape.length;
}

/**
 * Normalises over the last dims by their mean and variance, then scales and shifts.
 *
 * @param x (..., normalizedShape)
 * @param normalizedShape sizes of the last dims, or one size
 * @throws RangeError where x does not end in these sizes
 */
export function layerNorm(
  x: Tensor,
  normalizedShape: number | readonly number[],
  options: NormOptions = {},
): Tensor {
  checkOptions("layerNorm", options, ["weight", "bias", "eps"]);
  const dims = lastDims("layerNorm", x, normalizedShape);
  const { weight = null, bias = null, eps = 1e-5 } = options;
  return call(normOps.layerNorm, [x, weight, bias], { dims, eps })[0]!;
}

/**
 * Divides by the root mean square over the last dims, then scales.
 *
 * @param x (..., normalizedShape)
 * @param normalizedShape sizes of the last dims, or one size
 * @throws RangeError where x does not end in these sizes
 */
export function rmsNorm(
  x: Tensor,
  normalizedShape: number | readonly number[],
  options: RmsNormOptions = {},
): Tensor {
  checkOptions("rmsNorm", options, ["weight", "eps"]);
  const dims = lastDims("rmsNorm", x, normalizedShape);
  const eps = options.eps ?? (x.dtype === "float64" ? 2 ** -52 : 2 ** -23);
  return call(normOps.rmsNorm, [x, options.weight ?? null], { dims, eps })[0]!;
}

/**
 * Normalises each sample's groups of channels by their mean and variance, then scales and shifts each channel.
 *
 * @param x (N, C, ...)
 * @param numGroups a divisor of C
 * @throws RangeError where the channels do not divide
 */
export function groupNorm(x: Tensor, numGroups: number, options: NormOptions = {}): Tensor {
  checkOptions("groupNorm", options, ["weight", "bias", "eps"]);
  checkTensors("groupNorm", { input: x });
  if (x.ndim < 2 || !Number.isSafeInteger(numGroups) || numGroups < 1) {
    throw new RangeError(
      `Cannot groupNorm ${
        show(x.shape)
      } in ${numGroups} groups: it takes (N, C, ...) and a positive integer`,
    );
  }
  const { weight = null, bias = null, eps = 1e-5 } = options;
  return inMemoryOrder(x, (rows, channelsLast) => {
    const axis = channelsLast ? rows.ndim - 1 : 1;
    return call(normOps.groupNorm, [rows, weight, bias], { axis, groups: numGroups, eps });
  })[0]!;
}
