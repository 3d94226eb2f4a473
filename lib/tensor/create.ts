// Creation functions: tensor, zeros, ones, full, empty, eye, arange, linspace and the ...Like forms.

import { noGrad } from "../autograd/mode.ts";
import { runInto } from "../dispatch.ts";
import {
  checkDType,
  type DType,
  dtypes,
  isFloat,
  isInt,
  toBfloat16,
  type TypedArray,
  viewOf,
} from "../dtype.ts";
import { defaultDevice, Device } from "../device.ts";
import { checkShape, contiguousStrides, numel, type Shape, show } from "../shape.ts";
import { layoutOps } from "../ops/layout.ts";
import { checkNumbers, checkOptions, checkTensors, told } from "../options.ts";
import { allocate } from "./base.ts";
import { integral } from "./operands.ts";
import type { Tensor } from "./mod.ts";

/** What every creation function takes. */
export interface CreateOptions {
  /** Element type; default float32 (`tensor` infers it from the data). */
  readonly dtype?: DType | undefined;
  /** Default: `defaultDevice()`. */
  readonly device?: Device | undefined;
  /** Record operations on the result. */
  readonly requiresGrad?: boolean | undefined;
}

/** Options of `tensor`. */
export interface TensorOptions extends CreateOptions {
  /** The shape; default: that of the nested data, or 1-d for a typed array. */
  readonly shape?: Shape | undefined;
}

/** Numbers, bigints or booleans, nested to any depth (rectangular). */
export type NestedData = number | bigint | boolean | readonly NestedData[];

const keys = ["dtype", "device", "requiresGrad"];

/** A shape given as a list, or as one number for 1-d. */
export function shapeArgument(what: string, shape: Shape | number): number[] {
  return checkShape(what, typeof shape === "number" ? [shape] : shape);
}

function finish(t: Tensor, options: CreateOptions): Tensor {
  return options.requiresGrad ? t.requiresGrad_() : t;
}

/** New memory for a creation function; contents undefined. */
export function blank(shape: readonly number[], dtype: DType, options: CreateOptions): Tensor {
  const device = options.device ?? defaultDevice();
  if (!(device instanceof Device)) {
    throw new TypeError(`Cannot make a tensor on ${told(device)}: give a device such as ndl.cpu()`);
  }
  void device.backend;
  return allocate(shape, dtype, device, contiguousStrides(shape), 0);
}

/** Shape and flat values of nested arrays. */
function flatten(data: NestedData): { shape: number[]; values: (number | bigint | boolean)[] } {
  const shape: number[] = [];
  for (let d: NestedData = data; Array.isArray(d); d = d[0]!) {
    shape.push(d.length);
    if (d.length === 0) break;
  }
  const values: (number | bigint | boolean)[] = [];
  const visit = (d: NestedData, depth: number): void => {
    if (depth < shape.length) {
      if (!Array.isArray(d) || d.length !== shape[depth]) {
        throw new RangeError(
          `Cannot make a tensor from ragged data: dim ${depth} has size ${
            shape[depth]
          } at first and ${Array.isArray(d) ? d.length : "no size"} later`,
        );
      }
      for (const e of d) visit(e, depth + 1);
    } else if (typeof d === "number" || typeof d === "bigint" || typeof d === "boolean") {
      values.push(d);
    } else {
      throw new TypeError(
        Array.isArray(d)
          ? `Cannot make a tensor from ragged data: dim ${depth} appears in some rows only`
          : `Cannot make a tensor from ${
            told(d)
          }: give numbers, bigints or booleans; stack joins tensors`,
      );
    }
  };
  visit(data, 0);
  return { shape, values };
}

const arrayDTypes: readonly [new (n: number) => unknown, DType][] = [
  [Float32Array, "float32"],
  [Float64Array, "float64"],
  [Int32Array, "int32"],
  [BigInt64Array, "int64"],
  [Uint8Array, "uint8"],
  [Uint8ClampedArray, "uint8"],
];

function arrayDType(data: object): DType {
  for (const [make, dtype] of arrayDTypes) if (data instanceof make) return dtype;
  if (data.constructor.name === "Float16Array") return "float16";
  throw new TypeError(
    `Cannot make a tensor from a ${data.constructor.name}: use Float32Array, Float64Array, Float16Array, ` +
      `Int32Array, BigInt64Array or Uint8Array`,
  );
}

/** The integer of a value; floats without one are an error. */
function toInteger(x: number | bigint | boolean, dtype: DType): bigint {
  if (typeof x === "number" && !Number.isFinite(x)) {
    throw new RangeError(`Cannot convert ${x} to ${dtype}: it has no ${dtype} value`);
  }
  return BigInt(typeof x === "number" ? Math.trunc(x) : x);
}

/** Throws for numbers that an integer dtype cannot hold; as in PyTorch, negative ones wrap around in uint8. */
function checkIntegers(values: readonly (number | bigint | boolean)[], dtype: DType): void {
  const bits = BigInt(8 * dtypes[dtype].bytes), signed = dtype !== "uint8";
  const most = 2n ** (signed ? bits - 1n : bits) - 1n;
  for (const x of values) {
    const n = toInteger(x, dtype);
    if (n <= most && (n >= -most || (signed && n === -most - 1n))) continue;
    throw new RangeError(
      `Cannot make a tensor of dtype ${dtype} from ${x}: the largest number that it holds is ${most}`,
    );
  }
}

/** Writes values of any kind as `dtype` into `target` (from viewOf). */
function encode(
  values: ArrayLike<number | bigint | boolean>,
  dtype: DType,
  target: TypedArray | Uint16Array,
): void {
  if (dtype === "int64") {
    for (let i = 0; i < values.length; i++) target[i] = toInteger(values[i]!, dtype);
  } else if (isInt(dtype)) {
    const bits = 8 * dtypes[dtype].bytes;
    for (let i = 0; i < values.length; i++) {
      target[i] = Number(BigInt.asIntN(bits, toInteger(values[i]!, dtype)));
    }
  } else if (dtype === "bool") {
    for (let i = 0; i < values.length; i++) target[i] = Number(values[i]) !== 0 ? 1 : 0;
  } else if (dtype === "bfloat16") {
    for (let i = 0; i < values.length; i++) target[i] = toBfloat16(Number(values[i]));
  } else for (let i = 0; i < values.length; i++) target[i] = Number(values[i]);
}

/**
 * A tensor of `data`: a number, nested arrays, or a typed array (copied).
 *
 * Numbers become float32, booleans bool, bigints int64; typed arrays keep their type; `dtype` converts.
 *
 * @throws RangeError where rows differ in length, the data do not fill `shape`, or an integer dtype cannot hold them
 */
export function tensor(
  data: NestedData | TypedArray | Uint8ClampedArray,
  options: TensorOptions = {},
): Tensor {
  checkOptions("tensor", options, ["shape", ...keys]);
  let values: ArrayLike<number | bigint | boolean>, shape: readonly number[], own: DType;
  const typed = ArrayBuffer.isView(data);
  if (typed) {
    values = data as ArrayLike<number | bigint>;
    shape = [values.length];
    own = arrayDType(data);
  } else {
    const flat = flatten(data as NestedData);
    values = flat.values;
    shape = flat.shape;
    const kinds = new Set(flat.values.map((v) => typeof v));
    own = kinds.has("number") || kinds.size === 0
      ? "float32"
      : kinds.has("bigint")
      ? "int64"
      : "bool";
  }
  const dtype = options.dtype === undefined ? own : checkDType(options.dtype);
  if (options.shape !== undefined) {
    const wanted = checkShape("make a tensor", options.shape);
    if (numel(wanted) !== values.length) {
      throw new RangeError(
        `Cannot make a tensor of shape ${show(wanted)} from ${values.length} elements: it needs ${
          numel(wanted)
        }`,
      );
    }
    shape = wanted;
  }
  const t = blank(shape, dtype, options);
  const { bytes } = dtypes[dtype];
  let raw: Uint8Array;
  if (typed && own === dtype) {
    const view = data as Float32Array;
    raw = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  } else {
    if (!typed && isInt(dtype)) checkIntegers(values as (number | bigint | boolean)[], dtype);
    const buffer = new ArrayBuffer(values.length * bytes);
    encode(values, dtype, viewOf(dtype, buffer, 0, values.length));
    raw = new Uint8Array(buffer);
  }
  t.device.backend.write(t._memory, t._start * bytes, raw);
  return finish(t, options);
}

/** A tensor of `shape` whose elements are all `value`. Default dtype: float32, as in every creation function. */
export function full(shape: Shape | number, value: number, options: CreateOptions = {}): Tensor {
  checkOptions("full", options, keys);
  const sizes = shapeArgument("make a tensor", shape);
  const dtype = checkDType(options.dtype ?? "float32");
  if (typeof value !== "number") checkNumbers("full", { value });
  const fits = isFloat(dtype) ? value : integral("full", value, dtype);
  const t = blank(sizes, dtype, options);
  runInto(layoutOps.fill, [], [t], { value: fits, shape: sizes, dtype });
  return finish(t, options);
}

/** A tensor of zeros. */
export function zeros(shape: Shape | number, options: CreateOptions = {}): Tensor {
  return full(shape, 0, options);
}

/** A tensor of ones. */
export function ones(shape: Shape | number, options: CreateOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** A tensor whose elements are whatever the memory held. */
export function empty(shape: Shape | number, options: CreateOptions = {}): Tensor {
  checkOptions("empty", options, keys);
  const dtype = checkDType(options.dtype ?? "float32");
  return finish(blank(shapeArgument("make a tensor", shape), dtype, options), options);
}

/** `n` numbers, for a tensor that is made on the host first. */
function numbers(what: string, n: number, at: (i: number) => number): Float64Array {
  let data: Float64Array;
  try {
    data = new Float64Array(n);
  } catch {
    throw new RangeError(`Cannot make ${what} of ${n} elements: there is no memory for that many`);
  }
  for (let i = 0; i < n; i++) data[i] = at(i);
  return data;
}

/** The n × m matrix with ones on the diagonal (m = n where omitted). */
export function eye(n: number, m?: number | CreateOptions, options: CreateOptions = {}): Tensor {
  const named = typeof m === "object", opts = named ? m : options;
  checkOptions("eye", opts, keys);
  const cols = named ? n : m ?? n;
  const [rows, columns] = checkShape("make an identity matrix", [n, cols]) as [number, number];
  const t = full([rows, columns], 0, { ...opts, requiresGrad: false });
  noGrad(() => void t.diagonal().fill_(1));
  return finish(t, opts);
}

/**
 * start, start + step, ... below end (`arange(end)`, `arange(start, end)`, `arange(start, end, step)`).
 * int64 where all numbers are integers, else float32.
 */
export function arange(
  start: number,
  end?: number | CreateOptions,
  step: number | CreateOptions = 1,
  options: CreateOptions = {},
): Tensor {
  if (typeof end === "object") return arange(0, start, 1, end);
  if (typeof step === "object") return arange(start, end, 1, step);
  checkOptions("arange", options, keys);
  const [from, to] = end === undefined ? [0, start] : [start, end];
  checkNumbers("arange", { start: from, end: to, step });
  const dtype = checkDType(
    options.dtype ?? ([from, to, step].every(Number.isInteger) ? "int64" : "float32"),
  );
  // As in PyTorch, integers are counted from an integer in integer steps, as often as the numbers given say.
  const whole = isInt(dtype);
  const first = whole ? Math.trunc(from) : from, gap = whole ? Math.trunc(step) : step;
  if (![from, to, step].every(Number.isFinite) || step === 0 || (to - from) / step < 0) {
    throw new RangeError(
      `Cannot make arange(${from}, ${to}, ${step}): the step must lead from start towards end, all finite`,
    );
  }
  const data = numbers("arange", Math.ceil((to - from) / step), (i) => first + i * gap);
  return tensor(data, { ...options, dtype });
}

/** `steps` numbers from start to end, evenly spaced, both ends included. */
export function linspace(
  start: number,
  end: number,
  steps: number,
  options: CreateOptions = {},
): Tensor {
  checkOptions("linspace", options, keys);
  checkNumbers("linspace", { start, end });
  const [n] = checkShape("make linspace", [steps]) as [number];
  const dtype = checkDType(options.dtype ?? "float32"), whole = isInt(dtype);
  const first = whole ? Math.trunc(start) : start, last = whole ? Math.trunc(end) : end;
  const gap = n > 1 ? (last - first) / (n - 1) : 0;
  // Counted from the nearer end, so that both ends are exact.
  const at = (i: number): number => i < n / 2 ? first + i * gap : last - (n - 1 - i) * gap;
  return tensor(numbers("linspace", n, at), { ...options, dtype });
}

/** Options of a creation function that takes shape, dtype and device from a tensor. */
export function like(what: string, t: Tensor, options: CreateOptions): CreateOptions {
  checkTensors(what, { tensor: t });
  checkOptions(what, options, keys);
  return { dtype: t.dtype, device: t.device, ...options };
}

/** Zeros with the shape, dtype and device of `t`. */
export function zerosLike(t: Tensor, options: CreateOptions = {}): Tensor {
  const all = like("zerosLike", t, options);
  return full(t.shape, 0, all);
}

/** Ones with the shape, dtype and device of `t`. */
export function onesLike(t: Tensor, options: CreateOptions = {}): Tensor {
  const all = like("onesLike", t, options);
  return full(t.shape, 1, all);
}

/** `value` everywhere, with the shape, dtype and device of `t`. */
export function fullLike(t: Tensor, value: number, options: CreateOptions = {}): Tensor {
  const all = like("fullLike", t, options);
  return full(t.shape, value, all);
}
