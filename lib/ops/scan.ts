// Scans: running sums and products along a dim, of row-major x seen as [outer, size, inner].

import type { Tensor } from "../tensor/mod.ts";
import { call } from "../dispatch.ts";
import { layoutOps } from "./layout.ts";
import { declare, kernel, type TypedKernelOp, type ViewOp } from "./op.ts";
import { eachLine, splitAt } from "./reduce.ts";

/** Elements [start, start + length) along `dim`, as a view. */
function part(x: Tensor, dim: number, start: number, length: number): Tensor {
  const dims = x.shape.map((size, i) =>
    i === dim ? { start, length, step: 1 } : { start: 0, length: size, step: 1 }
  );
  return x._viewAs(layoutOps.window as unknown as ViewOp<unknown>, { dims });
}

/** Running products by doubling the distance multiplied (Hillis and Steele 1986): every derivative exists. */
function doublingProducts(x: Tensor, dim: number): Tensor {
  const size = x.shape[dim] ?? 1;
  let y = x.clone();
  for (let step = 1; step < size; step *= 2) {
    const next = y.clone();
    part(next, dim, step, size - step).mul_(part(y, dim, 0, size - step));
    y = next;
  }
  return y;
}

/** Attributes of `cumsum`. */
export interface CumsumAttrs {
  /** Wrapped dim. */
  readonly dim: number;
  /** From the end instead of from the start. */
  readonly reverse: boolean;
}

const cumsum: TypedKernelOp<CumsumAttrs> = kernel({
  doc: "sums of x from the start of dim (reverse: from its end) up to each element",
  inputs: ["x"],
  outputs: ["y"],
  infer: ({ x }, _: CumsumAttrs) => [{ shape: x.shape, dtype: x.dtype }],
  // [outer, size, inner, reverse]
  descriptor: ({ x }, _, { dim, reverse }) => [...splitAt(x.shape, dim), Number(reverse)],
  reference: ({ x }, { y }, { dim, reverse }) => {
    eachLine(x.shape, dim, (first, step, size) => {
      let f = 0, i = 0n;
      for (let k = 0; k < size; k++) {
        const at = first + (reverse ? size - 1 - k : k) * step;
        if (x.dtype === "int64") y.i[at] = i += x.i[at]!;
        else y.f[at] = f += x.f[at]!;
      }
    });
  },
  saves: [],
  vjp: ({ y: g }, _, { dim, reverse }) => [
    call(cumsum, [g!], { dim, reverse: !reverse })[0]!,
  ],
});

const cumprodBackward = kernel({
  doc: "the gradient of cumprod: no division, so zeros are no exception",
  inputs: ["g", "x"],
  outputs: ["dx"],
  infer: ({ x }, _: { dim: number }) => [{ shape: x.shape, dtype: x.dtype }],
  // [outer, size, inner]
  descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
  reference: ({ g, x }, { dx }, { dim }) => {
    // dx_k = Π_{i<k} x_i · s_k, where s_k = g_k + x_{k+1} s_{k+1}
    eachLine(x.shape, dim, (first, step, size) => {
      for (let k = size - 1, s = 0; k >= 0; k--) {
        const at = first + k * step;
        s = g.f[at]! + (k + 1 < size ? x.f[at + step]! * s : 0);
        dx.f[at] = s;
      }
      for (let k = 0, product = 1; k < size; k++) {
        const at = first + k * step;
        dx.f[at] = dx.f[at]! * product;
        product *= x.f[at]!;
      }
    });
  },
  saves: [],
  vjp: "nondifferentiable",
});

/** All scans. */
export const scanOps = declare({
  cumsum,
  cumprod: kernel({
    doc: "products of x from the start of dim up to each element",
    inputs: ["x"],
    outputs: ["y"],
    infer: ({ x }, _: { dim: number }) => [{ shape: x.shape, dtype: x.dtype }],
    // [outer, size, inner]
    descriptor: ({ x }, _, { dim }) => splitAt(x.shape, dim),
    reference: ({ x }, { y }, { dim }) => {
      eachLine(x.shape, dim, (first, step, size) => {
        let f = 1, i = 1n;
        for (let k = 0; k < size; k++) {
          const at = first + k * step;
          if (x.dtype === "int64") y.i[at] = i = BigInt.asIntN(64, i * x.i[at]!);
          else y.f[at] = f *= x.f[at]!;
        }
      });
    },
    saves: ["x"],
    vjp: ({ y: g }, { x }, attrs) => [call(cumprodBackward, [g!, x], attrs)[0]!],
    composition: ({ x }, { dim }) => [doublingProducts(x, dim)],
  }),
  cumprodBackward,
});
