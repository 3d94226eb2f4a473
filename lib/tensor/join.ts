// Several tensors in the memory of one, and the reverse: cat, stack, and the shared node of split, chunk and unbind.
// Both directions are one recorded step each, so that n parts cost one pass over the memory, not n.

import { castTo, makeView } from "../dispatch.ts";
import { type DType, promote } from "../dtype.ts";
import type { Device } from "../device.ts";
import {
  contiguousStrides,
  memoryOrder,
  orderedStrides,
  same,
  type Shape,
  show,
  wrapDim,
} from "../shape.ts";
import { checkTensors } from "../options.ts";
import { edgeOf, needsGrad, Node } from "../autograd/graph.ts";
import { gradEnabled, setGradEnabled } from "../autograd/mode.ts";
import { elementwiseOps } from "../ops/elementwise.ts";
import { layoutOps } from "../ops/layout.ts";
import type { ViewOp } from "../ops/op.ts";
import { allocate, makeTensor } from "./base.ts";
import type { Tensor } from "./mod.ts";

/** A tensor, and the window of a larger one that it fills. */
interface Piece {
  readonly source: Tensor;
  readonly op: ViewOp<unknown>;
  readonly attrs: unknown;
}

/** What the pieces are put into. */
interface Frame {
  readonly shape: Shape;
  readonly strides: Shape;
  readonly dtype: DType;
  readonly device: Device;
}

/** The origin of an assembled tensor: each piece gets the gradient of its window. */
class AssembleNode extends Node {
  readonly name: string;
  readonly #windows: readonly { op: ViewOp<unknown>; attrs: unknown }[];

  constructor(name: string, pieces: readonly Piece[]) {
    super(pieces.map((p) => edgeOf(p.source)), pieces.map((p) => p.source._outputIndex));
    this.name = name;
    this.#windows = pieces.map(({ op, attrs }) => ({ op, attrs }));
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    const g = grads[0]!;
    return this.#windows.map((w, i) => this.next[i] === null ? null : g._viewAs(w.op, w.attrs));
  }

  free(): void {}
}

/** Copies `source` into a window of `y`, not recorded. */
function write(y: Tensor, { source, op, attrs }: Piece): void {
  const w = op.window(y.shape, y._strides, attrs);
  const target = makeTensor(y._data, w.shape, w.strides, y._offset + w.offset, y.dtype, -1);
  const kernel = elementwiseOps.copy.kernels[y.device.id] ??= y.device.backend.elementwise(
    elementwiseOps.copy,
  );
  kernel(source, 0, 0, target, source._layout === 0 && target._layout === 0);
  target.dispose();
}

/** A tensor made of pieces that fill it, or that leave zeros in between (`sparse`). */
function assemble(name: string, frame: Frame, pieces: readonly Piece[], sparse: boolean): Tensor {
  const { shape, strides, dtype, device } = frame;
  const y = same(strides, contiguousStrides(shape))
    ? allocate(shape, dtype, device, strides, 0)
    : allocate(shape, dtype, device, strides, 1);
  if (sparse) setUnrecorded(() => y.zero_());
  for (const p of pieces) if (p.source.numel() > 0) write(y, p);
  if (gradEnabled() && pieces.some((p) => needsGrad(p.source))) {
    y._node = new AssembleNode(name, pieces);
  }
  return y;
}

function setUnrecorded<T>(fn: () => T): T {
  const before = setGradEnabled(false);
  try {
    return fn();
  } finally {
    setGradEnabled(before);
  }
}

function erase<A>(op: ViewOp<A>): ViewOp<unknown> {
  return op as unknown as ViewOp<unknown>;
}

/** The part [start, start + length) of `dim`, every `step`-th element, and all of the other dims. */
export function windowAttrs(
  shape: Shape,
  dim: number,
  start: number,
  length: number,
  step = 1,
): { dims: { start: number; length: number; step: number }[] } {
  return {
    dims: shape.map((s, d) =>
      d === dim ? { start, length, step } : { start: 0, length: s, step: 1 }
    ),
  };
}

/**
 * Zeros of `shape` with `x` in every `step`-th position along `dims` (from 0 on); recorded.
 * The inverse of a window with steps.
 */
export function spread(x: Tensor, shape: Shape, dims: readonly number[], step: number): Tensor {
  const attrs = {
    dims: x.shape.map((length, d) => ({ start: 0, length, step: dims.includes(d) ? step : 1 })),
  };
  const frame = { shape, strides: contiguousStrides(shape), dtype: x.dtype, device: x.device };
  return assemble("dilate", frame, [{ source: x, op: erase(layoutOps.window), attrs }], true);
}

/** The common dtype, device and memory order of tensors that are joined. */
function frameOf(what: string, tensors: readonly Tensor[], shape: Shape): Frame {
  const first = tensors[0]!, device = first.device;
  for (const t of tensors) {
    if (t.device !== device) {
      throw new Error(
        `Cannot ${what} tensors on ${device} and ${t.device}: move one of them with to(device) first`,
      );
    }
  }
  const order = memoryOrder(first.shape, first._strides);
  const formatted = first.ndim === shape.length &&
    tensors.every((t) => t._layout === 1 && same(memoryOrder(t.shape, t._strides), order));
  return {
    shape,
    strides: formatted ? orderedStrides(shape, order) : contiguousStrides(shape),
    dtype: tensors.map((t) => t.dtype).reduce(promote),
    device,
  };
}

function checkList(what: string, tensors: readonly Tensor[]): void {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    throw new TypeError(`Cannot ${what} nothing: give a list of at least one tensor`);
  }
  for (const tensor of tensors) checkTensors(what, { tensor });
}

/** `t` where its dtype is that of the frame, else a conversion, listed in `made`. */
function converted(t: Tensor, dtype: DType, made: Tensor[]): Tensor {
  const c = castTo(t, dtype);
  if (c !== t) made.push(c);
  return c;
}

/**
 * Tensors one after another along an existing dim. dtypes promote.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * console.log(ndl.cat([ndl.tensor([1, 2]), ndl.tensor([3])]).tolist()); // [1, 2, 3]
 * ```
 *
 * @throws RangeError where the tensors differ in another dim
 */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  checkList("cat", tensors);
  // As in PyTorch, an empty 1-d tensor goes with anything.
  const used = tensors.filter((t) => !(t.ndim === 1 && t.shape[0] === 0));
  const model = (used[0] ?? tensors[0])!, parts = used.length > 0 ? used : tensors.slice(0, 1);
  if (parts.some((t) => t.ndim === 0)) {
    throw new RangeError("Cannot cat tensors without dims: use stack, which adds one");
  }
  const d = wrapDim("cat", dim, model.ndim);
  for (const t of parts) {
    const off = t.shape.findIndex((s, i) => i !== d && s !== model.shape[i]);
    if (t.ndim !== model.ndim || off >= 0) {
      throw new RangeError(
        `Cannot cat ${show(model.shape)} and ${show(t.shape)} along dim ${d}: ` +
          (off >= 0 && t.ndim === model.ndim
            ? `sizes ${model.shape[off]} and ${t.shape[off]} of dim ${off} differ`
            : "the numbers of dims differ"),
      );
    }
  }
  const total = parts.reduce((n, t) => n + t.shape[d]!, 0);
  const frame = frameOf("cat", parts, model.shape.map((s, i) => i === d ? total : s));
  const dtype = tensors.map((t) => t.dtype).reduce(promote);
  const made: Tensor[] = [];
  let start = 0;
  const pieces = parts.map((t): Piece => {
    const attrs = windowAttrs(frame.shape, d, start, t.shape[d]!);
    start += t.shape[d]!;
    return { source: converted(t, dtype, made), op: erase(layoutOps.window), attrs };
  });
  const y = assemble("cat", { ...frame, dtype }, pieces, false);
  for (const t of made) t.dispose();
  return y;
}

/**
 * Tensors of one shape along a new dim. dtypes promote.
 *
 * @throws RangeError where the shapes differ
 */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  checkList("stack", tensors);
  const model = tensors[0]!;
  const d = wrapDim("stack", dim, model.ndim + 1);
  for (const t of tensors) {
    if (!same(t.shape, model.shape)) {
      throw new RangeError(
        `Cannot stack ${show(model.shape)} and ${show(t.shape)}: the shapes must be equal`,
      );
    }
  }
  const shape = [...model.shape.slice(0, d), tensors.length, ...model.shape.slice(d)];
  const frame = frameOf("stack", tensors, shape);
  const made: Tensor[] = [];
  const pieces = tensors.map((t, index): Piece => ({
    source: converted(t, frame.dtype, made),
    op: erase(layoutOps.select),
    attrs: { dim: d, index },
  }));
  const y = assemble("stack", frame, pieces, false);
  for (const t of made) t.dispose();
  return y;
}

/** The origin of the parts of a tensor: their gradients are put together in one step. */
class PartsNode extends Node {
  readonly name: string;
  readonly #shape: Shape;
  readonly #op: ViewOp<unknown>;
  readonly #attrs: readonly unknown[];

  constructor(name: string, t: Tensor, op: ViewOp<unknown>, attrs: readonly unknown[]) {
    super([edgeOf(t)], [t._outputIndex]);
    this.name = name;
    this.#shape = t.shape;
    this.#op = op;
    this.#attrs = attrs;
  }

  backward(grads: readonly (Tensor | null)[]): readonly (Tensor | null)[] {
    const pieces: Piece[] = [];
    this.#attrs.forEach((attrs, i) => {
      const source = grads[i] ?? null;
      if (source !== null) pieces.push({ source, op: this.#op, attrs });
    });
    const { dtype, device } = pieces[0]!.source;
    const frame = { shape: this.#shape, strides: contiguousStrides(this.#shape), dtype, device };
    return [assemble(this.name, frame, pieces, pieces.length < this.#attrs.length)];
  }

  free(): void {}
}

/** Views of `t` that together cover it, each by the same op with its own attributes; recorded as one step. */
export function parts<A>(name: string, t: Tensor, op: ViewOp<A>, attrs: readonly A[]): Tensor[] {
  const views = setUnrecorded(() => attrs.map((a) => makeView(op, t, a)));
  if (gradEnabled() && needsGrad(t)) {
    const node = new PartsNode(name, t, erase(op), attrs);
    views.forEach((v, i) => {
      v._node = node;
      v._outputIndex = i;
    });
  }
  return views;
}
