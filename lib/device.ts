// Devices: names, availability with the reason when missing, and the default device.
// A device is found and opened at first use; nothing happens when this module is imported.

import { type Allocator, hostPool } from "./storage.ts";
import type { Backend, FusedKernel } from "./backend.ts";
import { referenceBackend } from "./backends/reference.ts";
import { openNative } from "./backends/native.ts";
import { openWasm, wasmHeap } from "./backends/wasm.ts";
import { countGpus, type CudaLibrary, cudaParts } from "./backends/cuda.ts";
import { checkedBackend } from "./backends/checked.ts";
import { env } from "./env.ts";
import { profiledProgram } from "./profiler.ts";

/** What `devices()` tells about a device. */
export interface DeviceReport {
  /** The device's name. */
  readonly name: string;
  /** Whether tensors can be put there now. */
  readonly available: boolean;
  /** Why not, and what to do. */
  readonly reason?: string;
  /** The native library in use. */
  readonly library?: string;
  /** Version of the library behind it. */
  readonly version?: string;
  /** Threads that kernels use. */
  readonly threads?: number;
  /** Instruction set level of the kernels. */
  readonly isa?: string;
}

/** A place where tensors live and compute. Get one from `reference()`, `cpu()`, `dnnl()`, `cuda()`. */
export class Device {
  /** The name, as `NEEDLE_DEVICE` takes it. */
  readonly name: string;
  /** @internal Index into per-op kernel tables. */
  readonly id: number;
  /** @internal Where storages get their memory. */
  readonly allocator: Allocator;
  readonly #open: () => Backend | string;
  #backend: Backend | null = null;
  #reason: string | null = null;

  /** @internal Devices are made by this module alone. */
  constructor(name: string, id: number, allocator: Allocator, open: () => Backend | string) {
    this.name = name;
    this.id = id;
    this.allocator = allocator;
    this.#open = open;
  }

  #probe(): void {
    if (this.#backend !== null || this.#reason !== null) return;
    const result = this.#open();
    if (typeof result === "string") {
      this.#reason = result;
    } else {
      const checked = env("NEEDLE_CHECK") && result !== referenceBackend;
      this.#backend = profiledProgram(checked ? checkedBackend(result) : result, this);
    }
  }

  /** Whether this device can be used. */
  get available(): boolean {
    this.#probe();
    return this.#backend !== null;
  }

  /** Why the device is not available, or undefined when it is. */
  get reason(): string | undefined {
    this.#probe();
    return this.#reason ?? undefined;
  }

  /** @internal The kernels of this device. Throws an Error with the reason when there are none. */
  get backend(): Backend {
    if (this.#backend !== null) return this.#backend;
    this.#probe();
    if (this.#backend === null) {
      throw new Error(`Device "${this.name}" is not available: ${this.#reason}`);
    }
    return this.#backend;
  }

  /** @internal Evaluates fused expressions; null where ops are computed at once. */
  get fused(): FusedKernel | null {
    return this.backend.fused ?? null;
  }

  /** What is known about this device. */
  report(): DeviceReport {
    this.#probe();
    if (this.#backend === null) {
      return { name: this.name, available: false, reason: this.#reason! };
    }
    return { name: this.name, available: true, ...this.#backend.info() };
  }

  /** The name. */
  toString(): string {
    return this.name;
  }
}

const referenceDevice = new Device("reference", 0, hostPool, () => referenceBackend);
const cpuDevice = new Device("cpu", 1, hostPool, () => openNative("cpu"));
const dnnlDevice = new Device("dnnl", 2, hostPool, () => openNative("dnnl"));
const wasmDevice = new Device("wasm", 3, wasmHeap, openWasm);

let devicesMade = 4;

/** GPUs by index: one device each, made when it is first asked for. */
class Gpus {
  readonly #name: string;
  readonly #library: CudaLibrary;
  readonly #devices: Device[] = [];

  constructor(name: string, library: CudaLibrary) {
    this.#name = name;
    this.#library = library;
  }

  at(index: number): Device {
    const made = this.#devices[index];
    if (made !== undefined) return made;
    if (!Number.isInteger(index) || index < 0 || index > 63) {
      throw new RangeError(
        `Cannot use GPU ${index}: the index must be a whole number from 0 to 63`,
      );
    }
    const name = index === 0 ? this.#name : `${this.#name}:${index}`;
    const { allocator, open } = cudaParts(name, this.#library, index);
    return this.#devices[index] = new Device(name, devicesMade++, allocator, open);
  }
}

const gpus = new Gpus("cuda", "cuda");
const emulatedGpus = new Gpus("cudaEmulated", "cudaemu");

/** Every device of this version, available or not; of the GPUs, the first. */
export const allDevices: readonly Device[] = [
  referenceDevice,
  cpuDevice,
  dnnlDevice,
  wasmDevice,
  gpus.at(0),
];

/** The plain TypeScript device: always there, slow, the meaning of every op. */
export function reference(): Device {
  return referenceDevice;
}

/** Needle's own native kernels (OpenMP and SIMD). */
export function cpu(): Device {
  return cpuDevice;
}

/** oneDNN for matmul and convolution, Needle's own kernels for the rest. */
export function dnnl(): Device {
  return dnnlDevice;
}

/** The same kernels in WebAssembly: one thread, no permission, no build. */
export function wasm(): Device {
  return wasmDevice;
}

/**
 * An NVIDIA GPU. Its `reason` says what is missing where it is not available.
 *
 * @param index which GPU, from 0
 * @throws RangeError where the index is no whole number from 0 to 63
 */
export function cuda(index = 0): Device {
  return gpus.at(index);
}

/** @internal The CUDA kernels as an emulation on the CPU runs them, for tests: slow, and strict with kernels. */
export function cudaEmulated(index = 0): Device {
  return emulatedGpus.at(index);
}

/** A report on every device, available or not, and on every GPU. */
export function devices(): DeviceReport[] {
  const found = countGpus("cuda");
  const more = typeof found === "number" ? Array.from({ length: found }, (_, i) => gpus.at(i)) : [];
  return [...allDevices, ...more.slice(1)].map((d) => d.report());
}

/** The device called `name`. Throws a RangeError that lists the names when there is none. */
export function deviceByName(name: string): Device {
  const gpu = /^cuda:(\d+)$/.exec(name);
  if (gpu !== null) return cuda(Number(gpu[1]));
  const found = allDevices.find((d) => d.name === name);
  if (found === undefined) {
    throw new RangeError(
      `Unknown device ${JSON.stringify(name)}: use one of ${
        allDevices.map((d) => d.name).join(", ")
      }, or cuda:1 and so on`,
    );
  }
  return found;
}

let chosen: Device | null = null;

/**
 * The device of tensors made without `device`: dnnl, else cpu, else wasm, else reference; or what `NEEDLE_DEVICE` says.
 */
export function defaultDevice(): Device {
  if (chosen !== null) return chosen;
  const name = env("NEEDLE_DEVICE");
  if (name !== undefined && name !== "") {
    chosen = deviceByName(name);
    void chosen.backend; // an unavailable choice is an error, not a fallback
    return chosen;
  }
  chosen = [dnnlDevice, cpuDevice, wasmDevice].find((d) => d.available) ?? referenceDevice;
  if (chosen === wasmDevice || chosen === referenceDevice) {
    const slow = chosen === wasmDevice
      ? "on one thread, in WebAssembly"
      : `on the slow reference device (wasm: ${wasmDevice.reason})`;
    console.warn(
      `needle: computing ${slow}, because no native library could be used ` +
        `(cpu: ${cpuDevice.reason}; dnnl: ${dnnlDevice.reason})`,
    );
  }
  return chosen;
}

/** Makes `device` the default for new tensors. Throws when it is not available. */
export function setDefaultDevice(device: Device): void {
  void device.backend;
  chosen = device;
}

/** Waits until all work given to `device` is done. */
export function synchronize(device: Device = defaultDevice()): void {
  device.backend.synchronize();
}

/** Sets how many threads native kernels use (a positive integer) on every device. */
export function setNumThreads(n: number): void {
  if (!Number.isInteger(n) || n < 1 || n > 1024) {
    throw new RangeError(`Cannot use ${n} threads: the count must be an integer from 1 to 1024`);
  }
  for (const d of allDevices) if (d.available) d.backend.setThreads(n);
}
