// Storage: the memory behind tensors, counted; and the size-class pool that host memory comes from.
// A storage goes back to its pool when its last counted owner (a handle or a saved tensor) lets go; memory of
// handles that user code simply drops is found by V8: recycled through a finalizer while that is cheap, freed otherwise.

import type { Device } from "./device.ts";

/** Host memory, or a device's own kind of pointer. */
export type Memory = ArrayBuffer | object;

/** A piece of memory: `bytes` usable bytes at byte offset `base` of `memory`. */
export interface Block {
  /** What native calls take as the base pointer. */
  readonly memory: Memory;
  /** Byte offset of the first usable byte. */
  readonly base: number;
  /** Usable bytes: at least what was asked for. */
  readonly bytes: number;
}

/** Where storages of one device get their memory. */
export interface Allocator {
  /** Memory for at least `bytes` bytes, contents undefined. Throws RangeError when there is none. */
  take(bytes: number): Block;
  /** Returns a block for reuse. */
  give(block: Block): void;
  /** Learns when `storage`, which has `block`, is dropped without having been released. */
  watch(storage: Storage, block: Block): Lease | null;
  /** Ends the lease of a storage that was released by counting; its block is given back next. */
  unwatch(lease: Lease, block: Block): void;
  /** Memory that begins where `block` does; without it every block that deferred work gets begins at offset 0. */
  startOf?(block: Block): Memory;
  /** What is held. */
  counts(): MemoryCounts;
  /** How many blocks of which size wait in the pool, the largest first. */
  cachedBlocks(): CachedBlocks[];
}

/** Blocks of one size that wait in a pool. */
export interface CachedBlocks {
  /** Bytes of each. */
  readonly bytes: number;
  /** How many there are. */
  readonly count: number;
}

/** Bytes under an allocator's care. */
export interface MemoryCounts {
  /** Bytes handed out and not given back (dropped handles count until V8 collects them). */
  readonly live: number;
  /** The largest `live` so far. */
  readonly peak: number;
  /** Bytes waiting in the pool. */
  readonly cached: number;
  /** Bytes whose finalizer will recycle them. */
  readonly registered: number;
  /** Blocks that make up `live`. */
  readonly blocks: number;
  /** Blocks handed out so far. */
  readonly taken: number;
  /** Those of them that came from the pool instead of the system. */
  readonly reused: number;
}

const slabBytes = 8192; // small tensors share slabs: one survivor holds at most this much
const largestPiece = 1024;
const registerFrom = 64 * 1024;
// Watched blocks stay allocated until finalizers run, which a loop that never awaits keeps from happening.
const registerBudget = 64 * 1024 * 1024;
const cacheLimit = 1024 * 1024 * 1024;
const pageFrom = 64 * 1024;
const adviseFrom = 4 * 1024 * 1024;
const probeFrom = 4 * 1024 ** 3;
const noticeLimit = 65536; // finalizers run between turns of the event loop: a loop without one must not pile them up

/** Rounds up to a size class: powers of two split in four, so that at most a fifth is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= 64) return 64;
  const top = 2 ** Math.floor(Math.log2(bytes - 1)); // top < bytes <= 2·top
  if (top < largestPiece) return 2 * top;
  const step = top / 4;
  return Math.ceil(bytes / step) * step;
}

/**
 * The record through which a finalizer learns that a storage is gone: with a block, which goes back to the pool, or
 * with a size alone, where V8 frees the memory itself. It is over when the storage was released in time.
 */
export interface Lease {
  /** What goes back to the pool. */
  block: Block | null;
  /** Its size. */
  readonly bytes: number;
  /** Whether the storage was released in time. */
  over: boolean;
}

// Of storages beyond the limits nothing is heard again unless they are released: they do not count as live.
const unheard: Lease = { block: null, bytes: 0, over: true };

/** Pool of V8-owned ArrayBuffers in size classes; pieces up to 1 KiB are cut from shared slabs. */
export class HostPool implements Allocator {
  #free = new Map<number, Block[]>();
  #live = 0;
  #peak = 0;
  #cached = 0;
  #registered = 0;
  #blocks = 0;
  #taken = 0;
  #reused = 0;
  #notices = 0;
  #slab: ArrayBuffer | null = null;
  #slabUsed = 0;
  #advise: ((memory: ArrayBuffer) => void) | null = null;
  readonly #registry = new FinalizationRegistry<Lease>((lease) => {
    if (lease.over) return;
    if (lease.block === null) {
      this.#notices--;
      this.#blocks--;
      this.#live -= lease.bytes;
    } else {
      this.#registered -= lease.bytes;
      this.give(lease.block);
    }
  });

  take(bytes: number): Block {
    const size = sizeClass(bytes);
    this.#live += size;
    if (this.#live > this.#peak) this.#peak = this.#live;
    this.#blocks++;
    this.#taken++;
    const free = this.#free.get(size);
    if (free !== undefined && free.length > 0) {
      this.#cached -= size;
      this.#reused++;
      return free.pop()!;
    }
    if (size <= largestPiece) return this.#cut(size);
    return { memory: this.#allocate(size), base: 0, bytes: size };
  }

  give(block: Block): void {
    this.#live -= block.bytes;
    this.#blocks--;
    if (this.#cached + block.bytes > cacheLimit) return; // V8 frees it
    this.#cached += block.bytes;
    const free = this.#free.get(block.bytes);
    if (free === undefined) this.#free.set(block.bytes, [block]);
    else free.push(block);
  }

  /** Lets a finalizer recycle the block of a large storage whose handles are dropped, within the budget. */
  watch(storage: Storage, block: Block): Lease | null {
    const { bytes } = block;
    if (bytes < registerFrom) return null;
    const recycle = this.#registered + bytes <= registerBudget;
    if (recycle) this.#registered += bytes;
    else if (this.#notices < noticeLimit) this.#notices++;
    else {
      this.#live -= bytes;
      this.#blocks--;
      return unheard;
    }
    const lease = { block: recycle ? block : null, bytes, over: false };
    this.#registry.register(storage, lease);
    return lease;
  }

  unwatch(lease: Lease, block: Block): void {
    if (lease === unheard) {
      this.#live += block.bytes;
      this.#blocks++;
      return;
    }
    if (lease.block === null) this.#notices--;
    else this.#registered -= lease.bytes;
    lease.over = true;
    lease.block = null;
  }

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
    return [...this.#free].filter(([, free]) => free.length > 0)
      .map(([bytes, free]) => ({ bytes, count: free.length })).sort((a, b) => b.bytes - a.bytes);
  }

  /**
   * From now on large blocks begin at a page boundary, so that no vector straddles two cache lines. Not the default:
   * such buffers are resizable, which some APIs of browsers refuse.
   *
   * @param advise is told of new blocks of many pages before anybody touches them
   */
  alignToPages(advise: (memory: ArrayBuffer) => void): void {
    this.#advise = advise;
  }

  #cut(size: number): Block {
    if (this.#slab === null || this.#slabUsed + size > slabBytes) {
      this.#slab = new ArrayBuffer(slabBytes);
      this.#slabUsed = 0;
    }
    const base = this.#slabUsed;
    this.#slabUsed += size;
    return { memory: this.#slab, base, bytes: size };
  }

  #allocate(size: number): ArrayBuffer {
    try {
      if (this.#advise === null || size < pageFrom) return new ArrayBuffer(size);
      // V8 takes resizable buffers straight from the system, others from malloc: 16 bytes past a boundary. But malloc
      // refuses what the machine cannot have, while the system would kill the process when the pages are touched.
      if (size >= probeFrom) void new ArrayBuffer(size);
      const memory = new ArrayBuffer(size, { maxByteLength: size });
      if (size >= adviseFrom) this.#advise(memory);
      return memory;
    } catch {
      this.#free.clear(); // give back what is cached and try once more
      this.#cached = 0;
      try {
        return new ArrayBuffer(size);
      } catch {
        this.#live -= size;
        this.#blocks--;
        this.#taken--;
        throw new RangeError(
          `Cannot allocate ${size} bytes for a tensor: memory is exhausted (${this.#live} bytes in use)`,
        );
      }
    }
  }
}

/** The pool of all devices whose tensors live in host memory. */
export const hostPool: HostPool = new HostPool();

/** Work that will fill a storage: an elementwise expression that nobody has read yet (lib/lazy.ts). */
export interface Deferred {
  /** Whether somebody saved the elements: they must survive the evaluation of what is computed from them. */
  wanted: boolean;
  /** Computes the storage's elements; afterwards it is an ordinary storage. */
  run(): void;
  /** Forgets the work: nobody wants the elements any more. */
  drop(): void;
}

/**
 * The contents of a storage at one version, for deferred work that reads them: the storage itself until somebody
 * writes it in place, then a copy made just before.
 */
export class Reading {
  /** Where the contents are. */
  storage: Storage;
  /** Operands of deferred work that read them; each is also counted in `storage.refs`. */
  readers = 0;

  /** The contents of `storage` as they are now. */
  constructor(storage: Storage) {
    this.storage = storage;
  }
}

/** Counted memory shared by tensors; the version counts in-place writes. */
export class Storage {
  /** What native calls take as the base pointer. */
  memory: Memory;
  /** Byte offset of the first element. */
  readonly base: number;
  /** Usable bytes that were asked for. */
  readonly bytes: number;
  /** Counted owners: handles, saved tensors, deferred work that reads it. */
  refs = 0;
  /** Number of in-place writes so far. */
  version = 0;
  /** Number of in-place writes that changed the recorded graph: views recorded earlier are stale. */
  epoch = 0;
  readonly device: Device;
  /** The work that has to be done before the elements can be read, or null. */
  deferred: Deferred | null;
  /** Whom deferred work reads in this storage's place. */
  #reading: Reading | null = null;
  #block: Block | null = null;
  #lease: Lease | null = null;

  /** With `deferred`, memory is taken only when the work is done; then it must begin at offset 0. */
  constructor(device: Device, bytes: number, deferred: Deferred | null = null) {
    this.device = device;
    this.bytes = bytes;
    this.deferred = deferred;
    if (deferred === null) {
      const block = device.allocator.take(bytes);
      this.#block = block;
      this.memory = block.memory;
      this.base = block.base;
      this.#lease = device.allocator.watch(this, block);
    } else {
      this.memory = absent;
      this.base = 0;
    }
  }

  /** Takes the memory of deferred work; does nothing where it was taken already. */
  reserve(): void {
    if (this.#block !== null) return;
    // Smaller blocks are cut from slabs and need not begin at offset 0.
    const { allocator } = this.device;
    const block = allocator.take(Math.max(this.bytes, largestPiece + 1));
    this.#block = block;
    this.memory = allocator.startOf?.(block) ?? block.memory;
    this.#lease = allocator.watch(this, block);
  }

  /** The contents as they are now, for deferred work: it counts itself as a reader and as an owner. */
  reading(): Reading {
    return this.#reading ??= new Reading(this);
  }

  /** Must precede every write in place: does deferred work on this storage, and saves what other such work reads. */
  beginWrite(): void {
    this.deferred?.run();
    this.version++;
    const reading = this.#reading;
    if (reading === null) return;
    this.#reading = null;
    if (reading.readers === 0) return;
    const { device, bytes } = this, { backend } = device;
    const copy = new Storage(device, bytes);
    if (backend.copy !== undefined) {
      backend.copy(copy.memory, copy.base, this.memory, this.base, bytes);
    } else {
      backend.write(copy.memory, copy.base, backend.read(this.memory, this.base, bytes));
    }
    copy.refs = reading.readers;
    this.refs -= reading.readers;
    reading.storage = copy;
  }

  /** Counts one more owner. */
  retain(): void {
    this.refs++;
  }

  /** Counts one owner less; the last one gives the memory back. */
  release(): void {
    if (--this.refs > 0) return;
    if (this.refs < 0) throw new Error("A storage was released more often than it was retained");
    const { deferred } = this;
    this.deferred = null;
    deferred?.drop();
    this.memory = absent;
    if (this.#block === null) return;
    if (this.#lease !== null) this.device.allocator.unwatch(this.#lease, this.#block);
    this.#lease = null;
    this.device.allocator.give(this.#block);
  }
}

// Stands in for memory that was given back or is not there yet, so that its use fails instead of reading foreign data.
const absent: Memory = Object.freeze({});
