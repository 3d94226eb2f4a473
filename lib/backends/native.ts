// One class for all native libraries: opens an op's symbol at first use, on tensors that are ArrayBuffers or the
// device's own pointers. abi_backend.ts makes kernels of them.

import { fusedSignature, signature } from "../abi.ts";
import type { Backend, FusedKernel } from "../backend.ts";
import { fusedInputs, fusedOutputs, type FusedProgram } from "../lazy.ts";
import { type ElementwiseOp, type KernelOp, symbolOf } from "../ops/op.ts";
import { hostPool } from "../storage.ts";
import { env } from "../env.ts";
import { AbiBackend, type Call } from "./abi_backend.ts";
import {
  askForLargePages,
  lastError,
  libraryInfo,
  locate,
  type NativeBackend,
  openSymbol,
  setLibraryThreads,
} from "./loader.ts";

// Descriptors are written here; calls are synchronous, so one block serves all.
let block = new Float64Array(256);

/** A library whose tensors are ArrayBuffers; cuda.ts derives the one with device memory from it. */
export class NativeLibrary extends AbiBackend {
  readonly name: string;
  readonly fused: FusedKernel;
  protected readonly path: string;
  protected override readonly halves: AbiBackend["halves"];
  protected override readonly takesSingle: boolean;
  readonly #host: boolean;

  constructor(name: string, path: string, host: boolean) {
    super();
    this.name = name;
    this.path = path;
    this.#host = host;
    this.halves = { elementwise: host, kernels: true, listed: !host };
    this.takesSingle = host;
    this.fused = this.#fusedKernel();
    if (host) {
      hostPool.alignToPages((memory) => askForLargePages(path, memory));
    }
    const threads = host ? env("NEEDLE_THREADS") : undefined;
    if (threads !== undefined) this.setThreads(threads);
  }

  protected open(op: ElementwiseOp | KernelOp): Call {
    return openSymbol(this.path, symbolOf(op.name), signature(op, this.#host)) as Call;
  }

  protected describe(values: ArrayLike<number>): ArrayBuffer | null {
    if (values.length === 0) return null;
    if (values.length > block.length) block = new Float64Array(2 * values.length);
    for (let i = 0; i < values.length; i++) block[i] = values[i]!; // set() is slower for so few
    return block.buffer as ArrayBuffer;
  }

  protected fail(op: { name: string }): never {
    const text = lastError(this.path) || "the native library gave no reason";
    throw new RangeError(`Cannot ${op.name}: ${text}`);
  }

  #fusedKernel(): FusedKernel {
    let run: ((program: FusedProgram) => number) | null = null;
    return (program) => {
      run ??= this.#fusedCall();
      if (run(program) !== 0) this.fail({ name: "evaluate a fused expression" });
    };
  }

  /** A wrapper of `needle_fused`. */
  #fusedCall(): (p: FusedProgram) => number {
    const symbol = openSymbol(this.path, "needle_fused", fusedSignature(this.#host));
    const args = [
      ...Array.from({ length: fusedInputs }, (_, i) => `p.inputs[${i}], p.inputStarts[${i}]`),
      ...Array.from({ length: fusedOutputs }, (_, i) => `p.outputs[${i}], p.outputStarts[${i}]`),
    ];
    const call = this.statement(`symbol(${args.join(", ")}, p.descriptor)`);
    return new Function("symbol", "library", `return (p) => { ${call} return status; }`)(
      symbol,
      this,
    );
  }

  read(memory: object, byteOffset: number, bytes: number): Uint8Array {
    return new Uint8Array(memory as ArrayBuffer, byteOffset, bytes);
  }

  write(memory: object, byteOffset: number, data: Uint8Array): void {
    new Uint8Array(memory as ArrayBuffer, byteOffset).set(data);
  }

  setThreads(n: number): void {
    setLibraryThreads(this.path, n);
  }

  info(): ReturnType<Backend["info"]> {
    const { version, isa, threads, library } = libraryInfo(this.path);
    return { library: this.path, version: `${library} ${version}`, threads, isa };
  }
}

/** The backend of a native library, or the reason why it cannot be used. */
export function openNative(name: NativeBackend): Backend | string {
  const found = locate(name);
  return found.path === undefined ? found.reason : new NativeLibrary(name, found.path, true);
}
