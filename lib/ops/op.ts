// What an op declaration is. An op is declared once, as data, in lib/ops/*.ts: meaning, shape rule, derivative,
// C signature. Everything else (kernels' prototypes, FFI definitions, tests, conformance) is derived from it.
// Read next: elementwise.ts for the shortest declarations, conv.ts for the longest.

import type { DType } from "../dtype.ts";
import type { Shape } from "../shape.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { ElementwiseKernel, Operand, OpKernel } from "../backend.ts";

/** Marks an op without derivative. */
export type NonDifferentiable = "nondifferentiable";

/** Which dtypes an elementwise op computes in: others promote (to float32) or are refused. */
export type Domain =
  | "float" // floating point; integers and bool become float32 first
  | "number" // floating point and integers; bool is refused
  | "any"; // everything

/** The derivative with respect to one operand. */
export interface Grad {
  /** What the formula reads, of the operands `a b c` and the result `y`; anything else is null in it. */
  readonly saves: string;
  /** The gradient of the operand, before it is summed to the operand's shape. `g` is the gradient of `y`. */
  readonly f: (g: Tensor, a: Operand, b: Operand, c: Operand, y: Tensor) => Tensor;
}

/** Declares the derivative of one operand of a unary op. */
export function dx(
  saves: "" | "a" | "y" | "ay",
  f: (g: Tensor, x: Tensor, y: Tensor) => Tensor,
): Grad {
  return { saves, f: (g, a, _b, _c, y) => f(g, a as Tensor, y) };
}

/** Declares the derivative of one operand of a binary op. */
export function dxy(
  saves: string,
  f: (g: Tensor, a: Operand, b: Operand, y: Tensor) => Tensor,
): Grad {
  return { saves, f: (g, a, b, _c, y) => f(g, a, b, y) };
}

/** Declares the derivative of one operand of a ternary op. */
export function dxyz(saves: string, f: Grad["f"]): Grad {
  return { saves, f };
}

/** An elementwise op: broadcasting operands, one result. */
export interface ElementwiseOp {
  readonly kind: "elementwise";
  /** Set by the registry. */
  name: string;
  readonly doc: string;
  readonly arity: 1 | 2 | 3;
  readonly domain: Domain;
  /** dtype of the result: that of the operands, or bool. */
  readonly result: "same" | "bool";
  /** The first operand is a bool tensor beside the others (`where`). */
  readonly condition: boolean;
  /** The meaning on float64 (and on bool as 0 and 1). */
  readonly f: (a: number, b: number, c: number) => number | boolean;
  /** The meaning on integers, exact; the result wraps on store. Required unless the domain is "float". */
  readonly int: ((a: bigint, b: bigint, c: bigint) => bigint | boolean) | null;
  /** One derivative per operand (null: the operand has none), or none at all. */
  readonly grads: readonly (Grad | null)[] | NonDifferentiable;
  /** Kernels by device id, filled at first use. */
  readonly kernels: (ElementwiseKernel | undefined)[];
}

/** What a declaration of an elementwise op states. */
export interface ElementwiseDef {
  readonly doc: string;
  readonly domain?: Domain;
  readonly result?: "same" | "bool";
  readonly condition?: boolean;
  readonly int?: (a: bigint, b: bigint, c: bigint) => bigint | boolean;
}

function elementwise(
  arity: 1 | 2 | 3,
  def: ElementwiseDef,
  f: ElementwiseOp["f"],
  grads: readonly (Grad | null)[] | NonDifferentiable,
): ElementwiseOp {
  const domain = def.domain ?? "float";
  if (domain !== "float" && def.int === undefined) {
    throw new Error(`Op "${def.doc}" takes integers but does not say what it does to them`);
  }
  return {
    kind: "elementwise",
    name: "",
    doc: def.doc,
    arity,
    domain,
    result: def.result ?? "same",
    condition: def.condition ?? false,
    f,
    int: def.int ?? null,
    grads,
    kernels: [],
  };
}

/** Declares `y = f(x)`. */
export function unary(
  def: ElementwiseDef & { f: (x: number) => number | boolean; dx: Grad | NonDifferentiable },
): ElementwiseOp {
  return elementwise(1, def, def.f, typeof def.dx === "string" ? def.dx : [def.dx]);
}

/** Declares `y = f(a, b)`. */
export function binary(
  def: ElementwiseDef & {
    f: (a: number, b: number) => number | boolean;
    grads: readonly [Grad | null, Grad | null] | NonDifferentiable;
  },
): ElementwiseOp {
  return elementwise(2, def, def.f, def.grads);
}

/** Declares `y = f(a, b, c)`. */
export function ternary(
  def: ElementwiseDef & {
    f: (a: number, b: number, c: number) => number | boolean;
    grads: readonly [Grad | null, Grad | null, Grad | null] | NonDifferentiable;
  },
): ElementwiseOp {
  return elementwise(3, def, def.f, def.grads);
}

/** Shape, dtype and (where not row-major) strides of one result. */
export interface OutputSpec {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly strides?: Shape;
}

/**
 * A tensor as a reference function sees it: elements in logical (row-major) order. Floats and bools are float64,
 * integers are bigints; results are rounded or wrapped once, when they are stored.
 */
export interface RefTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Elements of float and bool tensors (an error to read for integers). */
  readonly f: Float64Array;
  /** Elements of integer tensors (an error to read for floats). */
  readonly i: BigInt64Array;
}

/** Named tensors handed to reference functions and derivatives. */
export type Named<T, K extends string> = { readonly [P in K]: T };

/** An op that is not elementwise. `I` and `O` name its inputs and outputs (aux included). */
export interface KernelOp {
  readonly kind: "kernel";
  /** Set by the registry. */
  name: string;
  readonly doc: string;
  readonly inputs: readonly string[];
  /** Inputs that may be null. */
  readonly optional: readonly string[];
  readonly outputs: readonly string[];
  /** Outputs that users do not see: saved statistics, indices, workspaces. */
  readonly aux: readonly string[];
  /** Inputs that kernels read with any strides (their strides are in the descriptor); others are made row-major. */
  readonly strided: readonly string[];
  /** Inputs that native kernels read in channels-last memory order. */
  readonly channelsLast: readonly string[];
  /** Inputs that may be one element expanded (what a sum gives backward): the descriptor says so. Else row-major. */
  readonly single: readonly string[];
  /** Inputs that are written in place. */
  readonly mutates: readonly string[];
  /** Native libraries may take float16 and bfloat16 (summing in float32, rounding once), or decline a call. */
  readonly halves: boolean;
  /** Tensors that kernels on GPUs take as float16 or bfloat16, all of one dtype, where no other tensor is a half. */
  readonly gpuHalves: readonly string[];
  readonly infer: (
    inputs: readonly (Tensor | null)[],
    attrs: never,
  ) => readonly OutputSpec[];
  readonly descriptor: (
    inputs: readonly (Tensor | null)[],
    outputs: readonly Tensor[],
    attrs: never,
  ) => ArrayLike<number>;
  /** dtype codes after the main one (that of the first input, else the first output). */
  readonly extraDTypes: (inputs: readonly (Tensor | null)[], outputs: readonly Tensor[]) => number;
  readonly reference: (
    inputs: Record<string, RefTensor>,
    outputs: Record<string, RefTensor>,
    attrs: never,
  ) => void;
  readonly saves: readonly Saved[];
  readonly vjp:
    | NonDifferentiable
    | ((
      grads: readonly (Tensor | null)[],
      saved: Record<string, Tensor>,
      attrs: never,
      needs: readonly boolean[],
    ) => readonly (Tensor | null)[]);
  /** The same result by differentiable ops: used for second derivatives. */
  readonly composition:
    | null
    | ((inputs: readonly (Tensor | null)[], attrs: never) => readonly Tensor[]);
  /**
   * The attributes with which the kernel also applies an elementwise op of one operand to its result, or null. Results
   * of ops that can do this wait until somebody reads them.
   */
  readonly absorbs: null | ((elementwise: string, attrs: never) => unknown);
  /** Kernels by device id, filled at first use. */
  readonly kernels: (OpKernel | undefined)[];
}

/** What a declaration of a kernel op states; see KernelOp for the fields. */
export interface KernelDef<
  I extends string,
  Opt extends string,
  O extends string,
  X extends string,
  A,
> {
  readonly doc: string;
  readonly inputs: readonly I[];
  readonly optional?: readonly Opt[];
  readonly outputs: readonly O[];
  readonly aux?: readonly X[];
  readonly strided?: readonly (I | Opt)[];
  readonly channelsLast?: readonly (I | Opt)[];
  readonly single?: readonly (I | Opt)[];
  readonly mutates?: readonly I[];
  readonly halves?: boolean;
  readonly gpuHalves?: readonly (I | Opt | O | X)[];
  /** Checks the inputs (they arrive in the order of `inputs`, then `optional`) and sizes the results. */
  readonly infer: (
    inputs: Named<Tensor, I> & Named<Tensor | null, Opt>,
    attrs: A,
  ) => readonly OutputSpec[];
  /** The numbers that the kernel needs beyond its pointers; documented where declared. */
  readonly descriptor: (
    inputs: Named<Tensor, I> & Named<Tensor | null, Opt>,
    outputs: Named<Tensor, O | X>,
    attrs: A,
  ) => ArrayLike<number>;
  readonly extraDTypes?: KernelOp["extraDTypes"];
  /** The meaning: fills `outputs`, which arrive zeroed. An op with `mutates` writes those inputs instead. */
  readonly reference: (
    inputs: Named<RefTensor, I> & Named<RefTensor | null, Opt>,
    outputs: Named<RefTensor, O | X>,
    attrs: A,
  ) => void;
  readonly saves: readonly (I | Opt | O | X)[];
  /** Gradients of `inputs` then `optional`, given those of `outputs` (null: no gradient came). */
  readonly vjp:
    | NonDifferentiable
    | ((
      grads: Named<Tensor | null, O>,
      saved: Named<Tensor, I | O | X> & Named<Tensor | null, Opt>,
      attrs: A,
      needs: Named<boolean, I | Opt>,
    ) => readonly (Tensor | null)[]);
  readonly composition?: (
    inputs: Named<Tensor, I> & Named<Tensor | null, Opt>,
    attrs: A,
  ) => readonly Tensor[];
  readonly absorbs?: (elementwise: string, attrs: A) => A | null;
}

/** A tensor that a recorded kernel op keeps: an input, or a result. */
export interface Saved {
  readonly name: string;
  /** Its place among the inputs, -1 for a result. */
  readonly input: number;
  /** Its place among the results, -1 for an input. */
  readonly result: number;
}

/** A kernel op whose attributes have type `A`. */
export interface TypedKernelOp<A> extends KernelOp {
  /** Carries the attributes' type; never present. */
  readonly attrsType?: (attrs: A) => void;
}

/** Makes objects that give the values of a list the names of `names`. */
function naming(names: readonly string[]): <T>(values: readonly T[]) => Record<string, T> {
  const loop = <T>(values: readonly T[]): Record<string, T> => {
    const out: Record<string, T> = {};
    for (let i = 0; i < names.length; i++) out[names[i]!] = values[i]!;
    return out;
  };
  // An object literal, made at first use, takes half the time; pages that forbid generated code do with the loop.
  let literal: typeof loop | null = null;
  return (values) => {
    if (literal === null) {
      const pairs = names.map((name, i) => `${name}: values[${i}]`).join(", ");
      try {
        literal = new Function("values", `return { ${pairs} };`) as typeof loop;
      } catch {
        literal = loop;
      }
    }
    return literal(values);
  };
}

/** Declares an op that is not elementwise. */
export function kernel<
  const I extends string,
  const O extends string,
  A,
  const Opt extends string = never,
  const X extends string = never,
>(def: KernelDef<I, Opt, O, X, A>): TypedKernelOp<A> {
  const inputs: string[] = [...def.inputs, ...(def.optional ?? [])];
  const results: string[] = [...def.outputs, ...(def.aux ?? [])];
  type In = Named<Tensor, I> & Named<Tensor | null, Opt>;
  type Out = Named<Tensor, O | X>;
  const { vjp, composition } = def;
  // A composition needs every input again.
  const saves = composition === undefined ? def.saves : new Set([...def.saves, ...inputs]);
  const nameInputs = naming(inputs), nameResults = naming(results), nameGrads = naming(def.outputs);
  return {
    kind: "kernel",
    name: "",
    doc: def.doc,
    inputs,
    optional: def.optional ?? [],
    outputs: def.outputs,
    aux: def.aux ?? [],
    strided: def.strided ?? [],
    channelsLast: def.channelsLast ?? [],
    single: def.single ?? [],
    mutates: def.mutates ?? [],
    halves: def.halves ?? false,
    gpuHalves: def.gpuHalves ?? [],
    infer: (ins, attrs) => def.infer(nameInputs(ins) as In, attrs),
    descriptor: (ins, outs, attrs) =>
      def.descriptor(nameInputs(ins) as In, nameResults(outs) as Out, attrs),
    extraDTypes: def.extraDTypes ?? (() => 0),
    reference: def.reference as unknown as KernelOp["reference"],
    saves: Array.from(saves, (name): Saved => {
      const input = inputs.indexOf(name);
      return { name, input, result: input < 0 ? results.indexOf(name) : -1 };
    }),
    vjp: vjp === "nondifferentiable" ? vjp : (grads, saved, attrs, needs) =>
      vjp(
        nameGrads(grads) as Named<Tensor | null, O>,
        saved as Parameters<typeof vjp>[1],
        attrs,
        nameInputs(needs) as Named<boolean, I | Opt>,
      ),
    composition: composition === undefined
      ? null
      : (ins, attrs) => composition(nameInputs(ins) as In, attrs),
    absorbs: def.absorbs ?? null,
    kernels: [],
  };
}

/** The window of a storage that a view reads. */
export interface Window {
  readonly shape: Shape;
  readonly strides: Shape;
  /** First element, counted from the input's first element. */
  readonly offset: number;
}

/** A view: the same storage read with other strides. No kernel; the derivative is written over tensor ops. */
export interface ViewOp<A = never> {
  readonly kind: "view";
  /** Set by the registry. */
  name: string;
  readonly doc: string;
  /** Where the view lies in the input. Throws the user-facing error for attributes that do not fit. */
  readonly window: (shape: Shape, strides: Shape, attrs: A) => Window;
  /** The gradient of the input, of shape `shape`. */
  readonly vjp: (g: Tensor, shape: Shape, attrs: A, self: ViewOp<A>) => Tensor;
}

/** Declares a view. */
export function view<A>(def: Omit<ViewOp<A>, "kind" | "name">): ViewOp<A> {
  return { kind: "view", name: "", ...def };
}

/** Any op declaration. */
export type AnyOp = ElementwiseOp | KernelOp | ViewOp;

/** Gives every op of a table its key as name. */
export function declare<const T extends Record<string, { name: string }>>(table: T): T {
  for (const [name, op] of Object.entries(table)) op.name = name;
  return table;
}

/** `needle_` and the snake_case form of an op's name: the C symbol. */
export function symbolOf(name: string): string {
  return "needle_" + name.replace(/[A-Z]/g, (c) => "_" + c.toLowerCase());
}
