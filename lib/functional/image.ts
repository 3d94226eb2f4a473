// What functions on images share: pairs of options, batches of one, and channels-last memory without copies.

import type { Pair as Both } from "../ops/conv.ts";
import { checkTensors, told } from "../options.ts";
import { scoped } from "../scope.ts";
import { isChannelsLast, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";

/** One number for both spatial dims, or [height, width]. */
export type Pair = number | readonly [number, number];

/** Both values of a pair of integers, each at least `least`. */
export function both(what: string, name: string, value: Pair, least: number): Both {
  const pair = typeof value === "number" ? [value, value] as const : value;
  if (
    !Array.isArray(pair) || pair.length !== 2 ||
    pair.some((v) => !Number.isSafeInteger(v) || v < least)
  ) {
    throw new RangeError(
      `Cannot ${what} with ${name} ${
        told(value)
      }: it must be an integer of at least ${least}, or two of them`,
    );
  }
  return pair;
}

/** Runs `f` on tensors with a batch dim; without one (`ndim` - 1 dims), adds and removes it. */
export function batched(
  what: string,
  x: Tensor,
  ndim: number,
  f: (x: Tensor) => Tensor[],
): Tensor[] {
  checkTensors(what, { input: x });
  if (x.ndim === ndim) return f(x);
  if (x.ndim !== ndim - 1) {
    throw new RangeError(`Cannot ${what} ${show(x.shape)}: it takes ${ndim - 1} or ${ndim} dims`);
  }
  return scoped(() => f(x.reshape([1, ...x.shape])).map((y) => y.reshape(y.shape.slice(1))));
}

/**
 * Runs `f` on `x` (N, C, ...) with its channels where they lie in memory: as they are, or, for a channels-last tensor,
 * as the row-major (N, ..., C). Results come back as (N, C, ...) in the same memory order.
 */
export function inMemoryOrder(
  x: Tensor,
  f: (x: Tensor, channelsLast: boolean) => Tensor[],
): Tensor[] {
  if (x._layout !== 1 || !isChannelsLast(x.shape, x._strides)) return f(x, false);
  const spatial = x.shape.slice(2).map((_, i) => i + 2);
  const rows = x.permute([0, ...spatial, 1]);
  const results = f(rows, true);
  rows.dispose();
  return results.map((y) => {
    const out = y.permute([0, y.ndim - 1, ...spatial.map((i) => i - 1)]);
    // Nobody else sees y: its memory order is the library's choice, which users must not notice.
    out._view = null;
    y.dispose();
    return out;
  });
}
