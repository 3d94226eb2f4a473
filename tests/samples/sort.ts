// Samples of sorting ops.

import type { sortOps } from "../../lib/ops/sort.ts";
import type { DType } from "../../lib/dtype.ts";
import { lineRows, specialRows } from "./reduce.ts";
import type { OpSample } from "./sample.ts";

const others: readonly DType[] = ["int32", "int64", "uint8", "bool"];

function orders(): OpSample[] {
  const attrs = (dim: number, _: number, i: number): object => ({ dim, descending: i % 2 === 0 });
  return [
    ...lineRows(attrs),
    ...lineRows(attrs, { range: [-50, 50] }, others),
    ...specialRows({ dim: 1, descending: false }),
    ...specialRows({ dim: 1, descending: true }),
    {
      inputs: [{ shape: [6], values: [0, -0, 1, -0, 0, -1], grad: false }],
      attrs: { dim: 0, descending: true },
    },
  ];
}

function largest(): OpSample[] {
  const attrs = (dim: number, size: number, i: number): object => ({
    k: Math.ceil(size / (i + 1)),
    dim,
    largest: i % 2 === 0,
    size,
  });
  return [
    ...lineRows(attrs),
    ...lineRows(attrs, { range: [-50, 50] }, others),
    { inputs: [{ shape: [3, 4] }], attrs: { k: 0, dim: 1, largest: true, size: 4 } },
    ...specialRows({ k: 2, dim: 1, largest: true, size: 3 }).filter((_, i) => i !== 1),
    ...specialRows({ k: 3, dim: 1, largest: false, size: 4 }).slice(1, 2),
  ];
}

/** Samples of sorting ops. */
export const sortSamples = {
  sort: orders(),
  topk: largest(),
} satisfies Record<keyof typeof sortOps, readonly OpSample[]>;
