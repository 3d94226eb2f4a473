// Scopes that release tensors: `tidy` for users, and the same mechanism inside the framework (backward,
// optimisers, losses), so that temporaries return to the pool at once instead of waiting for the collector.

/** What a scope can release. */
export interface Releasable {
  /** Lets go of the storage. */
  dispose(): void;
}

let current: Releasable[] | null = null;

/** Called for every new tensor: the innermost scope will release it. */
export function track(t: Releasable): void {
  if (current !== null) current.push(t);
}

/** Opens a scope; returns the token that `closeScope` needs. */
export function openScope(): Releasable[] | null {
  const outer = current;
  current = [];
  return outer;
}

/** Ends the innermost scope: releases what it made except `kept`, which passes to the enclosing scope. */
export function closeScope(outer: Releasable[] | null, kept: ReadonlySet<unknown> | null): void {
  const made = current!;
  current = outer;
  for (let i = 0; i < made.length; i++) {
    const t = made[i]!;
    if (kept !== null && kept.has(t)) {
      if (outer !== null) outer.push(t);
    } else t.dispose();
  }
}

/**
 * Ends the innermost scope: releases what it made except `kept`. Kept tensors that it made are listed in `owned`
 * (the caller owns them now); others in `kept` belong to somebody else.
 */
export function closeScopeKeeping<T extends Releasable>(
  outer: Releasable[] | null,
  kept: readonly (T | null)[],
  owned: T[],
): void {
  const made = current!;
  current = outer;
  for (let i = 0; i < made.length; i++) {
    const t = made[i] as T;
    if (kept.includes(t)) owned.push(t);
    else t.dispose();
  }
}

/** Takes `t` out of every open scope's care: somebody else owns it now. */
export function escape(t: Releasable): void {
  if (current === null) return;
  const i = current.lastIndexOf(t);
  if (i >= 0) current.splice(i, 1);
}

/** Runs `fn` outside every scope: what it makes is nobody's temporary (gradients, optimiser state). */
export function unscoped<T>(fn: () => T): T {
  const outer = current;
  current = null;
  try {
    return fn();
  } finally {
    current = outer;
  }
}

/** Collects the releasable values in nested arrays, maps and plain objects. */
function collect(value: unknown, into: Set<unknown>): void {
  if (value === null || typeof value !== "object" || into.has(value)) return;
  into.add(value);
  if (typeof (value as Partial<Releasable>).dispose === "function") return;
  const items = value instanceof Map ? value.values() : Object.values(value);
  for (const v of items) collect(v, into);
}

/** Runs `fn` and releases every tensor made in it except those it returns (also nested in arrays and objects). */
export function scoped<T>(fn: () => T): T {
  const outer = openScope();
  let kept: Set<unknown> | null = null;
  try {
    const result = fn();
    if (result instanceof Promise) {
      throw new TypeError(
        "Cannot run an async callback in tidy: its tensors would be released before it ends; " +
          "write `using _ = tidy()` in the async function instead",
      );
    }
    kept = new Set();
    collect(result, kept);
    return result;
  } finally {
    closeScope(outer, kept);
  }
}
