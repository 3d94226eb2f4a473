/**
 * What the tests of file formats share: asserts with types, golden files, and records as JSON.
 */

import {
  assert as stdAssert,
  assertEquals as stdEquals,
  assertRejects as stdRejects,
  assertThrows as stdThrows,
} from "@std/assert";
import type { TensorRecord } from "../lib/io/record.ts";

/** The bytes of a file. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Fails unless the condition holds. */
export const assert = stdAssert as (condition: boolean, message?: string) => void;
/** Fails unless the values are deeply equal. */
export const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
/** Fails unless the function throws this error with this text. */
export const assertThrows = stdThrows as (
  f: () => unknown,
  type: ErrorConstructor,
  text: string,
) => void;
/** Fails unless the promise is rejected by this error with this text. */
export const assertRejects = stdRejects as (
  f: () => Promise<unknown>,
  type: ErrorConstructor,
  text: string,
) => Promise<void>;

/** A file of tests/golden/io. */
export function goldenPath(name: string): URL {
  return new URL(`./golden/io/${name}`, import.meta.url);
}

/** The bytes of a file of tests/golden/io. */
export function golden(name: string): Bytes {
  return Deno.readFileSync(goldenPath(name));
}

/** All pieces in one. */
export function join(pieces: readonly Uint8Array[]): Bytes {
  const bytes = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** One byte per character. */
export function text(bytes: string): Bytes {
  return Uint8Array.from(bytes, (character) => character.charCodeAt(0));
}

/** A tensor as expected.json has it. */
export interface Described {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly hex: string;
}

/** A tensor as expected.json has it. */
export function describe({ dtype, shape, bytes }: Omit<TensorRecord, "name">): Described {
  return { dtype, shape, hex: bytes.toHex() };
}
