// Ops on gradients between backward and the optimiser's step: those of embeddings as the few rows that are not zero,
// and clipping by norm. None of them is differentiable.

import type { Tensor } from "../tensor/mod.ts";
import { isFloat } from "../dtype.ts";
import { same, show } from "../shape.ts";
import { declare, kernel } from "./op.ts";
import { checkIndexDType } from "./index.ts";

/** Which rows a gradient of an embedding leaves out. */
export interface RowAttrs {
  /** Rows with this index do not count (-1: all do). */
  readonly skip: number;
}

/** How rows are added to a matrix. */
export interface AddRowsAttrs extends RowAttrs {
  /** The factor of the rows. */
  readonly alpha: number;
}

/** How far a gradient is scaled down. */
export interface LimitNormAttrs {
  /** What the norm of all gradients together may be. */
  readonly maxNorm: number;
}

/** Throws unless `rows` is a matrix with a row for each index, as one run of both. */
function checkRows(name: string, rows: Tensor, index: Tensor): void {
  checkIndexDType(name, index);
  if (!isFloat(rows.dtype) || rows.ndim !== 2 || rows.shape[0] !== index.numel()) {
    throw new RangeError(
      `Cannot ${name} ${rows.dtype} rows of shape ${show(rows.shape)} at ${index.numel()} ` +
        "indices: it takes floating point rows, one for each index",
    );
  }
}

/** Ops on gradients. */
export const gradOps = declare({
  // Descriptor: [indices, width, skip]. Second dtype: that of the index.
  mergeRows: kernel({
    doc:
      "rows with equal indices added up, in the order in which indices first appear; behind them zeros, with the first index",
    inputs: ["rows", "index"],
    outputs: ["merged", "ids"],
    infer: ({ rows, index }, _: RowAttrs) => {
      checkRows("mergeRows", rows, index);
      return [
        { shape: rows.shape, dtype: rows.dtype },
        { shape: [rows.shape[0]!], dtype: "int64" },
      ];
    },
    descriptor: ({ rows }, _, a) => [...rows.shape, a.skip],
    extraDTypes: (inputs) => inputs[1]!._code << 8,
    reference: ({ rows, index }, { merged, ids }, a) => {
      const width = rows.shape[1]!, places = new Map<bigint, number>();
      index.i.forEach((id, r) => {
        if (Number(id) === a.skip) return;
        const place = places.get(id) ?? places.size;
        places.set(id, place);
        ids.i[place] = id;
        for (let c = 0; c < width; c++) merged.f[place * width + c]! += rows.f[r * width + c]!;
      });
      // All are skipped where there is none.
      ids.i.fill(places.size === 0 ? BigInt(a.skip) : ids.i[0]!, places.size);
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  // Descriptor: [indices, width, rows of param, skip, alpha]. Second dtype: that of the index.
  addRows: kernel({
    doc: "alpha times the rows is added to the rows of param at the indices, in place",
    inputs: ["param", "rows", "index"],
    outputs: [],
    mutates: ["param"],
    infer: ({ param, rows, index }, _: AddRowsAttrs) => {
      checkRows("addRows", rows, index);
      if (param.dtype !== rows.dtype || param.ndim !== 2 || param.shape[1] !== rows.shape[1]) {
        throw new RangeError(
          `Cannot addRows of shape ${show(rows.shape)} and dtype ${rows.dtype} to a ` +
            `${param.dtype} matrix of shape ${show(param.shape)}: dtype and width must be equal`,
        );
      }
      return [];
    },
    descriptor: ({ param, rows }, _, a) => [...rows.shape, param.shape[0]!, a.skip, a.alpha],
    extraDTypes: (inputs) => inputs[2]!._code << 8,
    reference: ({ param, rows, index }, _, a) => {
      const [count, width] = param.shape as [number, number];
      index.i.forEach((id, r) => {
        if (Number(id) === a.skip) return;
        if (id < 0n || id >= count) {
          throw new RangeError(
            `Cannot addRows: index ${id} at position ${r} is not in [0, ${count})`,
          );
        }
        for (let c = 0; c < width; c++) {
          param.f[Number(id) * width + c]! += a.alpha * rows.f[r * width + c]!;
        }
      });
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
  // Descriptor: [maxNorm].
  limitNorm: kernel({
    doc:
      "grad *= maxNorm / (norm + 1e-6) in place where that is below 1; norm is that of all gradients",
    inputs: ["grad", "norm"],
    outputs: [],
    mutates: ["grad"],
    infer: ({ grad, norm }, _: LimitNormAttrs) => {
      if (norm.dtype !== grad.dtype || !same(norm.shape, [])) {
        throw new TypeError(
          `Cannot limitNorm of a ${grad.dtype} gradient by a ${norm.dtype} norm of shape ${
            show(norm.shape)
          }: it must be 0-d and of the gradient's dtype`,
        );
      }
      return [];
    },
    descriptor: (_, __, a) => [a.maxNorm],
    reference: ({ grad, norm }, _, a) => {
      const factor = a.maxNorm / (norm.f[0]! + 1e-6);
      if (factor >= 1) return;
      for (let i = 0; i < grad.f.length; i++) grad.f[i]! *= factor;
    },
    saves: [],
    vjp: "nondifferentiable",
  }),
});
