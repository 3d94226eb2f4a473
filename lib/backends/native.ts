// One class for all native libraries: opens an op's symbol at first use and wraps it in a function generated for
// that library (a call site shared by two libraries is twenty times slower). Half types are computed here in
// float32 and rounded once, so that kernels never see them.

import { signature, tensorArguments } from "../abi.ts";
import type { Backend, ElementwiseKernel, Operand, OpKernel } from "../backend.ts";
import { isHalf } from "../dtype.ts";
import { broadcastStrides, coalesce, contiguousStrides, numel } from "../shape.ts";
import { castTo, rawChannelsLast, rawContiguous } from "../dispatch.ts";
import { allocate } from "../tensor/base.ts";
import { type ElementwiseOp, type KernelOp, symbolOf } from "../ops/op.ts";
import { elementwiseOps } from "../ops/elementwise.ts";
import type { Tensor } from "../tensor/mod.ts";
import { noGrad } from "../autograd/mode.ts";
import { env } from "../env.ts";
import {
  lastError,
  libraryInfo,
  locate,
  type NativeBackend,
  openSymbol,
  setLibraryThreads,
} from "./loader.ts";

// Descriptors are written here; calls are synchronous, so one block serves all.
let block = new Float64Array(256);

function describe(values: ArrayLike<number>): ArrayBuffer | null {
  if (values.length === 0) return null;
  if (values.length > block.length) block = new Float64Array(2 * values.length);
  block.set(values);
  return block.buffer as ArrayBuffer;
}

/** The descriptor of an elementwise call whose operands are not one flat run. */
function strided(operands: readonly Operand[], y: Tensor): ArrayBuffer | null {
  const none = new Array<number>(y.shape.length).fill(0);
  const strides = operands.map((t) =>
    typeof t === "number" ? none : broadcastStrides(t.shape, t._strides, y.shape)
  );
  return describe(coalesce(y.shape, [...strides, y._strides]));
}

type Call = (...args: unknown[]) => number;

/** An expression for the tensor whose dtype selects the kernel. */
function mainOperand(op: ElementwiseOp): string {
  if (op.condition) return "y";
  if (op.arity === 1) return "a";
  return op.arity === 2
    ? 'typeof a !== "number" ? a : b'
    : 'typeof a !== "number" ? a : typeof b !== "number" ? b : c';
}

/** A library whose tensors are ArrayBuffers; cuda.ts derives the one with device memory from it. */
export class NativeLibrary implements Backend {
  readonly name: string;
  protected readonly path: string;
  readonly #host: boolean;

  constructor(name: string, path: string, host: boolean) {
    this.name = name;
    this.path = path;
    this.#host = host;
    const threads = host ? env("NEEDLE_THREADS") : undefined;
    if (threads !== undefined) this.setThreads(threads);
  }

  #open(op: ElementwiseOp | KernelOp): Call {
    return openSymbol(this.path, symbolOf(op.name), signature(op, this.#host)) as Call;
  }

  protected fail(op: { name: string }): never {
    const text = lastError(this.path) || "the native library gave no reason";
    throw new RangeError(`Cannot ${op.name}: ${text}`);
  }

  /** A statement for generated functions: makes the call, which `library` and `fail` may surround. */
  protected statement(call: string): string {
    return `if (${call} !== 0) fail();`;
  }

  elementwise(op: ElementwiseOp): ElementwiseKernel {
    const operands = ["a", "b", "c"].slice(0, op.arity);
    const converts = op.name === "cast" || op.name === "copy";
    // A number stands in its offset argument, with a null base.
    const args = op.arity === 1
      ? ["a._memory, a._start"]
      : operands.map((x) =>
        `typeof ${x} === "number" ? null : ${x}._memory, typeof ${x} === "number" ? ${x} : ${x}._start`
      );
    const half = (operands: Operand[], y: Tensor): void => halfElementwise(kernel, op, operands, y);
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
        ${converts ? "" : `if (code === 2 || code === 3) return half([${operands.join(", ")}], y);`}
        const desc = dense ? null : strided([${operands.join(", ")}], y);
        ${this.statement(`symbol(${args.join(", ")}, y._memory, y._start, code, n, desc)`)}
      };`,
    );
    const kernel = make(
      this.#open(op),
      strided,
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
          ? `i[${i}] === null ? null : i[${i}]._memory, i[${i}] === null ? 0 : i[${i}]._start`
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
      };`,
    );
    const run = make(this.#open(op), () => this.fail(op), this) as (
      ins: readonly (Tensor | null)[],
      outs: readonly Tensor[],
      code: number,
      n: number,
      desc: ArrayBuffer | null,
    ) => void;
    const kernel: OpKernel = (ins, outs, attrs) => {
      if (ins.some((t) => t !== null && isHalf(t.dtype)) || outs.some((t) => isHalf(t.dtype))) {
        return halfKernel(kernel, op, ins, outs, attrs);
      }
      const ready = prepare(op, ins);
      const code = (ready[0] ?? outs[0]!)._code | op.extraDTypes(ready, outs);
      const first = outs[0] ?? ready[0]!;
      run(ready, outs, code, first.numel(), describe(op.descriptor(ready, outs, attrs)));
      for (let i = 0; i < ins.length; i++) {
        if (ready[i] === ins[i]) continue;
        if (op.mutates.includes(op.inputs[i]!)) assign(ins[i]!, ready[i]!);
        ready[i]!.dispose();
      }
    };
    return kernel;
  }

  read(memory: object, byteOffset: number, bytes: number): Uint8Array {
    return new Uint8Array(memory as ArrayBuffer, byteOffset, bytes);
  }

  write(memory: object, byteOffset: number, data: Uint8Array): void {
    new Uint8Array(memory as ArrayBuffer, byteOffset).set(data);
  }

  synchronize(): void {}

  setThreads(n: number): void {
    setLibraryThreads(this.path, n);
  }

  info(): ReturnType<Backend["info"]> {
    const { version, isa, threads, library } = libraryInfo(this.path);
    return { library: this.path, version: `${library} ${version}`, threads, isa };
  }
}

/** Inputs in the memory order that the kernel reads: copies where they are not. */
function prepare(op: KernelOp, ins: readonly (Tensor | null)[]): (Tensor | null)[] {
  return ins.map((t, i) => {
    const name = op.inputs[i]!;
    if (t === null || op.strided.includes(name)) return t;
    return op.channelsLast.includes(name) ? rawChannelsLast(t) : rawContiguous(t);
  });
}

/** `target = source`, of equal shape and dtype, in the memory of `target`. */
function assign(target: Tensor, source: Tensor): void {
  const kernel = elementwiseOps.copy.kernels[target.device.id] ??= target.device.backend
    .elementwise(elementwiseOps.copy);
  kernel(source, 0, 0, target, false);
}

/** Runs an elementwise op in float32 for half operands and rounds the result once. */
function halfElementwise(
  kernel: ElementwiseKernel,
  op: ElementwiseOp,
  operands: Operand[],
  y: Tensor,
): void {
  noGrad(() => {
    const wide = operands.map((t) =>
      typeof t !== "number" && isHalf(t.dtype) ? castTo(t, "float32") : t
    );
    const out = op.result === "bool"
      ? y
      : allocate(y.shape, "float32", y.device, contiguousStrides(y.shape), 0);
    kernel(wide[0]!, wide[1] ?? 0, wide[2] ?? 0, out, false);
    if (out !== y) round(out, y);
    disposeOthers(wide, operands);
    if (out !== y) out.dispose();
  });
}

/** Runs a kernel op in float32 for half tensors and rounds each result once. */
function halfKernel(
  kernel: OpKernel,
  op: KernelOp,
  ins: readonly (Tensor | null)[],
  outs: readonly Tensor[],
  attrs: never,
): void {
  noGrad(() => {
    const wideIns = ins.map((t) => t !== null && isHalf(t.dtype) ? castTo(t, "float32") : t);
    const wideOuts = outs.map((t) =>
      !isHalf(t.dtype)
        ? t
        : t._layout < 2
        ? allocate(t.shape, "float32", t.device, t._strides, t._layout)
        : allocate(t.shape, "float32", t.device, contiguousStrides(t.shape), 0) // a view with holes
    );
    kernel(wideIns, wideOuts, attrs);
    outs.forEach((t, i) => t !== wideOuts[i] && round(wideOuts[i]!, t));
    ins.forEach((t, i) => {
      if (t !== wideIns[i] && op.mutates.includes(op.inputs[i]!)) round(wideIns[i]!, t!);
    });
    disposeOthers(wideIns, ins);
    disposeOthers(wideOuts, outs);
  });
}

/** `y = x` rounded to the dtype of y. */
function round(x: Tensor, y: Tensor): void {
  const kernel = elementwiseOps.cast.kernels[y.device.id] ??= y.device.backend.elementwise(
    elementwiseOps.cast,
  );
  kernel(x, 0, 0, y, false);
}

function disposeOthers(
  made: readonly (Operand | null)[],
  given: readonly (Operand | null)[],
): void {
  made.forEach((t, i) => {
    if (t !== given[i] && t !== null && typeof t !== "number") t.dispose();
  });
}

/** The backend of a native library, or the reason why it cannot be used. */
export function openNative(name: NativeBackend): Backend | string {
  const found = locate(name);
  return found.path === undefined ? found.reason : new NativeLibrary(name, found.path, true);
}
