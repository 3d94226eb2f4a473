// The C ABI: header text, FFI signatures and ABI hash, all derived from the op table in lib/ops.
// build.ts writes csrc/include/needle.h from here; lib/backends/native.ts opens symbols with the same signatures.
//
// Every op is one function with one shape of signature:
//   int32_t needle_<name>((const void* in, double in_off)..., (void* out, double out_off)..., int32_t dtypes,
//                         double n, const double* desc)
// Offsets and strides are in elements. A NULL base is an optional tensor left out or, for elementwise ops, a number
// whose value stands in the offset. `dtypes` packs codes: main | second << 8 | third << 16. `desc` holds shapes,
// strides and attributes as float64, in the order that the op's declaration documents.

import { dtypeNames, dtypes } from "./dtype.ts";
import type { AnyOp, ElementwiseOp, KernelOp } from "./ops/op.ts";
import { symbolOf } from "./ops/op.ts";
import { fusedInputs, fusedOutputs } from "./lazy.ts";
import { ops } from "./ops/mod.ts";

// Raise when the meaning of a descriptor changes while all signatures stay.
const revision = 1;

/** An op that has a kernel, hence a C symbol. */
export type NativeOp = ElementwiseOp | KernelOp;

/** All ops with a kernel, in the order of their declaration. */
export function nativeOps(): NativeOp[] {
  return (Object.values(ops) as AnyOp[]).filter((op): op is NativeOp => op.kind !== "view");
}

/** Names of an op's tensor arguments: inputs, then outputs. */
export function tensorArguments(
  op: NativeOp,
): { inputs: readonly string[]; outputs: readonly string[] } {
  return op.kind === "elementwise"
    ? { inputs: ["a", "b", "c"].slice(0, op.arity), outputs: ["y"] }
    : { inputs: op.inputs, outputs: [...op.outputs, ...op.aux] };
}

/** The FFI signature of an op; `host` says whether tensors are ArrayBuffers or device pointers. */
export function signature(op: NativeOp, host: boolean): Deno.ForeignFunction {
  const { inputs, outputs } = tensorArguments(op);
  const base = host ? "buffer" : "pointer";
  const parameters: Deno.NativeType[] = [];
  for (let i = 0; i < inputs.length + outputs.length; i++) parameters.push(base, "f64");
  return { parameters: [...parameters, "i32", "f64", "buffer"], result: "i32" };
}

const numbers = new Map<NativeOp, number>();

/** The place of an op in the header's list: its number in fused programs. */
export function opNumber(op: NativeOp): number {
  if (numbers.size === 0) nativeOps().forEach((o, i) => numbers.set(o, i));
  return numbers.get(op)!;
}

/** The FFI signature of `needle_fused`, as {@linkcode signature} has that of an op. */
export function fusedSignature(host: boolean): Deno.ForeignFunction {
  const base = host ? "buffer" : "pointer";
  const parameters: Deno.NativeType[] = [];
  for (let i = 0; i < fusedInputs + fusedOutputs; i++) parameters.push(base, "f64");
  return { parameters: [...parameters, "buffer"], result: "i32" };
}

function fusedPrototype(): string {
  const list = (count: number, type: string, name: string): string[] =>
    Array.from({ length: count }, (_, i) => `${type} ${name}${i}, double ${name}${i}_off`);
  const args = [...list(fusedInputs, "const void*", "in"), ...list(fusedOutputs, "void*", "out")];
  return "/* A program of elementwise ops in one pass; libraries for host memory have it. */\n" +
    `NEEDLE_API int32_t needle_fused(${args.join(", ")}, const double* desc) NEEDLE_NOEXCEPT;`;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (c) => "_" + c.toLowerCase());
}

function prototype(op: NativeOp): string {
  const { inputs, outputs } = tensorArguments(op);
  const mutated = op.kind === "kernel" ? op.mutates : [];
  const args = [
    ...inputs.map((x) =>
      `${mutated.includes(x) ? "" : "const "}void* ${snake(x)}, double ${snake(x)}_off`
    ),
    ...outputs.map((x) => `void* ${snake(x)}, double ${snake(x)}_off`),
    "int32_t dtypes",
    "double n",
    "const double* desc",
  ];
  return `/* ${op.doc} */\nNEEDLE_API int32_t ${symbolOf(op.name)}(${
    args.join(", ")
  }) NEEDLE_NOEXCEPT;\n`;
}

function body(): string {
  const native = nativeOps();
  return [
    `/* ABI revision ${revision} */`,
    `enum NeedleDType { ${
      dtypeNames.map((d) => `NEEDLE_${d.toUpperCase()} = ${dtypes[d].code}`).join(", ")
    } };`,
    "",
    ...native.map(prototype),
    "/* What every library says about itself. Texts are copied out; the result is their length. */",
    "NEEDLE_API int32_t needle_abi_hash(void* text16) NEEDLE_NOEXCEPT;",
    "NEEDLE_API int32_t needle_last_error(void* text, double capacity) NEEDLE_NOEXCEPT;",
    "NEEDLE_API int32_t needle_info(void* text, double capacity) NEEDLE_NOEXCEPT;",
    "NEEDLE_API int32_t needle_set_threads(int32_t n) NEEDLE_NOEXCEPT;",
    fusedPrototype(),
    "",
    "#define NEEDLE_FOR_EACH_OP(X) \\",
    ...native.map((op, i) => `  X(${symbolOf(op.name)})${i + 1 < native.length ? " \\" : ""}`),
  ].join("\n");
}

/** Two FNV-1a hashes of 32 bits with different offsets, as 16 hex digits. */
function hashText(text: string): string {
  const fnv = (offset: number): string => {
    let h = offset;
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
    return (h >>> 0).toString(16).padStart(8, "0");
  };
  return fnv(0x811c9dc5) + fnv(0x5bd1e995);
}

let hash: string | undefined;

/** 16 hex digits that change whenever the header does; a library with another hash is refused. */
export function abiHash(): string {
  return hash ??= hashText(body());
}

/** The text of csrc/include/needle.h. */
export function headerText(): string {
  return `/* Written by build.ts from lib/abi.ts. Do not edit. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
#define NEEDLE_NOEXCEPT noexcept
extern "C" {
#else
#define NEEDLE_NOEXCEPT
#endif
#ifdef _WIN32
#define NEEDLE_API __declspec(dllexport)
#else
#define NEEDLE_API __attribute__((visibility("default")))
#endif
#define NEEDLE_ABI_HASH "${abiHash()}"

${body()}

#ifdef __cplusplus
}
#endif
`;
}
