// Every op that is not elementwise, on every sample: kernels against the reference in all memory layouts (outputs
// pre-filled with NaN, guard bytes around), gradients of kernels against gradients of the reference, and the
// reference's first and second derivatives against finite differences in float64.

import * as ndl from "../mod.ts";
import { gradcheck, gradgradcheck } from "../lib/autograd/gradcheck.ts";
import { isFloat } from "../lib/dtype.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { samples } from "./samples/mod.ts";
import type { OpSample } from "./samples/sample.ts";
import { withGuards } from "./guards.ts";
import { kernelDevices, seedOf } from "./harness.ts";
import { agreesWithReference, inputsOf, leaves, opOf, runSample } from "./op_cases.ts";

const devices = kernelDevices();
const table = Object.entries(samples) as [string, readonly OpSample[]][];

for (const [name, rows] of table) {
  Deno.test(`${name} on reference does not depend on memory layout`, () => {
    agreesWithReference(name, rows, ndl.reference(), withGuards);
  });
  for (const device of devices) {
    Deno.test(`${name} on ${device} agrees with the reference`, () => {
      agreesWithReference(name, rows, device, withGuards);
    });
  }
}

for (const [name, rows] of table) {
  const op = opOf(name);
  if (op.kind === "kernel" && op.vjp === "nondifferentiable") continue;
  Deno.test(`${name} has the derivatives that finite differences give`, () => {
    rows.forEach((sample, row) => {
      if (sample.large || (sample.dtypes !== undefined && !sample.dtypes.includes("float64"))) {
        return;
      }
      const reference = ndl.reference();
      const inputs = inputsOf(sample, "float64", reference, "contiguous", seedOf(`${name} ${row}`));
      const free = leaves(op, sample, inputs);
      for (const t of free) t.requiresGrad_();
      const f = (): Tensor[] =>
        runSample(op, inputs, sample, reference).filter((y) => isFloat(y.dtype));
      try {
        gradcheck(f, free);
        gradgradcheck(f, free);
      } catch (error) {
        throw new Error(`${name} sample ${row}: ${(error as Error).message}`, { cause: error });
      }
    });
  });
}
