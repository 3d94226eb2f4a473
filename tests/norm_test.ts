// Norms beyond the op table: gradients that are one element expanded (what a sum gives backward).

import * as ndl from "../mod.ts";
import { call } from "../lib/dispatch.ts";
import { ops } from "../lib/ops/mod.ts";
import type { AnyOp, KernelOp, TypedKernelOp } from "../lib/ops/op.ts";
import { compare, inputsOf, opOf } from "./op_cases.ts";
import { kernelDevices, seedOf } from "./harness.ts";
import { normSamples } from "./samples/norm.ts";
import type { OpSample } from "./samples/sample.ts";

const singles = (Object.values(ops) as AnyOp[])
  .filter((op): op is KernelOp => op.kind === "kernel" && op.single.length > 0);

for (const device of kernelDevices()) {
  for (const { name, single, inputs: names } of singles) {
    Deno.test(`${name} on ${device} takes one element for all`, () => {
      const samples: readonly OpSample[] = normSamples[name as keyof typeof normSamples];
      for (const sample of samples) {
        for (const dtype of sample.dtypes ?? ["float32", "float64"] as const) {
          const results = [device, ndl.reference()].map((on) => {
            const inputs = inputsOf(sample, dtype, on, "contiguous", seedOf(name));
            for (const input of single) {
              const i = names.indexOf(input), { shape } = inputs[i]!;
              inputs[i] = ndl.full([], 0.75, { dtype, device: on }).expand(shape);
            }
            return call(opOf(name) as TypedKernelOp<unknown>, inputs, sample.attrs);
          });
          results[0]!.forEach((got, k) =>
            compare(got, results[1]![k]!, sample.slack ?? 1, `${name} ${dtype} [${got.shape}]`)
          );
        }
      }
    });
  }
}
