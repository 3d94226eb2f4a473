// What all layers' constructors share: where their parameters are made, and the checks of sizes.

import type { Device } from "../device.ts";
import type { DType } from "../dtype.ts";

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
      throw new RangeError(`Cannot make ${what} with ${name} ${n}: it must be a positive integer`);
    }
  }
}

/** A size for both spatial dims, or one for each. */
export type Pair = number | readonly [number, number];

/** Both values of a Pair. */
export function pair(p: Pair): readonly [number, number] {
  return typeof p === "number" ? [p, p] : p;
}
