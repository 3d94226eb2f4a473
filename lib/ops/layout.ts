// Layout ops. Views read the same storage with other strides and need no kernel; `fill` writes a value.
// A view whose elements are all distinct takes its gradient by writing it through the same view into zeros.

import type { DType } from "../dtype.ts";
import type { Tensor } from "../tensor/mod.ts";
import { coalesce, inferSize, reducedDims, type Shape, show, viewStrides, wrapDim } from "../shape.ts";
import { declare, kernel, view, type ViewOp } from "./op.ts";

/** The gradient of a view without repeated elements: g written into zeros through the same view. */
function throughZeros<A>(g: Tensor, shape: Shape, attrs: A, self: ViewOp<A>): Tensor {
  const full = g._zeros(shape);
  full._viewAs(self as unknown as ViewOp<unknown>, attrs).copy_(g);
  return full;
}

/** One dim's window: elements start, start + step, ... below stop. */
export interface DimWindow {
  readonly start: number;
  readonly length: number;
  readonly step: number;
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
          `Cannot view ${show(shape)} as ${show(a.shape)}: its elements are not in that order in memory; use reshape`,
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
      const steps = target.map((s, i) => i < lead || (shape[i - lead] === 1 && s !== 1) ? 0 : strides[i - lead]!);
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
  diagonal: view<{ offset: number; dim1: number; dim2: number }>({
    doc: "the elements with equal positions (up to offset) in two dims, as a last dim",
    window: (shape, strides, { offset, dim1, dim2 }) => {
      const rows = shape[dim1]!, cols = shape[dim2]!;
      const length = Math.max(0, offset >= 0 ? Math.min(rows, cols - offset) : Math.min(rows + offset, cols));
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
      if (y.dtype === "int32" || y.dtype === "int64" || y.dtype === "uint8") y.i.fill(BigInt(Math.trunc(value)));
      else y.f.fill(value);
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
});
