// The reference backend: runs each op's TypeScript definition on float64 (bigints for integers) and rounds once on
// store. Slow and obvious: it is the meaning of every op and the oracle for all other backends.

import type { Backend, ElementwiseKernel, Operand, OpKernel } from "../backend.ts";
import { dtypes, fromBfloat16, isInt, toBfloat16, viewOf } from "../dtype.ts";
import { broadcastStrides, numel, type Shape } from "../shape.ts";
import type { ElementwiseOp, KernelOp, RefTensor } from "../ops/op.ts";
import type { Tensor } from "../tensor/mod.ts";

/** The memory of `t` as elements of its dtype; `t._start` is its first. */
function elements(t: Tensor): Float64Array {
  const memory = t._memory as ArrayBuffer;
  const count = Math.floor(memory.byteLength / dtypes[t.dtype].bytes);
  // Typed as one kind: bigint arrays are handled where integers are.
  return viewOf(t.dtype, memory, 0, count) as unknown as Float64Array;
}

/** Calls `f` with the position of each element of `shape`, in logical order, in a tensor with `strides`. */
export function walk(
  shape: Shape,
  strides: Shape,
  start: number,
  f: (at: number, i: number) => void,
): void {
  const n = numel(shape), nd = shape.length;
  const index = new Array<number>(nd).fill(0);
  let at = start;
  for (let i = 0; i < n; i++) {
    f(at, i);
    for (let d = nd - 1; d >= 0; d--) {
      at += strides[d]!;
      if (++index[d]! < shape[d]!) break;
      at -= strides[d]! * shape[d]!;
      index[d] = 0;
    }
  }
}

/** The elements of `t`, broadcast to `shape`, in logical order: float64 (bool as 0 and 1). */
function gatherFloats(t: Tensor, shape: Shape): Float64Array {
  const out = new Float64Array(numel(shape)), data = elements(t);
  const strides = broadcastStrides(t.shape, t._strides, shape);
  if (t.dtype === "bfloat16") {
    walk(shape, strides, t._start, (at, i) => out[i] = fromBfloat16(data[at]!));
  } else walk(shape, strides, t._start, (at, i) => out[i] = data[at]!);
  return out;
}

/** The elements of an integer tensor as bigints. */
function gatherInts(t: Tensor, shape: Shape): BigInt64Array {
  const out = new BigInt64Array(numel(shape));
  const strides = broadcastStrides(t.shape, t._strides, shape);
  if (t.dtype === "int64") {
    const data = elements(t) as unknown as BigInt64Array;
    walk(shape, strides, t._start, (at, i) => out[i] = data[at]!);
  } else {
    const data = elements(t);
    walk(shape, strides, t._start, (at, i) => out[i] = BigInt(data[at]!));
  }
  return out;
}

function wrongKind(t: { dtype: string }, wanted: string): never {
  throw new TypeError(`A reference function read ${wanted} of a ${t.dtype} tensor`);
}

/** A view of elements for reference functions; exactly one of the arrays exists. */
class RefView implements RefTensor {
  readonly shape: Shape;
  readonly dtype: Tensor["dtype"];
  readonly #f: Float64Array | null;
  readonly #i: BigInt64Array | null;

  constructor(t: Tensor, f: Float64Array | null, i: BigInt64Array | null) {
    this.shape = t.shape;
    this.dtype = t.dtype;
    this.#f = f;
    this.#i = i;
  }

  get f(): Float64Array {
    return this.#f ?? wrongKind(this, "floats");
  }

  get i(): BigInt64Array {
    return this.#i ?? wrongKind(this, "integers");
  }
}

function load(t: Tensor): RefTensor {
  return isInt(t.dtype)
    ? new RefView(t, null, gatherInts(t, t.shape))
    : new RefView(t, gatherFloats(t, t.shape), null);
}

function blank(t: Tensor): RefTensor {
  const n = t.numel();
  return isInt(t.dtype)
    ? new RefView(t, null, new BigInt64Array(n))
    : new RefView(t, new Float64Array(n), null);
}

/** The integer that a float converts to: truncated, modulo 2^64. Throws for what has no integer part. */
function truncate(x: number, dtype: string): bigint {
  if (!(Math.abs(x) < 2 ** 63)) {
    throw new RangeError(
      `Cannot convert ${x} to ${dtype}: it has no ${dtype} value; remove NaN, infinities and values beyond 2^63 first`,
    );
  }
  return BigInt(Math.trunc(x));
}

/** Rounds (floats) or wraps (integers) results into the memory of `y`. */
function storeFloats(y: Tensor, values: Float64Array): void {
  const data = elements(y);
  if (isInt(y.dtype)) {
    storeInts(y, BigInt64Array.from(values as unknown as number[], (x) => truncate(x, y.dtype)));
    return;
  }
  if (y.dtype === "bfloat16") {
    walk(y.shape, y._strides, y._start, (at, i) => data[at] = toBfloat16(values[i]!));
  } else if (y.dtype === "bool") {
    walk(y.shape, y._strides, y._start, (at, i) => data[at] = values[i] !== 0 ? 1 : 0);
  } else walk(y.shape, y._strides, y._start, (at, i) => data[at] = values[i]!);
}

function storeInts(y: Tensor, values: BigInt64Array): void {
  if (y.dtype === "int64") {
    const data = elements(y) as unknown as BigInt64Array;
    walk(y.shape, y._strides, y._start, (at, i) => data[at] = values[i]!);
    return;
  }
  if (!isInt(y.dtype)) {
    storeFloats(y, Float64Array.from(values, Number));
    return;
  }
  const data = elements(y), bits = 8 * dtypes[y.dtype].bytes;
  walk(
    y.shape,
    y._strides,
    y._start,
    (at, i) => data[at] = Number(BigInt.asIntN(bits, values[i]!)),
  );
}

function store(y: Tensor, values: RefTensor): void {
  if (isInt(y.dtype)) storeInts(y, values.i);
  else storeFloats(y, values.f);
}

function elementwise(op: ElementwiseOp): ElementwiseKernel {
  const onFloats = (a: Operand, b: Operand, c: Operand, y: Tensor): void => {
    const n = y.numel(), f = op.f, out = new Float64Array(n);
    const read = (x: Operand): Float64Array =>
      typeof x === "number" ? new Float64Array(n).fill(x) : gatherFloats(x, y.shape);
    const A = read(a), B = read(b), C = read(c);
    for (let i = 0; i < n; i++) out[i] = Number(f(A[i]!, B[i]!, C[i]!));
    storeFloats(y, out);
  };
  const onInts = (a: Operand, b: Operand, c: Operand, y: Tensor): void => {
    const n = y.numel(), f = op.int!, out = new BigInt64Array(n);
    const read = (x: Operand): BigInt64Array =>
      typeof x === "number"
        ? new BigInt64Array(n).fill(BigInt(x))
        : x.dtype === "bool"
        ? BigInt64Array.from(gatherFloats(x, y.shape) as unknown as number[], BigInt)
        : gatherInts(x, y.shape);
    const A = read(a), B = read(b), C = read(c);
    try {
      for (let i = 0; i < n; i++) out[i] = BigInt(f(A[i]!, B[i]!, C[i]!));
    } catch (cause) { // division by zero, or a negative power: the op's function does not know its name
      throw new RangeError(`Cannot ${op.name}: ${(cause as Error).message}`, { cause });
    }
    storeInts(y, out);
  };
  return (a, b, c, y) => {
    const value = op.condition ? (typeof b === "number" ? c : b) : typeof a === "number" ? b : a;
    const dtype = op.result === "same" && op.condition ? y.dtype : (value as Tensor).dtype;
    if (isInt(dtype)) onInts(a, b, c, y);
    else onFloats(a, b, c, y);
  };
}

function kernel(op: KernelOp): OpKernel {
  return (inputs, outputs, attrs) => {
    const ins: Record<string, RefTensor> = {}, outs: Record<string, RefTensor> = {};
    op.inputs.forEach((name, i) => {
      const t = inputs[i] ?? null;
      ins[name] = t === null ? null as unknown as RefTensor : load(t);
    });
    const names = [...op.outputs, ...op.aux];
    names.forEach((name, i) => outs[name] = blank(outputs[i]!));
    op.reference(ins, outs, attrs);
    names.forEach((name, i) => store(outputs[i]!, outs[name]!));
    for (const name of op.mutates) store(inputs[op.inputs.indexOf(name)]!, ins[name]!);
  };
}

/** The backend behind `reference()`. */
export const referenceBackend: Backend = {
  name: "reference",
  elementwise,
  kernel,
  read: (memory, byteOffset, bytes) => new Uint8Array(memory as ArrayBuffer, byteOffset, bytes),
  write: (memory, byteOffset, data) => new Uint8Array(memory as ArrayBuffer, byteOffset).set(data),
  synchronize: () => {},
  setThreads: () => {},
  info: () => ({ threads: 1, isa: "TypeScript" }),
};
