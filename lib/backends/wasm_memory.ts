// The linear memory of the WebAssembly module as one heap for tensors and for the kernels' scratch space. It grows
// and never shrinks, so freed ranges merge and are used again. Addresses are plain numbers, whole multiples of 64.
//
// V8 does not feel this memory and the module does not feel V8: a tensor that user code simply drops must be found by
// a finalizer. Each range of its own and each slab of small pieces is watched, not each tensor: a piece that
// returns to the pool is the same object when it is handed out again.

import {
  type Allocator,
  type Block,
  type CachedBlocks,
  type Memory,
  type MemoryCounts,
  sizeClass,
} from "../storage.ts";

const alignment = 64;
const pageBytes = 65536;
const slabBytes = 8192; // as in storage.ts: small tensors share slabs
const largestPiece = 1024;
const growth = 4 * 2 ** 20; // at least this much at a time
const cacheLimit = 512 * 2 ** 20;
// Ranges from this size on carry a buffer of their size that is never touched, so that V8 collects in time.
const feltFrom = 64 * 1024;

/** What a finalizer returns to the heap when the last piece of a range is gone. */
interface Range {
  readonly address: number;
  readonly bytes: number;
  /** Bytes of it that tensors hold, and in how many blocks. */
  live: number;
  blocks: number;
}

/** A block of the pool: a range of its own, or a piece of a slab. */
interface Piece extends Block {
  readonly range: Range;
  /** What keeps the range from being finalized: this object itself, or the slab. */
  readonly slab: object | null;
  /** Memory that V8 feels in place of the range. */
  readonly felt: ArrayBuffer | null;
}

/** A slab that small pieces are cut from; it lives as long as one of them does. */
interface Slab {
  readonly range: Range;
  used: number;
}

/** Free ranges of addresses, in order, neighbours merged. */
class FreeRanges {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** Index of the first range that begins at or behind `address`. */
  #search(address: number): number {
    let low = 0, high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The smallest range of at least `bytes`, cut to size; 0 where there is none. */
  take(bytes: number): number {
    let best = -1, size = Infinity;
    for (let i = 0; i < this.#starts.length && size > bytes; i++) {
      const room = this.#ends[i]! - this.#starts[i]!;
      if (room >= bytes && room < size) best = i, size = room;
    }
    if (best < 0) return 0;
    const address = this.#starts[best]!;
    if (size > bytes) this.#starts[best] = address + bytes;
    else {
      this.#starts.splice(best, 1);
      this.#ends.splice(best, 1);
    }
    return address;
  }

  give(address: number, bytes: number): void {
    const i = this.#search(address), end = address + bytes;
    const before = i > 0 && this.#ends[i - 1] === address, after = this.#starts[i] === end;
    if (before && after) {
      this.#ends[i - 1] = this.#ends[i]!;
      this.#starts.splice(i, 1);
      this.#ends.splice(i, 1);
    } else if (before) this.#ends[i - 1] = end;
    else if (after) this.#starts[i] = address;
    else {
      this.#starts.splice(i, 0, address);
      this.#ends.splice(i, 0, end);
    }
  }

  /** Bytes of the range that ends at `address`, 0 where none does. */
  before(address: number): number {
    const i = this.#search(address) - 1;
    return i >= 0 && this.#ends[i] === address ? address - this.#starts[i]! : 0;
  }
}

/** Bytes as text. */
function show(bytes: number): string {
  const MiB = 2 ** 20;
  return bytes < MiB ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MiB).toFixed(1)} MiB`;
}

/** The heap, and the pool of tensors in it. */
export class WasmMemory implements Allocator {
  readonly #open: () => void;
  readonly #limit: number;
  #memory: WebAssembly.Memory | null = null;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  readonly #ranges = new FreeRanges();
  /** Pieces that wait in the pool, by size. */
  readonly #free = new Map<number, Piece[]>();
  #slab: Slab | null = null;
  #live = 0;
  #peak = 0;
  #cached = 0;
  #registered = 0;
  #blocks = 0;
  #taken = 0;
  #reused = 0;
  readonly #registry = new FinalizationRegistry<Range>((range) => {
    this.#live -= range.live;
    this.#blocks -= range.blocks;
    this.#forget(range);
  });

  /**
   * @param open called at the first allocation: it calls `attach`, or throws
   * @param limit bytes that the memory may have in all
   */
  constructor(open: () => void, limit = 2 ** 32 - pageBytes) {
    this.#open = open;
    this.#limit = limit;
  }

  /** Gives the heap its memory, which is free from `heapBase` on. */
  attach(memory: WebAssembly.Memory, heapBase: number): void {
    this.#memory = memory;
    const start = Math.ceil(heapBase / alignment) * alignment, end = memory.buffer.byteLength;
    if (end > start) this.#ranges.give(start, end - start);
  }

  /** The bytes of the whole memory, as long as it does not grow. */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#bytes.length === 0 && this.#memory !== null) {
      this.#bytes = new Uint8Array(this.#memory.buffer as ArrayBuffer);
    }
    return this.#bytes;
  }

  /** A range of addresses; 0 where memory is out. */
  allocate(bytes: number): number {
    const size = Math.ceil(Math.max(bytes, 1) / alignment) * alignment;
    let address = this.#ranges.take(size);
    if (address === 0 && this.#grow(size)) address = this.#ranges.take(size);
    if (address === 0 && this.#empty()) {
      address = this.#ranges.take(size);
      if (address === 0 && this.#grow(size)) address = this.#ranges.take(size);
    }
    return address;
  }

  /** Returns what `allocate` gave for `bytes`. */
  release(address: number, bytes: number): void {
    this.#ranges.give(address, Math.ceil(Math.max(bytes, 1) / alignment) * alignment);
  }

  take(bytes: number): Block {
    const size = sizeClass(bytes);
    const waiting = this.#free.get(size);
    let piece: Piece;
    if (waiting !== undefined && waiting.length > 0) {
      this.#cached -= size;
      this.#reused++;
      piece = waiting.pop()!;
    } else piece = size <= largestPiece ? this.#cut(size) : this.#make(size);
    piece.range.live += size;
    piece.range.blocks++;
    this.#live += size;
    this.#blocks++;
    this.#taken++;
    if (this.#live > this.#peak) this.#peak = this.#live;
    return piece;
  }

  give(block: Block): void {
    const piece = block as Piece, { bytes } = piece;
    piece.range.live -= bytes;
    piece.range.blocks--;
    this.#live -= bytes;
    this.#blocks--;
    if (piece.slab === null && this.#cached + bytes > cacheLimit) {
      this.#registry.unregister(piece);
      this.#forget(piece.range);
      return;
    }
    this.#cached += bytes;
    const waiting = this.#free.get(bytes);
    if (waiting === undefined) this.#free.set(bytes, [piece]);
    else waiting.push(piece);
  }

  watch(): null {
    return null;
  }

  unwatch(): void {}

  counts(): MemoryCounts {
    return {
      live: this.#live,
      peak: this.#peak,
      cached: this.#cached,
      registered: this.#registered,
      blocks: this.#blocks,
      taken: this.#taken,
      reused: this.#reused,
    };
  }

  cachedBlocks(): CachedBlocks[] {
    return [...this.#free].filter(([, pieces]) => pieces.length > 0)
      .map(([bytes, pieces]) => ({ bytes, count: pieces.length })).sort((a, b) =>
        b.bytes - a.bytes
      );
  }

  /** A range that is watched through `owner`. */
  #reserve(bytes: number): Range {
    if (this.#memory === null) this.#open();
    const address = this.allocate(bytes);
    if (address === 0) throw new RangeError(this.#exhausted(bytes));
    this.#registered += bytes;
    return { address, bytes, live: 0, blocks: 0 };
  }

  #make(size: number): Piece {
    const range = this.#reserve(size);
    const felt = size < feltFrom ? null : untouched(size);
    const piece: Piece = {
      memory: pointer(range.address),
      base: 0,
      bytes: size,
      range,
      slab: null,
      felt,
    };
    this.#registry.register(piece, range, piece);
    return piece;
  }

  #cut(size: number): Piece {
    let slab = this.#slab;
    if (slab === null || slab.used + size > slabBytes) {
      slab = this.#slab = { range: this.#reserve(slabBytes), used: 0 };
      this.#registry.register(slab, slab.range);
    }
    const { range } = slab;
    const memory = pointer(range.address + slab.used);
    slab.used += size;
    return { memory, base: 0, bytes: size, range, slab, felt: null };
  }

  #forget(range: Range): void {
    this.#registered -= range.bytes;
    this.release(range.address, range.bytes);
  }

  /** Returns what waits in the pool to the heap; whether there was anything. */
  #empty(): boolean {
    let some = false;
    for (const [size, pieces] of this.#free) {
      if (size <= largestPiece) continue;
      for (const piece of pieces) {
        this.#registry.unregister(piece);
        this.#forget(piece.range);
        some = true;
      }
      this.#cached -= size * pieces.length;
      this.#free.delete(size);
    }
    return some;
  }

  /** Makes room for `bytes` at the end of the memory. */
  #grow(bytes: number): boolean {
    const memory = this.#memory!;
    const end = memory.buffer.byteLength;
    const missing = bytes - this.#ranges.before(end);
    for (const want of [Math.max(missing, growth), missing]) {
      const pages = Math.ceil(want / pageBytes);
      if (end + pages * pageBytes > this.#limit) continue;
      try {
        memory.grow(pages);
      } catch {
        continue; // the engine's own limit
      }
      this.#bytes = new Uint8Array(0);
      this.#ranges.give(end, pages * pageBytes);
      return true;
    }
    return false;
  }

  #exhausted(bytes: number): string {
    return `Cannot allocate ${show(bytes)} on wasm: its memory can hold ${
      show(this.#limit)
    }, of which tensors hold ${
      show(this.#live)
    }; release tensors with dispose(), using or tidy() (dropped ones come back only when the event loop turns), ` +
      `or use a smaller batch`;
  }
}

/** An address in the place of a base pointer: the kernels take it as it is. */
function pointer(address: number): Memory {
  return address as unknown as Memory;
}

/** A buffer of `bytes` that takes address space alone until somebody touches it, which nobody does. */
function untouched(bytes: number): ArrayBuffer | null {
  try {
    return new ArrayBuffer(bytes, { maxByteLength: bytes });
  } catch {
    return null;
  }
}
