// Options of optimisers as tables: name, default, and what a value must be. Filling in defaults and checking
// values read the same table, for the constructor, for groups and for loaded state dicts.

import { checkOptions } from "../options.ts";

/** What an option can be. */
export interface Rule<T> {
  /** Its default. */
  readonly fallback: T;
  /** What is wrong with a value; null: nothing. */
  readonly problem: (value: unknown) => string | null;
}

/** A number of at least 0. */
export function nonNegative(fallback: number): Rule<number> {
  return {
    fallback,
    problem: (x) =>
      typeof x === "number" && x >= 0 && x < Infinity ? null : "must be a number of at least 0",
  };
}

/** Any finite number. */
export function finite(fallback: number): Rule<number> {
  return {
    fallback,
    problem: (x) => typeof x === "number" && Number.isFinite(x) ? null : "must be a finite number",
  };
}

/** true or false. */
export function flag(fallback: boolean): Rule<boolean> {
  return { fallback, problem: (x) => typeof x === "boolean" ? null : "must be true or false" };
}

/** Two decay rates in [0, 1). */
export function rates(fallback: readonly [number, number]): Rule<readonly [number, number]> {
  const fits = (x: unknown): boolean => typeof x === "number" && x >= 0 && x < 1;
  return {
    fallback,
    problem: (x) =>
      Array.isArray(x) && x.length === 2 && x.every(fits)
        ? null
        : "must be two numbers of at least 0 and below 1",
  };
}

/** Whether `x` is an object that is neither an array nor null. */
export function isPlainObject(x: unknown): x is Record<string, unknown> {
  return typeof x === "object" && x !== null && !Array.isArray(x);
}

function text(value: unknown): string {
  return Array.isArray(value) ? `[${value.join(", ")}]` : String(value);
}

/** All options of an optimiser. */
export class OptionRules<O> {
  readonly #rules: readonly (readonly [string, Rule<unknown>])[];
  readonly #together: (options: Required<O>) => string | null;
  /** The names of the options. */
  readonly names: readonly string[];

  /**
   * A table of options.
   *
   * @param together what is wrong with options that are fine one by one
   */
  constructor(
    rules: { readonly [K in keyof O]-?: Rule<O[K]> },
    together: (options: Required<O>) => string | null = () => null,
  ) {
    this.#rules = Object.entries(rules) as [string, Rule<unknown>][];
    this.#together = together;
    this.names = this.#rules.map(([key]) => key);
  }

  /**
   * `options` checked, with values from `present` (or the defaults) where it has none.
   *
   * @throws TypeError for an unknown option, RangeError for a value that does not fit
   */
  fill(name: string, options: O, present: Readonly<Required<O>> | null): Required<O> {
    checkOptions(name, options as object, this.names);
    const given = (options ?? {}) as Record<string, unknown>;
    const filled: Record<string, unknown> = {};
    for (const [key, rule] of this.#rules) {
      const before = present === null ? rule.fallback : (present as Record<string, unknown>)[key];
      const value = given[key] === undefined ? before : given[key];
      const problem = rule.problem(value);
      if (problem !== null) {
        throw new RangeError(`Cannot use ${name} with ${key} = ${text(value)}: it ${problem}`);
      }
      filled[key] = Array.isArray(value) ? [...value] : value;
    }
    const problem = this.#together(filled as Required<O>);
    if (problem !== null) throw new RangeError(`Cannot use ${name}: ${problem}`);
    return filled as Required<O>;
  }
}
