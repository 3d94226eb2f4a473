// einsum: products of tensors summed over named dims. Tensors are contracted in pairs from the left; each pair is one
// batched matmul of permuted and reshaped views, so that gradients follow from those ops.

import { checkTensors, told } from "../options.ts";
import { same, type Shape, show } from "../shape.ts";
import type { Tensor } from "./mod.ts";

/** A tensor and the label of each of its dims. Dims under an ellipsis are labelled "0", "1", ... from the last. */
interface Labelled {
  readonly t: Tensor;
  readonly labels: readonly string[];
}

function fail(spec: string, tensors: readonly Tensor[], why: string): never {
  throw new RangeError(
    `Cannot einsum "${spec}" on ${tensors.map((t) => show(t.shape)).join(", ")}: ${why}`,
  );
}

/** The labels of one term, the ellipsis standing for `hidden` dims. */
function expandTerm(term: string, hidden: number): string[] | null {
  const parts = term.split("...");
  if (parts.length > 2 || parts.some((p) => !/^[A-Za-z]*$/.test(p))) return null;
  const dims = Array.from({ length: hidden }, (_, i) => String(hidden - 1 - i));
  return parts.length === 1 ? [...term] : [...parts[0]!, ...dims, ...parts[1]!];
}

/** `x` with one dim per label: repeated labels take the diagonal. */
function takeDiagonals(x: Labelled): Labelled {
  let { t } = x;
  const labels = [...x.labels];
  for (let i = 0; i < labels.length; i++) {
    const j = labels.indexOf(labels[i]!, i + 1);
    if (j < 0) continue;
    const label = labels[i]!;
    t = t.diagonal(0, i, j);
    labels.splice(j, 1);
    labels.splice(i, 1);
    labels.push(label);
    i = -1;
  }
  return { t, labels };
}

/** Sums over the labels that are not in `keep`. */
function sumOut({ t, labels }: Labelled, keep: ReadonlySet<string>): Labelled {
  const dims = labels.flatMap((l, i) => keep.has(l) ? [] : [i]);
  if (dims.length === 0) return { t, labels };
  return { t: t.sum(dims), labels: labels.filter((l) => keep.has(l)) };
}

/** `x` as a tensor with exactly the dims `order` (size 1 where it lacks one). */
function align(x: Labelled, order: readonly string[]): Tensor {
  const present = order.filter((l) => x.labels.includes(l));
  const permuted = x.t.permute(present.map((l) => x.labels.indexOf(l)));
  let d = 0;
  return permuted.reshape(order.map((l) => x.labels.includes(l) ? permuted.shape[d++]! : 1));
}

const product = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

/** The product of two tensors, summed over the labels that are not in `keep`. */
function contract(a: Labelled, b: Labelled, keep: ReadonlySet<string>): Labelled {
  const x = sumOut(a, new Set([...keep, ...b.labels])),
    y = sumOut(b, new Set([...keep, ...a.labels]));
  const shared = x.labels.filter((l) => y.labels.includes(l));
  const batch = shared.filter((l) => keep.has(l)), summed = shared.filter((l) => !keep.has(l));
  const left = x.labels.filter((l) => !shared.includes(l)),
    right = y.labels.filter((l) => !shared.includes(l));
  const labels = [...batch, ...left, ...right];
  if (summed.length === 0) return { t: align(x, labels).mul(align(y, labels)), labels };
  const p = align(x, [...batch, ...left, ...summed]), q = align(y, [...batch, ...summed, ...right]);
  // A size of 1 broadcasts against the other tensor's.
  const sizes = (from: number, count: number, t: Tensor): number[] =>
    t.shape.slice(from, from + count);
  const both = sizes(0, batch.length, p).map((s, i) => s === 1 ? q.shape[i]! : s);
  const inner = sizes(batch.length + left.length, summed.length, p)
    .map((s, i) => s === 1 ? q.shape[batch.length + i]! : s);
  const rows = sizes(batch.length, left.length, p),
    columns = sizes(batch.length + summed.length, right.length, q);
  const grow = (t: Tensor, shape: number[]): Tensor => same(t.shape, shape) ? t : t.expand(shape);
  const m = grow(p, [...both, ...rows, ...inner]).reshape(
    product(both),
    product(rows),
    product(inner),
  );
  const n = grow(q, [...both, ...inner, ...columns]).reshape(
    product(both),
    product(inner),
    product(columns),
  );
  return { t: m.matmul(n).reshape([...both, ...rows, ...columns]), labels };
}

interface Parsed {
  readonly terms: readonly (readonly string[])[];
  readonly output: readonly string[];
}

function parse(spec: string, tensors: readonly Tensor[]): Parsed {
  const [inputs = "", output, ...more] = spec.replaceAll(/\s/g, "").split("->");
  const texts = inputs.split(",");
  if (more.length > 0) fail(spec, tensors, 'there is more than one "->"');
  if (texts.length !== tensors.length) {
    fail(spec, tensors, `it names ${texts.length} tensors, not ${tensors.length}`);
  }
  let widest = 0;
  const terms = texts.map((text, i) => {
    const hidden = text.includes("...") ? tensors[i]!.ndim - (text.length - 3) : 0;
    widest = Math.max(widest, hidden);
    const labels = hidden < 0 ? null : expandTerm(text, hidden);
    if (labels === null || labels.length !== tensors[i]!.ndim) {
      fail(spec, tensors, `"${text}" does not name the ${tensors[i]!.ndim} dims of tensor ${i}`);
    }
    return labels;
  });
  const counts = new Map<string, number>();
  for (const l of terms.flat()) counts.set(l, (counts.get(l) ?? 0) + 1);
  const dots = Array.from({ length: widest }, (_, i) => String(widest - 1 - i));
  // Without an output, those labels that appear once, in alphabetical order, after the dims of the ellipsis.
  const once = [...counts].filter(([l, n]) => n === 1 && /[A-Za-z]/.test(l)).map(([l]) => l).sort();
  const result = output === undefined ? [...dots, ...once] : expandTerm(output, widest);
  if (result === null) return fail(spec, tensors, `"${output}" is not a list of labels`);
  for (const [i, l] of result.entries()) {
    if (!counts.has(l)) fail(spec, tensors, `the output names "${l}", which no tensor has`);
    if (result.indexOf(l) !== i) fail(spec, tensors, `the output names "${l}" twice`);
  }
  return { terms, output: result };
}

/** Checks that dims of one label agree, but for sizes of 1. */
function checkSizes(spec: string, tensors: readonly Tensor[], { terms }: Parsed): void {
  const sizes = new Map<string, number>();
  terms.forEach((labels, i) =>
    labels.forEach((l, d) => {
      const size = tensors[i]!.shape[d]!, known = sizes.get(l) ?? 1;
      if (known !== 1 && size !== 1 && size !== known) {
        fail(spec, tensors, `dims named "${l}" have sizes ${known} and ${size}`);
      }
      if (labels.indexOf(l) !== d && tensors[i]!.shape[labels.indexOf(l)] !== size) {
        fail(spec, tensors, `dims named "${l}" of tensor ${i} differ in size`);
      }
      sizes.set(l, known === 1 ? size : known);
    })
  );
}

/**
 * Products of tensors summed over named dims, as in torch.einsum: `"ij,jk->ik"` is a matrix product, `"ii"` a trace,
 * `"...ij->...ji"` a transpose. Without `->` the labels that appear once remain, in alphabetical order.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const a = ndl.tensor([[1, 2], [3, 4]]);
 * console.log(ndl.einsum("ij,j->i", a, ndl.tensor([1, 1])).tolist()); // [3, 7]
 * ```
 *
 * @throws RangeError where the spec does not fit the shapes
 */
export function einsum(spec: string, ...tensors: Tensor[]): Tensor {
  if (typeof spec !== "string") {
    throw new TypeError(
      `Cannot einsum with ${told(spec)}: its first argument is a text like "ij,jk->ik"`,
    );
  }
  for (const tensor of tensors) checkTensors("einsum", { tensor });
  if (tensors.length === 0) throw new TypeError(`Cannot einsum "${spec}" without tensors`);
  const parsed = parse(spec, tensors);
  checkSizes(spec, tensors, parsed);
  const operands = tensors.map((t, i) => takeDiagonals({ t, labels: parsed.terms[i]! }));
  let result = operands[0]!;
  for (let i = 1; i < operands.length; i++) {
    const later = operands.slice(i + 1).flatMap((x) => x.labels);
    result = contract(result, operands[i]!, new Set([...parsed.output, ...later]));
  }
  return align(sumOut(result, new Set(parsed.output)), parsed.output);
}
