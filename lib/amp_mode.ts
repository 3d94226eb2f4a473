// The switch of autocast: the hook that lib/dispatch.ts consults before it runs an op. A module of its own without
// imports at run time, so that dispatch pays one null check and nothing else; lib/amp.ts has the rules.

import type { Operand } from "./backend.ts";
import type { AnyOp } from "./ops/op.ts";

/** Runs an op: `run` on the inputs, converted to the dtypes that the op should compute in. */
export type Autocast = <I extends Operand | null, R>(
  op: AnyOp,
  inputs: readonly I[],
  run: (inputs: readonly I[]) => R,
) => R;

/** The hook of the innermost autocast region; null outside of all. */
export let autocast: Autocast | null = null;

/** Sets the hook; returns the previous one. */
export function setAutocast(hook: Autocast | null): Autocast | null {
  const before = autocast;
  autocast = hook;
  return before;
}
