// Layout ops. Views read the same storage with other strides and need no kernel; the kernels here write values
// (`fill`), frames (`pad`) and zeros beside a diagonal (`triangle`).
// A view whose elements are all distinct takes its gradient by writing it through the same view into zeros.

import { type DType, isInt } from "../dtype.ts";
import type { Tensor } from "../tensor/mod.ts";
import {
  coalesce,
  contiguousStrides,
  inferSize,
  memoryOrder,
  orderedStrides,
  reducedDims,
  type Shape,
  show,
  viewStrides,
  wrapDim,
} from "../shape.ts";
import { call } from "../dispatch.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp, view, type ViewOp } from "./op.ts";

/** The gradient of a view without repeated elements: g written into zeros through the same view. */
function throughZeros<A>(g: Tensor, shape: Shape, attrs: A, self: ViewOp<A>): Tensor {
  const full = g._zeros(shape);
  full._viewAs(self as unknown as ViewOp<unknown>, attrs).copy_(g);
  return full;
}

/** One dim's window: elements start, start + step, ... below stop. */
export interface DimWindow {
  /** The first position. */
  readonly start: number;
  /** How many positions. */
  readonly length: number;
  /** From one position to the next. */
  readonly step: number;
}

/** What surrounds a padded tensor. */
export type PadMode = "constant" | "reflect" | "replicate" | "circular";

/** Codes of the modes in descriptors. */
export const padModes: readonly PadMode[] = ["constant", "reflect", "replicate", "circular"];

/** Elements to add per dim, and which. */
export interface PadAttrs {
  /** Elements before the first, per dim. */
  readonly before: Shape;
  /** Elements after the last, per dim. */
  readonly after: Shape;
  /** What they are. */
  readonly mode: PadMode;
  /** The constant of mode "constant". */
  readonly value: number;
}

/** Where along a dim of size `size` the element at `i` (outside: negative or too large) comes from, or -1. */
function padSource(mode: PadMode, i: number, size: number): number {
  if (i >= 0 && i < size) return i;
  if (mode === "replicate") return i < 0 ? 0 : size - 1;
  if (mode === "circular") return i < 0 ? i + size : i - size;
  return mode === "constant" ? -1 : i < 0 ? -i : 2 * (size - 1) - i;
}

function checkPad(x: Tensor, { before, after, mode }: PadAttrs): void {
  x.shape.forEach((size, d) => {
    const most = Math.max(before[d]!, after[d]!);
    const limit = mode === "reflect"
      ? size - 1
      : mode === "circular"
      ? size
      : size > 0
      ? Infinity
      : 0;
    if (mode !== "constant" && most > Math.max(limit, 0)) {
      throw new RangeError(
        `Cannot pad dim ${d} of ${
          show(x.shape)
        } by ${most} in mode "${mode}": it takes at most ${limit}`,
      );
    }
  });
}

/**
 * Dims of a padding from outermost to innermost in the memory of y, as few as possible:
 * neighbours without padding merge, and in mode constant an unpadded dim merges into the padded one around it.
 */
function padDims(x: Tensor, order: readonly number[], a: PadAttrs): number[] {
  const dims: { size: number; before: number; after: number; stride: number }[] = [];
  for (const d of order) {
    const size = x.shape[d]!, before = a.before[d]!, after = a.after[d]!, stride = x._strides[d]!;
    const last = dims[dims.length - 1];
    const merges = last !== undefined && before === 0 && after === 0 &&
      last.stride === stride * size &&
      (a.mode === "constant" || (last.before === 0 && last.after === 0));
    if (!merges) dims.push({ size, before, after, stride });
    else {
      dims[dims.length - 1] = {
        size: last.size * size,
        before: last.before * size,
        after: last.after * size,
        stride,
      };
    }
  }
  const column = (key: "size" | "before" | "after" | "stride"): number[] => dims.map((d) => d[key]);
  return [
    dims.length,
    ...column("size"),
    ...column("before"),
    ...column("after"),
    ...column("stride"),
  ];
}

/** The gradient of a padding of one dim: that of the middle, plus what the copies around it got. */
function unpad(g: Tensor, dim: number, before: number, after: number, mode: PadMode): Tensor {
  const size = g.shape[dim]! - before - after;
  const middle = g.narrow(dim, before, size);
  if (mode === "constant") return middle;
  const copies: [Tensor, number][] = []; // gradients of copies, and where in the middle they belong
  if (before > 0) {
    const part = g.narrow(dim, 0, before);
    if (mode === "replicate") copies.push([part.sum(dim, { keepdim: true }), 0]);
    else copies.push(mode === "circular" ? [part, size - before] : [part.flip(dim), 1]);
  }
  if (after > 0) {
    const part = g.narrow(dim, before + size, after);
    if (mode === "replicate") copies.push([part.sum(dim, { keepdim: true }), size - 1]);
    else copies.push(mode === "circular" ? [part, 0] : [part.flip(dim), size - 1 - after]);
  }
  return copies.reduce((sum, [part, at]) => {
    const rest = size - at - part.shape[dim]!;
    const frame = new Array<number>(2 * (g.ndim - 1 - dim)).fill(0);
    return sum.add(part.pad([...frame, at, rest]));
  }, middle);
}

// Descriptor: [mode, value, ndim, sizes of x..., before..., after..., strides of x...], dims in the order of y's
// memory; y has no gaps.
const pad: TypedKernelOp<PadAttrs> = kernel({
  doc: "x in a frame: a constant, or x reflected, replicated or repeated",
  inputs: ["x"],
  outputs: ["y"],
  strided: ["x"],
  infer: ({ x }, a: PadAttrs) => {
    checkPad(x, a);
    const shape = x.shape.map((s, d) => s + a.before[d]! + a.after[d]!);
    const strides = x._layout === 1
      ? orderedStrides(shape, memoryOrder(x.shape, x._strides))
      : contiguousStrides(shape);
    return [{ shape, dtype: x.dtype, strides }];
  },
  descriptor: ({ x }, { y }, a) => [
    padModes.indexOf(a.mode),
    a.value,
    ...padDims(x, memoryOrder(y.shape, y._strides), a),
  ],
  reference: ({ x }, { y }, a) => {
    const from = cells(x),
      to = cells(y),
      steps = contiguousStrides(x.shape),
      out = contiguousStrides(y.shape);
    const value = (isInt(y.dtype) ? BigInt(Math.trunc(a.value)) : a.value) as number;
    for (let flat = 0; flat < to.length; flat++) {
      let at = 0, inside = true;
      x.shape.forEach((size, d) => {
        const i = padSource(a.mode, Math.floor(flat / out[d]!) % y.shape[d]! - a.before[d]!, size);
        if (i < 0) inside = false;
        at += i * steps[d]!;
      });
      to[flat] = inside ? from[at]! : value;
    }
  },
  saves: [],
  vjp: ({ y: g }, _, a) => [
    a.before.reduce((t, before, d) => {
      const after = a.after[d]!;
      return before === 0 && after === 0 ? t : unpad(t, d, before, after, a.mode);
    }, g!),
  ],
});

// Descriptor: [rows, columns, diagonal, upper (0 or 1)] of each matrix in x.
const triangle: TypedKernelOp<{ diagonal: number; upper: boolean }> = kernel({
  doc: "matrices with zeros above (or below) a diagonal",
  inputs: ["x"],
  outputs: ["y"],
  infer: ({ x }, { upper }: { diagonal: number; upper: boolean }) => {
    if (x.ndim < 2) {
      throw new RangeError(
        `Cannot ${upper ? "triu" : "tril"} a tensor of shape ${
          show(x.shape)
        }: it needs at least 2 dims`,
      );
    }
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  descriptor: ({ x }, _, a) => [x.size(-2), x.size(-1), a.diagonal, Number(a.upper)],
  reference: ({ x }, { y }, a) => {
    const from = cells(x), to = cells(y), rows = x.shape.at(-2)!, columns = x.shape.at(-1)!;
    for (let i = 0; i < from.length; i++) {
      const past = i % columns - Math.floor(i / columns) % rows - a.diagonal;
      if (a.upper ? past >= 0 : past <= 0) to[i] = from[i]!;
    }
  },
  saves: [],
  vjp: ({ y: g }, _, a) => [call(triangle, [g], a)[0]!],
});

/** The elements of a tensor. Integers are bigints: typed as one kind, for functions that only move and add them. */
export function cells(t: RefTensor): Float64Array {
  return isInt(t.dtype) ? t.i as unknown as Float64Array : t.f;
}

/** All layout ops. */
export const layoutOps = declare({
  view: view<{ shape: Shape }>({
    doc: "the same elements in row-major order under another shape",
    window: (shape, strides, a) => {
      const target = inferSize("view", shape, a.shape);
      const steps = viewStrides(shape, strides, target);
      if (steps === null) {
        throw new Error(
          `Cannot view ${show(shape)} as ${
            show(a.shape)
          }: its elements are not in that order in memory; use reshape`,
        );
      }
      return { shape: target, strides: steps, offset: 0 };
    },
    vjp: (g, shape) => g.reshape(shape),
  }),
  permute: view<{ dims: readonly number[] }>({
    doc: "dims in another order",
    window: (shape, strides, { dims }) => ({
      shape: dims.map((d) => shape[d]!),
      strides: dims.map((d) => strides[d]!),
      offset: 0,
    }),
    vjp: (g, _shape, { dims }) => g.permute(dims.map((_, i) => dims.indexOf(i))),
  }),
  expand: view<{ shape: Shape }>({
    doc: "dims of size 1 repeated without copying",
    window: (shape, strides, a) => {
      const lead = a.shape.length - shape.length;
      const fail = (why: string): never => {
        throw new RangeError(`Cannot expand ${show(shape)} to ${show(a.shape)}: ${why}`);
      };
      if (lead < 0) fail("the target has fewer dims");
      const target = a.shape.map((s, i) => {
        if (i < lead) return s >= 0 ? s : fail("a new leading dim cannot be -1");
        const own = shape[i - lead]!;
        if (s === -1 || s === own) return own;
        return own === 1 && s >= 0 ? s : fail(`size ${own} of dim ${i - lead} is not 1`);
      });
      const steps = target.map((s, i) =>
        i < lead || (shape[i - lead] === 1 && s !== 1) ? 0 : strides[i - lead]!
      );
      return { shape: target, strides: steps, offset: 0 };
    },
    vjp: (g, shape) => reducedDims(g.shape, shape).length === 0 ? g : g.sumTo(shape),
  }),
  window: view<{ dims: readonly DimWindow[] }>({
    doc: "every step-th element from start on, along each dim",
    window: (_shape, strides, { dims }) => ({
      shape: dims.map((d) => d.length),
      strides: dims.map((d, i) => d.step * strides[i]!),
      offset: dims.reduce((at, d, i) => at + (d.length > 0 ? d.start * strides[i]! : 0), 0),
    }),
    vjp: throughZeros,
  }),
  select: view<{ dim: number; index: number }>({
    doc: "one position of a dim, which disappears",
    window: (shape, strides, { dim, index }) => {
      const d = wrapDim("select", dim, shape.length), size = shape[d] ?? 0;
      if (!Number.isInteger(index) || index < -size || index >= size) {
        throw new RangeError(
          `Cannot select index ${index} of dim ${dim} of ${show(shape)}: it has size ${size}`,
        );
      }
      return {
        shape: shape.filter((_, i) => i !== d),
        strides: strides.filter((_, i) => i !== d),
        offset: (index < 0 ? index + size : index) * strides[d]!,
      };
    },
    vjp: throughZeros,
  }),
  // Negative strides never reach users: `flip` copies at once.
  reverse: view<{ dims: readonly number[] }>({
    doc: "dims read backwards",
    window: (shape, strides, { dims }) => ({
      shape,
      strides: strides.map((s, d) => dims.includes(d) ? -s : s),
      offset: dims.reduce((at, d) => at + Math.max(shape[d]! - 1, 0) * strides[d]!, 0),
    }),
    vjp: (g, _shape, { dims }) => g.flip(dims),
  }),
  diagonal: view<{ offset: number; dim1: number; dim2: number }>({
    doc: "the elements with equal positions (up to offset) in two dims, as a last dim",
    window: (shape, strides, { offset, dim1, dim2 }) => {
      const rows = shape[dim1]!, cols = shape[dim2]!;
      const length = Math.max(
        0,
        offset >= 0 ? Math.min(rows, cols - offset) : Math.min(rows + offset, cols),
      );
      const rest = (_: number, i: number): boolean => i !== dim1 && i !== dim2;
      const start = offset >= 0 ? offset * strides[dim2]! : -offset * strides[dim1]!;
      return {
        shape: [...shape.filter(rest), length],
        strides: [...strides.filter(rest), strides[dim1]! + strides[dim2]!],
        offset: length > 0 ? start : 0,
      };
    },
    vjp: throughZeros,
  }),

  // Descriptor: [value, ndim, shape..., strides...] of the (possibly strided) output.
  fill: kernel({
    doc: "every element set to one value",
    inputs: [],
    outputs: ["y"],
    infer: (_, attrs: { value: number; shape: Shape; dtype: DType }) => [{
      shape: attrs.shape,
      dtype: attrs.dtype,
    }],
    descriptor: (_, { y }, { value }) =>
      y._layout < 2 ? [value, 0] : [value, ...coalesce(y.shape, [y._strides])],
    reference: (_, { y }, { value }) => {
      if (y.dtype === "int32" || y.dtype === "int64" || y.dtype === "uint8") {
        y.i.fill(BigInt(Math.trunc(value)));
      } else y.f.fill(value);
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  pad,
  triangle,
});
