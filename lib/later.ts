// Kernel calls that wait until somebody reads their result, like the elementwise expressions of lazy.ts. Backward uses
// it for gradients that few consumers need as they are: that of an embedding is a few rows among many zeros, that of
// scores under cross entropy is wanted only in products. A consumer that knows better looks at the call (pendingCall)
// and works on its inputs; to everybody else the result is an ordinary tensor. Forward, a batch norm waits for the ReLU
// after it, which its kernel computes in the same pass (absorb, gradientLater).

import type { ElementwiseOp, TypedKernelOp } from "./ops/op.ts";
import type { Tensor } from "./tensor/mod.ts";
import type { Device } from "./device.ts";
import { type Deferred, type Reading, Storage } from "./storage.ts";
import { type DType, dtypes } from "./dtype.ts";
import { contiguousStrides, isSingle, numel, same } from "./shape.ts";
import { makeTensor } from "./tensor/base.ts";
import { isLazy } from "./lazy.ts";

// From this many elements on a result may wait; for fewer bookkeeping costs more than it saves.
const threshold = 65536;

/** Whether a call with `n` results of `dtype` waits on `device`: like elementwise ops, if it is large enough. */
export function mayWait(device: Device, dtype: DType, n: number): boolean {
  return n >= threshold && isLazy(device, dtype, n);
}

/** What a call reads: an input, and where its contents are. */
interface Input {
  readonly tensor: Tensor;
  readonly reading: Reading;
}

/** A call that nobody has read the result of. */
export class PendingCall<A> implements Deferred {
  readonly op: TypedKernelOp<A> | ElementwiseOp;
  readonly attrs: A;
  /** Whether it may wait for as long as its result lives: it holds less memory than the result would. */
  readonly lasting: boolean;
  wanted = false;
  storage!: Storage;
  result!: Tensor;
  #inputs: (Input | null)[];

  constructor(
    op: TypedKernelOp<A> | ElementwiseOp,
    inputs: readonly (Tensor | null)[],
    attrs: A,
    lasting: boolean,
  ) {
    this.op = op;
    this.attrs = attrs;
    this.lasting = lasting;
    this.#inputs = inputs.map((t) => t === null ? null : hold(t));
  }

  /** Handles on the inputs, with the contents that the call was made with. */
  inputs(): (Tensor | null)[] {
    return this.#inputs.map((input) =>
      input === null ? null : handleOn(input.reading.storage, input.tensor)
    );
  }

  /** Input `i` in the shape and memory order of `t`, a view of the whole result; null where it lies in another order. */
  inputLike(i: number, t: Tensor): Tensor | null {
    const { tensor: { _strides: strides, _offset: offset, shape, dtype }, reading } = this
      .#inputs[i]!;
    if (isSingle(shape, strides)) {
      return makeTensor(reading.storage, t.shape, t.shape.map(() => 0), offset, dtype, 2);
    }
    return same(strides, this.result._strides)
      ? makeTensor(reading.storage, t.shape, t._strides, offset, dtype, t._layout)
      : null;
  }

  /** Reads `t` in the place of input `i` from now on. */
  replace(i: number, t: Tensor): void {
    const before = this.#inputs[i]!;
    this.#inputs[i] = hold(t);
    if (before !== null) letGo(before);
  }

  run(): void {
    const { op, storage } = this, { device } = storage;
    storage.reserve();
    storage.deferred = null; // so that the kernel finds memory to write
    const inputs = this.inputs();
    const y = handleOn(storage, this.result);
    let done = false;
    try {
      if (op.kind === "kernel") {
        (op.kernels[device.id] ??= device.backend.kernel(op))(inputs, [y], this.attrs as never);
      } else {
        const [a, b = 0, c = 0] = inputs;
        (op.kernels[device.id] ??= device.backend.elementwise(op))(a!, b!, c!, y, false);
      }
      done = true;
    } finally {
      if (!done) storage.deferred = this;
      for (const t of inputs) t?.dispose();
      y.dispose();
    }
    this.drop();
  }

  drop(): void {
    for (const input of this.#inputs) if (input !== null) letGo(input);
    this.#inputs = [];
  }
}

function hold(tensor: Tensor): Input {
  void tensor._memory; // does what is pending
  const storage = tensor._data, reading = storage.reading();
  reading.readers++;
  storage.retain();
  return { tensor, reading };
}

function letGo({ reading }: Input): void {
  reading.readers--;
  reading.storage.release();
}

function handleOn(storage: Storage, t: Tensor): Tensor {
  return makeTensor(storage, t.shape, t._strides, t._offset, t.dtype, t._layout);
}

/**
 * The only result of `op`, computed when its memory is first read; not recorded. What the op checks is checked now.
 *
 * @param lasting whether the inputs take less memory than the result, so that even a gradient may stay pending
 */
export function callLater<A>(
  op: TypedKernelOp<A>,
  inputs: readonly (Tensor | null)[],
  attrs: A,
  lasting: boolean,
): Tensor {
  const { shape, dtype } = op.infer(inputs, attrs as never)[0]!;
  const { device } = inputs[0]!;
  const call = new PendingCall(op, inputs, attrs, lasting);
  const storage = call.storage = new Storage(device, numel(shape) * dtypes[dtype].bytes, call);
  return call.result = makeTensor(storage, shape, contiguousStrides(shape), 0, dtype, 0);
}

/** What absorbed ops' results come from: the attributes of the call before the op joined it. */
const absorbed = new WeakMap<Storage, unknown>();

/** `op(t)` computed by the call that `t` waits for, once it is read, if that can do it; not recorded. Else null. */
export function absorb(op: ElementwiseOp, t: Tensor): Tensor | null {
  const call = t._data.deferred;
  if (!(call instanceof PendingCall) || call.op.kind !== "kernel" || call.op.absorbs === null) {
    return null;
  }
  const attrs = call.op.absorbs(op.name, call.attrs as never);
  if (attrs === null || t._layout === 2 || t.numel() !== call.result.numel()) return null;
  const inputs = call.inputs(), rows = callLater(call.op, inputs, attrs, false);
  for (const input of inputs) input?.dispose();
  absorbed.set(rows._data, call.attrs);
  const y = makeTensor(rows._data, t.shape, t._strides, 0, t.dtype, t._layout);
  rows.dispose();
  return y;
}

/**
 * `op(g, y)`, the gradient through an absorbed op with result `y`, which waits: pendingCall finds it, with the
 * attributes of the call that absorbed. Null where y is no such result.
 */
export function gradientLater(op: ElementwiseOp, g: Tensor, y: Tensor): Tensor | null {
  const attrs = absorbed.get(y._data);
  if (attrs === undefined || g.dtype !== y.dtype || !same(g.shape, y.shape)) return null;
  const call = new PendingCall(op, [g, y], attrs, false);
  const storage = call.storage = new Storage(y.device, y.numel() * dtypes[y.dtype].bytes, call);
  return call.result = makeTensor(storage, y.shape, y._strides, 0, y.dtype, y._layout);
}

/** The call of `op` whose whole result `t` is, perhaps in another shape, where nobody has read it yet. */
export function pendingCall<A>(
  t: Tensor,
  op: TypedKernelOp<A> | ElementwiseOp,
): PendingCall<A> | null {
  const call = t._data.deferred;
  if (!(call instanceof PendingCall) || call.op !== op) return null;
  return t._layout === 0 && t.numel() === call.result.numel() ? call as PendingCall<A> : null;
}

/** Whether `t` may stay pending for as long as it lives. */
export function mayStayPending(t: Tensor): boolean {
  const call = t._data.deferred;
  return call instanceof PendingCall && call.lasting;
}
