// Norms beyond the op table: gradients that are one element expanded (what a sum gives backward), and batch norms that
// wait for the ReLU after them.

import { assertEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import { call } from "../lib/dispatch.ts";
import { mayWait } from "../lib/later.ts";
import { pauseLazy } from "../lib/lazy.ts";
import { elementwiseOps } from "../lib/ops/elementwise.ts";
import { ops } from "../lib/ops/mod.ts";
import type { AnyOp, KernelOp, TypedKernelOp } from "../lib/ops/op.ts";
import { compare, inputsOf, opOf } from "./op_cases.ts";
import { kernelDevices, nativeDevices, seeded, seedOf } from "./harness.ts";
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

/** What a program does with x, its norm and more; the results are compared bit for bit. */
type Program = (x: ndl.Tensor, norm: ndl.nn.BatchNorm2d) => ndl.Tensor[];

const F = ndl.nn.functional;

function gradients(loss: ndl.Tensor, x: ndl.Tensor, norm: ndl.nn.BatchNorm2d): ndl.Tensor[] {
  loss.backward();
  return [x.grad!, norm.weight!.grad!, norm.bias!.grad!];
}

const programs: Readonly<Record<string, Program>> = {
  "the sum": (x, norm) => {
    const y = norm.forward(x).relu();
    return [y, ...gradients(y.sum(), x, norm)];
  },
  "a weighted sum": (x, norm) => {
    const y = norm.forward(x).relu(), w = y.detach().cos();
    return [y, ...gradients(y.mul(w).sum(), x, norm)];
  },
  "a gradient in another memory order": (x, norm) => {
    const y = norm.forward(x).relu(), w = ndl.linspace(-1, 1, y.numel()).to(y.device);
    const across = w.reshape([...y.shape].reverse()).permute([3, 2, 1, 0]);
    return gradients(y.mul(across).sum(), x, norm);
  },
  "another use of the norm": (x, norm) => {
    const n = norm.forward(x);
    return [n, ...gradients(n.relu().add(n.mul(0.5)).sum(), x, norm)];
  },
  "the gradient of the norm": (x, norm) => {
    const n = norm.forward(x), y = n.relu();
    n.retainGrad();
    return [...gradients(y.sum(), x, norm), n.grad!];
  },
  "second derivatives": (x, norm) => {
    const y = norm.forward(x).relu();
    const [g] = ndl.grad([y.mul(y).sum()], [x], { createGraph: true });
    return gradients(g!.square().sum(), x, norm);
  },
  "a write to what was normalised": (x, norm) => {
    const source = x.detach().clone(), n = norm.forward(source), y = n.relu();
    source.fill_(1);
    return [y, n];
  },
  "an op in place before the ReLU": (x, norm) => [norm.forward(x.detach()).add_(0.1).relu()],
  "evaluation": (x, norm) => {
    norm.eval();
    const y = norm.forward(x).relu();
    return [y, ...gradients(y.sum(), x, norm)];
  },
};

function run(program: Program, device: ndl.Device, channelsLast: boolean): number[][] {
  const random = seeded(7), shape = [4, 16, 32, 32];
  const values = Float32Array.from({ length: 65536 }, () => 4 * random() - 1);
  const dense = ndl.tensor(values, { device });
  const x = channelsLast
    ? dense.reshape([4, 32, 32, 16]).permute([0, 3, 1, 2])
    : dense.reshape(shape);
  x.requiresGrad_(true);
  const norm = new ndl.nn.BatchNorm2d(16, { device });
  ndl.noGrad(() => {
    norm.weight!.copy_(ndl.linspace(-1, 2, 16).to(device));
    norm.bias!.copy_(ndl.linspace(-0.5, 0.5, 16).to(device));
  });
  const results = [...program(x, norm), norm.running_mean!, norm.running_var!];
  return results.map((t) => [...t.toTypedArray() as Float32Array]);
}

for (const device of nativeDevices()) {
  for (const [name, program] of Object.entries(programs)) {
    Deno.test(`batch norm and ReLU on ${device} give the same bits when they wait: ${name}`, () => {
      for (const channelsLast of [false, true]) {
        const waiting = run(program, device, channelsLast);
        const resume = pauseLazy();
        try {
          assertEquals(waiting, run(program, device, channelsLast));
        } finally {
          resume();
        }
      }
    });
  }

  Deno.test(`batch norm and ReLU on ${device} need no results of their own in between`, () => {
    const x = ndl.randn([4, 16, 32, 32], { device, requiresGrad: true });
    if (!mayWait(device, x.dtype, x.numel())) return; // NEEDLE_EAGER: everything is computed at once
    const { relu, reluGrad } = elementwiseOps,
      before = [relu, reluGrad].map((op) => op.kernels[device.id]);
    const never = (): never => {
      throw new Error("a ReLU was computed by itself");
    };
    relu.kernels[device.id] = reluGrad.kernels[device.id] = never;
    try {
      const n = F.batchNorm(x, null, null, { training: true });
      n.relu().sum().backward();
      if (n._data.deferred === null) throw new Error("the norm was computed by itself");
    } finally {
      [relu, reluGrad].forEach((op, i) => op.kernels[device.id] = before[i]);
    }
  });
}
