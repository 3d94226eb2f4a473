// NEEDLE_CHECK=1: wraps a backend and repeats every op on the reference backend; a real training run then stops at
// the first op that disagrees, with the op, the shapes and the worst element. Random ops draw the same stream on
// every device, so they are checked like the others.

import { type Backend, describe, type Operand } from "../backend.ts";
import { type DType, dtypes } from "../dtype.ts";
import type { AnyOp, KernelOp } from "../ops/op.ts";
import type { Tensor } from "../tensor/mod.ts";
import { contiguousStrides } from "../shape.ts";
import { allocate } from "../tensor/base.ts";
import { referenceBackend } from "./reference.ts";

/** Host memory only: the reference can then read and write the same storages. */
function twin(t: Tensor): Tensor {
  // A view with holes becomes row-major; its elements are then written by the op alone (fill).
  const copy = t._layout < 2
    ? allocate(t.shape, t.dtype, t.device, t._strides, t._layout)
    : allocate(t.shape, t.dtype, t.device, contiguousStrides(t.shape), 0);
  const bytes = dtypes[t.dtype].bytes;
  if (t._layout < 2) {
    const from = new Uint8Array(t._memory as ArrayBuffer, t._start * bytes, t.numel() * bytes);
    new Uint8Array(copy._memory as ArrayBuffer, copy._start * bytes).set(from);
  }
  return copy;
}

/** A kernel sums up to `terms` products per element: its rounding error grows with the root of that. */
function terms(inputs: readonly (Operand | null)[], y: Tensor): number {
  const largest = Math.max(
    1,
    ...inputs.map((t) => t === null || typeof t === "number" ? 1 : t.numel()),
  );
  return Math.sqrt(Math.max(1, largest / Math.max(1, y.numel()))) * 8;
}

function compare(
  op: AnyOp,
  inputs: readonly (Operand | null)[],
  got: Tensor,
  want: Tensor,
): void {
  const a = got._read(), b = want._read();
  const { rtol, atol } = dtypes[got.dtype as DType];
  const slack = terms(inputs, got);
  let scale = 0;
  for (let i = 0; i < b.length; i++) {
    const v = Math.abs(Number(b[i]));
    if (v < Infinity) scale = Math.max(scale, v);
  }
  for (let i = 0; i < a.length; i++) {
    const x = Number(a[i]), y = Number(b[i]);
    if (Object.is(x, y) || x === y || (x !== x && y !== y)) continue;
    if (!(Math.abs(x - y) <= slack * (atol + rtol * scale))) {
      throw new Error(
        `NEEDLE_CHECK: ${
          describe(op, inputs)
        } disagrees with the reference at element ${i}: ${x} instead of ${y}`,
      );
    }
  }
}

/** Wraps `backend` so that each op is run twice and compared. */
export function checkedBackend(backend: Backend): Backend {
  return {
    name: backend.name,
    elementwise: (op) => {
      const run = backend.elementwise(op), check = referenceBackend.elementwise(op);
      return (a, b, c, y, dense) => {
        const want = allocate(
          y.shape,
          y.dtype,
          y.device,
          y._strides,
          y._layout === 2 ? 0 : y._layout,
        );
        const model = y._layout === 2 ? null : want;
        if (model !== null) check(a, b, c, model, dense); // before: y may be an operand
        run(a, b, c, y, dense);
        if (model !== null) compare(op, [a, b, c].slice(0, op.arity), y, model);
        want.dispose();
      };
    },
    kernel: (op: KernelOp) => {
      const run = backend.kernel(op), check = referenceBackend.kernel(op);
      return (inputs, outputs, attrs) => {
        const ins = inputs.map((t, i) =>
          t !== null && op.mutates.includes(op.inputs[i]!) ? twin(t) : t
        );
        const outs = outputs.map(twin);
        check(ins, outs, attrs);
        run(inputs, outputs, attrs);
        outputs.slice(0, op.outputs.length).forEach((y, i) => compare(op, inputs, y, outs[i]!));
        inputs.forEach((t, i) => t !== ins[i] && compare(op, inputs, t!, ins[i]!));
        for (const t of outs) t.dispose();
        ins.forEach((t, i) => t !== inputs[i] && t!.dispose());
      };
    },
    read: (memory, at, bytes) => backend.read(memory, at, bytes),
    write: (memory, at, data) => backend.write(memory, at, data),
    synchronize: () => backend.synchronize(),
    setThreads: (n) => backend.setThreads(n),
    info: () => backend.info(),
  };
}
