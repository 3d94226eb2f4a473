// The recorder behind `ndl.profile`: kernels wrapped so that each call leaves a record. Nothing is wrapped while no
// profile runs. Nested calls (a copy made for a kernel, a widened half) count once in the self time of each.

import type { Backend, ElementwiseKernel, Operand, OpKernel } from "../backend.ts";
import { dtypes } from "../dtype.ts";
import type { ElementwiseOp, KernelOp } from "../ops/op.ts";
import type { Shape } from "../shape.ts";
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
  /** Bytes of the tensors read and written. */
  readonly bytes: number;
  /** Shapes of the tensors read. */
  readonly shapes: readonly Shape[];
}

/** Collects records, the first `limit` of them, in the order in which kernels end. */
export class Recorder {
  /** What was recorded. */
  readonly records: KernelRecord[] = [];
  /** When recording began, on the clock of `performance.now()`. */
  readonly origin: number = performance.now();
  /** Calls beyond the limit, which are not in `records`. */
  dropped = 0;
  readonly #limit: number;
  #inner = 0;

  /** At most `limit` records are kept. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Runs `kernel` and records it. */
  time(
    op: { readonly name: string },
    device: string,
    inputs: readonly (Operand | null)[],
    outputs: readonly Tensor[],
    kernel: () => void,
  ): void {
    const outer = this.#inner;
    this.#inner = 0;
    const start = performance.now();
    try {
      kernel();
    } finally {
      const duration = performance.now() - start;
      if (this.records.length < this.#limit) {
        const read = inputs.filter((t): t is Tensor => t !== null && typeof t !== "number");
        this.records.push({
          op: op.name,
          device,
          start: start - this.origin,
          duration,
          self: Math.max(0, duration - this.#inner),
          bytes: bytesOf(read) + bytesOf(outputs),
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

/** An elementwise kernel that records its calls. */
export function timedElementwise(
  recorder: Recorder,
  op: ElementwiseOp,
  device: string,
  kernel: ElementwiseKernel,
): ElementwiseKernel {
  return (a, b, c, y, dense) =>
    recorder.time(
      op,
      device,
      [a, b, c].slice(0, op.arity),
      [y],
      () => kernel(a, b, c, y, dense),
    );
}

/** Any other kernel that records its calls. */
export function timedKernel(
  recorder: Recorder,
  op: KernelOp,
  device: string,
  kernel: OpKernel,
): OpKernel {
  return (inputs, outputs, attrs) =>
    recorder.time(op, device, inputs, outputs, () => kernel(inputs, outputs, attrs));
}

/** Wraps `backend` so that every kernel opened from now on records its calls. */
export function profiledBackend(backend: Backend, recorder: Recorder): Backend {
  return {
    name: backend.name,
    elementwise: (op) => timedElementwise(recorder, op, backend.name, backend.elementwise(op)),
    kernel: (op) => timedKernel(recorder, op, backend.name, backend.kernel(op)),
    read: (memory, at, bytes) => backend.read(memory, at, bytes),
    write: (memory, at, data) => backend.write(memory, at, data),
    synchronize: () => backend.synchronize(),
    setThreads: (n) => backend.setThreads(n),
    info: () => backend.info(),
  };
}
