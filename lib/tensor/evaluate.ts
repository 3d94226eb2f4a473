// evaluate: the end of pending work, for programs that measure time or hand memory to others.

import type { Tensor } from "./mod.ts";

/**
 * Returns when the elements of `tensors` are computed and in memory: work that a device still has to do for them is
 * done now, and errors of it are thrown here. Programs need it only to measure time; reading elements waits by itself.
 *
 * @throws Error where a tensor was disposed
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const a = ndl.randn([256, 256]), b = ndl.randn([256, 256]);
 * const start = performance.now();
 * const c = a.matmul(b);
 * ndl.evaluate(c);
 * console.log(`${(performance.now() - start).toFixed(2)} ms`);
 * ```
 */
export function evaluate(...tensors: readonly Tensor[]): void {
  for (let i = 0; i < tensors.length; i++) void tensors[i]!._memory;
  for (let i = 0; i < tensors.length; i++) tensors[i]!.device.backend.synchronize();
}
