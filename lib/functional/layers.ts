// Layers as functions: linear, convolutions, pooling, norms. Required parameters are positional, the rest stands in
// one options object under PyTorch's names in camelCase. Read next: lib/ops/conv.ts for what they compute.

import { call } from "../dispatch.ts";
import { isInt } from "../dtype.ts";
import { batched, both, type Pair } from "./image.ts";
import {
  checkConv,
  checkFloat,
  type ConvAttrs,
  convOps,
  convSize,
  type Pair as Both,
  shownImage,
} from "../ops/conv.ts";
import { matmulOps } from "../ops/matmul.ts";
import { checkOptions, checkTensors, told } from "../options.ts";
import { scoped } from "../scope.ts";
import { show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";

/** Options of linear. */
export interface LinearOptions {
  /** Added to each output: (out). */
  readonly bias?: Tensor | null;
}

/**
 * x wᵀ + bias.
 *
 * @param x (..., in)
 * @param weight (out, in), or (in) for a single output without a dim of its own
 * @returns (..., out)
 * @throws RangeError where sizes differ
 */
export function linear(x: Tensor, weight: Tensor, options: LinearOptions = {}): Tensor {
  checkOptions("linear", options, ["bias"]);
  checkTensors("linear", { input: x, weight });
  const bias = options.bias ?? null;
  if (weight.ndim === 1) {
    const y = x.matmul(weight);
    return bias === null ? y : y.add(bias);
  }
  if (isInt(x.dtype)) {
    return scoped(() => {
      const y = x.matmul(weight.transpose(0, -1));
      return bias === null ? y : y.add(bias);
    });
  }
  return call(matmulOps.linear, [x, weight, bias], {})[0]!;
}

/**
 * x1 W x2 + bias for each output's matrix W.
 *
 * @param x1 (..., in1)
 * @param x2 (..., in2)
 * @param weight (out, in1, in2)
 * @returns (..., out)
 */
export function bilinear(
  x1: Tensor,
  x2: Tensor,
  weight: Tensor,
  options: LinearOptions = {},
): Tensor {
  checkOptions("bilinear", options, ["bias"]);
  checkTensors("bilinear", { input1: x1, input2: x2, weight });
  const [out, in1, in2] = weight.shape;
  const lead = x1.shape.slice(0, -1);
  if (
    weight.ndim !== 3 || x1.shape.at(-1) !== in1 || x2.shape.at(-1) !== in2 ||
    show(lead) !== show(x2.shape.slice(0, -1))
  ) {
    throw new RangeError(
      `Cannot bilinear ${show(x1.shape)} and ${show(x2.shape)} with a weight of shape ${
        show(weight.shape)
      }: they must be (..., in1), (..., in2) and (out, in1, in2)`,
    );
  }
  return scoped(() => {
    const rows = x1.reshape([-1, in1!]), n = rows.shape[0]!;
    const left = rows.matmul(weight.permute(1, 0, 2).reshape([in1!, out! * in2!]));
    const y = left.reshape([n, out!, in2!]).matmul(x2.reshape([n, in2!, 1])).reshape([
      ...lead,
      out!,
    ]);
    return options.bias ? y.add(options.bias) : y;
  });
}

/** Options of the convolutions. */
export interface ConvOptions<P = Pair> {
  /** Added to each output channel: (K). */
  readonly bias?: Tensor | null;
  /** Step of the window (default 1). */
  readonly stride?: P;
  /** Zeros added on each side (default 0), "same" (output size = input size) or "valid" (none). */
  readonly padding?: P | "same" | "valid";
  /** Distance between the window's elements (default 1). */
  readonly dilation?: P;
  /** Independent blocks of channels (default 1). */
  readonly groups?: number;
}

/** Options of the transposed convolutions. */
export interface ConvTransposeOptions<P = Pair> {
  /** Added to each output channel. */
  readonly bias?: Tensor | null;
  /** Step of the forward convolution (default 1). */
  readonly stride?: P;
  /** Padding of the forward convolution (default 0). */
  readonly padding?: P;
  /** Extra size at the bottom and right of the output (default 0). */
  readonly outputPadding?: P;
  /** Distance between the window's elements (default 1). */
  readonly dilation?: P;
  /** Independent blocks of channels (default 1). */
  readonly groups?: number;
}

const convKeys = ["bias", "stride", "padding", "dilation", "groups"];

function groupsOf(what: string, groups = 1): number {
  if (!Number.isSafeInteger(groups) || groups < 1) {
    throw new RangeError(`Cannot ${what} with ${groups} groups: it must be a positive integer`);
  }
  return groups;
}

/**
 * Two-dimensional cross-correlation, what deep learning calls convolution.
 *
 * @param x (N, C, H, W) or (C, H, W)
 * @param weight (K, C / groups, R, S)
 * @returns (N, K, P, Q) or (K, P, Q), with P = ⌊(H + 2 padding - dilation (R - 1) - 1) / stride⌋ + 1
 * @throws RangeError where channels, groups or sizes do not fit, TypeError where dtypes differ
 */
export function conv2d(x: Tensor, weight: Tensor, options: ConvOptions = {}): Tensor {
  checkOptions("conv2d", options, convKeys);
  return convolve("conv2d", x, weight, options);
}

/** Runs `f` on integers in float64, where sums are exact up to 2⁵³; results wrap. */
function inFloat64<O extends { readonly bias?: Tensor | null }>(
  what: string,
  x: Tensor,
  weight: Tensor,
  options: O,
  f: (what: string, x: Tensor, weight: Tensor, options: O) => Tensor,
): Tensor {
  const bias = options.bias ?? null;
  if (weight.dtype !== x.dtype || (bias !== null && bias.dtype !== x.dtype)) {
    throw new TypeError(
      `Cannot ${what} a tensor of dtype ${x.dtype} with a weight of dtype ${weight.dtype}` +
        (bias === null ? "" : ` and a bias of dtype ${bias.dtype}`) + ": convert them to one dtype",
    );
  }
  return scoped(() => {
    const wide = { ...options, bias: bias === null ? null : bias.to("float64") };
    return f(what, x.to("float64"), weight.to("float64"), wide).to(x.dtype);
  });
}

function convolve(what: string, x: Tensor, weight: Tensor, options: ConvOptions): Tensor {
  checkTensors(what, { input: x, weight });
  if (isInt(x.dtype)) return inFloat64(what, x, weight, options, convolve);
  const { bias = null, padding = 0 } = options;
  const stride = both(what, "stride", options.stride ?? 1, 1);
  const dilation = both(what, "dilation", options.dilation ?? 1, 1);
  const groups = groupsOf(what, options.groups);
  const run = (t: Tensor, around: Both): Tensor => {
    const attrs: ConvAttrs = { stride, padding: around, dilation, groups };
    checkConv(what, t, weight, bias, attrs);
    return call(convOps.conv2d, [t, weight, bias], attrs)[0]!;
  };
  const onBatch = (t: Tensor): Tensor => {
    if (padding === "valid") return run(t, [0, 0]);
    if (padding !== "same") return run(t, both(what, "padding", padding, 0));
    if (stride[0] !== 1 || stride[1] !== 1) {
      throw new RangeError(
        `Cannot ${what} with padding "same" and stride ${
          show(stride)
        }: the stride must be 1; give padding as numbers`,
      );
    }
    const total = [0, 1].map((i) => dilation[i]! * ((weight.shape[i + 2] ?? 1) - 1));
    const [h, w] = total.map((n) => Math.floor(n / 2)) as [number, number];
    if (total[0] === 2 * h && total[1] === 2 * w) return run(t, [h, w]);
    // An odd total: one more zero at the bottom or right.
    return scoped(() => run(t.pad([0, total[1]! - 2 * w, 0, total[0]! - 2 * h]), [h, w]));
  };
  return batched(what, x, 4, (t) => [onBatch(t)])[0]!;
}

/** A tensor (N, C, L) as (N, C, 1, L). */
function flatImage(t: Tensor): Tensor {
  return t.reshape([t.shape[0]!, t.shape[1]!, 1, t.shape[2]!]);
}

function fromFlatImage(t: Tensor): Tensor {
  return t.reshape([t.shape[0]!, t.shape[1]!, t.shape[3]!]);
}

/** The option of one dim as that of two: the first gets `other`. */
function onLast<T>(value: number | T, other: number): Both | T {
  return typeof value === "number" ? [other, value] : value;
}

/** Throws where a number for the one spatial dim is no integer, or too small. */
function checkAlong(what: string, options: Record<string, number | string>): void {
  for (const [name, value] of Object.entries(options)) {
    if (typeof value === "string") continue;
    const least = name === "stride" || name === "dilation" ? 1 : 0;
    if (Number.isSafeInteger(value) && value >= least) continue;
    throw new RangeError(
      `Cannot ${what} with ${name} ${told(value)}: it must be an integer of at least ${least}`,
    );
  }
}

function checkWeight1d(what: string, weight: Tensor): void {
  checkTensors(what, { weight });
  if (weight.ndim === 3) return;
  throw new RangeError(
    `Cannot ${what} with a weight of shape ${show(weight.shape)}: it must have 3 dims`,
  );
}

/**
 * One-dimensional cross-correlation.
 *
 * @param x (N, C, L) or (C, L)
 * @param weight (K, C / groups, R)
 * @returns (N, K, M) or (K, M)
 */
export function conv1d(x: Tensor, weight: Tensor, options: ConvOptions<number> = {}): Tensor {
  checkOptions("conv1d", options, convKeys);
  checkWeight1d("conv1d", weight);
  const { bias = null, stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  checkAlong("conv1d", { stride, padding, dilation });
  return batched("conv1d", x, 3, (t) => [
    scoped(() =>
      fromFlatImage(
        convolve("conv1d", flatImage(t), flatImage(weight), {
          bias,
          groups,
          stride: onLast(stride, 1),
          padding: onLast(padding, 0),
          dilation: onLast(dilation, 1),
        }),
      )
    ),
  ])[0]!;
}

const transposeKeys = [...convKeys, "outputPadding"];

/**
 * Two-dimensional transposed convolution: the adjoint of conv2d in its input.
 *
 * @param x (N, C, P, Q) or (C, P, Q)
 * @param weight (C, K / groups, R, S)
 * @returns (N, K, H, W), with H = (P - 1) stride - 2 padding + dilation (R - 1) + outputPadding + 1
 * @throws RangeError where sizes do not fit
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  options: ConvTransposeOptions = {},
): Tensor {
  checkOptions("convTranspose2d", options, transposeKeys);
  return transposed("convTranspose2d", x, weight, options);
}

function transposed(
  what: string,
  x: Tensor,
  weight: Tensor,
  options: ConvTransposeOptions,
): Tensor {
  checkTensors(what, { input: x, weight });
  if (isInt(x.dtype)) return inFloat64(what, x, weight, options, transposed);
  const bias = options.bias ?? null;
  const stride = both(what, "stride", options.stride ?? 1, 1);
  const padding = both(what, "padding", options.padding ?? 0, 0);
  const extra = both(what, "outputPadding", options.outputPadding ?? 0, 0);
  const dilation = both(what, "dilation", options.dilation ?? 1, 1);
  const groups = groupsOf(what, options.groups);
  const attrs: ConvAttrs = { stride, padding, dilation, groups };
  const onBatch = (t: Tensor): Tensor => {
    checkTransposed(what, t, weight, bias, attrs, extra);
    const along = (i: 0 | 1): number =>
      (t.shape[i + 2]! - 1) * stride[i] - 2 * padding[i] +
      dilation[i] * (weight.shape[i + 2]! - 1) + extra[i] + 1;
    const size = [along(0), along(1)] as const;
    if (size[0] < 1 || size[1] < 1) {
      throw new RangeError(
        `Cannot ${what} ${shownImage(what, t.shape)} with a weight of shape ${
          shownImage(what, weight.shape)
        }: the output would be ${size[0]} by ${size[1]}; use less padding`,
      );
    }
    return scoped(() => {
      // Where a convolution of the output would have more pixels than x, the missing ones are zeros.
      const kernel = [weight.shape[2]!, weight.shape[3]!] as const;
      const [p, q] = convSize(size, kernel, attrs);
      const below = p - t.shape[2]!, right = q - t.shape[3]!;
      const g = below > 0 || right > 0 ? t.pad([0, right, 0, below]) : t;
      const y = call(convOps.conv2dInput, [g, weight], { ...attrs, size })[0]!;
      return bias === null ? y : y.add(bias.reshape([1, bias.shape[0]!, 1, 1]));
    });
  };
  return batched(what, x, 4, (t) => [onBatch(t)])[0]!;
}

function checkTransposed(
  what: string,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  { stride, dilation, groups }: ConvAttrs,
  extra: Both,
): void {
  const fail = (why: string): never => {
    throw new RangeError(
      `Cannot ${what} ${shownImage(what, x.shape)} with a weight of shape ${
        shownImage(what, weight.shape)
      }: ${why}`,
    );
  };
  checkFloat(what, x, weight, bias);
  if (weight.ndim !== 4) fail("the weight must have 4 dims");
  const [c, perGroup] = weight.shape as [number, number];
  if (x.shape[1] !== c) fail(`the input has ${x.shape[1]} channels, the weight takes ${c}`);
  if (c % groups !== 0) fail(`${c} input channels do not divide into ${groups} groups`);
  if (bias !== null && (bias.ndim !== 1 || bias.shape[0] !== perGroup * groups)) {
    fail(`the bias has shape ${show(bias.shape)} instead of [${perGroup * groups}]`);
  }
  if (extra.some((e, i) => e >= stride[i]! && e >= dilation[i]!)) {
    fail(`outputPadding ${show(extra)} must be smaller than stride or dilation`);
  }
}

/**
 * One-dimensional transposed convolution.
 *
 * @param x (N, C, M) or (C, M)
 * @param weight (C, K / groups, R)
 * @returns (N, K, L) or (K, L)
 */
export function convTranspose1d(
  x: Tensor,
  weight: Tensor,
  options: ConvTransposeOptions<number> = {},
): Tensor {
  checkOptions("convTranspose1d", options, transposeKeys);
  checkWeight1d("convTranspose1d", weight);
  const { bias = null, stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } =
    options;
  checkAlong("convTranspose1d", { stride, padding, dilation, outputPadding });
  return batched("convTranspose1d", x, 3, (t) => [
    scoped(() =>
      fromFlatImage(
        transposed("convTranspose1d", flatImage(t), flatImage(weight), {
          bias,
          groups,
          stride: [1, stride],
          padding: [0, padding],
          outputPadding: [0, outputPadding],
          dilation: [1, dilation],
        }),
      )
    ),
  ])[0]!;
}

export {
  adaptiveAvgPool2d,
  type AdaptiveSize,
  avgPool2d,
  type AvgPoolOptions,
  maxPool2d,
  type MaxPoolOptions,
} from "./pool.ts";
export {
  batchNorm,
  type BatchNormOptions,
  groupNorm,
  layerNorm,
  type NormOptions,
  rmsNorm,
  type RmsNormOptions,
} from "./norm.ts";
export type { Pair } from "./image.ts";
