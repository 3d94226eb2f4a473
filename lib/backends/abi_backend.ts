// The C ABI of lib/abi.ts as kernels: each op's function is wrapped in a function generated for it (a call site shared
// by two libraries is twenty times slower), with descriptors, memory orders and half types taken care of. native.ts
// derives libraries from it that are opened with FFI, wasm.ts the WebAssembly module.

import { tensorArguments } from "../abi.ts";
import type { Backend, ElementwiseKernel, Operand, OpKernel } from "../backend.ts";
import type { DeviceReport } from "../device.ts";
import { type DType, isFloat, isHalf } from "../dtype.ts";
import { broadcastStrides, coalesce, isSingle, numel } from "../shape.ts";
import { rawChannelsLast, rawContiguous } from "../dispatch.ts";
import type { ElementwiseOp, KernelOp } from "../ops/op.ts";
import { elementwiseOps } from "../ops/elementwise.ts";
import type { Tensor } from "../tensor/mod.ts";
import { halfElementwise, halfKernel } from "./halves.ts";

/** A function of the C ABI; 0 is success. */
export type Call = (...args: unknown[]) => number;

/** What a kernel answers that has no code for half types of these shapes and did nothing (csrc/common.h). */
const DECLINED = 4;

/** An expression for the tensor whose dtype selects the kernel. */
function mainOperand(op: ElementwiseOp): string {
  if (op.condition) return "y";
  if (op.arity === 1) return "a";
  return op.arity === 2
    ? 'typeof a !== "number" ? a : b'
    : 'typeof a !== "number" ? a : typeof b !== "number" ? b : c';
}

/** The descriptor of an elementwise call whose operands are not one flat run. */
function stridesOf(operands: readonly Operand[], y: Tensor): ArrayLike<number> {
  const none = new Array<number>(y.shape.length).fill(0);
  const strides = operands.map((t) =>
    typeof t === "number" ? none : broadcastStrides(t.shape, t._strides, y.shape)
  );
  return coalesce(y.shape, [...strides, y._strides]);
}

/** A backend whose kernels are functions of the C ABI. */
export abstract class AbiBackend implements Backend {
  abstract readonly name: string;
  /** How generated code writes a base pointer that is null. */
  protected readonly none: string = "null";
  /**
   * Whether the library takes half types in elementwise functions, in ops that say `halves` (they may decline), and in
   * the tensors that ops list as `gpuHalves`.
   */
  protected readonly halves: {
    readonly elementwise: boolean;
    readonly kernels: boolean;
    readonly listed: boolean;
  } = { elementwise: false, kernels: false, listed: false };
  /** Whether kernels read an input of `op.single` that is one element; otherwise it is expanded for them. */
  protected readonly takesSingle: boolean = true;

  /** Opens the function of an op. */
  protected abstract open(op: ElementwiseOp | KernelOp): Call;

  /** Puts a descriptor where the next call finds it; returns the argument that says where. */
  protected abstract describe(values: ArrayLike<number>): unknown;

  /** Throws what the library says about its last error. */
  protected abstract fail(op: { name: string }): never;

  /** Statements for generated functions that make the call and put its answer into `status`. */
  protected statement(call: string): string {
    return `const status = ${call};`;
  }

  elementwise(op: ElementwiseOp): ElementwiseKernel {
    const operands = ["a", "b", "c"].slice(0, op.arity);
    const converts = op.name === "cast" || op.name === "copy";
    // A number stands in its offset argument, with a null base.
    const args = op.arity === 1
      ? ["a._memory, a._start"]
      : operands.map((x) =>
        `typeof ${x} === "number" ? ${this.none} : ${x}._memory, typeof ${x} === "number" ? ${x} : ${x}._start`
      );
    const half = (operands: Operand[], y: Tensor): void => halfElementwise(kernel, op, operands, y);
    const widen = converts || this.halves.elementwise
      ? ""
      : `if (code === 2 || code === 3) return half([${operands.join(", ")}], y);`;
    const make = new Function(
      "symbol",
      "strided",
      "numel",
      "fail",
      "half",
      "library",
      `return function ${op.name}_(a, b, c, y, dense) {
        const n = numel(y.shape);
        if (n === 0) return;
        const code = (${mainOperand(op)})._code${op.name === "cast" ? " | y._code << 8" : ""};
        ${widen}
        const desc = dense ? ${this.none} : strided([${operands.join(", ")}], y);
        ${this.statement(`symbol(${args.join(", ")}, y._memory, y._start, code, n, desc)`)}
        if (status !== 0) fail();
      };`,
    );
    const kernel = make(
      this.open(op),
      (operands: readonly Operand[], y: Tensor) => {
        finish(operands);
        return this.describe(stridesOf(operands, y));
      },
      numel,
      () => this.fail(op),
      half,
      this,
    ) as ElementwiseKernel;
    return kernel;
  }

  kernel(op: KernelOp): OpKernel {
    const { inputs, outputs } = tensorArguments(op);
    const args = [
      ...inputs.map((_, i) =>
        op.optional.includes(inputs[i]!)
          ? `i[${i}] === null ? ${this.none} : i[${i}]._memory, i[${i}] === null ? 0 : i[${i}]._start`
          : `i[${i}]._memory, i[${i}]._start`
      ),
      ...outputs.map((_, k) => `o[${k}]._memory, o[${k}]._start`),
    ];
    const make = new Function(
      "symbol",
      "fail",
      "library",
      `return function ${op.name}_(i, o, code, n, desc) {
        ${this.statement(`symbol(${args.join(", ")}, code, n, desc)`)}
        if (status !== 0 && status !== ${DECLINED}) fail();
        return status === 0;
      };`,
    );
    const run = make(this.open(op), () => this.fail(op), this) as (
      ins: readonly (Tensor | null)[],
      outs: readonly Tensor[],
      code: number,
      n: number,
      desc: unknown,
    ) => boolean;
    const orders = op.inputs.map((name) => orderOf(op, name, this.takesSingle));
    const takesHalves = op.halves && this.halves.kernels;
    const listed = this.halves.listed
      ? [...inputs, ...outputs].map((name) => op.gpuHalves.includes(name))
      : [];
    const kernel: OpKernel = (ins, outs, attrs) => {
      if (!takesHalves && hasHalf(ins, outs) && !isListed(listed, ins, outs)) {
        return halfKernel(kernel, op, ins, outs, attrs);
      }
      const ready = prepare(orders, ins);
      const code = (ready[0] ?? outs[0]!)._code | op.extraDTypes(ready, outs);
      const first = outs[0] ?? ready[0]!;
      finish(ready);
      const desc = this.describe(op.descriptor(ready, outs, attrs));
      if (!run(ready, outs, code, first.numel(), desc)) halfKernel(kernel, op, ready, outs, attrs);
      if (ready === ins) return;
      for (let i = 0; i < ins.length; i++) {
        if (ready[i] === ins[i]) continue;
        if (op.mutates.includes(op.inputs[i]!)) assign(ins[i]!, ready[i]!);
        ready[i]!.dispose();
      }
    };
    return kernel;
  }

  abstract read(memory: object, byteOffset: number, bytes: number): Uint8Array;
  abstract write(memory: object, byteOffset: number, data: Uint8Array): void;
  abstract setThreads(n: number): void;
  abstract info(): Omit<DeviceReport, "name" | "available">;

  synchronize(): void {}
}

function hasHalf(ins: readonly (Tensor | null)[], outs: readonly Tensor[]): boolean {
  for (let i = 0; i < ins.length; i++) if (ins[i] !== null && isHalf(ins[i]!.dtype)) return true;
  for (let i = 0; i < outs.length; i++) if (isHalf(outs[i]!.dtype)) return true;
  return false;
}

/** Whether all that are half types are `listed` (inputs, then outputs), and all listed floats have one dtype. */
function isListed(
  listed: readonly boolean[],
  ins: readonly (Tensor | null)[],
  outs: readonly Tensor[],
): boolean {
  let half: DType | null = null;
  for (let i = 0; i < listed.length; i++) {
    const t = i < ins.length ? ins[i]! : outs[i - ins.length]!;
    if (t === null) continue;
    if (!listed[i]) {
      if (isHalf(t.dtype)) return false;
    } else if (isFloat(t.dtype) && t.dtype !== (half ??= t.dtype)) return false;
  }
  return half !== null;
}

/** How a kernel reads an input: any strides, row-major, channels-last, or row-major unless it is one element. */
type Order = "any" | "rows" | "channelsLast" | "single";

function orderOf(op: KernelOp, input: string, takesSingle: boolean): Order {
  if (op.strided.includes(input)) return "any";
  if (takesSingle && op.single.includes(input)) return "single";
  return op.channelsLast.includes(input) ? "channelsLast" : "rows";
}

/** Inputs in the memory order that the kernel reads: copies where they are not, `ins` itself where all are. */
function prepare(
  orders: readonly Order[],
  ins: readonly (Tensor | null)[],
): readonly (Tensor | null)[] {
  let ready: (Tensor | null)[] | null = null;
  for (let i = 0; i < ins.length; i++) {
    const t = ins[i]!, order = orders[i]!;
    if (t === null || order === "any" || (order !== "channelsLast" && t._layout === 0)) continue;
    if (order === "single" && isSingle(t.shape, t._strides)) continue;
    const right = order === "channelsLast" ? rawChannelsLast(t) : rawContiguous(t);
    if (right !== t) (ready ??= [...ins])[i] = right;
  }
  return ready ?? ins;
}

/** Does what is pending of the operands: calls of its own, which would overwrite the descriptor of this one. */
function finish(operands: readonly (Operand | null)[]): void {
  for (let i = 0; i < operands.length; i++) {
    const t = operands[i]!;
    if (t !== null && typeof t !== "number") void t._memory;
  }
}

/** `target = source`, of equal shape and dtype, in the memory of `target`. */
function assign(target: Tensor, source: Tensor): void {
  const kernel = elementwiseOps.copy.kernels[target.device.id] ??= target.device.backend
    .elementwise(elementwiseOps.copy);
  kernel(source, 0, 0, target, false);
}
