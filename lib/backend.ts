// The contract between the library and a device's kernels. Two implementations: reference.ts (TypeScript, the
// meaning of every op) and native.ts (C-ABI libraries); checked.ts wraps any of them.

import type { AnyOp, ElementwiseOp, KernelOp } from "./ops/op.ts";
import type { Tensor } from "./tensor/mod.ts";
import type { DeviceReport } from "./device.ts";
import type { FusedProgram } from "./lazy.ts";

/** A tensor, or a number in its place. */
export type Operand = Tensor | number;

/**
 * Runs one elementwise op: `y = f(a, b, c)`, operands beyond the op's arity are 0.
 * All tensor operands have the dtype that the op computes in and broadcast to y's shape;
 * `dense` says that they all have y's shape and strides without holes.
 */
export type ElementwiseKernel = (
  a: Operand,
  b: Operand,
  c: Operand,
  y: Tensor,
  dense: boolean,
) => void;

/** Runs one op: reads `inputs` (null: left out), fills `outputs` (the op's outputs, then its aux). */
export type OpKernel = (
  inputs: readonly (Tensor | null)[],
  outputs: readonly Tensor[],
  attrs: never,
) => void;

/** Evaluates a fused elementwise expression. */
export type FusedKernel = (program: FusedProgram) => void;

/** What a device can do. */
export interface Backend {
  /** Name of the device. */
  readonly name: string;
  /** The kernel of an elementwise op. */
  elementwise(op: ElementwiseOp): ElementwiseKernel;
  /** The kernel of any other op. */
  kernel(op: KernelOp): OpKernel;
  /** Evaluates several elementwise ops in one pass; a backend without it computes each at once. */
  readonly fused?: FusedKernel;
  /** Bytes of a storage's memory, for reading; valid until the next allocation. */
  read(memory: object, byteOffset: number, bytes: number): Uint8Array;
  /** Copies `data` into a storage's memory. */
  write(memory: object, byteOffset: number, data: Uint8Array): void;
  /** Copies from one storage's memory to another's, where that needs no detour over the host. */
  copy?(to: object, toOffset: number, from: object, fromOffset: number, bytes: number): void;
  /** Waits for pending work. */
  synchronize(): void;
  /** Sets the thread count. */
  setThreads(n: number): void;
  /** Library, version, threads, ISA. */
  info(): Omit<DeviceReport, "name" | "available">;
}

/** Names an op and what it was given, for error messages. */
export function describe(op: AnyOp, operands: readonly (Operand | null)[]): string {
  const text = operands.map((t) =>
    t === null ? "none" : typeof t === "number" ? String(t) : `${t.dtype}[${t.shape.join(", ")}]`
  );
  return `${op.name}(${text.join(", ")})`;
}
