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
import { layouts, nativeDevices, seedOf } from "./harness.ts";
import { compare, gradients, inputsOf, leaves, opOf, runSample } from "./op_cases.ts";

const devices = nativeDevices();
const table = Object.entries(samples) as [string, readonly OpSample[]][];

for (const device of devices) {
  for (const [name, rows] of table) {
    const op = opOf(name);
    Deno.test(`${name} on ${device} agrees with the reference`, () => {
      rows.forEach((sample, row) => {
        for (const dtype of sample.dtypes ?? ["float32", "float64"]) {
          for (const layout of sample.large ? (["contiguous", "channelsLast"] as const) : layouts) {
            const seed = seedOf(`${name} ${row} ${dtype} ${layout}`);
            const what = `${name} sample ${row} ${dtype} ${layout} seed ${seed}`;
            const slack = 4 * (sample.slack ?? 1);
            withGuards(() => {
              const reference = ndl.reference();
              const mine = inputsOf(sample, dtype, device, layout, seed);
              const theirs = inputsOf(sample, dtype, reference, layout, seed);
              const free = leaves(op, sample, mine), other = leaves(op, sample, theirs);
              for (const t of [...free, ...other]) t.requiresGrad_();
              const got = runSample(op, mine, sample, device),
                want = runSample(op, theirs, sample, reference);
              got.forEach((y, i) => compare(y, want[i]!, slack, `${what} output ${i}`));
              if (op.kind === "kernel") {
                for (const m of op.mutates) {
                  const i = op.inputs.indexOf(m);
                  compare(mine[i]!, theirs[i]!, slack, `${what} ${m}`);
                }
              }
              const g = gradients(got, free, seed), h = gradients(want, other, seed);
              g.forEach((t, i) => {
                if ((t === null) !== (h[i] === null)) {
                  throw new Error(`${what}: one gradient ${i} is missing`);
                }
                if (t !== null) compare(t, h[i]!, 2 * slack, `${what} gradient ${i}`);
              });
            });
          }
        }
      });
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
