// The root of the Tensor class chain: fields, reading, printing-free basics, autograd entry points, release.
// Members that start with an underscore are the framework's; users have no business with them.

import { type DType, dtypes, fromBfloat16, type TypedArray, viewOf } from "../dtype.ts";
import { isContiguous, isDense, numel, type Shape, show } from "../shape.ts";
import { type Memory, Storage } from "../storage.ts";
import type { Device } from "../device.ts";
import { escape, track } from "../scope.ts";
import type { Tensor } from "./mod.ts";
import {
  type AccumulateGrad,
  edgeOf,
  type GradHook,
  needsGrad,
  type Node,
} from "../autograd/graph.ts";
import { backward, type BackwardOptions } from "../autograd/engine.ts";
import type { ViewOp } from "../ops/op.ts";

/** How a view was made: enough to record it again after its base changed in place. */
export interface ViewRecord {
  /** The tensor that was viewed. */
  readonly parent: Tensor;
  /** The view op. */
  readonly op: ViewOp<unknown>;
  /** Its attributes. */
  readonly attrs: unknown;
  /** The storage's epoch when the view was recorded. */
  epoch: number;
}

/** Nested arrays of numbers, bigints or booleans, as `tolist` returns them. */
export type NestedList = number | bigint | boolean | NestedList[];

/** Row-major, another dense order, or with gaps or overlaps. */
export type Layout = 0 | 1 | 2;

function layoutOf(shape: Shape, strides: Shape): Layout {
  return isContiguous(shape, strides) ? 0 : isDense(shape, strides) ? 1 : 2;
}

/** Fields and basics of tensors; `Tensor` (mod.ts) is the class that users see. */
export abstract class TensorBase {
  /** Sizes per dim, outermost first. */
  readonly shape: readonly number[];
  /** Element type. */
  readonly dtype: DType;
  /** @internal Counted memory; null after dispose. */
  _storage: Storage | null;
  /** @internal Strides in elements. */
  readonly _strides: readonly number[];
  /** @internal First element, in elements of this dtype from the storage's base. */
  readonly _offset: number;
  /** @internal The dtype's code in the C ABI. */
  readonly _code: number;
  /** @internal First element, in elements from the start of `_memory`. */
  readonly _start: number;
  /** @internal How the elements lie in memory. */
  readonly _layout: Layout;
  /** @internal Recorded op that made this tensor. */
  _node: Node | null = null;
  /** @internal Which output of that op this is. */
  _outputIndex = 0;
  /** @internal Whether this is a leaf that requires grad. */
  _leafGrad = false;
  /** @internal The accumulated gradient. */
  _grad: Tensor | null = null;
  /** @internal Whether user code has seen the gradient, so that its memory must not be recycled. */
  _gradSeen = false;
  /** @internal The graph's end at this leaf. */
  _accumulate: AccumulateGrad | null = null;
  /** @internal How this view was made. */
  _view: ViewRecord | null = null;

  /** @internal Tensors are made by `tensor()`, `zeros()` and ops. */
  constructor(
    storage: Storage,
    shape: readonly number[],
    strides: readonly number[],
    offset: number,
    dtype: DType,
    layout: Layout | -1,
  ) {
    this.shape = shape;
    this.dtype = dtype;
    this._storage = storage;
    this._strides = strides;
    this._offset = offset;
    const info = dtypes[dtype];
    this._code = info.code;
    this._start = offset + storage.base / info.bytes;
    this._layout = layout === -1 ? layoutOf(shape, strides) : layout;
    storage.refs++;
    track(this);
  }

  /** @internal The storage; throws after dispose. */
  get _data(): Storage {
    if (this._storage === null) {
      throw new Error(
        `Cannot use a tensor of shape ${
          show(this.shape)
        }: it was disposed (or made in a tidy scope that ended)`,
      );
    }
    return this._storage;
  }

  /** @internal Base pointer of native calls; pending work on the elements is done first. */
  get _memory(): Memory {
    const storage = this._data;
    if (storage.deferred !== null) storage.deferred.run();
    return storage.memory;
  }

  /** Where this tensor lives. */
  get device(): Device {
    return this._data.device;
  }

  /** Number of dims. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Sizes of all dims, or of one (negative dims count from the end). */
  size(): number[];
  /** The size of `dim`. */
  size(dim: number): number;
  /** Both forms. */
  size(dim?: number): number | number[] {
    if (dim === undefined) return [...this.shape];
    const size = this.shape.at(dim);
    if (size === undefined || !Number.isInteger(dim)) {
      throw new RangeError(
        `Cannot take the size of dim ${dim} of a tensor of shape ${show(this.shape)}`,
      );
    }
    return size;
  }

  /** Number of elements. */
  numel(): number {
    return numel(this.shape);
  }

  /** Whether operations on this tensor are recorded. Setting it is allowed on leaves only. */
  get requiresGrad(): boolean {
    return needsGrad(this as unknown as Tensor);
  }

  /** Sets `requiresGrad`. */
  set requiresGrad(on: boolean) {
    this.requiresGrad_(on);
  }

  /**
   * Starts (or stops) recording operations on this leaf.
   *
   * @throws Error on results of recorded ops, and on dtypes without gradient
   */
  requiresGrad_(on = true): Tensor {
    const self = this as unknown as Tensor;
    if (on && dtypes[this.dtype].kind !== "float") {
      throw new TypeError(
        `Cannot require grad of a ${this.dtype} tensor: only floating point tensors have gradients`,
      );
    }
    if (!this.isLeaf) {
      if (on) return self;
      throw new Error(
        "Cannot stop recording on a tensor that is the result of recorded ops: use detach()",
      );
    }
    this._leafGrad = on;
    return self;
  }

  /** Whether this tensor was made by the user rather than by a recorded op. */
  get isLeaf(): boolean {
    return !this.requiresGrad || this._node === null;
  }

  /** The recorded op that made this tensor, or null. */
  get gradFn(): Node | null {
    return this.requiresGrad ? this._node : null;
  }

  /** The gradient that backward accumulated here, or null. Can be assigned. */
  get grad(): Tensor | null {
    this._gradSeen = true;
    return this._grad;
  }

  /** Replaces the accumulated gradient. */
  set grad(g: Tensor | null) {
    if (g === null) {
      this._clearGrad();
      return;
    }
    if (
      g.shape.length !== this.ndim || g.shape.some((s, i) => s !== this.shape[i])
    ) {
      throw new RangeError(
        `Cannot assign a gradient of shape ${show(g.shape)} to a tensor of shape ${
          show(this.shape)
        }`,
      );
    }
    if (g.dtype !== this.dtype || g.device !== this.device) {
      throw new TypeError(
        `Cannot assign a ${g.dtype} gradient on ${g.device} to a ${this.dtype} tensor on ${this.device}`,
      );
    }
    this._grad = g;
    this._gradSeen = true;
  }

  /** @internal Sets a gradient that the framework made. */
  _setGrad(g: Tensor | null): void {
    this._grad = g;
    this._gradSeen = false;
    if (g !== null) escape(g);
  }

  /** @internal Drops the gradient; its memory is reused where nobody else can see it. */
  _clearGrad(): void {
    const g = this._grad;
    this._grad = null;
    if (g !== null && !this._gradSeen) g.dispose();
  }

  /**
   * Adds the gradient of this tensor with respect to every leaf into the leaves' `grad`.
   *
   * @param grad the gradient of this tensor (default: 1, for a tensor of one element)
   * @throws Error where nothing was recorded, or the graph was freed by an earlier backward
   */
  backward(grad?: Tensor | null, options: BackwardOptions = {}): void {
    backward(this as unknown as Tensor, grad, options);
  }

  /**
   * Calls `hook` with this tensor's gradient whenever it is computed; what the hook returns replaces it.
   *
   * @returns a function that removes the hook
   */
  registerHook(hook: GradHook): () => void {
    const node = edgeOf(this as unknown as Tensor);
    if (node === null) {
      throw new Error("Cannot register a hook on a tensor that does not require grad");
    }
    const hooks = node.hooks ??= new Map();
    const index = this._outputIndex;
    const set = hooks.get(index) ?? new Set<GradHook>();
    hooks.set(index, set.add(hook));
    return () => {
      set.delete(hook);
    };
  }

  /**
   * Keeps the gradient of this non-leaf in `grad` when backward passes it: as all hooks leave it.
   *
   * @throws Error where this tensor does not require grad
   */
  retainGrad(): void {
    const self = this as unknown as Tensor, node = edgeOf(self);
    if (node === null) {
      throw new Error("Cannot retain the gradient of a tensor that does not require grad");
    }
    if (!this.isLeaf) (node.retained ??= new Map()).set(this._outputIndex, self);
  }

  /** A tensor on the same storage that is not recorded. */
  detach(): Tensor {
    return alias(this as unknown as Tensor, this._data, false);
  }

  /** Gives the memory back at once. Using the tensor afterwards is an error; saved copies stay valid. */
  dispose(): void {
    const storage = this._storage;
    if (storage === null) return;
    this._storage = null;
    storage.release();
  }

  /** `using t = ...` disposes at the end of the block. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal Takes over the elements of `t` (equal shape, any dtype or device); `t` must not be used again. */
  _become(t: Tensor): void {
    const self = this as { -readonly [K in keyof TensorBase]: TensorBase[K] };
    const before = this._data;
    t._data.retain();
    self._storage = t._storage;
    self.dtype = t.dtype;
    self._strides = t._strides;
    self._offset = t._offset;
    self._code = t._code;
    self._start = t._start;
    self._layout = t._layout;
    self._accumulate = null;
    before.release();
    t.dispose();
  }

  /** @internal The elements in logical order; bfloat16 as bits. A copy. */
  _read(): TypedArray | Uint16Array {
    const bytes = dtypes[this.dtype].bytes, n = this.numel();
    if (n === 0) { // a view of nothing may begin behind the end of its memory
      void this._memory;
      return viewOf(this.dtype, new ArrayBuffer(0), 0, 0);
    }
    const dense = (this as unknown as Tensor)._dense();
    const raw = dense.device.backend.read(
      dense._memory,
      dense._data.base + dense._offset * bytes,
      n * bytes,
    );
    const copy = raw.slice();
    if (dense !== (this as unknown as Tensor)) dense.dispose();
    return viewOf(this.dtype, copy.buffer, 0, n);
  }

  /** A copy of the elements in logical order. bfloat16 widens to Float32Array; bool is 0 and 1 in a Uint8Array. */
  toTypedArray(): TypedArray {
    const data = this._read();
    if (this.dtype === "bfloat16") return Float32Array.from(data as Uint16Array, fromBfloat16);
    return data as TypedArray;
  }

  /** The elements as nested arrays: numbers (bigints beyond 2^53), booleans for bool. */
  tolist(): NestedList {
    const data = this.toTypedArray();
    const bool = this.dtype === "bool";
    const value = (x: number | bigint): NestedList =>
      bool ? x !== 0 : typeof x === "bigint" && Number.isSafeInteger(Number(x)) ? Number(x) : x;
    let at = 0;
    const build = (dim: number): NestedList => {
      if (dim === this.ndim) return value(data[at++]!);
      const out: NestedList[] = [];
      for (let i = 0; i < this.shape[dim]!; i++) out.push(build(dim + 1));
      return out;
    };
    return build(0);
  }

  /**
   * The value of a tensor of one element: a number, or a boolean for bool.
   *
   * @throws Error where there is more or less than one element
   */
  item(): number {
    if (this.numel() !== 1) {
      throw new Error(
        `Cannot convert a tensor of shape ${
          show(this.shape)
        } to a scalar: it has ${this.numel()} elements`,
      );
    }
    const memory = this._memory;
    const { base, device } = this._data;
    const bytes = dtypes[this.dtype].bytes;
    const raw = device.backend.read(memory, base + this._offset * bytes, bytes);
    const x = viewOf(this.dtype, raw.buffer, raw.byteOffset, 1)[0]!;
    if (this.dtype === "bfloat16") return fromBfloat16(x as number);
    // Typed as a number because that is what scripts compute with; bool and huge int64 differ at run time.
    if (this.dtype === "bool") return (x !== 0) as unknown as number;
    if (typeof x === "bigint") return (Number.isSafeInteger(Number(x)) ? Number(x) : x) as number;
    return x;
  }
}

/**
 * A link of the class chain as the Tensor that it always is. (Private methods and accessors would do the same, but
 * each class that has one brands every tensor made: a third of the time of a small op.)
 */
export function self(t: TensorBase): Tensor {
  return t as Tensor;
}

/** Makes a Tensor; set by mod.ts when the class chain is complete. */
export type MakeTensor = (
  storage: Storage,
  shape: readonly number[],
  strides: readonly number[],
  offset: number,
  dtype: DType,
  layout: Layout | -1,
) => Tensor;

/** Makes a Tensor on existing storage; `layout` -1 means: find out. */
export let makeTensor: MakeTensor = () => {
  throw new Error("lib/tensor/mod.ts was not loaded");
};

/** Lets mod.ts provide the finished class. */
export function setTensorClass(make: MakeTensor): void {
  makeTensor = make;
}

/** Another handle on the same elements (recorded as the same result, unless `recorded` is false). */
export function alias(t: Tensor, storage: Storage, recorded = true): Tensor {
  const a = makeTensor(storage, t.shape, t._strides, t._offset, t.dtype, t._layout);
  if (recorded) {
    a._node = t._node;
    a._outputIndex = t._outputIndex;
    a._leafGrad = t._leafGrad;
    if (t._leafGrad) edgeOf(t); // both handles must end in one AccumulateGrad
    a._accumulate = t._accumulate;
    a._view = t._view;
  }
  return a;
}

/** New uninitialised memory for a tensor. `strides` must be dense; row-major where omitted. */
export function allocate(
  shape: readonly number[],
  dtype: DType,
  device: Device,
  strides: readonly number[],
  layout: Layout,
): Tensor {
  const storage = new Storage(device, numel(shape) * dtypes[dtype].bytes);
  return makeTensor(storage, shape, strides, 0, dtype, layout);
}
