// Kernel calls that wait until somebody reads their result, like the elementwise expressions of lazy.ts. Backward uses
// it for gradients that few consumers need as they are: that of an embedding is a few rows among many zeros, that of
// scores under cross entropy is wanted only in products. A consumer that knows better looks at the call (pendingCall)
// and works on its inputs; to everybody else the result is an ordinary tensor.

import type { TypedKernelOp } from "./ops/op.ts";
import type { Tensor } from "./tensor/mod.ts";
import type { Device } from "./device.ts";
import { type Deferred, type Reading, Storage } from "./storage.ts";
import { type DType, dtypes } from "./dtype.ts";
import { contiguousStrides, numel } from "./shape.ts";
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
  readonly op: TypedKernelOp<A>;
  readonly attrs: A;
  /** Whether it may wait for as long as its result lives: it holds less memory than the result would. */
  readonly lasting: boolean;
  wanted = false;
  storage!: Storage;
  result!: Tensor;
  #inputs: (Input | null)[];

  constructor(
    op: TypedKernelOp<A>,
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
      (op.kernels[device.id] ??= device.backend.kernel(op))(inputs, [y], this.attrs as never);
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

/** The call of `op` whose whole result `t` is, perhaps in another shape, where nobody has read it yet. */
export function pendingCall<A>(t: Tensor, op: TypedKernelOp<A>): PendingCall<A> | null {
  const call = t._data.deferred;
  if (!(call instanceof PendingCall) || call.op !== op) return null;
  return t._layout === 0 && t.numel() === call.result.numel() ? call as PendingCall<A> : null;
}

/** Whether `t` may stay pending for as long as it lives. */
export function mayStayPending(t: Tensor): boolean {
  const call = t._data.deferred;
  return call instanceof PendingCall && call.lasting;
}
