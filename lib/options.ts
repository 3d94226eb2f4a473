// Checking of options objects: an unknown key is an error that names it and lists what there is. And arguments that
// PyTorch takes by position as well as by name.

/**
 * Throws a TypeError where `options` has a key that is not in `known`.
 *
 * @param what the function, for the message
 */
export function checkOptions(
  what: string,
  options: object | undefined,
  known: readonly string[],
): void {
  if (options === undefined) return;
  if (options === null || typeof options !== "object") {
    throw new TypeError(`Cannot call ${what} with ${String(options)} as options: give an object`);
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      throw new TypeError(
        `Unknown option "${key}" of ${what}: it takes ${known.join(", ") || "none"}`,
      );
    }
  }
}

/** A value as messages tell it. */
function told(x: unknown): string {
  if (typeof x === "string") return JSON.stringify(x);
  if (typeof x !== "object" || x === null) return String(x);
  return Array.isArray(x) ? "a list" : `a ${x.constructor?.name ?? "record"}`;
}

/** What `argumentsOf` gives: numbers and flags. */
export type Arguments<A> = { [K in keyof A]: A[K] extends number ? number : boolean };

/**
 * Numbers given one after the other, then the rest by name in an options object: `f(2, 10)`, `f(2, { threshold: 10 })`
 * and `f({ beta: 2, threshold: 10 })` are the same.
 *
 * @param what the function, for messages
 * @param given the arguments as they came; undefined for those left out
 * @param defaults a value for every name, numbers first, in the order of positions; its kind is that of the argument
 * @throws TypeError for an argument of another kind, or a name that is not known
 */
export function argumentsOf<A extends Record<string, number | boolean>>(
  what: string,
  given: readonly unknown[],
  defaults: A,
): Arguments<A> {
  const names = Object.keys(defaults), values: Record<string, unknown> = { ...defaults };
  const set = (name: string, value: unknown): void => {
    const kind = typeof defaults[name];
    if (typeof value !== kind || value !== value) {
      throw new TypeError(
        `Cannot call ${what} with ${told(value)} as ${name}: give a ${
          kind === "number" ? "number" : "boolean"
        }`,
      );
    }
    values[name] = value;
  };
  const last = given.findLastIndex((x) => x !== undefined);
  given.forEach((x, i) => {
    if (x === undefined) return;
    const named = i === last && typeof x === "object" && x !== null && !Array.isArray(x) &&
      (x.constructor === Object || x.constructor === undefined);
    if (!named) return set(names[i]!, x);
    checkOptions(what, x, names);
    for (const [name, value] of Object.entries(x)) if (value !== undefined) set(name, value);
  });
  return values as Arguments<A>;
}
