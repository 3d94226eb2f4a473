// Indexing ops: reading and writing at positions given by an integer tensor (int64 or int32).
// One geometry serves all: around the indexed dims, x is (outer, size, inner). `gather` and `scatter` have an index
// per element, the others one per slice. Descriptor, unless an op says otherwise:
// [outer, size, count, inner, dim, ...], count being the number of indices along (or replacing) the indexed dims.
// An index out of range is an error that names it on every device; nothing is read there.

import { gradEnabled } from "../autograd/mode.ts";
import { isInt } from "../dtype.ts";
import { callLater, mayWait } from "../later.ts";
import { checkTensors } from "../options.ts";
import { numel, same, type Shape, show } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { cells } from "./layout.ts";
import type { RowAttrs } from "./grads.ts";
import { declare, kernel, type RefTensor, type TypedKernelOp } from "./op.ts";

/** One dim of a tensor that has `size` there. */
export interface DimAttrs {
  /** The dim, wrapped. */
  readonly dim: number;
  /** Its size in the tensor that is indexed. */
  readonly size: number;
}

/** Neighbouring dims that an index addresses together. */
export interface SlotAttrs {
  /** The first of them. */
  readonly dim: number;
  /** Their sizes in the tensor that is indexed. */
  readonly sizes: Shape;
}

/** Throws the error of an index that is not in [0, size). */
function outOfRange(op: string, index: bigint, position: number, dim: number, size: number): never {
  throw new RangeError(
    `Cannot ${op}: index ${index} at position ${position} is out of range: dim ${dim} has size ${size}`,
  );
}

/** Throws unless `index` holds integers. */
export function checkIndexDType(op: string, index: Tensor): void {
  checkTensors(op, { index });
  if (index.dtype !== "int64" && index.dtype !== "int32") {
    throw new TypeError(
      `Cannot ${op} with ${index.dtype} indices: they must be integers, made with { dtype: "int64" } ` +
        `or converted with to("int64")`,
    );
  }
}

/** Index `at` of a tensor of indices, checked. */
function checked(op: string, index: RefTensor, at: number, dim: number, size: number): number {
  const i = index.i[at]!;
  if (i < 0n || i >= BigInt(size)) outOfRange(op, i, at, dim, size);
  return Number(i);
}

interface Geometry {
  readonly outer: number;
  readonly size: number;
  readonly count: number;
  readonly inner: number;
}

/** The geometry of an op with an index per slice: x has `sizes` at `dim`, which `index` replaces. */
function slots(x: Shape, index: Shape, a: SlotAttrs): Geometry {
  return {
    outer: numel(x.slice(0, a.dim)),
    size: numel(a.sizes),
    count: numel(index),
    inner: numel(x.slice(a.dim + a.sizes.length)),
  };
}

/** The same, seen from the result `src`, in which the index stands. */
function slotsOf(src: Shape, index: Shape, a: SlotAttrs): Geometry {
  return slots([...src.slice(0, a.dim), ...a.sizes, ...src.slice(a.dim + index.length)], index, a);
}

/** The geometry of an op with an index per element. */
function columns(index: Shape, a: DimAttrs): Geometry {
  return {
    outer: numel(index.slice(0, a.dim)),
    size: a.size,
    count: index[a.dim] ?? 1,
    inner: numel(index.slice(a.dim + 1)),
  };
}

function descriptor(g: Geometry, dim: number, ...more: number[]): number[] {
  return [g.outer, g.size, g.count, g.inner, dim, ...more];
}

/** Calls `f(here, there)` for each element of an index-per-slice op: its position beside the index, and in x. */
function eachSlot(
  op: string,
  g: Geometry,
  index: RefTensor,
  dim: number,
  f: (here: number, there: number, index: number) => void,
): void {
  for (let k = 0; k < g.count; k++) checked(op, index, k, dim, g.size);
  for (let o = 0; o < g.outer; o++) {
    for (let k = 0; k < g.count; k++) {
      const i = Number(index.i[k]!);
      for (let c = 0; c < g.inner; c++) {
        f((o * g.count + k) * g.inner + c, (o * g.size + i) * g.inner + c, i);
      }
    }
  }
}

/** The same for an op with an index per element. */
function eachColumn(
  op: string,
  g: Geometry,
  index: RefTensor,
  dim: number,
  f: (here: number, there: number) => void,
): void {
  for (let o = 0; o < g.outer; o++) {
    for (let k = 0; k < g.count; k++) {
      for (let c = 0; c < g.inner; c++) {
        const here = (o * g.count + k) * g.inner + c;
        f(here, (o * g.size + checked(op, index, here, dim, g.size)) * g.inner + c);
      }
    }
  }
}

/** Checks an index-per-element op: `x` (where given) must equal the index in all dims but `dim`. */
function checkColumns(op: string, index: Tensor, x: Tensor | null, a: DimAttrs): void {
  checkIndexDType(op, index);
  if (x === null) return;
  const fits = x.ndim === index.ndim &&
    x.shape.every((s, d) => d === a.dim ? s === a.size : s === index.shape[d]);
  if (!fits) {
    throw new RangeError(
      `Cannot ${op} ${show(x.shape)} with indices of shape ${
        show(index.shape)
      } along dim ${a.dim}: ` +
        `the shapes must agree in every other dim`,
    );
  }
}

function sameShape(op: string, index: Tensor, src: Tensor | null): void {
  if (src !== null && !same(src.shape, index.shape)) {
    throw new RangeError(
      `Cannot ${op} values of shape ${show(src.shape)} with indices of shape ${
        show(index.shape)
      }: ` +
        `there must be one value per index`,
    );
  }
}

/** The shape with the dims that the index addresses replaced. */
function replaced(x: Shape, a: SlotAttrs, by: Shape): number[] {
  return [...x.slice(0, a.dim), ...by, ...x.slice(a.dim + a.sizes.length)];
}

/** The shape of the tensor that slices `src`, one per index, go into. */
function target(src: Shape, index: Shape, a: SlotAttrs): number[] {
  return [...src.slice(0, a.dim), ...a.sizes, ...src.slice(a.dim + index.length)];
}

function checkSlots(op: string, index: Tensor, src: Tensor | null, x: Shape, a: SlotAttrs): void {
  checkIndexDType(op, index);
  if (src === null) return;
  if (!same(src.shape, replaced(x, a, index.shape))) {
    throw new RangeError(
      `Cannot ${op} values of shape ${show(src.shape)} into ${show(x)} along dim ${a.dim}: ` +
        `${show(index.shape)} indices need ${show(replaced(x, a, index.shape))}`,
    );
  }
}

const second = (inputs: readonly (Tensor | null)[]): number => inputs[1]!._code << 8;

const gather: TypedKernelOp<DimAttrs> = kernel({
  doc: "y[o, k, c] = x[o, index[o, k, c], c]",
  inputs: ["x", "index"],
  outputs: ["y"],
  infer: ({ x, index }, a: DimAttrs) => {
    checkColumns("gather", index, x, a);
    return [{ shape: index.shape, dtype: x.dtype }];
  },
  descriptor: ({ index }, _, a) => descriptor(columns(index.shape, a), a.dim),
  extraDTypes: second,
  reference: ({ x, index }, { y }, a) => {
    const from = cells(x), to = cells(y);
    eachColumn(
      "gather",
      columns(index.shape, a),
      index,
      a.dim,
      (here, there) => to[here] = from[there]!,
    );
  },
  saves: ["index"],
  vjp: ({ y: g }, { index }, a) => [call(scatterAdd, [index, g, null], a)[0]!, null],
});

// Second dtype: that of src. A missing x is zeros.
const scatterAdd: TypedKernelOp<DimAttrs> = kernel({
  doc: "x (zeros where left out), and y[o, index[o, k, c], c] += src[o, k, c]",
  inputs: ["index", "src"],
  optional: ["x"],
  outputs: ["y"],
  infer: ({ index, src, x }, a: DimAttrs) => {
    checkColumns("scatterAdd", index, x, a);
    sameShape("scatterAdd", index, src);
    const shape = index.shape.map((s, d) => d === a.dim ? a.size : s);
    return [{ shape, dtype: src.dtype }];
  },
  descriptor: ({ index }, _, a) => descriptor(columns(index.shape, a), a.dim),
  extraDTypes: second,
  reference: ({ index, src, x }, { y }, a) => {
    const from = cells(src), to = cells(y);
    if (x !== null) to.set(cells(x));
    eachColumn(
      "scatterAdd",
      columns(index.shape, a),
      index,
      a.dim,
      (here, there) => to[there]! += from[here]!,
    );
  },
  saves: ["index"],
  vjp: ({ y: g }, { index }, a, needs) => [
    null,
    needs.src ? call(gather, [g, index], a)[0]! : null,
    g,
  ],
});

// Descriptor: [..., value]. The last of several writes to one place counts.
const scatter: TypedKernelOp<DimAttrs & { value: number }> = kernel({
  doc: "x, but y[o, index[o, k, c], c] = src[o, k, c] (or one value)",
  inputs: ["x", "index"],
  optional: ["src"],
  outputs: ["y"],
  infer: ({ x, index, src }, a: DimAttrs & { value: number }) => {
    checkColumns("scatter", index, x, a);
    sameShape("scatter", index, src);
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  descriptor: ({ index }, _, a) => descriptor(columns(index.shape, a), a.dim, a.value),
  extraDTypes: second,
  reference: ({ x, index, src }, { y }, a) => {
    const to = cells(y), from = src === null ? null : cells(src);
    const value = (isInt(y.dtype) ? BigInt(Math.trunc(a.value)) : a.value) as number;
    to.set(cells(x));
    eachColumn(
      "scatter",
      columns(index.shape, a),
      index,
      a.dim,
      (here, there) => to[there] = from === null ? value : from[here]!,
    );
  },
  saves: ["index"],
  vjp: ({ y: g }, { index }, a, needs) => [
    needs.x ? call(scatter, [g, index, null], { ...a, value: 0 })[0]! : null,
    null,
    needs.src ? call(gather, [g, index], { dim: a.dim, size: a.size })[0]! : null,
  ],
});

const indexSelect: TypedKernelOp<SlotAttrs> = kernel({
  doc: "the slices of x at the indices",
  inputs: ["x", "index"],
  outputs: ["y"],
  infer: ({ x, index }, a: SlotAttrs) => {
    checkIndexDType("indexSelect", index);
    return [{ shape: replaced(x.shape, a, index.shape), dtype: x.dtype }];
  },
  descriptor: ({ x, index }, _, a) => descriptor(slots(x.shape, index.shape, a), a.dim),
  extraDTypes: second,
  reference: ({ x, index }, { y }, a) => {
    const from = cells(x), to = cells(y), g = slots(x.shape, index.shape, a);
    eachSlot("indexSelect", g, index, a.dim, (here, there) => to[here] = from[there]!);
  },
  saves: ["index"],
  vjp: ({ y: g }, { index }, a) => [call(indexAdd, [index, g, null], { ...a, skip: -1 })[0]!, null],
});

// Descriptor: [..., skip]: slices with this index are left out (-1: none). Second dtype: that of src.
const indexAdd: TypedKernelOp<SlotAttrs & RowAttrs> = kernel({
  doc: "x (zeros where left out), and the slices of src added at the indices",
  inputs: ["index", "src"],
  optional: ["x"],
  outputs: ["y"],
  infer: ({ index, src, x }, a: SlotAttrs & RowAttrs) => {
    const shape = target(src.shape, index.shape, a);
    checkSlots("indexAdd", index, src, x?.shape ?? shape, a);
    return [{ shape, dtype: src.dtype }];
  },
  descriptor: ({ index, src }, _, a) =>
    descriptor(slotsOf(src.shape, index.shape, a), a.dim, a.skip),
  extraDTypes: second,
  reference: ({ index, src, x }, { y }, a) => {
    const from = cells(src), to = cells(y), g = slotsOf(src.shape, index.shape, a);
    if (x !== null) to.set(cells(x));
    eachSlot("indexAdd", g, index, a.dim, (here, there, i) => {
      if (i !== a.skip) to[there]! += from[here]!;
    });
  },
  saves: ["index"],
  vjp: ({ y: g }, { index }, a, needs) => {
    let src: Tensor | null = null;
    if (needs.src) {
      src = call(indexSelect, [g!, index], { dim: a.dim, sizes: a.sizes })[0]!;
      if (a.skip >= 0) {
        const trailing = new Array<number>(src.ndim - a.dim - index.ndim).fill(1);
        src = src.mul(index.ne(a.skip).reshape([...index.shape, ...trailing]));
      }
    }
    return [null, src, g];
  },
});

// Descriptor: [..., value]. x and y may be the same memory. The last of several writes to one place counts.
const indexCopy: TypedKernelOp<SlotAttrs & { value: number }> = kernel({
  doc: "x, but with the slices at the indices taken from src (or set to one value)",
  inputs: ["x", "index"],
  optional: ["src"],
  outputs: ["y"],
  infer: ({ x, index, src }, a: SlotAttrs & { value: number }) => {
    checkSlots("indexCopy", index, src, x.shape, a);
    return [{ shape: x.shape, dtype: x.dtype }];
  },
  descriptor: ({ x, index }, _, a) => descriptor(slots(x.shape, index.shape, a), a.dim, a.value),
  extraDTypes: second,
  reference: ({ x, index, src }, { y }, a) => {
    const to = cells(y),
      from = src === null ? null : cells(src),
      g = slots(x.shape, index.shape, a);
    const value = (isInt(y.dtype) ? BigInt(Math.trunc(a.value)) : a.value) as number;
    to.set(cells(x));
    eachSlot(
      "indexCopy",
      g,
      index,
      a.dim,
      (here, there) => to[there] = from === null ? value : from[here]!,
    );
  },
  saves: ["index"],
  vjp: ({ y: g }, { index }, a, needs) => [
    needs.x ? call(indexCopy, [g, index, null], { ...a, value: 0 })[0]! : null,
    null,
    needs.src ? call(indexSelect, [g, index], { dim: a.dim, sizes: a.sizes })[0]! : null,
  ],
});

/** All indexing ops. */
export const indexOps = declare({
  gather,
  scatter,
  scatterAdd,
  indexSelect,
  indexAdd,
  indexCopy,

  // Slices with index `padding` (-1: none) give no gradient.
  embedding: kernel({
    doc: "the rows of a weight matrix at the indices",
    inputs: ["weight", "index"],
    outputs: ["y"],
    infer: ({ weight, index }, _: { rows: number; padding: number }) => {
      checkIndexDType("embedding", index);
      return [{ shape: [...index.shape, ...weight.shape.slice(1)], dtype: weight.dtype }];
    },
    descriptor: ({ weight, index }, _, a) =>
      descriptor(slots(weight.shape, index.shape, { dim: 0, sizes: [a.rows] }), 0),
    extraDTypes: second,
    reference: ({ weight, index }, { y }, a) => {
      const from = cells(weight), to = cells(y);
      const g = slots(weight.shape, index.shape, { dim: 0, sizes: [a.rows] });
      eachSlot("embedding", g, index, 0, (here, there) => to[here] = from[there]!);
    },
    saves: ["index"],
    vjp: ({ y: g }, { index }, a) => {
      const inputs = [index, g!, null], attrs = { dim: 0, sizes: [a.rows], skip: a.padding };
      const n = a.rows * g!.shape.at(-1)!;
      // Clipping and SGD work on the rows alone where they are few.
      const few = !gradEnabled() && 2 * index.numel() <= a.rows && mayWait(g!.device, g!.dtype, n);
      return [
        few ? callLater(indexAdd, inputs, attrs, true) : call(indexAdd, inputs, attrs)[0]!,
        null,
      ];
    },
  }),

  // Descriptor: [size, dim]. Negative indices count from the end.
  index: kernel({
    doc:
      "positions in a flattened run of dims: those in the dims before, times size, plus the index in this dim",
    inputs: ["index"],
    optional: ["lead"],
    outputs: ["y"],
    infer: ({ index }, _: DimAttrs) => {
      checkIndexDType("index", index);
      return [{ shape: index.shape, dtype: "int64" }];
    },
    descriptor: (_, __, a) => [a.size, a.dim],
    reference: ({ index, lead }, { y }, { size, dim }) => {
      const n = BigInt(size);
      for (let k = 0; k < y.i.length; k++) {
        const given = index.i[k]!, i = given < 0n ? given + n : given;
        if (i < 0n || i >= n) outOfRange("index", given, k, dim, size);
        y.i[k] = (lead === null ? 0n : lead.i[k]!) * n + i;
      }
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [number of indices, classes, ndim of the index].
  oneHot: kernel({
    doc: "a row per index: 1 there, 0 elsewhere",
    inputs: ["index"],
    outputs: ["y"],
    infer: ({ index }, { classes }: { classes: number }) => {
      checkIndexDType("oneHot", index);
      return [{ shape: [...index.shape, classes], dtype: "int64" }];
    },
    descriptor: ({ index }, _, { classes }) => [index.numel(), classes, index.ndim],
    reference: ({ index }, { y }, { classes }) => {
      for (let k = 0; k < index.i.length; k++) {
        y.i[k * classes + checked("oneHot", index, k, index.shape.length, classes)] = 1n;
      }
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [elements of x].
  countNonzero: kernel({
    doc: "how many elements are not 0",
    inputs: ["x"],
    outputs: ["y"],
    infer: () => [{ shape: [], dtype: "int64" }],
    descriptor: ({ x }) => [x.numel()],
    reference: ({ x }, { y }) => {
      for (const v of cells(x)) if (Number(v) !== 0) y.i[0]!++;
    },
    saves: [],
    vjp: "nondifferentiable",
  }),

  // Descriptor: [ndim, shape...] of x.
  nonzero: kernel({
    doc: "the positions of the elements that are not 0, a row of indices each, in row-major order",
    inputs: ["x"],
    outputs: ["y"],
    infer: ({ x }, { count }: { count: number }) => [{ shape: [count, x.ndim], dtype: "int64" }],
    descriptor: ({ x }) => [x.ndim, ...x.shape],
    reference: ({ x }, { y }) => {
      const nd = x.shape.length;
      let at = 0;
      cells(x).forEach((v, flat) => {
        if (Number(v) === 0) return;
        for (let d = nd - 1, rest = flat; d >= 0; d--) {
          y.i[at * nd + d] = BigInt(rest % x.shape[d]!);
          rest = Math.floor(rest / x.shape[d]!);
        }
        at++;
      });
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
});
