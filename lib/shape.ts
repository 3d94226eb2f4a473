// Shape rules: broadcasting, dims, strides, views, reductions, matmul and convolution sizes.
// Pure functions on lists of numbers; every user-facing shape error is thrown here or in an op's `infer`.

import { told } from "./options.ts";

/** Sizes per dim, outermost first. */
export type Shape = readonly number[];

/** `[2, 3]` as text, for messages. */
export function show(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Number of elements. */
export function numel(shape: Shape): number {
  let n = 1;
  for (let i = 0; i < shape.length; i++) n *= shape[i]!;
  return n;
}

/** Whether two shapes (or stride lists) are equal. */
export function same(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Row-major strides, in elements. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(shape[i]!, 1);
  }
  return strides;
}

/** Strides of a dense tensor whose dims lie in memory in the order `order` (outermost first). */
export function orderedStrides(shape: Shape, order: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = order.length - 1; i >= 0; i--) {
    strides[order[i]!] = step;
    step *= Math.max(shape[order[i]!]!, 1);
  }
  return strides;
}

/** Channels-last strides (N, spatial..., C in memory) of an (N, C, spatial...) shape. */
export function channelsLastStrides(shape: Shape): number[] {
  const spatial = shape.slice(2).map((_, i) => i + 2);
  return orderedStrides(shape, [0, ...spatial, 1]);
}

/** Whether `strides` are row-major for `shape` (dims of size 1 may have any stride). */
export function isContiguous(shape: Shape, strides: Shape): boolean {
  if (shape.includes(0)) return true;
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const size = shape[i]!;
    if (size !== 1) {
      if (strides[i] !== step) return false;
      step *= size;
    }
  }
  return true;
}

/** Whether `strides` are channels-last for an (N, C, spatial...) shape. */
export function isChannelsLast(shape: Shape, strides: Shape): boolean {
  const nd = shape.length;
  if (nd < 3) return false;
  let step = 1;
  for (let k = 0; k < nd; k++) {
    const i = k === 0 ? 1 : k === nd - 1 ? 0 : nd - k; // C, then spatial from the last, then N
    const size = shape[i]!;
    if (size === 0) return true;
    if (size !== 1) {
      if (strides[i] !== step) return false;
      step *= size;
    }
  }
  return true;
}

/** Whether the elements fill one block of memory without holes or overlaps, in any order of dims. */
export function isDense(shape: Shape, strides: Shape): boolean {
  if (isContiguous(shape, strides)) return true;
  const dims = shape.map((_, i) => i).filter((i) => shape[i] !== 1);
  dims.sort((a, b) => strides[a]! - strides[b]!);
  let step = 1;
  for (const i of dims) {
    if (strides[i] !== step) return false;
    step *= shape[i]!;
  }
  return true;
}

/** The dims from outermost to innermost in memory, for a dense tensor. */
export function memoryOrder(shape: Shape, strides: Shape): number[] {
  const dims = shape.map((_, i) => i);
  return dims.sort((a, b) => strides[b]! - strides[a]! || a - b);
}

/** Throws unless every size is a non-negative integer. */
export function checkShape(what: string, shape: Shape): number[] {
  if (!Array.isArray(shape)) {
    throw new TypeError(`Cannot ${what} of shape ${told(shape)}: give a list`);
  }
  for (const s of shape) {
    if (!Number.isSafeInteger(s) || s < 0) {
      throw new RangeError(
        `Cannot ${what} of shape ${show(shape)}: sizes must be non-negative integers`,
      );
    }
  }
  return [...shape];
}

/** Accepts `f(2, 3)` and `f([2, 3])`. */
export function list(args: readonly (number | readonly number[])[]): number[] {
  const first = args[0];
  if (Array.isArray(first)) return [...first];
  const stray = args.find((x) => typeof x !== "number");
  if (stray === undefined) return (args as number[]).slice();
  throw new TypeError(
    `Cannot use ${told(stray)} as a size or dim: give numbers, or one list of them`,
  );
}

/** `dim` counted from the front; throws where it is not in [-ndim, ndim). 0-d tensors have dims -1 and 0. */
export function wrapDim(what: string, dim: number, ndim: number): number {
  const n = Math.max(ndim, 1);
  if (!Number.isInteger(dim) || dim < -n || dim >= n) {
    throw new RangeError(
      `Cannot ${what} along dim ${dim}: a tensor of ${ndim} dims has dims ${-n} to ${n - 1}`,
    );
  }
  return dim < 0 ? dim + n : dim;
}

/** Dims counted from the front, without repeats; null or undefined means all. */
export function wrapDims(
  what: string,
  dims: number | readonly number[] | null | undefined,
  ndim: number,
): number[] {
  if (dims === null || dims === undefined) return Array.from({ length: ndim }, (_, i) => i);
  const given = typeof dims === "number" ? [dims] : dims;
  if (!Array.isArray(given)) {
    throw new TypeError(`Cannot ${what} along ${told(dims)}: give a dim or a list of dims`);
  }
  const out = given.map((d) => wrapDim(what, d, ndim));
  if (new Set(out).size !== out.length) {
    throw new RangeError(`Cannot ${what} along dims ${show(given)}: a dim appears twice`);
  }
  return ndim === 0 ? [] : out;
}

/** The shape that all `shapes` broadcast to (NumPy's rule). */
export function broadcast(what: string, ...shapes: readonly Shape[]): number[] {
  const nd = Math.max(0, ...shapes.map((s) => s.length));
  const out = new Array<number>(nd).fill(1);
  for (const s of shapes) {
    for (let i = 0; i < s.length; i++) {
      const o = nd - s.length + i, size = s[i]!;
      if (size === 1) continue;
      if (out[o] !== 1 && out[o] !== size) {
        throw new RangeError(
          `Cannot ${what} ${shapes.map(show).join(" and ")}: sizes ${out[o]} and ${size} of dim ${
            o - nd
          } differ and neither is 1`,
        );
      }
      out[o] = size;
    }
  }
  return out;
}

/** Strides with which a tensor reads as `target` (0 along broadcast dims). */
export function broadcastStrides(shape: Shape, strides: Shape, target: Shape): number[] {
  const out = new Array<number>(target.length).fill(0);
  const lead = target.length - shape.length;
  for (let i = 0; i < shape.length; i++) {
    if (shape[i] !== 1 || target[lead + i] === 1) out[lead + i] = strides[i]!;
  }
  return out;
}

/** The dims along which a gradient of shape `from` must be summed to have shape `to`. */
export function reducedDims(from: Shape, to: Shape): number[] {
  const lead = from.length - to.length;
  const dims: number[] = [];
  for (let i = 0; i < from.length; i++) {
    if (i < lead || (to[i - lead] === 1 && from[i] !== 1)) dims.push(i);
  }
  return dims;
}

/** Fills in one -1 of `target` so that it holds as many elements as `shape`. */
export function inferSize(what: string, shape: Shape, target: Shape): number[] {
  const n = numel(shape);
  const out = [...target];
  const open = out.indexOf(-1);
  const fail = (why: string): never => {
    throw new RangeError(`Cannot ${what} ${show(shape)} to ${show(target)}: ${why}`);
  };
  for (let i = 0; i < out.length; i++) {
    if (i !== open && (!Number.isSafeInteger(out[i]) || out[i]! < 0)) {
      fail(out[i] === -1 ? "only one size can be -1" : "sizes must be non-negative integers");
    }
  }
  if (open >= 0) {
    out[open] = 1;
    const rest = numel(out);
    if (rest === 0) fail("-1 is ambiguous beside a size of 0");
    if (n % rest !== 0) fail(`${n} elements do not divide by ${rest}`);
    out[open] = n / rest;
  }
  if (numel(out) !== n) fail(`${n} elements do not fill ${numel(out)}`);
  return out;
}

/** Whether all elements are one in memory: an expanded scalar. */
export function isSingle(shape: Shape, strides: Shape): boolean {
  return numel(shape) > 0 && shape.every((s, i) => s === 1 || strides[i] === 0);
}

/** Strides for reading a strided tensor as `target` without a copy, or null where that needs a copy. */
export function viewStrides(shape: Shape, strides: Shape, target: Shape): number[] | null {
  if (isContiguous(shape, strides)) return contiguousStrides(target);
  // Walk both shapes from the left, matching chunks of equal size that are contiguous in themselves.
  const dims: number[] = [], steps: number[] = [];
  for (let i = 0; i < shape.length; i++) {
    if (shape[i] !== 1) dims.push(shape[i]!), steps.push(strides[i]!);
  }
  const out = new Array<number>(target.length);
  let i = 0, j = 0;
  while (j < target.length && i < dims.length) {
    let i2 = i + 1, j2 = j + 1, a = dims[i]!, b = target[j]!;
    while (a !== b) {
      if (a < b) a *= dims[i2++] ?? 0;
      else b *= target[j2++]!;
      if (a === 0 || j2 > target.length) return null;
    }
    for (let k = i; k < i2 - 1; k++) if (steps[k] !== steps[k + 1]! * dims[k + 1]!) return null;
    let step = steps[i2 - 1]!;
    for (let k = j2 - 1; k >= j; k--) {
      out[k] = step;
      step *= target[k]!;
    }
    i = i2, j = j2;
  }
  for (; j < target.length; j++) out[j] = 1; // only sizes of 1 are left
  return out;
}

/**
 * Merges neighbouring dims that every operand walks in one stride and drops dims of size 1, so that kernels
 * loop over as few dims as possible. Returns `[ndim, shape..., strides of operand 0..., operand 1...]`.
 */
export function coalesce(shape: Shape, operands: readonly Shape[]): number[] {
  const dims: number[] = [], steps: number[][] = operands.map(() => []);
  // Loop order: the last operand (the output) decides, largest stride outermost.
  const out = operands[operands.length - 1]!;
  const order = shape.map((_, i) => i).filter((i) => shape[i] !== 1);
  order.sort((a, b) => out[b]! - out[a]! || a - b);
  for (const i of order) {
    const last = dims.length - 1;
    if (last >= 0 && operands.every((s, k) => steps[k]![last] === s[i]! * shape[i]!)) {
      dims[last]! *= shape[i]!;
      operands.forEach((s, k) => steps[k]![last] = s[i]!);
    } else {
      dims.push(shape[i]!);
      operands.forEach((s, k) => steps[k]!.push(s[i]!));
    }
  }
  return [dims.length, ...dims, ...steps.flat()];
}

/** The shape of a reduction of `shape` along wrapped `dims`. */
export function reduceShape(shape: Shape, dims: readonly number[], keepdim: boolean): number[] {
  return keepdim
    ? shape.map((s, i) => dims.includes(i) ? 1 : s)
    : shape.filter((_, i) => !dims.includes(i));
}

/** Output size of a sliding window along one dim (torch.nn.Conv2d, MaxPool2d). */
export function windowSize(
  size: number,
  kernel: number,
  stride: number,
  padding: number,
  dilation: number,
  ceilMode = false,
): number {
  const span = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (!ceilMode) return Math.floor(span / stride) + 1;
  const out = Math.ceil(span / stride) + 1;
  // The last window must start inside the input or its left padding.
  return (out - 1) * stride >= size + padding ? out - 1 : out;
}
