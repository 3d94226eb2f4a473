// nn.utils: gradient clipping, and parameters as one vector.

import { noGrad } from "../autograd/mode.ts";
import { call } from "../dispatch.ts";
import { type PendingCall, pendingCall } from "../later.ts";
import { gradOps, type RowAttrs } from "../ops/grads.ts";
import { indexOps, type SlotAttrs } from "../ops/index.ts";
import { scoped } from "../scope.ts";
import { checkOptions } from "../options.ts";
import { cat, stack } from "../tensor/join.ts";
import { zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";

function gradsOf(parameters: Tensor | Iterable<Tensor>): Tensor[] {
  const list = Symbol.iterator in parameters
    ? [...parameters as Iterable<Tensor>]
    : [parameters as Tensor];
  return list.map((p) => p._grad).filter((g): g is Tensor => g !== null);
}

/** A gradient that is a few rows among zeros, before anybody read it: the distinct rows. */
function mergedRows(
  g: Tensor,
): { call: PendingCall<SlotAttrs & RowAttrs>; merged: Tensor; ids: Tensor } | null {
  const pending = pendingCall(g, indexOps.indexAdd);
  if (pending === null) return null;
  const [index, src] = pending.inputs() as [Tensor, Tensor];
  const rows = src.reshape([index.numel(), src.shape.at(-1)!]);
  const { skip } = pending.attrs;
  const [merged, ids] = call(gradOps.mergeRows, [rows, index], { skip }) as [Tensor, Tensor];
  return { call: pending, merged, ids };
}

/** Options of clipGradNorm_. */
export interface ClipGradNormOptions {
  /** The p of the norm (default 2; Infinity: the largest element). */
  readonly normType?: number;
  /** Throw where the norm is NaN or infinite (default false). */
  readonly errorIfNonfinite?: boolean;
}

/**
 * Scales all gradients together so that their common norm is at most `maxNorm`.
 *
 * @returns the norm before clipping, 0-d
 */
export function clipGradNorm_(
  parameters: Tensor | Iterable<Tensor>,
  maxNorm: number,
  options: ClipGradNormOptions = {},
): Tensor {
  checkOptions("clipGradNorm_", options, ["normType", "errorIfNonfinite"]);
  const { normType = 2, errorIfNonfinite = false } = options;
  const grads = gradsOf(parameters);
  if (grads.length === 0) return zeros([]);
  return noGrad(() =>
    scoped(() => {
      const rows = grads.map(mergedRows);
      const norms = grads.map((g, i) => (rows[i]?.merged ?? g).norm(null, { p: normType }));
      const total = norms.length === 1 ? norms[0]! : stack(norms).norm(null, { p: normType });
      if (errorIfNonfinite && !Number.isFinite(total.item())) {
        throw new Error(
          `Cannot clip gradients: their norm is ${total.item()}; lower the learning rate or look for NaN with detectAnomaly`,
        );
      }
      grads.forEach((g, i) => {
        const norm = total.to(g.dtype), few = rows[i];
        call(gradOps.limitNorm, [few?.merged ?? g, norm], { maxNorm });
        few?.call.replace(0, few.ids);
        few?.call.replace(1, few.merged);
      });
      return total;
    })
  );
}

/** Limits every element of every gradient to [-clipValue, clipValue]. */
export function clipGradValue_(parameters: Tensor | Iterable<Tensor>, clipValue: number): void {
  noGrad(() => {
    for (const g of gradsOf(parameters)) g.clamp_(-clipValue, clipValue);
  });
}

/** All parameters, flattened and joined, 1-d. */
export function parametersToVector(parameters: Iterable<Tensor>): Tensor {
  return cat([...parameters].map((p) => p.reshape(-1)));
}

/** Copies consecutive parts of `vector` into the parameters. */
export function vectorToParameters(vector: Tensor, parameters: Iterable<Tensor>): void {
  const list = [...parameters];
  const needed = list.reduce((n, p) => n + p.numel(), 0);
  if (vector.ndim !== 1 || vector.numel() !== needed) {
    throw new RangeError(
      `Cannot spread a vector of shape [${
        vector.shape.join(", ")
      }] over parameters of ${needed} elements in all`,
    );
  }
  noGrad(() => {
    let at = 0;
    for (const p of list) {
      p.copy_(vector.narrow(0, at, p.numel()).reshape(p.shape));
      at += p.numel();
    }
  });
}
