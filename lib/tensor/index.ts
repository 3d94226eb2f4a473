// Indexing methods: reading and writing at positions, over lib/ops/index.ts. Numbers and ranges select views;
// index tensors and masks follow PyTorch's advanced indexing: they broadcast together, and what they select stands
// where they stood, or in front where a whole dim lies between them.

import { call, checkInPlace, makeView, runInto } from "../dispatch.ts";
import { isFloat } from "../dtype.ts";
import { broadcast, numel, same, type Shape, show, wrapDim } from "../shape.ts";
import { checkOptions, checkTensors } from "../options.ts";
import { needsGrad } from "../autograd/graph.ts";
import { gradEnabled } from "../autograd/mode.ts";
import { checkIndexDType, indexOps as ops } from "../ops/index.ts";
import { type DimWindow, layoutOps } from "../ops/layout.ts";
import { self } from "./base.ts";
import { LayoutTensor, type Range, rangeWindow } from "./layout.ts";
import { multinomial } from "./random.ts";
import type { Tensor } from "./mod.ts";

/**
 * What stands for one dim in `get` and `set`: a position, a range `[start, stop, step]`, null for the whole dim,
 * a tensor of positions, a bool mask (for as many dims as it has), or "..." for all dims not mentioned.
 */
export type Index = number | null | Range | Tensor | "...";

function isTensor(x: unknown): x is Tensor {
  return typeof x === "object" && x !== null && "_strides" in x;
}

/** The positions of the elements that are not 0: [count, ndim]. */
function positions(x: Tensor): Tensor {
  const total = call(ops.countNonzero, [x], {})[0]!;
  const y = call(ops.nonzero, [x], { count: total.item() })[0]!;
  total.dispose();
  return y;
}

/** A tensor or mask that indexes the dims of a view from `dim` on (`given`: counted in the tensor indexed). */
interface TensorIndex {
  readonly dim: number;
  readonly given: number;
  readonly tensor: Tensor;
}

interface Located {
  /** The part that numbers and ranges select: a view. */
  readonly view: Tensor;
  /** Tensors and masks, by the dims of the view. */
  readonly indices: readonly TensorIndex[];
}

/** How many dims an index speaks about. */
function dimsOf(x: Index): number {
  if (x === "...") return 0;
  return isTensor(x) && x.dtype === "bool" ? x.ndim : 1;
}

function checkMask(mask: Tensor, t: Tensor, dim: number): void {
  const covered = t.shape.slice(dim, dim + mask.ndim);
  if (mask.ndim === 0 || !same(mask.shape, covered)) {
    throw new RangeError(
      `Cannot index ${show(t.shape)} with a mask of shape ${show(mask.shape)}: ` +
        `the dims that it stands for are ${show(covered)}`,
    );
  }
}

/** Whether `items` is a 0-d mask for the one element of a 0-d tensor. */
function isMaskOfOne(t: Tensor, items: readonly Index[]): items is readonly [Tensor] {
  const mask = items[0];
  return t.ndim === 0 && items.length === 1 && isTensor(mask) && mask.dtype === "bool" &&
    mask.ndim === 0;
}

/** Applies numbers and ranges, and sorts out the rest. */
function locate(what: string, t: Tensor, items: readonly Index[]): Located {
  const used = items.reduce<number>((n, x) => n + dimsOf(x), 0);
  const open = items.indexOf("...");
  if (used > t.ndim || items.lastIndexOf("...") !== open) {
    throw new RangeError(
      used > t.ndim
        ? `Cannot ${what} ${show(t.shape)} with indices for ${used} dims: it has ${t.ndim}`
        : `Cannot ${what} ${show(t.shape)} with "..." twice`,
    );
  }
  const windows: DimWindow[] = t.shape.map((length) => ({ start: 0, length, step: 1 }));
  const numbers = new Map<number, number>();
  const tensors: { given: number; tensor: Tensor }[] = [];
  let ranged = false, d = 0;
  for (const x of items) {
    if (x === "...") d += t.ndim - used;
    else if (typeof x === "number") numbers.set(d++, x);
    else if (isTensor(x)) {
      if (x.dtype === "bool") checkMask(x, t, d);
      else checkIndexDType(what, x);
      if (x.ndim === 0) { // a position, as in PyTorch
        numbers.set(d++, Number(x.item()));
        continue;
      }
      tensors.push({ given: d, tensor: x });
      d += dimsOf(x);
    } else {
      if (x !== null && x !== undefined) {
        if (!Array.isArray(x)) {
          throw new TypeError(
            `Cannot ${what} with ${typeof x} as an index: give numbers, ranges [start, stop, step], null or tensors`,
          );
        }
        windows[d] = rangeWindow(what, x, t.shape[d]!);
        ranged = true;
      }
      d++;
    }
  }
  const untouched = numbers.size === 0 && tensors.length === 0;
  let view = ranged || untouched ? makeView(layoutOps.window, t, { dims: windows }) : t;
  for (const [dim, index] of [...numbers].sort((a, b) => b[0] - a[0])) {
    view = makeView(layoutOps.select, view, { dim, index });
  }
  const before = (given: number): number => [...numbers.keys()].filter((n) => n < given).length;
  return { view, indices: tensors.map((x) => ({ ...x, dim: x.given - before(x.given) })) };
}

interface Advanced {
  /** A view in which the indexed dims are neighbours. */
  readonly view: Tensor;
  /** The first indexed dim, and the sizes of all. */
  readonly dim: number;
  readonly sizes: Shape;
  /** Positions in the indexed dims, flattened. */
  readonly rows: Tensor;
}

/** Turns index tensors into one tensor of positions in neighbouring dims. */
function advanced({ view, indices }: Located): Advanced {
  const first = indices[0]!;
  if (indices.length === 1 && first.tensor.dtype === "bool") {
    // A mask alone: positions in its dims, flattened, are all that is needed.
    const found = positions(first.tensor.reshape(-1));
    return { view, dim: first.dim, sizes: first.tensor.shape, rows: found.reshape(-1) };
  }
  const columns = indices.flatMap(({ dim, given, tensor }) => {
    if (tensor.dtype !== "bool") return [{ dim, given, tensor }];
    const found = positions(tensor);
    return tensor.shape.map((_, i) => ({
      dim: dim + i,
      given: given + i,
      tensor: found.select(1, i),
    }));
  });
  const shape = broadcast("index with tensors of shapes", ...columns.map((c) => c.tensor.shape));
  let rows: Tensor | null = null;
  for (const { dim, given, tensor } of columns) {
    const lead: Tensor | null = rows, size = view.shape[dim]!;
    rows = call(ops.index, [tensor.expand(shape), lead], { size, dim: given })[0]!;
    lead?.dispose();
  }
  const dims = columns.map((c) => c.dim), sizes = dims.map((d) => view.shape[d]!);
  const neighbours = dims.every((d, i) => i === 0 || d === dims[i - 1]! + 1);
  if (neighbours) return { view, dim: dims[0]!, sizes, rows: rows! };
  const rest = view.shape.map((_, i) => i).filter((i) => !dims.includes(i));
  return { view: view.permute([...dims, ...rest]), dim: 0, sizes, rows: rows! };
}

/** Indexing methods of tensors. */
export abstract class IndexTensor extends LayoutTensor {
  /**
   * The part at an index: one position, range, null, tensor or mask per dim, from the first dim on.
   * A view where only numbers, ranges and null are given, else a copy.
   *
   * @example
   * ```ts
   * import * as ndl from "../../mod.ts";
   * const x = ndl.arange(6).reshape(2, 3);
   * console.log(x.get(1, [0, 2]).tolist()); // [3, 4]
   * console.log(x.get(null, ndl.tensor([2n, 0n])).tolist()); // [[2, 0], [5, 3]]
   * console.log(x.get(x.gt(3)).tolist()); // [4, 5]
   * ```
   *
   * @throws RangeError where a position is out of range
   */
  get(...index: Index[]): Tensor {
    if (isMaskOfOne(self(this), index)) return this.reshape(1).get(index[0].reshape(1));
    const located = locate("get", self(this), index);
    if (located.indices.length === 0) return located.view;
    const { view, dim, sizes, rows } = advanced(located);
    const y = call(ops.indexSelect, [view, rows], { dim, sizes })[0]!;
    rows.dispose();
    return y;
  }

  /**
   * Writes `value` (broadcast and converted) at an index, in place: `t.set([0, [1, 3]], 5)`. An index that is a
   * number, a tensor or a mask need not stand in a list.
   *
   * @returns this tensor
   * @throws RangeError where a position is out of range, or the value does not fit
   */
  set(index: number | Tensor | null | readonly Index[], value: Tensor | number): Tensor {
    const items = Array.isArray(index) ? index as readonly Index[] : [index as Index];
    const t = self(this);
    if (isMaskOfOne(t, items)) {
      t.reshape(1).set([items[0].reshape(1)], value);
      return t;
    }
    const located = locate("set", t, items);
    if (located.indices.length === 0) {
      const { view } = located;
      view.copy_(typeof value === "number" ? value : fitted(value, view.shape, t));
      return t;
    }
    checkInPlace("set", t);
    const { view, dim, sizes, rows } = advanced(located);
    const attrs = { dim, sizes, value: typeof value === "number" ? value : 0 };
    const shape = [
      ...view.shape.slice(0, dim),
      ...rows.shape,
      ...view.shape.slice(dim + sizes.length),
    ];
    const src = typeof value === "number" ? null : fitted(value, shape, t);
    const recorded = gradEnabled() && isFloat(t.dtype) &&
      (needsGrad(t) || (src !== null && needsGrad(src)));
    if (!recorded && view._layout === 0 && src?._data !== view._data) {
      runInto(ops.indexCopy, [view, rows, src], [view], attrs);
    } else view.copy_(call(ops.indexCopy, [view, rows, src], attrs)[0]!);
    rows.dispose();
    return t;
  }

  /**
   * y[i][j][k] = x[index[i][j][k]][j][k] (for dim 0): one position of `dim` per element of `index`.
   *
   * @throws RangeError where a position is out of range
   */
  gather(dim: number, index: Tensor): Tensor {
    const { x, d } = columnsOf("gather", self(this), dim, index);
    return call(ops.gather, [x, index], { dim: d, size: x.shape[d] ?? 1 })[0]!;
  }

  /**
   * This tensor, but with y[index[i][j][k]][j][k] = src[i][j][k] (for dim 0); `src` may be one number.
   * Where positions repeat, the last one counts.
   *
   * @throws RangeError where a position is out of range
   */
  scatter(dim: number, index: Tensor, src: Tensor | number): Tensor {
    const { x, d, rest } = columnsOf("scatter", self(this), dim, index);
    const values = typeof src === "number" ? null : sourceOf("scatter", src, index, self(this));
    const value = typeof src === "number" ? src : 0;
    return rest(
      call(ops.scatter, [x, index, values], { dim: d, size: x.shape[d] ?? 1, value })[0]!,
    );
  }

  /**
   * This tensor, with src[i][j][k] added to y[index[i][j][k]][j][k] (for dim 0).
   *
   * @throws RangeError where a position is out of range
   */
  scatterAdd(dim: number, index: Tensor, src: Tensor): Tensor {
    checkTensors("scatterAdd", { index, src });
    if (this.dtype === "bool" && src.dtype === "bool") {
      return orOf(self(this), src, (x, y) => x.scatterAdd(dim, index, y));
    }
    const { x, d, rest } = columnsOf("scatterAdd", self(this), dim, index);
    const values = sourceOf("scatterAdd", src, index, self(this));
    return rest(call(ops.scatterAdd, [index, values, x], { dim: d, size: x.shape[d] ?? 1 })[0]!);
  }

  /**
   * The slices of `dim` at the positions in `index` (1-d).
   *
   * @throws RangeError where a position is out of range
   */
  indexSelect(dim: number, index: Tensor): Tensor {
    const { x, d } = slotsOf("indexSelect", self(this), dim, index);
    const y = call(ops.indexSelect, [x, index], { dim: d, sizes: [x.shape[d]!] })[0]!;
    return y.ndim === this.ndim
      ? y
      : y.reshape(index.ndim === 0 && this.ndim > 0 ? oneAt(x.shape, d) : []);
  }

  /**
   * This tensor, with the slices of `src` along `dim` added at the positions in `index` (1-d).
   *
   * @throws RangeError where a position is out of range
   */
  indexAdd(dim: number, index: Tensor, src: Tensor, options: { alpha?: number } = {}): Tensor {
    checkOptions("indexAdd", options, ["alpha"]);
    checkTensors("indexAdd", { index, src });
    if (this.dtype === "bool" && src.dtype === "bool") {
      return orOf(self(this), src, (x, y) => x.indexAdd(dim, index, y, options));
    }
    const { x, d } = slotsOf("indexAdd", self(this), dim, index);
    const scaled = (options.alpha ?? 1) === 1 ? src : src.mul(options.alpha!);
    const slices = sameKind("indexAdd", scaled, self(this));
    const rows = index.ndim === 0 ? index.reshape(1) : index;
    const fit = this.ndim === 0 ? slices.reshape(rows.numel()) : slices;
    const y = call(ops.indexAdd, [rows, fit, x], { dim: d, sizes: [x.shape[d]!], skip: -1 })[0]!;
    return this.ndim === 0 ? y.reshape([]) : y;
  }

  /** The elements at positions in the flattened tensor, in the shape of `index`; negative ones count from the end. */
  take(index: Tensor): Tensor {
    checkIndexDType("take", index);
    const flat = this.reshape(-1), size = flat.shape[0]!;
    const rows = call(ops.index, [index, null], { size, dim: 0 })[0]!;
    const y = call(ops.indexSelect, [flat, rows], { dim: 0, sizes: [size] })[0]!;
    rows.dispose();
    return y;
  }

  /**
   * The elements where the bool `mask` (both broadcast) is true: 1-d.
   *
   * @throws TypeError where the mask is not bool
   */
  maskedSelect(mask: Tensor): Tensor {
    checkTensors("maskedSelect", { mask });
    if (mask.dtype !== "bool") {
      throw new TypeError(
        `Cannot maskedSelect with a ${mask.dtype} mask: it must be bool, for example x.gt(0)`,
      );
    }
    const shape = broadcast("maskedSelect", this.shape, mask.shape);
    return this.expand(shape).reshape(-1).get(mask.expand(shape).reshape(-1));
  }

  /** The positions of the elements that are not 0: int64 of shape [count, ndim], or a list of 1-d tensors per dim. */
  nonzero(): Tensor;
  /** One tensor of positions per dim. */
  nonzero(options: { asTuple: true }): Tensor[];
  /** Both forms. */
  nonzero(options: { asTuple?: boolean } = {}): Tensor | Tensor[] {
    checkOptions("nonzero", options, ["asTuple"]);
    const x = self(this);
    if (options.asTuple !== true) return positions(x);
    const found = positions(x.ndim === 0 ? x.reshape(1) : x); // positions in no dims say nothing
    return Array.from({ length: found.shape[1]! }, (_, d) => found.select(1, d).contiguous());
  }

  /**
   * `n` categories drawn per row in proportion to the weights in this tensor ([categories] or [rows, categories]).
   *
   * @throws RangeError for weights that are negative, not finite or all 0, or for too many draws without replacement
   */
  multinomial(n: number, options: { replacement?: boolean } = {}): Tensor {
    return multinomial(self(this), n, options);
  }
}

/** `value` with the dtype of `t` and the shape written to. */
function fitted(value: Tensor, shape: Shape, t: Tensor): Tensor {
  const cast = value.to(t.dtype);
  const extra = cast.ndim - shape.length;
  // Leading dims of size 1 do not matter in an assignment.
  const trimmed = extra > 0 && numel(cast.shape.slice(0, extra)) === 1
    ? cast.reshape(cast.shape.slice(extra))
    : cast;
  try {
    return trimmed.expand(shape);
  } catch (cause) {
    throw new RangeError(
      `Cannot set ${show(shape)} elements to a value of shape ${show(value.shape)}`,
      { cause },
    );
  }
}

/** The shape with size 1 at `dim`. */
function oneAt(shape: Shape, dim: number): number[] {
  return shape.map((s, d) => d === dim ? 1 : s);
}

function sameKind(what: string, src: Tensor, t: Tensor): Tensor {
  checkTensors(what, { src });
  if (src.dtype === t.dtype) return src;
  throw new TypeError(
    `Cannot ${what} ${src.dtype} values into a ${t.dtype} tensor: convert them with to("${t.dtype}")`,
  );
}

interface Columns {
  /** The part of the tensor that the index reaches. */
  readonly x: Tensor;
  /** The dim, wrapped. */
  readonly d: number;
  /** Puts a changed part back into (a copy of) the whole. */
  readonly rest: (part: Tensor) => Tensor;
}

/** Sums of bools are true where any term is: they are added as integers. */
function orOf(x: Tensor, src: Tensor, add: (x: Tensor, src: Tensor) => Tensor): Tensor {
  return add(x.to("int64"), src.to("int64")).to("bool");
}

/** Prepares an op with an index per element: the index may be smaller than the tensor in the other dims. */
function columnsOf(what: string, t: Tensor, dim: number, index: Tensor): Columns {
  checkIndexDType(what, index);
  const d = wrapDim(what, dim, t.ndim);
  const bad = Math.max(index.ndim, 1) !== Math.max(t.ndim, 1) ||
    index.shape.some((s, i) => i !== d && s > (t.shape[i] ?? 1));
  if (bad && index.numel() > 0) {
    throw new RangeError(
      `Cannot ${what} ${show(t.shape)} with indices of shape ${
        show(index.shape)
      } along dim ${dim}: ` +
        `the index needs as many dims, and no more than the tensor's size in every other dim`,
    );
  }
  if (index.ndim !== t.ndim) {
    const shape = index.numel() === 0 && t.ndim > 0 ? index.shape : oneDim(index.ndim);
    return {
      x: t.ndim === index.ndim ? t : t.reshape(shape),
      d,
      rest: (part) => part.reshape(t.shape),
    };
  }
  if (index.shape.every((s, i) => i === d || s === t.shape[i])) {
    return {
      x: t,
      d,
      rest: (part) => part,
    };
  }
  const dims = t.shape.map((s, i) => ({
    start: 0,
    length: i === d ? s : index.shape[i]!,
    step: 1,
  }));
  const rest = (part: Tensor): Tensor => {
    const whole = t.clone();
    makeView(layoutOps.window, whole, { dims }).copy_(part);
    return whole;
  };
  return { x: makeView(layoutOps.window, t, { dims }), d, rest };
}

function oneDim(ndim: number): number[] {
  return new Array<number>(ndim).fill(1);
}

/** The part of `src` that the index reaches, checked. */
function sourceOf(what: string, src: Tensor, index: Tensor, t: Tensor): Tensor {
  sameKind(what, src, t);
  if (same(src.shape, index.shape)) return src;
  if (src.ndim !== index.ndim || index.shape.some((s, d) => s > src.shape[d]!)) {
    throw new RangeError(
      `Cannot ${what} values of shape ${show(src.shape)} with indices of shape ${
        show(index.shape)
      }: ` +
        `there must be a value for every index`,
    );
  }
  return src.slice(...index.shape.map((s) => [0, s]));
}

/** Prepares an op with an index per slice; a 0-d tensor counts as one slice. */
function slotsOf(what: string, t: Tensor, dim: number, index: Tensor): { x: Tensor; d: number } {
  checkIndexDType(what, index);
  if (index.ndim > 1) {
    throw new RangeError(
      `Cannot ${what} with indices of shape ${show(index.shape)}: the index must be 1-d`,
    );
  }
  return { x: t.ndim === 0 ? t.reshape(1) : t, d: wrapDim(what, dim, t.ndim) };
}
