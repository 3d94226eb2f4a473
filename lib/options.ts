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
  if (options === null || typeof options !== "object" || Array.isArray(options)) {
    throw new TypeError(`Cannot call ${what} with ${told(options)} as options: give an object`);
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
export function told(x: unknown): string {
  if (typeof x === "string") return JSON.stringify(x);
  if (typeof x === "function") return "a function";
  if (typeof x !== "object" || x === null) return String(x);
  if (Array.isArray(x)) return `[${x.slice(0, 8).map(told).join(", ")}]`;
  return `a ${x.constructor?.name ?? "record"}`;
}

/**
 * Throws a TypeError unless every value is a number (not NaN).
 *
 * @param what the function, for the message
 * @param values by the names of the arguments
 */
export function checkNumbers(what: string, values: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "number" && value === value) continue;
    throw new TypeError(`Cannot call ${what} with ${told(value)} as ${name}: give a number`);
  }
}

/** Throws a TypeError unless every value is a tensor; see `checkNumbers`. */
export function checkTensors(what: string, values: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "object" && value !== null && "_strides" in value) continue;
    throw new TypeError(`Cannot call ${what} with ${told(value)} as ${name}: give a tensor`);
  }
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
