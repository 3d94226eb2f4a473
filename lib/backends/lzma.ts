// LZMA decoding, for the embedded WebAssembly module: synchronous, which the platform's own streams are not, and a
// quarter smaller than what they can decode. After Igor Pavlov's public-domain LZMA specification; streams without
// header, with lc = 4, lp = 0, pb = 0.

const literalContextBits = 4;
const initial = 1024; // probability 1/2 in units of 1/2048
const matchStates = 7; // states from here on follow a match

/** Decodes bits whose probabilities it learns. */
class RangeDecoder {
  readonly #data: Uint8Array;
  #at = 5; // the first byte of a stream is 0, the next four start the code
  #range = 0xffffffff;
  #code = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    for (let i = 1; i < 5; i++) this.#code = (this.#code << 8 | data[i]!) >>> 0;
  }

  #normalize(): void {
    if (this.#range >= 0x1000000) return;
    this.#range = this.#range << 8 >>> 0;
    this.#code = (this.#code << 8 | this.#data[this.#at++]!) >>> 0;
  }

  bit(probabilities: Uint16Array, index: number): number {
    const p = probabilities[index]!;
    const bound = (this.#range >>> 11) * p;
    if (this.#code < bound) {
      this.#range = bound;
      probabilities[index] = p + (2048 - p >> 5);
      this.#normalize();
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    probabilities[index] = p - (p >> 5);
    this.#normalize();
    return 1;
  }

  /** Bits with equal chances. */
  direct(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) {
      this.#range = this.#range >>> 1;
      const one = this.#code >= this.#range;
      if (one) this.#code -= this.#range;
      value = value * 2 + (one ? 1 : 0);
      this.#normalize();
    }
    return value;
  }

  /** A number of `bits` bits, highest first; `at` is where its tree begins. */
  tree(probabilities: Uint16Array, at: number, bits: number): number {
    let m = 1;
    for (let i = 0; i < bits; i++) m = m << 1 | this.bit(probabilities, at + m);
    return m - (1 << bits);
  }

  /** The same, lowest first. */
  reverse(probabilities: Uint16Array, at: number, bits: number): number {
    let m = 1, value = 0;
    for (let i = 0; i < bits; i++) {
      const b = this.bit(probabilities, at + m);
      m = m << 1 | b;
      value |= b << i;
    }
    return value;
  }
}

function learning(count: number): Uint16Array {
  return new Uint16Array(count).fill(initial);
}

/** The lengths of matches. */
class LengthDecoder {
  readonly #choice = learning(2);
  readonly #low = learning(8);
  readonly #middle = learning(8);
  readonly #high = learning(256);

  decode(range: RangeDecoder): number {
    if (range.bit(this.#choice, 0) === 0) return 2 + range.tree(this.#low, 0, 3);
    if (range.bit(this.#choice, 1) === 0) return 10 + range.tree(this.#middle, 0, 3);
    return 18 + range.tree(this.#high, 0, 8);
  }
}

/** The first `size` bytes that an LZMA stream holds. */
export function unpackLzma(data: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(size), range = new RangeDecoder(data);
  const literals = learning(0x300 << literalContextBits);
  const isMatch = learning(12), isRep = learning(12), isRep0 = learning(12);
  const isRep1 = learning(12), isRep2 = learning(12), isRep0Long = learning(12);
  const slots = learning(4 * 64), positions = learning(128), aligned = learning(16);
  const lengths = new LengthDecoder(), repeatLengths = new LengthDecoder();
  let state = 0, rep0 = 0, rep1 = 0, rep2 = 0, rep3 = 0, at = 0;

  const literal = (): number => {
    const context = 0x300 * (at > 0 ? out[at - 1]! >> 8 - literalContextBits : 0);
    let symbol = 1;
    if (state >= matchStates) {
      let match = out[at - rep0 - 1]!;
      while (symbol < 0x100) {
        const expected = match >> 7 & 1;
        match <<= 1;
        const bit = range.bit(literals, context + (1 + expected << 8) + symbol);
        symbol = symbol << 1 | bit;
        if (bit !== expected) break;
      }
    }
    while (symbol < 0x100) symbol = symbol << 1 | range.bit(literals, context + symbol);
    return symbol & 0xff;
  };

  const distance = (length: number): number => {
    const slot = range.tree(slots, 64 * Math.min(length - 2, 3), 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1, base = (2 | slot & 1) * 2 ** bits;
    if (slot < 14) return base + range.reverse(positions, base - slot, bits);
    return base + range.direct(bits - 4) * 16 + range.reverse(aligned, 0, 4);
  };

  while (at < size) {
    if (range.bit(isMatch, state) === 0) {
      const byte = literal(); // it reads at
      out[at++] = byte;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    let length: number;
    if (range.bit(isRep, state) === 0) {
      rep3 = rep2, rep2 = rep1, rep1 = rep0;
      length = lengths.decode(range);
      rep0 = distance(length);
      state = state < matchStates ? 7 : 10;
    } else {
      if (range.bit(isRep0, state) === 0) {
        if (range.bit(isRep0Long, state) === 0) {
          out[at] = out[at - rep0 - 1]!;
          at++;
          state = state < matchStates ? 9 : 11;
          continue;
        }
      } else {
        let d: number;
        if (range.bit(isRep1, state) === 0) d = rep1;
        else {
          if (range.bit(isRep2, state) === 0) d = rep2;
          else d = rep3, rep3 = rep2;
          rep2 = rep1;
        }
        rep1 = rep0, rep0 = d;
      }
      length = repeatLengths.decode(range);
      state = state < matchStates ? 8 : 11;
    }
    for (const end = Math.min(at + length, size); at < end; at++) out[at] = out[at - rep0 - 1]!;
  }
  return out;
}
