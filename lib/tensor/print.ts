// Printing tensors as PyTorch does: aligned columns, common precision or exponent, summarised beyond 1000 elements,
// with a tail that tells dtype, device and gradient where they are not the usual ones.

import { dtypes } from "../dtype.ts";
import type { Tensor } from "./mod.ts";

const precision = 4;
const threshold = 1000;
const edgeItems = 3;
const lineWidth = 80;

type Format = (x: number | bigint) => string;

/** A rounded decimal text, given the same with more digits, with exact ties to even, as C and Python round. */
function toEven(rounded: string, exact: string): string {
  const [shown, tail = ""] = rounded.split("e"), point = shown!.length;
  const [digits] = exact.split("e"), rest = digits!.slice(point);
  if (!/^50*$/.test(rest) || Number(shown!.at(-1)) % 2 === 0) return rounded;
  // JavaScript rounds ties away from 0; the digits before the tie are the even neighbour then.
  const cut = digits!.slice(0, point);
  return tail === "" ? cut : `${cut}e${tail}`;
}

function fixed(x: number): string {
  return toEven(x.toFixed(precision), x.toFixed(60));
}

function exponential(x: number): string {
  const text = toEven(x.toExponential(precision), x.toExponential(60));
  return text.replace(/e([+-])(\d)$/, "e$10$2");
}

/** Chooses integer, fixed or exponential notation for a set of floats, as torch/_tensor_str.py does. */
function floatFormat(values: readonly number[]): { format: Format; width: number } {
  const finite = values.filter((x) => Number.isFinite(x) && x !== 0);
  const special = (x: number): string => Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
  const whole = (x: number): string => `${x}.`;
  let plain = whole;
  if (finite.length > 0) {
    const abs = finite.map(Math.abs);
    const max = Math.max(...abs), min = Math.min(...abs);
    if (max / min > 1000 || max > 1e8 || min < 1e-4) plain = exponential;
    else if (finite.every((x) => x === Math.ceil(x))) plain = whole;
    else plain = fixed;
  }
  const signed = (x: number): string => Object.is(x, -0) ? `-${plain(0)}` : plain(x);
  const text = (x: number): string => Number.isFinite(x) ? signed(x) : special(x);
  // Zeros and special values do not count, as in PyTorch: where they are wider, they stick out.
  const width = finite.reduce((w, x) => Math.max(w, text(x).length), 1);
  return { format: (x) => text(Number(x)), width };
}

function valueFormat(
  t: Tensor,
  values: readonly (number | bigint)[],
): { format: Format; width: number } {
  if (t.dtype === "bool") {
    const format: Format = (x) => x ? "true" : "false";
    return { format, width: Math.max(1, ...values.map((x) => format(x).length)) };
  }
  if (dtypes[t.dtype].kind === "int") {
    return { format: String, width: Math.max(1, ...values.map((x) => String(x).length)) };
  }
  return floatFormat(values as number[]);
}

/** Positions shown along a dim; null stands for the dots. */
function shown(size: number, summarize: boolean): (number | null)[] {
  const all = Array.from({ length: size }, (_, i) => i);
  if (!summarize || size <= 2 * edgeItems) return all;
  return [...all.slice(0, edgeItems), null, ...all.slice(-edgeItems)];
}

/** The text of a tensor. */
export function show(t: Tensor): string {
  const data = t.detach().toTypedArray() as ArrayLike<number | bigint>;
  const { shape } = t;
  const summarize = t.numel() > threshold;
  const visible: (number | bigint)[] = [];
  const visit = (dim: number, at: number): void => {
    if (dim === shape.length) {
      visible.push(data[at]!);
      return;
    }
    for (const i of shown(shape[dim]!, summarize)) {
      if (i !== null) visit(dim + 1, at * shape[dim]! + i);
    }
  };
  if (t.numel() > 0) visit(0, 0);
  const { format, width } = valueFormat(t, visible);

  const head = "tensor(";
  const body = (dim: number, at: number, indent: number): string => {
    if (dim === shape.length) {
      return shape.length === 0 ? format(data[0]!) : format(data[at]!).padStart(width);
    }
    const size = shape[dim]!;
    const parts = shown(size, summarize).map((i) =>
      i === null
        ? (dim === shape.length - 1 ? " ..." : "...")
        : body(dim + 1, at * size + i, indent + 1)
    );
    if (dim === shape.length - 1) {
      const perLine = Math.max(1, Math.floor((lineWidth - indent) / (width + 2)));
      const lines: string[] = [];
      for (let i = 0; i < parts.length; i += perLine) {
        lines.push(parts.slice(i, i + perLine).join(", "));
      }
      return `[${lines.join(`,\n${" ".repeat(indent + 1)}`)}]`;
    }
    const gap = "\n".repeat(shape.length - 1 - dim) + " ".repeat(indent + 1);
    return `[${parts.join(`,${gap}`)}]`;
  };
  const tail: string[] = [];
  if (t.numel() === 0 && shape.length !== 1) tail.push(`size=[${shape.join(", ")}]`);
  const inferred = t.dtype === "float32" || t.dtype === "bool" || t.dtype === "int64";
  if (!inferred || (t.numel() === 0 && t.dtype !== "float32")) tail.push(`dtype=${t.dtype}`);
  if (t.device.name.startsWith("cuda")) tail.push(`device="${t.device}"`);
  if (t.requiresGrad) tail.push(t._node === null ? "requiresGrad=true" : `gradFn=${t._node}`);
  const text = head + (t.numel() === 0 ? "[]" : body(0, 0, head.length));
  return `${withTail(text, tail, head.length)})`;
}

/** Adds the tail, on lines of its own where the last line would get too long. */
function withTail(text: string, tail: readonly string[], indent: number): string {
  let length = text.length - text.lastIndexOf("\n") + 1;
  for (const part of tail) {
    // Lines break where PyTorch's do, who writes torch.float64, requires_grad and grad_fn.
    const size = part.length + (part.startsWith("dtype") ? 6 : part.startsWith("size") ? 0 : 1);
    const fits = length + size + 2 <= lineWidth;
    text += fits ? `, ${part}` : `,\n${" ".repeat(indent)}${part}`;
    length = fits ? length + size + 2 : indent + size;
  }
  return text;
}
