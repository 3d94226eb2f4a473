// tidy: releases what a callback or block made.

import { closeScope, openScope, scoped } from "../scope.ts";

/**
 * Releases every tensor made until the end of the block: `using _ = tidy()`. What the graph saved and parameters,
 * gradients and optimiser state stay.
 */
export function tidy(): Disposable;
/**
 * Runs `fn` and releases every tensor made in it, except those it returns (also nested in arrays and plain objects).
 *
 * @throws TypeError where the callback returns a promise
 */
export function tidy<T>(fn: () => T): T;
/** Both forms. */
export function tidy<T>(fn?: () => T): T | Disposable {
  if (fn !== undefined) return scoped(fn);
  const outer = openScope();
  let open = true;
  return {
    [Symbol.dispose](): void {
      if (!open) return;
      open = false;
      closeScope(outer, null);
    },
  };
}
