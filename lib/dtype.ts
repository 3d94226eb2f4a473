// Data types: one total table (bytes, kind, typed array, C code, tolerance) and PyTorch's promotion rules.
// The codes cross the C ABI (csrc/common.h has the same numbers); nothing else may number dtypes.

/** The element types a tensor can have. */
export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bfloat16"
  | "int32"
  | "int64"
  | "uint8"
  | "bool";

/** What a dtype stands for in promotion: booleans < integers < floating point. */
export type Kind = "bool" | "int" | "float";

/** A typed array as `toTypedArray()` returns it. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Float16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array;

/** The row of one dtype. */
export interface DTypeInfo {
  /** The number that stands for this dtype in the C ABI. */
  readonly code: number;
  /** Bytes per element. */
  readonly bytes: number;
  /** Promotion category. */
  readonly kind: Kind;
  /** Comparison tolerance of kernels against the reference, relative to the magnitude. */
  readonly rtol: number;
  /** Comparison tolerance of kernels against the reference, absolute. */
  readonly atol: number;
}

/** Every dtype. Tolerances follow torch.testing.assert_close. */
export const dtypes: Readonly<Record<DType, DTypeInfo>> = {
  float32: { code: 0, bytes: 4, kind: "float", rtol: 1.3e-6, atol: 1e-5 },
  float64: { code: 1, bytes: 8, kind: "float", rtol: 1e-7, atol: 1e-7 },
  float16: { code: 2, bytes: 2, kind: "float", rtol: 1e-3, atol: 1e-5 },
  bfloat16: { code: 3, bytes: 2, kind: "float", rtol: 1.6e-2, atol: 1e-5 },
  int32: { code: 4, bytes: 4, kind: "int", rtol: 0, atol: 0 },
  int64: { code: 5, bytes: 8, kind: "int", rtol: 0, atol: 0 },
  uint8: { code: 6, bytes: 1, kind: "int", rtol: 0, atol: 0 },
  bool: { code: 7, bytes: 1, kind: "bool", rtol: 0, atol: 0 },
};

/** All dtype names, in the order of their codes. */
export const dtypeNames: readonly DType[] = Object.keys(dtypes) as DType[];

/** Whether `dtype` is a floating point type. */
export function isFloat(dtype: DType): boolean {
  return dtypes[dtype].kind === "float";
}

/** Whether `dtype` is an integer type (bool is not). */
export function isInt(dtype: DType): boolean {
  return dtypes[dtype].kind === "int";
}

/** Whether `dtype` is stored in 16 bits; kernels compute such types in float32 and round once. */
export function isHalf(dtype: DType): boolean {
  return dtype === "float16" || dtype === "bfloat16";
}

/** Throws a TypeError unless `dtype` names a dtype. */
export function checkDType(dtype: unknown): DType {
  if (typeof dtype === "string" && Object.hasOwn(dtypes, dtype)) return dtype as DType;
  throw new TypeError(
    `Unknown dtype ${JSON.stringify(dtype)}: use one of ${dtypeNames.join(", ")}`,
  );
}

// Integer ranks within promotion; uint8 and a signed type meet in the signed type.
const intRank: Partial<Record<DType, number>> = { uint8: 0, int32: 1, int64: 2 };

/**
 * The dtype in which two tensor operands of equal standing meet (torch.promote_types).
 *
 * float16 and bfloat16 meet in float32; integers give way to any float.
 */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  const ka = dtypes[a].kind, kb = dtypes[b].kind;
  if (ka === "float" && kb === "float") {
    if (a === "float64" || b === "float64") return "float64";
    return "float32";
  }
  if (ka === "float") return a;
  if (kb === "float") return b;
  if (ka === "bool") return b;
  if (kb === "bool") return a;
  return intRank[a]! >= intRank[b]! ? a : b;
}

const kindRank: Record<Kind, number> = { bool: 0, int: 1, float: 2 };

/**
 * The dtype of an operation on tensors, with PyTorch's rule for 0-d tensors: they
 * take part in promotion only where their kind is higher than that of all tensors with dimensions.
 */
export function resultType(operands: readonly { dtype: DType; ndim: number }[]): DType {
  let dim: DType | null = null, zero: DType | null = null;
  for (const t of operands) {
    if (t.ndim > 0) dim = dim === null ? t.dtype : promote(dim, t.dtype);
    else zero = zero === null ? t.dtype : promote(zero, t.dtype);
  }
  if (dim === null) return zero ?? "float32";
  if (zero === null || kindRank[dtypes[zero].kind] <= kindRank[dtypes[dim].kind]) return dim;
  return zero;
}

/** The dtype of `t op number`: an integer keeps integer tensors, a fraction promotes them to float32. */
export function resultTypeWithNumber(dtype: DType, value: number | bigint | boolean): DType {
  const kind = dtypes[dtype].kind;
  if (kind === "float" || typeof value === "boolean") return dtype;
  if (typeof value === "number" && !Number.isInteger(value)) return "float32";
  return kind === "bool" ? "int64" : dtype;
}

/** Round-to-nearest-even conversion of a float32 bit pattern to bfloat16. */
function bfloat16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0; // every NaN becomes the quiet NaN
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

const scratchF32 = new Float32Array(1);
const scratchU32 = new Uint32Array(scratchF32.buffer);

/** `x` as bfloat16 bits; the float64 is rounded once (round to odd float32 first, then to nearest even). */
export function toBfloat16(x: number): number {
  scratchF32[0] = x;
  const near = scratchF32[0]!;
  // Rounding through float32 could round twice: nudge an inexact tie towards x by its sticky bit.
  if (near !== x && x === x && Math.abs(near) !== Infinity) {
    if ((scratchU32[0]! & 0xffff) === 0x8000 || (scratchU32[0]! & 0xffff) === 0) {
      const up = Math.abs(x) > Math.abs(near);
      if ((scratchU32[0]! & 0xffff) === 0x8000) scratchU32[0] = scratchU32[0]! + (up ? 1 : -1);
    }
  }
  return bfloat16Bits(scratchU32[0]!);
}

/** The value of bfloat16 bits. */
export function fromBfloat16(bits: number): number {
  scratchU32[0] = bits << 16;
  return scratchF32[0]!;
}

// Engines without Float16Array (Node 20, some browsers) still import this module; only float16 tensors need it.
const f16Array = (globalThis as { Float16Array?: typeof Float16Array }).Float16Array;

/** A view of `count` elements of `dtype` on `buffer`; bfloat16 is seen as its bits. */
export function viewOf(
  dtype: DType,
  buffer: ArrayBufferLike,
  byteOffset: number,
  count: number,
): TypedArray | Uint16Array {
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer, byteOffset, count);
    case "float64":
      return new Float64Array(buffer, byteOffset, count);
    case "float16":
      if (f16Array === undefined) {
        throw new TypeError("Cannot hold float16: this JavaScript engine has no Float16Array");
      }
      return new f16Array(buffer as ArrayBuffer, byteOffset, count);
    case "bfloat16":
      return new Uint16Array(buffer, byteOffset, count);
    case "int32":
      return new Int32Array(buffer, byteOffset, count);
    case "int64":
      return new BigInt64Array(buffer, byteOffset, count);
    case "uint8":
    case "bool":
      return new Uint8Array(buffer, byteOffset, count);
  }
}
