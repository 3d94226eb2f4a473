// NVIDIA GPUs: the native wrappers of native.ts over device pointers, the memory of each GPU, and the reasons why
// there may be none. The emulation that tests use is the same library compiled for the CPU.

import type { Backend } from "../backend.ts";
import type { Allocator } from "../storage.ts";
import { env } from "../env.ts";
import { DevicePool, type MemorySource } from "./device_pool.ts";
import { lastError, locate, open } from "./loader.ts";
import { NativeLibrary } from "./native.ts";

/** The CUDA library, or its emulation. */
export type CudaLibrary = "cuda" | "cudaemu";

// What csrc/cuda/runtime.cu exports beside the ops.
const definitions = {
  needle_device_count: { parameters: [], result: "i32" },
  needle_device_select: { parameters: ["i32"], result: "i32" },
  needle_device_take: { parameters: ["f64"], result: "pointer" },
  needle_device_give: { parameters: ["pointer"], result: "i32" },
  needle_device_memory: { parameters: ["buffer"], result: "i32" },
  needle_device_read: { parameters: ["pointer", "f64", "buffer", "f64"], result: "i32" },
  needle_device_write: { parameters: ["pointer", "f64", "buffer", "f64"], result: "i32" },
  needle_device_copy: {
    parameters: ["pointer", "f64", "pointer", "f64", "f64"],
    result: "i32",
  },
  needle_device_synchronize: { parameters: [], result: "i32" },
  needle_device_libraries: { parameters: ["buffer", "f64"], result: "i32" },
} as const;

/** A loaded library: its functions, and which GPU they are about now. */
interface Runtime {
  readonly path: string;
  readonly symbols: Deno.DynamicLibrary<typeof definitions>["symbols"];
  current: number;
}

const runtimes = new Map<string, Runtime>();

function runtimeAt(path: string): Runtime {
  let runtime = runtimes.get(path);
  if (runtime === undefined) {
    runtime = { path, symbols: open(path, definitions), current: -1 };
    runtimes.set(path, runtime);
  }
  return runtime;
}

/** The folders in which the python on PATH has the libraries of NVIDIA's wheels; none where it may not be run. */
function pipFolders(): string[] {
  try {
    if (Deno.permissions.querySync({ name: "run", command: "python3" }).state !== "granted") {
      return [];
    }
    const program = "import glob, sysconfig\n" +
      "for f in sorted(glob.glob(sysconfig.get_path('purelib') + '/nvidia/*/lib'), reverse=True): print(f)";
    const { success, stdout } = new Deno.Command("python3", {
      args: ["-c", program],
      stderr: "null",
    }).outputSync();
    return success ? new TextDecoder().decode(stdout).split("\n").filter((f) => f !== "") : [];
  } catch {
    return []; // no python
  }
}

/** Says where cuBLAS and cuDNN may be; the emulation looks nowhere unless told. */
function allowLibraries(runtime: Runtime, library: CudaLibrary): void {
  const own = env("NEEDLE_CUDA_LIBRARIES") ?? [];
  if (own[0] === "off" || (library === "cudaemu" && own.length === 0)) return;
  const folders = library === "cudaemu" ? own : [...own, ...pipFolders()];
  const text = new TextEncoder().encode(folders.join("\n"));
  runtime.symbols.needle_device_libraries(text, text.length);
}

// Of the statuses in csrc/common.h: what a kernel found to be wrong with its operands.
const invalid = 2;

/** Throws where a call on the device failed; `what` completes "Cannot ...". */
function check(runtime: Runtime, status: number, what: string): void {
  if (status === 0) return;
  const text = `Cannot ${what}: ${lastError(runtime.path)}`;
  throw status === invalid ? new RangeError(text) : new Error(text);
}

class CudaBackend extends NativeLibrary implements MemorySource {
  readonly #runtime: Runtime;
  readonly #index: number;
  readonly #pool: DevicePool;

  constructor(name: string, runtime: Runtime, index: number, pool: DevicePool) {
    super(name, runtime.path, false);
    this.#runtime = runtime;
    this.#index = index;
    this.#pool = pool;
  }

  /** Makes this GPU the one that calls are about. */
  select(): void {
    if (this.#runtime.current === this.#index) return;
    this.#runtime.current = -1;
    check(this.#runtime, this.#runtime.symbols.needle_device_select(this.#index), "use the GPU");
    this.#runtime.current = this.#index;
  }

  /** Empties the cache for a kernel that found no scratch memory; whether that gave any. */
  reclaim(): boolean {
    return this.#pool.releaseCached();
  }

  protected override statement(call: string): string {
    return `library.select();
        let status = ${call};
        if (status === 1 && library.reclaim()) status = ${call};`;
  }

  override read(memory: object, byteOffset: number, bytes: number): Uint8Array {
    this.select();
    const data = new Uint8Array(bytes);
    const { needle_device_read } = this.#runtime.symbols;
    const status = needle_device_read(memory as Deno.PointerObject, byteOffset, data, bytes);
    check(this.#runtime, status, `read ${bytes} bytes from ${this.name}`);
    return data;
  }

  override write(memory: object, byteOffset: number, data: Uint8Array): void {
    this.select();
    const bytes = data as Uint8Array<ArrayBuffer>;
    const { needle_device_write } = this.#runtime.symbols;
    const status = needle_device_write(
      memory as Deno.PointerObject,
      byteOffset,
      bytes,
      bytes.length,
    );
    check(this.#runtime, status, `write ${bytes.length} bytes to ${this.name}`);
  }

  copy(to: object, toOffset: number, from: object, fromOffset: number, bytes: number): void {
    this.select();
    const [target, source] = [to, from] as [Deno.PointerObject, Deno.PointerObject];
    const { needle_device_copy } = this.#runtime.symbols;
    const status = needle_device_copy(target, toOffset, source, fromOffset, bytes);
    check(this.#runtime, status, `copy ${bytes} bytes on ${this.name}`);
  }

  at(memory: object, offset: number): object {
    return Deno.UnsafePointer.offset(memory as Deno.PointerObject, offset)!;
  }

  override synchronize(): void {
    this.select();
    check(this.#runtime, this.#runtime.symbols.needle_device_synchronize(), "synchronize");
  }

  override setThreads(): void {}

  override info(): ReturnType<Backend["info"]> {
    this.select();
    const { threads: _, ...rest } = super.info();
    return rest;
  }

  take(bytes: number): object | null {
    this.select();
    return this.#runtime.symbols.needle_device_take(bytes);
  }

  give(memory: object): void {
    this.select();
    const { needle_device_give } = this.#runtime.symbols;
    check(this.#runtime, needle_device_give(memory as Deno.PointerObject), "free GPU memory");
  }

  total(): number {
    this.select();
    const freeAndTotal = new Float64Array(2);
    const { needle_device_memory } = this.#runtime.symbols;
    check(this.#runtime, needle_device_memory(freeAndTotal), "ask for GPU memory");
    return freeAndTotal[1]!;
  }
}

/** How many GPUs `library` sees, or why none can be used. */
export function countGpus(library: CudaLibrary): number | string {
  const found = locate(library);
  if (found.path === undefined) return found.reason;
  try {
    const runtime = runtimeAt(found.path);
    const count = runtime.symbols.needle_device_count();
    return count > 0 ? count : count === 0 ? "No GPU was found" : lastError(found.path);
  } catch (error) {
    return (error as Error).message;
  }
}

const told = new Set<CudaLibrary>();

/** The loaded library, told once where cuBLAS and cuDNN may be. */
function openedRuntime(library: CudaLibrary): Runtime {
  const runtime = runtimeAt(locate(library).path!);
  if (!told.has(library)) allowLibraries(runtime, library);
  told.add(library);
  return runtime;
}

/** The two halves of a device: its memory, and how its kernels are opened (or the reason why not). */
export interface CudaParts {
  /** The memory. */
  readonly allocator: Allocator;
  /** The kernels, or why there are none. */
  readonly open: () => Backend | string;
}

/** GPU `index` of a library, as a device called `name`. Nothing is opened yet. */
export function cudaParts(name: string, library: CudaLibrary, index: number): CudaParts {
  let opened: CudaBackend | string | null = null;
  const pool = new DevicePool(name, () => {
    const backend = opened ??= connect();
    if (typeof backend === "string") {
      throw new Error(`Device "${name}" is not available: ${backend}`);
    }
    return backend;
  });
  const connect = (): CudaBackend | string => {
    const count = countGpus(library);
    if (typeof count === "string") return count;
    if (index >= count) {
      return `GPU ${index} does not exist: there ${
        count === 1 ? "is one, cuda" : `are ${count}, from cuda to cuda:${count - 1}`
      }`;
    }
    try {
      const backend = new CudaBackend(name, openedRuntime(library), index, pool);
      backend.select();
      return backend;
    } catch (error) {
      return (error as Error).message;
    }
  };
  return { allocator: pool, open: () => opened ??= connect() };
}
