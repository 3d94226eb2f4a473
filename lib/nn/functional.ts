// nn.functional: every module and loss as a function under PyTorch's name in camelCase.

import type { PadOptions } from "../tensor/layout.ts";
import type { Tensor } from "../tensor/mod.ts";

export * from "../functional/layers.ts";
export * from "../functional/loss.ts";
export { type AttentionOptions, scaledDotProductAttention } from "../functional/attention.ts";
export { dropout, type DropoutOptions } from "../tensor/random.ts";
export { embedding, type EmbeddingOptions, oneHot } from "../tensor/lookup.ts";

/** max(x, 0). */
export function relu(x: Tensor): Tensor {
  return x.relu();
}

/** The self-normalising activation of Klambauer et al. 2017. */
export function selu(x: Tensor): Tensor {
  return x.selu();
}

/** x sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return x.silu();
}

/** x tanh(softplus(x)). */
export function mish(x: Tensor): Tensor {
  return x.mish();
}

/** 1 / (1 + e⁻ˣ). */
export function sigmoid(x: Tensor): Tensor {
  return x.sigmoid();
}

/** tanh x. */
export function tanh(x: Tensor): Tensor {
  return x.tanh();
}

/** x > 0 ? x : slope x. */
export function leakyRelu(x: Tensor, negativeSlope = 0.01): Tensor {
  return x.leakyRelu(negativeSlope);
}

/** x > 0 ? x : alpha (eˣ - 1). */
export function elu(x: Tensor, alpha = 1): Tensor {
  return x.elu(alpha);
}

/** x Φ(x), or its tanh approximation. */
export function gelu(x: Tensor, options: { approximate?: "none" | "tanh" } = {}): Tensor {
  return x.gelu(options);
}

/** ln(1 + exp(beta x)) / beta; linear where beta x exceeds the threshold. */
export function softplus(x: Tensor, beta = 1, threshold = 20): Tensor {
  return x.softplus(beta, threshold);
}

/** exp(x) / Σ exp(x) along dim. */
export function softmax(x: Tensor, dim: number): Tensor {
  return x.softmax(dim);
}

/** x - ln Σ exp(x) along dim. */
export function logSoftmax(x: Tensor, dim: number): Tensor {
  return x.logSoftmax(dim);
}

/** x with elements added around: [left, right, top, bottom, ...] counted from the last dim, as torch's F.pad. */
export function pad(x: Tensor, padding: readonly number[], options: PadOptions = {}): Tensor {
  return x.pad(padding, options);
}
