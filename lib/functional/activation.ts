// Activations as functions. Those that PyTorch can run in place take { inplace: true }: x itself is written then.

import { inPlace } from "../dispatch.ts";
import { elementwiseOps as ops } from "../ops/elementwise.ts";
import type { ElementwiseOp } from "../ops/op.ts";
import { argumentsOf, checkTensors } from "../options.ts";
import type { DTypeOptions } from "../tensor/reduce.ts";
import type { Tensor } from "../tensor/mod.ts";

/** What activations of one parameter or none take. */
export interface InplaceOptions {
  /** Write the result into x and give x back (default false). */
  readonly inplace?: boolean;
}

/** Options of `leakyRelu`. */
export interface LeakyReluOptions extends InplaceOptions {
  /** The slope for negative x (default 0.01). */
  readonly negativeSlope?: number;
}

/** Options of `elu`. */
export interface EluOptions extends InplaceOptions {
  /** Minus the limit for large negative x (default 1). */
  readonly alpha?: number;
}

/** Options of `softplus`. */
export interface SoftplusOptions {
  /** Sharpness (default 1). */
  readonly beta?: number;
  /** The beta x from which on the function is linear (default 20). */
  readonly threshold?: number;
}

/** Options of `gelu`. */
export interface GeluOptions {
  /** "none" (default) or "tanh". */
  readonly approximate?: "none" | "tanh";
}

/** Options of `softmax` and `logSoftmax`. */
export interface SoftmaxOptions extends DTypeOptions {
  /** The dim along which the exponentials sum to 1. */
  readonly dim?: number | null;
}

/** f(x), written into x where the options say so. */
function activated(
  what: string,
  op: ElementwiseOp,
  x: Tensor,
  options: InplaceOptions,
  f: () => Tensor,
): Tensor {
  checkTensors(what, { input: x });
  return argumentsOf(what, [options], { inplace: false }).inplace ? inPlace(op, x, 0, 0) : f();
}

/** max(x, 0). */
export function relu(x: Tensor, options: InplaceOptions = {}): Tensor {
  return activated("relu", ops.relu, x, options, () => x.relu());
}

/** The self-normalising activation of Klambauer et al. 2017. */
export function selu(x: Tensor, options: InplaceOptions = {}): Tensor {
  return activated("selu", ops.selu, x, options, () => x.selu());
}

/** x sigmoid(x). */
export function silu(x: Tensor, options: InplaceOptions = {}): Tensor {
  return activated("silu", ops.silu, x, options, () => x.silu());
}

/** x tanh(softplus(x)). */
export function mish(x: Tensor, options: InplaceOptions = {}): Tensor {
  return activated("mish", ops.mish, x, options, () => x.mish());
}

/** 1 / (1 + e⁻ˣ). */
export function sigmoid(x: Tensor): Tensor {
  checkTensors("sigmoid", { input: x });
  return x.sigmoid();
}

/** tanh x. */
export function tanh(x: Tensor): Tensor {
  checkTensors("tanh", { input: x });
  return x.tanh();
}

/** x > 0 ? x : slope x (`leakyRelu(x, 0.2)` or `leakyRelu(x, { negativeSlope: 0.2 })`). */
export function leakyRelu(
  x: Tensor,
  negativeSlope: number | LeakyReluOptions = 0.01,
  options?: InplaceOptions,
): Tensor {
  checkTensors("leakyRelu", { input: x });
  const known = { negativeSlope: 0.01, inplace: false };
  const a = argumentsOf("leakyRelu", [negativeSlope, options], known);
  return a.inplace ? inPlace(ops.leakyRelu, x, a.negativeSlope, 0) : x.leakyRelu(a.negativeSlope);
}

/** x > 0 ? x : alpha (eˣ - 1) (`elu(x, 0.5)` or `elu(x, { alpha: 0.5 })`). */
export function elu(
  x: Tensor,
  alpha: number | EluOptions = 1,
  options?: InplaceOptions,
): Tensor {
  checkTensors("elu", { input: x });
  const a = argumentsOf("elu", [alpha, options], { alpha: 1, inplace: false });
  return a.inplace ? inPlace(ops.elu, x, a.alpha, 0) : x.elu(a.alpha);
}

/** x Φ(x), or its tanh approximation. */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkTensors("gelu", { input: x });
  return x.gelu(options);
}

/** ln(1 + exp(beta x)) / beta; linear where beta x exceeds the threshold. The two by position or by name. */
export function softplus(
  x: Tensor,
  beta: number | SoftplusOptions = 1,
  threshold?: number | Pick<SoftplusOptions, "threshold">,
): Tensor {
  checkTensors("softplus", { input: x });
  return x.softplus(beta, threshold);
}

/** The dim that PyTorch takes where none is given. */
function implicitDim(ndim: number): number {
  return ndim === 0 || ndim === 1 || ndim === 3 ? 0 : 1;
}

function dimAndDType(
  what: string,
  x: Tensor,
  dim: number | null | SoftmaxOptions | undefined,
  options: DTypeOptions | undefined,
): [number, DTypeOptions] {
  checkTensors(what, { input: x });
  if (typeof dim !== "object" || dim === null) {
    return [dim ?? implicitDim(x.ndim), options ?? {}];
  }
  const { dim: d, ...rest } = dim;
  return [d ?? implicitDim(x.ndim), { ...rest, ...options }];
}

/** exp(x) / Σ exp(x) along dim; without one along PyTorch's implicit dim: 0 of 0, 1 or 3 dims, else 1. */
export function softmax(
  x: Tensor,
  dim?: number | null | SoftmaxOptions,
  options?: DTypeOptions,
): Tensor {
  const [along, rest] = dimAndDType("softmax", x, dim, options);
  return x.softmax(along, rest);
}

/** x - ln Σ exp(x) along dim; without one along PyTorch's implicit dim: 0 of 0, 1 or 3 dims, else 1. */
export function logSoftmax(
  x: Tensor,
  dim?: number | null | SoftmaxOptions,
  options?: DTypeOptions,
): Tensor {
  const [along, rest] = dimAndDType("logSoftmax", x, dim, options);
  return x.logSoftmax(along, rest);
}
