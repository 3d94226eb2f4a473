// nn.functional: every module and loss as a function under PyTorch's name in camelCase.

import { checkTensors } from "../options.ts";
import type { PadOptions } from "../tensor/layout.ts";
import type { Tensor } from "../tensor/mod.ts";

export * from "../functional/activation.ts";
export * from "../functional/layers.ts";
export * from "../functional/loss.ts";
export { type AttentionOptions, scaledDotProductAttention } from "../functional/attention.ts";
export { dropout, type DropoutOptions } from "../tensor/random.ts";
export { embedding, type EmbeddingOptions, oneHot } from "../tensor/lookup.ts";

/** x with elements added around: [left, right, top, bottom, ...] counted from the last dim, as torch's F.pad. */
export function pad(x: Tensor, padding: readonly number[], options: PadOptions = {}): Tensor {
  checkTensors("pad", { input: x });
  return x.pad(padding, options);
}
