// What a row of the op test table states. Tests run every op on every sample: all layouts, dtypes and devices.

import type { DType } from "../../lib/dtype.ts";

/** One tensor argument: random values of `shape` within `range`, or given `values`. */
export interface TensorSpec {
  readonly shape: readonly number[];
  /** Where random values lie (default [-2, 2]; integers: rounded, bools: above the middle). */
  readonly range?: readonly [number, number];
  /** Exact values in row-major order, instead of random ones. */
  readonly values?: readonly number[];
  /** A dtype that does not vary with the sample's (indices, masks). */
  readonly dtype?: DType;
  /** Points where the derivative jumps: random values keep 0.05 away from them. */
  readonly avoid?: readonly number[];
  /** Whether finite differences are taken (default: floats yes). */
  readonly grad?: boolean;
}

/** One call of a kernel op or view. */
export interface OpSample {
  /** In the order of the op's inputs; null where an optional one is left out. */
  readonly inputs: readonly (TensorSpec | null)[];
  /** The op's attributes, after dims were wrapped and defaults filled in. */
  readonly attrs?: unknown;
  /** dtypes to try (default: float32 and float64). */
  readonly dtypes?: readonly DType[];
  /** Multiplies the tolerance, with the reason beside it. */
  readonly slack?: number;
  /** Too large for finite differences: kernels against reference only. */
  readonly large?: boolean;
}

/** How an elementwise op is tried. */
export interface ElementwiseSample {
  /** Range of each operand (the last one given serves the rest). */
  readonly ranges: readonly (readonly [number, number])[];
  /** Kinks to keep away from, in every operand. */
  readonly avoid?: readonly number[];
  /** Special values that kernels must agree on, beside NaN, infinities and zeros (default: those). */
  readonly specials?: readonly number[];
  /** Multiplies the tolerance in float32: accuracy in units of the table's. */
  readonly slack?: number;
  /** Operands after the first that must be positive, or otherwise numbers only (leakyRelu's slope). */
  readonly numbers?: readonly number[];
}
