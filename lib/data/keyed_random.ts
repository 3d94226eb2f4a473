/**
 * Random numbers that depend on a key alone, such as (seed, epoch, index). Whoever draws them, in
 * whatever order and in whatever worker, gets the same ones: that is what makes shuffling and
 * augmentation independent of the number of workers.
 * @module
 */

/** The 32-bit finaliser "lowbias32": every input bit changes every output bit about half the time. */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return x ^ (x >>> 16);
}

/**
 * A counter-based generator: draw number k is a hash of the key and k.
 *
 * ```ts
 * import { KeyedRandom } from "./keyed_random.ts";
 * const first = new KeyedRandom(42, 0, 7).uint32();
 * console.log(new KeyedRandom(42, 0, 7).uint32() === first); // true
 * ```
 */
export class KeyedRandom {
  readonly #a: number;
  readonly #b: number;
  #counter = 0;

  /** Takes the words of the key, in order: safe integers, of either sign. */
  constructor(...key: readonly number[]) {
    let a = 0x243f6a88;
    let b = 0x85a308d3;
    for (const word of key) {
      a = mix(a + (word | 0));
      b = mix(b ^ Math.floor(word / 0x1_0000_0000) ^ a);
      a = mix(a + b);
    }
    this.#a = a;
    this.#b = b;
  }

  /** The next whole number in [0, 2^32). */
  uint32(): number {
    const x = mix(this.#a + Math.imul(this.#counter++, 0x9e3779b9));
    return mix(x ^ this.#b) >>> 0;
  }

  /** The next number in [0, 1), a multiple of 2^-32. */
  uniform(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  /** The next whole number in [0, n), for n up to 2^32. */
  integer(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** The next number from the standard normal distribution, by the Box-Muller formula. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}

/**
 * The numbers 0 … n−1 in the order of one epoch: ascending, or shuffled as (seed, epoch) says.
 *
 * @param n How many.
 * @param shuffle Whether to shuffle (Fisher and Yates).
 */
export function epochOrder(n: number, shuffle: boolean, seed: number, epoch: number): Uint32Array {
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  if (!shuffle) return order;
  const random = new KeyedRandom(seed, epoch);
  for (let i = n - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    const other = order[j]!;
    order[j] = order[i]!;
    order[i] = other;
  }
  return order;
}
