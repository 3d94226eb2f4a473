// Layout methods: views, reshapes and rearrangements over lib/ops/layout.ts. As in PyTorch, methods that can share
// memory do: only reshape (where it must), flip, roll, repeat, tile, pad, dilate, tril and triu copy.

import { call, copy, makeView, rawContiguous } from "../dispatch.ts";
import { isFloat } from "../dtype.ts";
import {
  contiguousStrides,
  inferSize,
  list,
  type Shape,
  show,
  viewStrides,
  wrapDim,
  wrapDims,
} from "../shape.ts";
import { type DimWindow, layoutOps as ops, type PadMode, padModes } from "../ops/layout.ts";
import type { ViewOp } from "../ops/op.ts";
import { checkOptions, told } from "../options.ts";
import { scoped } from "../scope.ts";
import { cat, parts, spread, windowAttrs } from "./join.ts";
import { self } from "./base.ts";
import { LinalgTensor } from "./linalg.ts";
import type { Tensor } from "./mod.ts";

/** A range of positions: `[start, stop, step]`, with null for an open end; negative positions count from the end. */
export type Range = readonly (number | null)[];

/** Options of `pad`. */
export interface PadOptions {
  /** What stands around the tensor; default "constant". */
  readonly mode?: PadMode;
  /** The constant; default 0. */
  readonly value?: number;
}

/** Options of `diagonal`. */
export interface DiagonalOptions {
  /** Which diagonal: above the main one where positive. */
  readonly offset?: number;
  /** The dim of rows; default 0. */
  readonly dim1?: number;
  /** The dim of columns; default 1. */
  readonly dim2?: number;
}

/** The window that a range selects from a dim of `size`, cut off at the ends as in Python. */
export function rangeWindow(what: string, range: Range, size: number): DimWindow {
  if (!Array.isArray(range)) {
    throw new TypeError(`Cannot ${what} with ${told(range)}: a range is [start, stop, step]`);
  }
  const [start = null, stop = null, step = null] = range as Range;
  for (const x of range) {
    if (x !== null && x !== undefined && !Number.isInteger(x)) {
      throw new TypeError(
        `Cannot ${what} with range ${show(range as Shape)}: positions must be integers or null`,
      );
    }
  }
  if (range.length > 3 || (step !== null && step < 1)) {
    throw new RangeError(
      `Cannot ${what} with range ${show(range as Shape)}: ` +
        (range.length > 3
          ? "it is [start, stop, step]"
          : "steps must be at least 1; use flip to go backwards"),
    );
  }
  const clip = (x: number): number => Math.min(Math.max(x < 0 ? x + size : x, 0), size);
  const from = clip(start ?? 0), to = clip(stop ?? size), by = step ?? 1;
  return { start: from, length: Math.max(0, Math.ceil((to - from) / by)), step: by };
}

function integers(what: string, values: readonly number[]): readonly number[] {
  if (!Array.isArray(values)) {
    throw new TypeError(`Cannot ${what} by ${told(values)}: give a list of integers`);
  }
  if (!values.every(Number.isInteger)) {
    throw new TypeError(`Cannot ${what} by ${show(values)}: give integers`);
  }
  return values;
}

/** Layout methods of tensors. */
export abstract class LayoutTensor extends LinalgTensor {
  /** @internal This tensor if row-major, else a row-major copy for the caller to dispose; not recorded. */
  _dense(): Tensor {
    return rawContiguous(self(this));
  }

  /** @internal A view by a declared op. */
  _viewAs(op: ViewOp<unknown>, attrs: unknown): Tensor {
    return makeView(op, self(this), attrs);
  }

  /** This tensor if its elements lie in row-major order, else a copy that does. */
  contiguous(): Tensor {
    return this._layout === 0 ? self(this) : copy(self(this), contiguousStrides(this.shape));
  }

  /** A copy with memory of its own, recorded. */
  clone(): Tensor {
    return copy(self(this));
  }

  /**
   * The same elements in row-major order under another shape; one size may be -1. A view where possible, else a copy.
   *
   * @throws RangeError where the element counts differ
   */
  reshape(...shape: (number | readonly number[])[]): Tensor {
    const target = inferSize("reshape", this.shape, list(shape));
    const fits = viewStrides(this.shape, this._strides, target) !== null;
    return makeView(ops.view, fits ? self(this) : this.contiguous(), { shape: target });
  }

  /**
   * Like reshape, but always sharing memory.
   *
   * @throws Error where the strides that the user made do not allow that
   */
  view(...shape: (number | readonly number[])[]): Tensor {
    // An order of memory that the library chose must not be visible: such a tensor copies.
    if (this._layout === 1 && this._view === null) return this.reshape(...shape);
    return makeView(ops.view, self(this), { shape: list(shape) });
  }

  /** Dims `start` to `end` (both included) as one dim; a 0-d tensor becomes 1-d. A view where possible. */
  flatten(start = 0, end = -1): Tensor {
    const from = wrapDim("flatten", start, this.ndim), to = wrapDim("flatten", end, this.ndim);
    if (from > to) {
      throw new RangeError(
        `Cannot flatten dims ${start} to ${end} of ${show(this.shape)}: start is after end`,
      );
    }
    const merged = this.shape.slice(from, to + 1).reduce((a, b) => a * b, 1);
    return this.reshape([...this.shape.slice(0, from), merged, ...this.shape.slice(to + 1)]);
  }

  /** Dim `dim` split into dims of `sizes`, of which one may be -1. A view. */
  unflatten(dim: number, sizes: readonly number[]): Tensor {
    const d = wrapDim("unflatten", dim, this.ndim);
    const inner = inferSize("unflatten", [this.shape[d] ?? 1], sizes);
    return this.view([...this.shape.slice(0, d), ...inner, ...this.shape.slice(d + 1)]);
  }

  /** Dims in the order given. A view. */
  permute(...dims: (number | readonly number[])[]): Tensor {
    const given = list(dims);
    const order = given.map((d) => wrapDim("permute", d, this.ndim));
    if (order.length !== this.ndim || new Set(order).size !== order.length) {
      throw new RangeError(
        `Cannot permute ${show(this.shape)} by ${show(given)}: every dim must appear exactly once`,
      );
    }
    return makeView(ops.permute, self(this), { dims: order });
  }

  /** Two dims exchanged. A view. */
  transpose(dim0: number, dim1: number): Tensor {
    const a = wrapDim("transpose", dim0, this.ndim), b = wrapDim("transpose", dim1, this.ndim);
    const dims = this.shape.map((_, i) => i === a ? b : i === b ? a : i);
    return makeView(ops.permute, self(this), { dims });
  }

  /** All dims in reverse order: the transpose of a matrix. A view. */
  get T(): Tensor {
    return makeView(ops.permute, self(this), { dims: this.shape.map((_, i) => this.ndim - 1 - i) });
  }

  /** Dims moved from positions `source` to positions `destination`; the others keep their order. A view. */
  movedim(source: number | readonly number[], destination: number | readonly number[]): Tensor {
    const from = wrapDims("movedim", source, this.ndim),
      to = wrapDims("movedim", destination, this.ndim);
    if (from.length !== to.length) {
      throw new RangeError(
        `Cannot movedim ${show(from)} to ${show(to)}: the lists differ in length`,
      );
    }
    const rest = this.shape.map((_, i) => i).filter((i) => !from.includes(i));
    return this.permute(
      this.shape.map((_, i) => to.includes(i) ? from[to.indexOf(i)]! : rest.shift()!),
    );
  }

  /** Without dims of size 1: all of them, or those of `dim` that have size 1. A view. */
  squeeze(dim?: number | readonly number[]): Tensor {
    const dims = wrapDims("squeeze", dim, this.ndim);
    const shape = this.shape.filter((s, i) => s !== 1 || !dims.includes(i));
    return makeView(ops.view, self(this), { shape });
  }

  /** With a new dim of size 1 at `dim`. A view. */
  unsqueeze(dim: number): Tensor {
    const d = wrapDim("unsqueeze", dim, this.ndim + 1);
    return makeView(ops.view, self(this), {
      shape: [...this.shape.slice(0, d), 1, ...this.shape.slice(d)],
    });
  }

  /** This tensor repeated along dims of size 1 (and new leading dims), without copying; -1 keeps a size. */
  expand(...shape: (number | readonly number[])[]): Tensor {
    return makeView(ops.expand, self(this), { shape: list(shape) });
  }

  /** The same as `expand`. */
  broadcastTo(...shape: (number | readonly number[])[]): Tensor {
    return this.expand(...shape);
  }

  /**
   * Ranges of positions, one per dim from the first on: `[start, stop, step]`, or null for a whole dim. A view.
   *
   * @example
   * ```ts
   * import * as ndl from "../../mod.ts";
   * const x = ndl.arange(12).reshape(3, 4);
   * console.log(x.slice([1, null], [0, -1, 2]).tolist()); // [[4, 6], [8, 10]]
   * ```
   *
   * @throws RangeError for a step below 1
   */
  slice(...specs: (Range | null)[]): Tensor {
    if (specs.length > this.ndim) {
      throw new RangeError(
        `Cannot slice ${show(this.shape)} with ${specs.length} ranges: it has ${this.ndim} dims`,
      );
    }
    const dims = this.shape.map((size, d) => rangeWindow("slice", specs[d] ?? [], size));
    return makeView(ops.window, self(this), { dims });
  }

  /** Position `index` of `dim`, which disappears. A view. */
  select(dim: number, index: number): Tensor {
    return makeView(ops.select, self(this), { dim: wrapDim("select", dim, this.ndim), index });
  }

  /** `length` positions of `dim` from `start` on. A view. */
  narrow(dim: number, start: number, length: number): Tensor {
    const d = wrapDim("narrow", dim, this.ndim), size = this.shape[d] ?? 0;
    const from = start < 0 ? start + size : start;
    if (
      !Number.isInteger(start) || !Number.isInteger(length) || from < 0 || length < 0 ||
      from + length > size
    ) {
      throw new RangeError(
        `Cannot narrow dim ${dim} of ${
          show(this.shape)
        } to ${length} positions from ${start}: it has size ${size}`,
      );
    }
    return makeView(ops.window, self(this), windowAttrs(this.shape, d, from, length));
  }

  /** Parts of `size` along `dim` (the last may be smaller), or parts of the sizes listed. Views. */
  split(size: number | readonly number[], dim = 0): Tensor[] {
    const d = wrapDim("split", dim, this.ndim), total = this.shape[d] ?? 0;
    const fail = (why: string): never => {
      throw new RangeError(
        `Cannot split dim ${dim} of ${show(this.shape)} by ${told(size)}: ${why}`,
      );
    };
    if (this.ndim === 0) fail("there is no dim");
    let sizes: readonly number[];
    if (typeof size === "number") {
      if (!Number.isInteger(size) || size < 0 || (size === 0 && total > 0)) {
        fail("sizes must be positive integers");
      }
      const count = Math.max(1, Math.ceil(total / Math.max(size, 1)));
      sizes = Array.from({ length: count }, (_, i) => Math.min(size, total - i * size));
    } else {
      if (!Array.isArray(size) || size.some((s) => !Number.isInteger(s) || s < 0)) {
        fail("sizes must be non-negative integers");
      }
      if (size.reduce((a, b) => a + b, 0) !== total) fail(`the sizes must add up to ${total}`);
      sizes = size;
    }
    let start = 0;
    const attrs = sizes.map((length) => {
      const a = windowAttrs(this.shape, d, start, length);
      start += length;
      return a;
    });
    return parts("split", self(this), ops.window, attrs);
  }

  /** At most `count` parts of equal size along `dim` (the last may be smaller). Views. */
  chunk(count: number, dim = 0): Tensor[] {
    if (!Number.isInteger(count) || count < 1) {
      throw new RangeError(
        `Cannot chunk ${show(this.shape)} into ${count} parts: give a positive integer`,
      );
    }
    const total = this.shape[wrapDim("chunk", dim, this.ndim)] ?? 0;
    return this.split(
      total === 0 ? new Array<number>(count).fill(0) : Math.ceil(total / count),
      dim,
    );
  }

  /** The positions of `dim` one by one, without that dim. Views. */
  unbind(dim = 0): Tensor[] {
    const d = wrapDim("unbind", dim, this.ndim);
    if (this.ndim === 0) throw new RangeError("Cannot unbind a 0-d tensor: there is no dim");
    const attrs = Array.from({ length: this.shape[d]! }, (_, index) => ({ dim: d, index }));
    return parts("unbind", self(this), ops.select, attrs);
  }

  /** Dims read backwards. A copy. */
  flip(...dims: (number | readonly number[])[]): Tensor {
    return copy(
      makeView(ops.reverse, self(this), { dims: wrapDims("flip", list(dims), this.ndim) }),
    );
  }

  /** Elements moved on by `shifts` along `dims`, those at the end coming back at the start. A copy. */
  roll(shifts: number | readonly number[], dims?: number | readonly number[]): Tensor {
    const by = integers("roll", [shifts].flat());
    if (dims === undefined) {
      if (by.length !== 1) {
        throw new RangeError("Cannot roll by several shifts without dims: give one dim per shift");
      }
      return this.flatten().roll(by, 0).reshape(this.shape);
    }
    const along = [dims].flat().map((d) => wrapDim("roll", d, this.ndim));
    if (along.length !== by.length) {
      throw new RangeError(
        `Cannot roll by ${show(by)} along dims ${show(along)}: give one shift per dim`,
      );
    }
    return along.reduce((t, d, i) => {
      const size = t.shape[d] ?? 0;
      const cut = size > 0 ? ((by[i]! % size) + size) % size : 0;
      return cut === 0
        ? t.clone()
        : cat([t.narrow(d, size - cut, cut), t.narrow(d, 0, size - cut)], d);
    }, self(this));
  }

  /** This tensor repeated along each dim; more counts than dims add leading dims. A copy. */
  repeat(...counts: (number | readonly number[])[]): Tensor {
    const times = list(counts), lead = times.length - this.ndim;
    if (lead < 0 || times.some((n) => !Number.isInteger(n) || n < 0)) {
      throw new RangeError(
        `Cannot repeat ${show(this.shape)} by ${show(times)}: ` +
          (lead < 0 ? "give at least one count per dim" : "counts must be non-negative integers"),
      );
    }
    const shape = [...new Array<number>(lead).fill(1), ...this.shape];
    const spaced = this.reshape(shape.flatMap((s) => [1, s]));
    const repeated = spaced.expand(shape.flatMap((s, i) => [times[i]!, s]));
    const result = shape.map((s, i) => s * times[i]!);
    return copy(repeated, contiguousStrides(repeated.shape)).reshape(result);
  }

  /** Like `repeat`, but fewer counts than dims apply to the last dims. A copy. */
  tile(...counts: (number | readonly number[])[]): Tensor {
    const times = list(counts);
    return this.repeat([
      ...new Array<number>(Math.max(this.ndim - times.length, 0)).fill(1),
      ...times,
    ]);
  }

  /**
   * This tensor in a frame: `[left, right, top, bottom, ...]` counts from the last dim on, as in
   * torch.nn.functional.pad. Negative sizes cut off.
   *
   * @throws RangeError where a reflection or repetition would need more elements than there are
   */
  pad(sizes: readonly number[], options: PadOptions = {}): Tensor {
    checkOptions("pad", options, ["mode", "value"]);
    const mode = options.mode ?? "constant", nd = this.ndim;
    if (!padModes.includes(mode)) {
      throw new TypeError(
        `Cannot pad in mode ${JSON.stringify(mode)}: use one of ${padModes.join(", ")}`,
      );
    }
    integers("pad", sizes);
    if (sizes.length % 2 !== 0 || sizes.length > 2 * nd) {
      throw new RangeError(
        `Cannot pad ${show(this.shape)} by ${show(sizes)}: give two sizes per dim, last dim first`,
      );
    }
    if (!isFloat(this.dtype) && !Number.isFinite(options.value ?? 0)) {
      throw new RangeError(
        `Cannot pad a ${this.dtype} tensor with ${options.value}: it has no ${this.dtype} value`,
      );
    }
    const side = (which: 0 | 1): number[] =>
      this.shape.map((_, d) => sizes[2 * (nd - 1 - d) + which] ?? 0);
    const before = side(0), after = side(1);
    const grown = (s: number): number => Math.max(s, 0);
    const cut = (t: Tensor): Tensor => {
      if (!sizes.some((s) => s < 0)) return t;
      const dims = t.shape.map((size, d) => {
        const start = grown(-before[d]!), length = size - start - grown(-after[d]!);
        if (length < 0) {
          throw new RangeError(
            `Cannot pad ${show(this.shape)} by ${show(sizes)}: dim ${d} has only ${size} elements`,
          );
        }
        return { start, length, step: 1 };
      });
      return makeView(ops.window, t, { dims });
    };
    const attrs = {
      before: before.map(grown),
      after: after.map(grown),
      mode,
      value: options.value ?? 0,
    };
    // Reflections and repetitions see all elements, whatever is cut off.
    const all = mode === "reflect" || mode === "replicate";
    if (!all) return call(ops.pad, [cut(self(this))], attrs)[0]!;
    return scoped(() => cut(call(ops.pad, [self(this)], attrs)[0]!));
  }

  /** `n` zeros after every element along `dims`: sizes s become s (n + 1). A copy. */
  dilate(dims: number | readonly number[], n: number): Tensor {
    const along = stepsOf(this, "dilate", dims, n);
    return spread(
      self(this),
      this.shape.map((s, d) => along.includes(d) ? s * (n + 1) : s),
      along,
      n + 1,
    );
  }

  /** Every (n + 1)-th element along `dims`, from the first on: takes away what `dilate` put in. A view. */
  undilate(dims: number | readonly number[], n: number): Tensor {
    const along = stepsOf(this, "undilate", dims, n);
    return this.slice(...this.shape.map((_, d) => along.includes(d) ? [null, null, n + 1] : null));
  }

  /** Matrices with zeros above the diagonal (`diagonal` > 0: above one further up). A copy. */
  tril(diagonal = 0): Tensor {
    integers("tril", [diagonal]);
    return call(ops.triangle, [self(this)], { diagonal, upper: false })[0]!;
  }

  /** Matrices with zeros below the diagonal (`diagonal` > 0: below one further up). A copy. */
  triu(diagonal = 0): Tensor {
    integers("triu", [diagonal]);
    return call(ops.triangle, [self(this)], { diagonal, upper: true })[0]!;
  }

  /** The elements whose positions in two dims differ by `offset` only, as a last dim. A view. */
  diagonal(
    offset: number | DiagonalOptions = 0,
    dim1?: number | DiagonalOptions,
    dim2?: number,
  ): Tensor {
    const options = {
      ...(typeof offset === "object" ? offset : {}),
      ...(typeof dim1 === "object" ? dim1 : {}),
    };
    checkOptions("diagonal", options, ["offset", "dim1", "dim2"]);
    const shift = typeof offset === "object" ? options.offset ?? 0 : offset;
    integers("take the diagonal", [shift]);
    if (this.ndim < 2) {
      throw new RangeError(`Cannot take the diagonal of ${show(this.shape)}: it needs two dims`);
    }
    const a = wrapDim("diagonal", (typeof dim1 === "number" ? dim1 : options.dim1) ?? 0, this.ndim);
    const b = wrapDim("diagonal", dim2 ?? options.dim2 ?? 1, this.ndim);
    if (a === b) {
      throw new RangeError(`Cannot take the diagonal of ${show(this.shape)}: the dims are equal`);
    }
    return makeView(ops.diagonal, self(this), { offset: shift, dim1: a, dim2: b });
  }
}

function stepsOf(
  t: LayoutTensor,
  what: string,
  dims: number | readonly number[],
  n: number,
): number[] {
  if (!Number.isInteger(n) || n < 0) {
    throw new RangeError(
      `Cannot ${what} by ${n}: the number of zeros must be a non-negative integer`,
    );
  }
  return wrapDims(what, dims, t.ndim);
}
