// The switch of autocast: the hook that lib/dispatch.ts consults before it runs an op. A module of its own without
// imports at run time, so that dispatch pays one null check and nothing else. Read next: amp.ts, which has the rules.

import type { Operand } from "./backend.ts";
import type { DType } from "./dtype.ts";
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

/** Whether autocast converts tensors of `dtype`: float64, integers and bools stay what they are. */
export function isCast(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float16" || dtype === "bfloat16";
}

/** Whether tensors of two dtypes can meet in one op: the dtypes are equal, or autocast will make them so. */
export function canMeet(a: DType, b: DType): boolean {
  return a === b || (autocast !== null && isCast(a) && isCast(b));
}
