// What all layers' constructors share: where their parameters are made, and the checks of sizes.

import type { Device } from "../device.ts";
import type { DType } from "../dtype.ts";
import { told } from "../options.ts";

/** Where and in which dtype a layer makes its parameters. */
export interface FactoryOptions {
  /** Default: `defaultDevice()`. */
  readonly device?: Device;
  /** Default: float32. */
  readonly dtype?: DType;
}

/** The keys of FactoryOptions. */
export const factoryKeys: readonly string[] = ["device", "dtype"];

/** Throws a RangeError unless every size is a positive integer. */
export function positiveSizes(what: string, sizes: Record<string, number>): void {
  for (const [name, n] of Object.entries(sizes)) {
    if (!Number.isSafeInteger(n) || n < 1) {
      throw new RangeError(
        `Cannot make ${what} with ${name} ${told(n)}: it must be a positive integer`,
      );
    }
  }
}

/** A size for both spatial dims, or one for each. */
export type Pair = number | readonly [number, number];

/** Both values of a Pair. */
export function pair(p: Pair): readonly [number, number] {
  if (typeof p === "number") return [p, p];
  if (Array.isArray(p) && p.length === 2) return p as unknown as readonly [number, number];
  throw new TypeError(`Cannot use ${told(p)} as a size: give a number, or [height, width]`);
}

/** Sizes of the last dims given as one or as a list, checked. */
export function sizesOf(what: string, sizes: number | readonly number[]): number[] {
  const list = typeof sizes === "number" ? [sizes] : sizes;
  if (!Array.isArray(list) || list.length === 0) {
    throw new TypeError(`Cannot make ${what} over ${told(sizes)}: give one size or a list of them`);
  }
  for (const size of list) positiveSizes(what, { size });
  return [...list];
}
