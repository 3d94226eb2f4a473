// The WebAssembly backend: csrc/cpu compiled for WebAssembly (csrc/wasm), embedded as wasm_module.ts, so that it needs
// no permission, no file and no build. Tensors live in the module's memory (wasm_memory.ts); the wrappers are those of
// native libraries. Nothing is compiled before the device is used, and nothing throws where it cannot be.

import { abiHash } from "../abi.ts";
import type { Backend, FusedKernel } from "../backend.ts";
import { fusedInputs, fusedOutputs, type FusedProgram } from "../lazy.ts";
import { erf } from "../ops/scalar.ts";
import { type ElementwiseOp, type KernelOp, symbolOf } from "../ops/op.ts";
import { AbiBackend, type Call } from "./abi_backend.ts";
import type { LibraryInfo } from "./loader.ts";
import { unpackLzma } from "./lzma.ts";
import { WasmMemory } from "./wasm_memory.ts";
import { moduleBytes, moduleText } from "./wasm_module.ts";

/** What the module exports, beside the ops. */
interface Runtime {
  readonly memory: WebAssembly.Memory;
  readonly __heap_base: WebAssembly.Global;
  needle_abi_hash(text: number): number;
  needle_last_error(text: number, capacity: number): number;
  needle_info(text: number, capacity: number): number;
}

/** The memory of tensors on this device; the first one opens the module. */
export const wasmHeap: WasmMemory = new WasmMemory(() => {
  const runtime = instance();
  if (typeof runtime === "string") throw new Error(`Device "wasm" is not available: ${runtime}`);
});

/** What csrc/wasm/imports.txt lists: C's mathematical functions, and memory and text for csrc/wasm/libc.cpp. */
const imports: Record<string, (...args: number[]) => number | void> = {
  acos: Math.acos,
  asin: Math.asin,
  atan: Math.atan,
  atan2: Math.atan2,
  cos: Math.cos,
  cosh: Math.cosh,
  erf,
  exp: Math.exp,
  expm1: Math.expm1,
  fmod: (x: number, y: number) => x % y,
  log: Math.log,
  log1p: Math.log1p,
  log2: Math.log2,
  sin: Math.sin,
  sinh: Math.sinh,
  tan: Math.tan,
  tanh: Math.tanh,
  host_pow: Math.pow,
  host_allocate: (bytes: number) => wasmHeap.allocate(bytes >>> 0),
  host_release: (address: number, bytes: number) => wasmHeap.release(address >>> 0, bytes >>> 0),
  host_number: (value: number, digits: number, text: number) => {
    const written = digits < 0 ? String(value) : value.toFixed(digits);
    for (let i = 0; i < written.length; i++) {
      wasmHeap.bytes[(text >>> 0) + i] = written.charCodeAt(i);
    }
    return written.length;
  },
};

/** A module whose only function makes a vector out of zeros by these instructions. */
function probe(...instructions: number[]): Uint8Array<ArrayBuffer> {
  const body = [0, ...instructions, 0x0b];
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b], // a function type: no parameters, one vector
    ...[0x03, 0x02, 0x01, 0x00],
    ...[0x0a, body.length + 2, 0x01, body.length, ...body],
  ]);
}

const zeros = [0x41, 0x00, 0xfd, 0x0f]; // i8x16.splat of 0
const madd = [0xfd, 0x85, 0x02]; // f32x4.relaxed_madd

/** The bytes in base64 text. */
function fromBase64(text: string): Uint8Array {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Whether the engine has relaxed SIMD: multiply-adds in one instruction. */
function hasRelaxed(): boolean {
  return WebAssembly.validate(probe(...zeros, ...zeros, ...zeros, ...madd));
}

let opened: Runtime | string | undefined;

/** The running module, or why there is none. */
function instance(): Runtime | string {
  return opened ??= start();
}

function start(): Runtime | string {
  if (typeof WebAssembly !== "object") return "This engine has no WebAssembly";
  if (!WebAssembly.validate(probe(...zeros))) {
    return "The WebAssembly of this engine has no SIMD instructions";
  }
  const [first, second] = moduleBytes;
  const stream = fromBase64(moduleText);
  const code = hasRelaxed()
    ? unpackLzma(stream, first)
    : unpackLzma(stream, first + second).subarray(first);
  let runtime: Runtime;
  try {
    const module = new WebAssembly.Module(code);
    runtime = new WebAssembly.Instance(module, { env: imports }).exports as unknown as Runtime;
  } catch (error) {
    return `WebAssembly cannot start: ${error instanceof Error ? error.message : String(error)}`;
  }
  wasmHeap.attach(runtime.memory, Number(runtime.__heap_base.value));
  const hash = textOf((address) => runtime.needle_abi_hash(address) === 0 ? 16 : 0);
  const needed = abiHash();
  return hash === needed
    ? runtime
    : `The module's ABI hash is ${hash} but this version needs ${needed}; run deno task build --wasm`;
}

/** What a function of the module writes: it is given an address and room for 1024 bytes, and returns the length. */
function textOf(write: (address: number, room: number) => number): string {
  const room = 1024, address = wasmHeap.allocate(room);
  if (address === 0) return "";
  const length = Math.min(write(address, room), room);
  const text = new TextDecoder().decode(wasmHeap.bytes.slice(address, address + length));
  wasmHeap.release(address, room);
  return text;
}

class WasmBackend extends AbiBackend {
  readonly name = "wasm";
  readonly fused: FusedKernel;
  protected override readonly none = "0";
  readonly #runtime: Runtime;
  // Descriptors are written here; calls are synchronous, so one block serves all.
  #block = 0;
  #room = 0;
  #values: Float64Array<ArrayBuffer> = new Float64Array(0);

  constructor(runtime: Runtime) {
    super();
    this.#runtime = runtime;
    this.#reserve(1024);
    this.fused = this.#fusedKernel();
  }

  #reserve(room: number): void {
    const address = wasmHeap.allocate(8 * room);
    if (address === 0) {
      throw new RangeError("Cannot allocate a descriptor: the memory of wasm is full");
    }
    if (this.#block !== 0) wasmHeap.release(this.#block, 8 * this.#room);
    this.#block = address;
    this.#room = room;
  }

  protected open(op: ElementwiseOp | KernelOp): Call {
    return this.#symbol(symbolOf(op.name));
  }

  #symbol(name: string): Call {
    return (this.#runtime as unknown as Record<string, Call>)[name]!;
  }

  protected describe(values: ArrayLike<number>): number {
    const { length } = values;
    if (length === 0) return 0;
    if (length > this.#room) this.#reserve(2 * length);
    if (this.#values.length < length) { // memory grew, or the block did
      this.#values = new Float64Array(wasmHeap.bytes.buffer, this.#block, this.#room);
    }
    const block = this.#values;
    for (let i = 0; i < length; i++) block[i] = values[i]!;
    return this.#block;
  }

  protected fail(op: { name: string }): never {
    const text = textOf((address, room) => this.#runtime.needle_last_error(address, room)) ||
      "the module gave no reason";
    throw new RangeError(`Cannot ${op.name}: ${text}`);
  }

  #fusedKernel(): FusedKernel {
    const args = [
      ...Array.from({ length: fusedInputs }, (_, i) => `p.inputs[${i}], p.inputStarts[${i}]`),
      ...Array.from({ length: fusedOutputs }, (_, i) => `p.outputs[${i}], p.outputStarts[${i}]`),
    ];
    const symbol = this.#symbol("needle_fused");
    const run = new Function("symbol", `return (p, desc) => symbol(${args.join(", ")}, desc);`)(
      symbol,
    ) as (program: FusedProgram, desc: number) => number;
    return (program) => {
      const status = run(program, this.describe(program.descriptor));
      if (status !== 0) this.fail({ name: "evaluate a fused expression" });
    };
  }

  read(memory: object, byteOffset: number, bytes: number): Uint8Array {
    const start = memory as unknown as number + byteOffset;
    return wasmHeap.bytes.subarray(start, start + bytes);
  }

  write(memory: object, byteOffset: number, data: Uint8Array): void {
    wasmHeap.bytes.set(data, memory as unknown as number + byteOffset);
  }

  setThreads(_n: number): void {}

  info(): ReturnType<Backend["info"]> {
    const text = textOf((address, room) => this.#runtime.needle_info(address, room));
    const { version, threads, library } = JSON.parse(text) as LibraryInfo;
    const isa = hasRelaxed() ? "relaxed-simd128" : "simd128";
    return { version: `${library} ${version}`, threads, isa };
  }
}

/** The WebAssembly backend, or the reason why it cannot be used. */
export function openWasm(): Backend | string {
  const runtime = instance();
  if (typeof runtime === "string") return runtime;
  return new WasmBackend(runtime);
}
