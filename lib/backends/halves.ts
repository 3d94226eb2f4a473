// Half types where kernels do not know them: computed in float32 and rounded once, so that libraries hold no kernels
// for them but conversions.

import type { ElementwiseKernel, Operand, OpKernel } from "../backend.ts";
import { isHalf } from "../dtype.ts";
import { contiguousStrides } from "../shape.ts";
import { castTo } from "../dispatch.ts";
import { allocate } from "../tensor/base.ts";
import type { ElementwiseOp, KernelOp } from "../ops/op.ts";
import { elementwiseOps } from "../ops/elementwise.ts";
import type { Tensor } from "../tensor/mod.ts";
import { noGrad } from "../autograd/mode.ts";

/** Runs an elementwise op in float32 for half operands and rounds the result once. */
export function halfElementwise(
  kernel: ElementwiseKernel,
  op: ElementwiseOp,
  operands: Operand[],
  y: Tensor,
): void {
  noGrad(() => {
    const wide = operands.map((t) =>
      typeof t !== "number" && isHalf(t.dtype) ? castTo(t, "float32") : t
    );
    const out = op.result === "bool"
      ? y
      : allocate(y.shape, "float32", y.device, contiguousStrides(y.shape), 0);
    kernel(wide[0]!, wide[1] ?? 0, wide[2] ?? 0, out, false);
    if (out !== y) round(out, y);
    disposeOthers(wide, operands);
    if (out !== y) out.dispose();
  });
}

/** Runs a kernel op in float32 for half tensors and rounds each result once. */
export function halfKernel(
  kernel: OpKernel,
  op: KernelOp,
  ins: readonly (Tensor | null)[],
  outs: readonly Tensor[],
  attrs: never,
): void {
  noGrad(() => {
    const wideIns = ins.map((t) => t !== null && isHalf(t.dtype) ? castTo(t, "float32") : t);
    const wideOuts = outs.map((t) =>
      !isHalf(t.dtype)
        ? t
        : t._layout < 2
        ? allocate(t.shape, "float32", t.device, t._strides, t._layout)
        : allocate(t.shape, "float32", t.device, contiguousStrides(t.shape), 0) // a view with holes
    );
    kernel(wideIns, wideOuts, attrs);
    outs.forEach((t, i) => t !== wideOuts[i] && round(wideOuts[i]!, t));
    ins.forEach((t, i) => {
      if (t !== wideIns[i] && op.mutates.includes(op.inputs[i]!)) round(wideIns[i]!, t!);
    });
    disposeOthers(wideIns, ins);
    disposeOthers(wideOuts, outs);
  });
}

/** `y = x` rounded to the dtype of y. */
function round(x: Tensor, y: Tensor): void {
  const kernel = elementwiseOps.cast.kernels[y.device.id] ??= y.device.backend.elementwise(
    elementwiseOps.cast,
  );
  kernel(x, 0, 0, y, false);
}

function disposeOthers(
  made: readonly (Operand | null)[],
  given: readonly (Operand | null)[],
): void {
  made.forEach((t, i) => {
    if (t !== given[i] && t !== null && typeof t !== "number") t.dispose();
  });
}
