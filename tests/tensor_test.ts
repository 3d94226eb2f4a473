// The corners of tensor semantics against PyTorch: empty reductions, NaN, ties, integer division, promotion, special
// values, their gradients, and what is refused. golden/make_tensor.py wrote the answers into golden/tensor.json.

import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";

/** dtype, shape, elements in row-major order. */
type TensorText = [DType, number[], (number | string)[]];
type Result = TensorText | TensorText[] | "error";
type Case = [string, TensorText[], unknown[], Result, TensorText[]];
type Method = (this: Tensor, ...args: unknown[]) => unknown;

const golden: { cases: Case[]; promotion: Record<string, Record<string, string>> } = JSON.parse(
  Deno.readTextFileSync(new URL("golden/tensor.json", import.meta.url)),
);
const devices = [ndl.reference(), ...nativeDevices()];
const tolerances: Partial<Record<DType, number>> = { float16: 1e-3, bfloat16: 1e-2 };

function make([dtype, shape, values]: TensorText, device: Device): Tensor {
  return ndl.tensor(Float64Array.from(values, Number), { dtype, shape, device });
}

function compare(got: Tensor, want: TensorText, what: string): void {
  const [dtype, shape, values] = want;
  if (got.dtype !== dtype || String(got.shape) !== String(shape)) {
    throw new Error(`${what}: ${got.dtype} [${got.shape}] instead of ${dtype} [${shape}]`);
  }
  const rtol = tolerances[dtype] ?? 1e-4;
  assertClose(got.toTypedArray(), values.map(Number), { rtol, atol: 1e-6 }, what);
}

/** The tensors of a result: one, a list, or values and indices. */
function tensorsOf(result: unknown): Tensor[] {
  return result instanceof ndl.Tensor ? [result] : Object.values(result as Record<string, Tensor>);
}

function check([name, texts, args, want, grads]: Case, device: Device): void {
  const what = `${JSON.stringify(texts[0])}.${name}(${JSON.stringify(args)}) on ${device}`;
  const tensors = texts.map((t) => make(t, device));
  for (const t of tensors) if (t.dtype === "float32") t.requiresGrad_();
  const given = args.map((a) => {
    if (typeof a !== "string") return a;
    return a.startsWith("$")
      ? tensors[Number(a.slice(1))]
      : Number.isNaN(Number(a)) && a !== "NaN"
      ? a
      : Number(a);
  });
  const options = given.at(-1) as Record<string, unknown> | null | undefined;
  if (options !== null && typeof options === "object" && "p" in options) {
    const p = options.p === "fro" ? options.p : Number(options.p);
    given[given.length - 1] = { ...options, p };
  }
  let results: Tensor[];
  try {
    const method = (tensors[0] as unknown as Record<string, Method>)[name]!;
    results = tensorsOf(method.apply(tensors[0]!, given));
  } catch (error) {
    if (want === "error" && !/undefined|not a function/.test((error as Error).message)) return;
    throw new Error(`${what} was refused: ${(error as Error).message}`);
  }
  if (want === "error") throw new Error(`${what} should be refused`);
  const wanted = (Array.isArray(want[0]) ? want : [want]) as TensorText[];
  wanted.forEach((w, i) => compare(results[i]!, w, `output ${i} of ${what}`));
  const y = results[0]!;
  if (grads.length === 0) return;
  const weights = Array.from({ length: y.numel() }, (_, i) => Math.cos(1 + i));
  const gradOutputs = ndl.tensor(Float32Array.from(weights), { shape: y.shape, device });
  const leaves = tensors.filter((t) => t.requiresGrad);
  const found = ndl.grad(y, leaves, { gradOutputs, allowUnused: true });
  found.forEach((g, i) =>
    compare(g ?? ndl.zerosLike(leaves[i]!), grads[i]!, `gradient ${i} of ${what}`)
  );
}

for (const device of devices) {
  for (const name of new Set(golden.cases.map((c) => c[0]))) {
    Deno.test(`${name} agrees with PyTorch in the corners on ${device}`, () => {
      const problems: string[] = [];
      for (const c of golden.cases) {
        if (c[0] !== name) continue;
        try {
          check(c, device);
        } catch (error) {
          problems.push((error as Error).message);
        }
      }
      if (problems.length > 0) throw new Error(problems.join("\n"));
    });
  }

  Deno.test(`dtypes promote as in PyTorch on ${device}`, () => {
    const dtypes: DType[] = [
      "float32",
      "float64",
      "float16",
      "bfloat16",
      "int32",
      "int64",
      "uint8",
      "bool",
    ];
    const problems: string[] = [];
    for (const [name, rows] of Object.entries(golden.promotion)) {
      for (const [key, want] of Object.entries(rows)) {
        const [a, b] = key.split(" ") as [DType, string];
        const others = b === "0-d"
          ? dtypes.map((dtype) => ndl.ones([], { dtype, device }))
          : b === "number"
          ? (name === "copy_" ? [] : [2, 2.5])
          : [ndl.ones([2], { dtype: b as DType, device })];
        const found = others.map((other) => {
          const x = ndl.ones([2], { dtype: a, device });
          try {
            return (x as unknown as Record<string, (o: unknown) => Tensor>)[name]!(other).dtype;
          } catch {
            return "error";
          }
        }).join(" ");
        if (found !== want) problems.push(`${a}.${name}(${b}): ${found} instead of ${want}`);
      }
    }
    if (problems.length > 0) throw new Error(problems.join("\n"));
  });
}
