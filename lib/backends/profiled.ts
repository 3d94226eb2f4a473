// The recorder behind `ndl.profile`: kernels wrapped so that each call leaves a record. Nothing is wrapped while no
// profile runs. Nested calls (a copy made for a kernel, a widened half) count once in the self time of each.

import type { Backend, ElementwiseKernel, Operand, OpKernel } from "../backend.ts";
import { dtypes } from "../dtype.ts";
import { flopsOf } from "../flops.ts";
import type { ElementwiseOp, KernelOp } from "../ops/op.ts";
import type { Shape } from "../shape.ts";
import type { Allocator } from "../storage.ts";
import type { Tensor } from "../tensor/mod.ts";

/** One call of a kernel. */
export interface KernelRecord {
  /** Name of the op. */
  readonly op: string;
  /** Name of the device. */
  readonly device: string;
  /** Milliseconds from the start of the profile. */
  readonly start: number;
  /** Milliseconds in the kernel and in what it called. */
  readonly duration: number;
  /** Milliseconds in the kernel without the kernels that it called. */
  readonly self: number;
  /** Bytes of the tensors read and written; what is written in place counts twice. */
  readonly bytes: number;
  /** Floating point operations of matrix products, convolutions, attention and recurrent layers; of others 0. */
  readonly flops: number;
  /** Bytes that tensors held in the memory of the device when the kernel ended. */
  readonly live: number;
  /** Shapes of the tensors read. */
  readonly shapes: readonly Shape[];
}

/** The device whose kernels are recorded. */
export interface RecordedDevice {
  /** Its name. */
  readonly name: string;
  /** Its memory. */
  readonly allocator: Allocator;
}

/** A call that is recorded. */
interface Call {
  readonly op: ElementwiseOp | KernelOp;
  readonly inputs: readonly (Operand | null)[];
  readonly outputs: readonly Tensor[];
  readonly attrs: unknown;
}

/** Collects records, the first `limit` of them, in the order in which kernels end. */
export class Recorder {
  /** What was recorded. */
  readonly records: KernelRecord[] = [];
  /** When recording began, on the clock of `performance.now()`. */
  readonly origin: number = performance.now();
  /** The largest `live` by device, of calls beyond the limit too. */
  readonly peaks: Map<string, number> = new Map();
  /** Calls beyond the limit, which are not in `records`. */
  dropped = 0;
  readonly #limit: number;
  #inner = 0;

  /** At most `limit` records are kept. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Runs `kernel`, which makes `call` and returns when it is done, and records it. */
  time(device: RecordedDevice, call: Call, kernel: () => void): void {
    const outer = this.#inner;
    this.#inner = 0;
    const start = performance.now();
    try {
      kernel();
    } finally {
      const duration = performance.now() - start;
      const { live } = device.allocator.counts();
      if (live > (this.peaks.get(device.name) ?? 0)) this.peaks.set(device.name, live);
      if (this.records.length < this.#limit) {
        const { op, inputs, outputs, attrs } = call;
        const read = inputs.filter((t): t is Tensor => t !== null && typeof t !== "number");
        this.records.push({
          op: op.name,
          device: device.name,
          start: start - this.origin,
          duration,
          self: Math.max(0, duration - this.#inner),
          bytes: bytesOf(read) + bytesOf(outputs) + bytesOf(writtenInPlace(call)),
          flops: op.kind === "kernel"
            ? flopsOf(op, inputs as readonly (Tensor | null)[], outputs, attrs)
            : 0,
          live,
          shapes: read.map((t) => t.shape),
        });
      } else this.dropped++;
      this.#inner = outer + duration;
    }
  }
}

function bytesOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((n, t) => n + t.numel() * dtypes[t.dtype].bytes, 0);
}

/** Inputs of a kernel that are its outputs as well (elementwise ops are given these as both). */
function writtenInPlace({ op, inputs }: Call): Tensor[] {
  if (op.kind === "elementwise" || op.mutates.length === 0) return [];
  return inputs.filter((t, i): t is Tensor => t !== null && op.mutates.includes(op.inputs[i]!));
}

/** An elementwise kernel that records its calls; `synchronize` waits until one is done. */
export function timedElementwise(
  recorder: Recorder,
  op: ElementwiseOp,
  device: RecordedDevice,
  kernel: ElementwiseKernel,
  synchronize: () => void,
): ElementwiseKernel {
  return (a, b, c, y, dense) => {
    const inputs = [a, b, c].slice(0, op.arity);
    recorder.time(device, { op, inputs, outputs: [y], attrs: null }, () => {
      kernel(a, b, c, y, dense);
      synchronize();
    });
  };
}

/** Any other kernel that records its calls; `synchronize` waits until one is done. */
export function timedKernel(
  recorder: Recorder,
  op: KernelOp,
  device: RecordedDevice,
  kernel: OpKernel,
  synchronize: () => void,
): OpKernel {
  return (inputs, outputs, attrs) =>
    recorder.time(device, { op, inputs, outputs, attrs }, () => {
      kernel(inputs, outputs, attrs);
      synchronize();
    });
}

/** Wraps `backend` so that every kernel opened from now on records its calls; nothing is fused in it. */
export function profiledBackend(
  backend: Backend,
  device: RecordedDevice,
  recorder: Recorder,
): Backend {
  const wait = (): void => backend.synchronize();
  return {
    name: backend.name,
    elementwise: (op) => timedElementwise(recorder, op, device, backend.elementwise(op), wait),
    kernel: (op) => timedKernel(recorder, op, device, backend.kernel(op), wait),
    read: (memory, at, bytes) => backend.read(memory, at, bytes),
    write: (memory, at, data) => backend.write(memory, at, data),
    synchronize: wait,
    setThreads: (n) => backend.setThreads(n),
    info: () => backend.info(),
  };
}
