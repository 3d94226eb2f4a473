// Random numbers: Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A draw is a pure function of (seed, offset): every device computes the same stream, in any order and on any
// number of threads. Words are numbered from 0; word k is lane k % 4 of block offset + floor(k / 4).

/** Where a draw starts: the key of the generator and its first block. */
export interface Draw {
  /** The key, 0 to 2^53. */
  readonly seed: number;
  /** The first block of four words. */
  readonly offset: number;
}

/** The high 32 bits of a product of two unsigned 32-bit integers. */
function mulHigh(a: number, b: number): number {
  const al = a & 0xffff, ah = a >>> 16, bl = b & 0xffff, bh = b >>> 16;
  const mid = ah * bl + ((al * bl) >>> 16);
  return ah * bh + (mid >>> 16) + ((al * bh + (mid & 0xffff)) >>> 16);
}

/** Ten rounds of Philox4x32 on a counter, with a key of two words; writes four words at `at`. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Uint32Array,
  at: number,
): void {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const h0 = mulHigh(0xd2511f53, c0), l0 = Math.imul(0xd2511f53, c0);
    const h1 = mulHigh(0xcd9e8d57, c2), l1 = Math.imul(0xcd9e8d57, c2);
    c0 = (h1 ^ c1 ^ k0) >>> 0;
    c1 = l1 >>> 0;
    c2 = (h0 ^ c3 ^ k1) >>> 0;
    c3 = l0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

const word = 2 ** 32;

/** The first `count` words of a draw. */
export function words(draw: Draw, count: number): Uint32Array {
  const blocks = Math.ceil(count / 4), out = new Uint32Array(4 * blocks);
  const key = [draw.seed >>> 0, Math.floor(draw.seed / word)] as const;
  for (let b = 0; b < blocks; b++) {
    const block = draw.offset + b;
    philox([block >>> 0, Math.floor(block / word), 0, 0], key, out, 4 * b);
  }
  return out.subarray(0, count);
}

/** A number in [0, 1) with 53 random bits, from two words. */
export function unit53(a: number, b: number): number {
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) * 2 ** -53;
}

// The global generator. Without manualSeed it starts from the platform's entropy, at the first draw.
let seed: number | null = null;
let offset = 0;

function currentSeed(): number {
  if (seed === null) {
    const [a, b] = crypto.getRandomValues(new Uint32Array(2));
    seed = (a! >>> 11) * word + b!;
  }
  return seed;
}

/** Takes the next `blocks` blocks of the global generator. */
export function reserve(blocks: number): Draw {
  const draw = { seed: currentSeed(), offset };
  offset += blocks;
  return draw;
}

/**
 * Starts the global generator anew: the same seed gives the same numbers on every device.
 *
 * @param n an integer from 0 to 2^53
 * @throws RangeError for anything else
 */
export function manualSeed(n: number): void {
  if (!Number.isInteger(n) || n < 0 || n > 2 ** 53) {
    throw new RangeError(`Cannot seed with ${n}: the seed must be an integer from 0 to 2^53`);
  }
  seed = n;
  offset = 0;
}

/** The state of the global generator. */
export function saveGenerator(): Draw {
  return { seed: currentSeed(), offset };
}

/** Puts the global generator back into a state. */
export function restoreGenerator(state: Draw): void {
  seed = state.seed;
  offset = state.offset;
}
