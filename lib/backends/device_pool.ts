// The caching allocator of devices with memory of their own: segments asked from the device are cut into blocks;
// freed blocks merge with their neighbours and are handed out again, best fit first. All work of a device runs in
// one stream, so a block can be reused at once: whatever still reads it was started earlier.

import type {
  Allocator,
  Block,
  CachedBlocks,
  Lease,
  Memory,
  MemoryCounts,
  Storage,
} from "../storage.ts";

/** Where segments come from. */
export interface MemorySource {
  /** Memory for `bytes` bytes, or null when there is none. */
  take(bytes: number): object | null;
  /** Frees what `take` gave. */
  give(memory: object): void;
  /** All bytes that the device has. */
  total(): number;
  /** The memory that begins `offset` bytes into `memory`. */
  at(memory: object, offset: number): object;
}

const unit = 512; // blocks are multiples, aligned accordingly
const MiB = 2 ** 20;
const largestSmall = MiB; // small blocks share segments, so that they cannot break up large ones
const smallSegment = 2 * MiB;
const mediumSegment = 20 * MiB; // for blocks below
const largestMedium = 10 * MiB;
const largeUnit = 2 * MiB;

/** A run of bytes in a segment, used or free. */
interface Piece extends Block {
  bytes: number;
  free: boolean;
  readonly small: boolean;
  previous: Piece | null;
  next: Piece | null;
  /** Its place among the free pieces of its size. */
  slot: number;
}

/** Free pieces by size. */
class FreeList {
  /** Sizes that have pieces, ascending. */
  readonly #sizes: number[] = [];
  readonly #bySize = new Map<number, Piece[]>();

  /** Index of the first size that is at least `bytes`. */
  #search(bytes: number): number {
    let low = 0, high = this.#sizes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sizes[middle]! < bytes) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  add(piece: Piece): void {
    let same = this.#bySize.get(piece.bytes);
    if (same === undefined) this.#bySize.set(piece.bytes, same = []);
    if (same.length === 0) this.#sizes.splice(this.#search(piece.bytes), 0, piece.bytes);
    piece.slot = same.push(piece) - 1;
  }

  remove(piece: Piece): void {
    const same = this.#bySize.get(piece.bytes)!;
    const last = same.pop()!;
    if (last !== piece) {
      same[piece.slot] = last;
      last.slot = piece.slot;
    }
    if (same.length === 0) this.#sizes.splice(this.#search(piece.bytes), 1);
  }

  /** The smallest piece of at least `bytes`, taken out; null where there is none. */
  fit(bytes: number): Piece | null {
    const size = this.#sizes[this.#search(bytes)];
    if (size === undefined) return null;
    const piece = this.#bySize.get(size)!.at(-1)!;
    this.remove(piece);
    return piece;
  }

  *[Symbol.iterator](): Generator<Piece> {
    for (const size of [...this.#sizes]) yield* [...this.#bySize.get(size)!];
  }
}

/** Bytes as text. */
function show(bytes: number): string {
  return bytes >= 2 ** 30
    ? `${(bytes / 2 ** 30).toFixed(2)} GiB`
    : `${(bytes / MiB).toFixed(bytes < MiB ? 3 : 1)} MiB`;
}

/** What `process.getBuiltinModule` and `--expose-gc` may provide. */
interface Collectors {
  readonly gc?: (options?: { type: "minor" }) => void;
  readonly process?: { getBuiltinModule?: (name: string) => unknown };
}

/** Asks V8 to find dropped storages; it does not feel their memory. Finalizers follow when the event loop turns. */
function collectGarbage(): void {
  const { gc, process } = globalThis as unknown as Collectors;
  if (gc !== undefined) return gc({ type: "minor" });
  const v8 = process?.getBuiltinModule?.("node:v8") as
    | { setFlagsFromString(flag: string): void }
    | undefined;
  const vm = process?.getBuiltinModule?.("node:vm") as
    | { runInNewContext(code: string): () => void }
    | undefined;
  if (v8 === undefined || vm === undefined) return;
  v8.setFlagsFromString("--expose-gc");
  vm.runInNewContext("gc")();
}

/** The memory of one device. */
export class DevicePool implements Allocator {
  readonly #name: string;
  readonly #source: () => MemorySource;
  readonly #small = new FreeList();
  readonly #large = new FreeList();
  readonly #used = new Set<Piece>();
  #live = 0;
  #peak = 0;
  #cached = 0;
  #registered = 0;
  #taken = 0;
  #reused = 0;
  #sinceCollection = 0;
  readonly #registry = new FinalizationRegistry<Lease>((lease) => {
    if (lease.over) return;
    this.#registered -= lease.bytes;
    this.give(lease.block!);
  });

  /**
   * @param name of the device, for messages
   * @param source opened at the first allocation
   */
  constructor(name: string, source: () => MemorySource) {
    this.#name = name;
    this.#source = source;
  }

  take(bytes: number): Block {
    const size = Math.max(Math.ceil(bytes / unit), 1) * unit;
    const small = size <= largestSmall, list = small ? this.#small : this.#large;
    const found = list.fit(size), piece = found ?? this.#grow(size, small);
    if (found !== null) this.#reused++;
    this.#taken++;
    piece.free = false;
    this.#cached -= piece.bytes;
    const rest = piece.bytes - size;
    if (small ? rest >= unit : rest > largestSmall) this.#split(piece, size, list);
    this.#used.add(piece);
    this.#live += piece.bytes;
    if (this.#live > this.#peak) this.#peak = this.#live;
    return piece;
  }

  startOf({ memory, base }: Block): Memory {
    return base === 0 ? memory : this.#source().at(memory, base);
  }

  give(block: Block): void {
    let piece = block as Piece;
    this.#used.delete(piece);
    this.#live -= piece.bytes;
    this.#cached += piece.bytes;
    const list = piece.small ? this.#small : this.#large;
    const { previous, next } = piece;
    if (next?.free) {
      list.remove(next);
      this.#join(piece, next);
    }
    if (previous?.free) {
      list.remove(previous);
      this.#join(previous, piece);
      piece = previous;
    }
    piece.free = true;
    list.add(piece);
  }

  watch(storage: Storage, block: Block): Lease {
    const lease = { block, bytes: block.bytes, over: false };
    this.#registered += block.bytes;
    this.#registry.register(storage, lease);
    return lease;
  }

  unwatch(lease: Lease): void {
    this.#registered -= lease.bytes;
    lease.over = true;
    lease.block = null;
  }

  counts(): MemoryCounts {
    return {
      live: this.#live,
      peak: this.#peak,
      cached: this.#cached,
      registered: this.#registered,
      blocks: this.#used.size,
      taken: this.#taken,
      reused: this.#reused,
    };
  }

  cachedBlocks(): CachedBlocks[] {
    const counts = new Map<number, number>();
    for (const list of [this.#small, this.#large]) {
      for (const { bytes } of list) counts.set(bytes, (counts.get(bytes) ?? 0) + 1);
    }
    return [...counts].map(([bytes, count]) => ({ bytes, count }))
      .sort((a, b) => b.bytes - a.bytes);
  }

  /** Gives segments without a used block back to the device; whether there was one. */
  releaseCached(): boolean {
    let some = false;
    for (const list of [this.#small, this.#large]) {
      for (const piece of list) {
        if (piece.previous !== null || piece.next !== null) continue;
        list.remove(piece);
        this.#cached -= piece.bytes;
        this.#source().give(piece.memory);
        some = true;
      }
    }
    return some;
  }

  /** A free block that fills a new segment. */
  #grow(size: number, small: boolean): Piece {
    const source = this.#source();
    const bytes = small
      ? smallSegment
      : size < largestMedium
      ? mediumSegment
      : Math.ceil(size / largeUnit) * largeUnit;
    if (this.#sinceCollection > Math.max(256 * MiB, source.total() / 8)) {
      this.#sinceCollection = 0;
      collectGarbage();
    }
    this.#sinceCollection += bytes;
    let memory = source.take(bytes);
    if (memory === null && this.releaseCached()) memory = source.take(bytes);
    if (memory === null) {
      collectGarbage(); // what it finds comes back when the event loop turns
      throw new RangeError(this.#exhausted(size, source.total()));
    }
    this.#cached += bytes;
    return { memory, base: 0, bytes, free: true, small, previous: null, next: null, slot: -1 };
  }

  #split(piece: Piece, size: number, list: FreeList): void {
    const { memory, base, bytes, small, next } = piece;
    const rest: Piece = {
      memory,
      base: base + size,
      bytes: bytes - size,
      free: true,
      small,
      previous: piece,
      next,
      slot: -1,
    };
    if (next !== null) next.previous = rest;
    piece.next = rest;
    piece.bytes = size;
    this.#cached += rest.bytes;
    list.add(rest);
  }

  #join(piece: Piece, next: Piece): void {
    piece.bytes += next.bytes;
    piece.next = next.next;
    if (next.next !== null) next.next.previous = piece;
  }

  #exhausted(bytes: number, total: number): string {
    const sizes = new Map<number, number>();
    for (const piece of this.#used) sizes.set(piece.bytes, (sizes.get(piece.bytes) ?? 0) + 1);
    const largest = [...sizes].sort(([a], [b]) => b - a).slice(0, 5)
      .map(([size, count]) => `${count} of ${show(size)}`);
    return `Cannot allocate ${show(bytes)} on ${this.#name}: of ${show(total)}, ${
      show(this.#live)
    } are held by ${this.#used.size} storages${
      largest.length > 0 ? ` (the largest: ${largest.join(", ")})` : ""
    } and ${
      show(this.#cached)
    } are cached in pieces that are too small; release tensors with dispose(), using or tidy() ` +
      `(dropped ones come back only when the event loop turns), or use a smaller batch`;
  }
}
