// nn.functional beside nn: losses, activations and pools as functions give what PyTorch gives (golden/nn.json), in any
// memory layout, in half precision, twice differentiable; dropout, embedding and pad; and what they refuse.

import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";
import { type Case, golden, makeTensor, makeValue, numbers } from "./nn_support.ts";

const F = ndl.nn.functional;
const devices = [ndl.reference(), ...nativeDevices()];
const close = { rtol: 2e-4, atol: 2e-5 };

/** Modules of golden/nn.json that are one function of their inputs, arguments and options. */
const functions: Record<string, keyof typeof F> = {
  MaxPool2d: "maxPool2d",
  AvgPool2d: "avgPool2d",
  AdaptiveAvgPool2d: "adaptiveAvgPool2d",
  ReLU: "relu",
  LeakyReLU: "leakyRelu",
  ELU: "elu",
  SELU: "selu",
  GELU: "gelu",
  SiLU: "silu",
  Mish: "mish",
  Softplus: "softplus",
  Sigmoid: "sigmoid",
  Tanh: "tanh",
  Softmax: "softmax",
  LogSoftmax: "logSoftmax",
  CrossEntropyLoss: "crossEntropy",
  NLLLoss: "nllLoss",
  MSELoss: "mseLoss",
  L1Loss: "l1Loss",
  SmoothL1Loss: "smoothL1Loss",
  HuberLoss: "huberLoss",
  BCELoss: "binaryCrossEntropy",
  BCEWithLogitsLoss: "binaryCrossEntropyWithLogits",
  KLDivLoss: "klDiv",
};
const cases = golden.cases.filter((c) => c.module in functions);

function run(c: Case, inputs: readonly Tensor[], options: Record<string, unknown>): Tensor {
  const f = F[functions[c.module]!] as unknown as (...args: unknown[]) => Tensor;
  const last = Object.keys(options).length > 0 ? [options] : [];
  return f(...inputs, ...c.args, ...last);
}

function optionsOf(c: Case, device: Device): Record<string, unknown> {
  const made = Object.entries(c.options).map(([k, v]) => [k, makeValue(v, device)]);
  return Object.fromEntries(made);
}

/** The same elements with the dims lying in memory in reverse order. */
function reversed(t: Tensor): Tensor {
  const order = t.shape.map((_, i) => t.ndim - 1 - i);
  return t.permute(order).contiguous().permute(order);
}

const textOf = (c: Case): string =>
  `${functions[c.module]}(${JSON.stringify([...c.args, c.options])}) on ${
    JSON.stringify(c.inputs)
  }`;

for (const device of devices) {
  for (const name of new Set(cases.map((c) => c.module))) {
    Deno.test(`${functions[name]} agrees with PyTorch in two memory layouts on ${device}`, () => {
      for (const c of cases.filter((c) => c.module === name)) {
        for (const place of [(t: Tensor) => t, reversed]) {
          const leaves = c.inputs.map((v) => makeTensor(v, device));
          for (const t of leaves) if (t.dtype === "float32") t.requiresGrad_();
          const y = run(c, leaves.map(place), optionsOf(c, device));
          assertEquals([...y.shape], c.output.shape, textOf(c));
          assertClose(y.toTypedArray(), numbers(c.output.values), close, textOf(c));
          const weights = Array.from({ length: y.numel() }, (_, i) => Math.cos(1 + i));
          const gradOutputs = ndl.tensor(Float32Array.from(weights), { shape: y.shape, device });
          const x = leaves[0]!;
          const [g] = ndl.grad(y, [x], { gradOutputs });
          assertClose(
            g!.toTypedArray(),
            numbers(c.grads[0]!.values),
            close,
            `grad of ${textOf(c)}`,
          );
        }
      }
    });
  }

  Deno.test(`half precision follows float32 through functions on ${device}`, () => {
    for (const c of cases) {
      const finite = [...c.output.values, ...c.grads[0]!.values].every((v) =>
        typeof v === "number"
      );
      // Probabilities at the ends of [0, 1] round onto them, and 1000 is coarse in half precision.
      if (!finite || c.inputs.some((v) => "values" in v && v.dtype === "float32")) continue;
      for (const [dtype, tol] of [["float16", 4e-3], ["bfloat16", 4e-2]] as const) {
        const inputs = c.inputs.map((v) => {
          const t = makeTensor(v, device);
          return t.dtype === "float32" ? t.to(dtype) : t;
        });
        const options = Object.fromEntries(
          Object.entries(optionsOf(c, device)).map((
            [k, v],
          ) => [k, v instanceof ndl.Tensor ? v.to(dtype) : v]),
        );
        const y = run(c, inputs, options);
        assertEquals(y.dtype, dtype, textOf(c));
        const want = numbers(c.output.values), size = Math.max(1, ...want.map(Math.abs));
        assertClose(
          y.to("float32").toTypedArray(),
          want,
          { rtol: tol, atol: tol * size },
          `${dtype}: ${textOf(c)}`,
        );
      }
    }
  });

  Deno.test(`dropout, embedding and pad as functions on ${device}`, () => {
    ndl.manualSeed(5);
    const x = ndl.ones([50, 40], { device });
    const kept = F.dropout(x, 0.25).toTypedArray() as Float32Array;
    const zeros = kept.filter((v) => v === 0).length / kept.length;
    assert(
      Math.abs(zeros - 0.25) < 0.06 && kept.every((v) => v === 0 || Math.abs(v - 4 / 3) < 1e-6),
    );
    assertStrictEquals(F.dropout(x, 0.25, { training: false }), x);
    assertEquals(F.dropout(x, 1).sum().item(), 0);
    const table = ndl.arange(6, { device, dtype: "float32" }).reshape(3, 2).requiresGrad_();
    const index = ndl.tensor([[2, 0], [2, 1]], { dtype: "int32", device });
    const rows = F.embedding(index, table, { paddingIdx: -1 });
    assertEquals(rows.tolist(), [[[4, 5], [0, 1]], [[4, 5], [2, 3]]]);
    rows.sum().backward();
    assertEquals(table.grad!.tolist(), [[1, 1], [1, 1], [0, 0]]);
    assertEquals(F.oneHot(index, 3).sum(-1).tolist(), [[1, 1], [1, 1]]);
    assertEquals(F.pad(x, [1, 2, 3, 4], { value: 2 }).shape, [57, 43]);
  });
}

Deno.test("losses and activations have right second derivatives", () => {
  const twice = cases.filter((c) =>
    c.inputs.every((v) => !("values" in v) || v.dtype === "int64") && !/Pool/.test(c.module)
  );
  const seen = new Set<string>();
  for (const c of twice) {
    // One case of each form: reductions share their code.
    const form = JSON.stringify([c.module, c.args, Object.keys(c.options)]);
    if (seen.has(form)) continue;
    seen.add(form);
    const double = (t: Tensor): Tensor => t.dtype === "float32" ? t.to("float64") : t;
    const inputs = c.inputs.map((v) => double(makeTensor(v, ndl.reference())));
    const options = Object.fromEntries(
      Object.entries(optionsOf(c, ndl.reference())).map(
        ([k, v]) => [k, v instanceof ndl.Tensor ? double(v) : v],
      ),
    );
    const x = inputs[0]!.detach().requiresGrad_();
    assert(
      ndl.gradgradcheck((t: Tensor) => run(c, [t, ...inputs.slice(1)], options).sum(), [x]),
      textOf(c),
    );
  }
});

Deno.test("a loss is refused with what was wrong and what to do", () => {
  const z = ndl.zeros([2, 3]), labels = ndl.tensor([0n, 1n]);
  const refused: [() => unknown, ErrorConstructor, string][] = [
    [() => F.crossEntropy(z, ndl.zeros([2])), TypeError, 'dtype: "int64"'],
    [() => F.crossEntropy(z, ndl.tensor([0n, 1n, 2n])), RangeError, "labels must be [2]"],
    [() => F.crossEntropy(z, ndl.tensor([0n, -1n])), RangeError, "-1"],
    [() => F.crossEntropy(z, labels, { labelSmoothing: 2 }), RangeError, "labelSmoothing 2"],
    [() => F.crossEntropy(z, labels, { weight: ndl.ones([2]) }), RangeError, "[2]"],
    [() => F.crossEntropy(z, labels, { reduction: "avg" as "mean" }), RangeError, '"avg"'],
    [() => F.crossEntropy(z, labels, { ignoreindex: 1 } as object), TypeError, '"ignoreindex"'],
    [() => F.nllLoss(z, ndl.zeros([2])), TypeError, 'dtype: "int64"'],
    [() => F.mseLoss(z, ndl.zeros([4, 3])), RangeError, "[4, 3]"],
    [() => F.binaryCrossEntropy(z, ndl.zeros([2])), RangeError, "[2]"],
    [() => F.binaryCrossEntropy(z.add(2), z), RangeError, "[0, 1]"],
    [() => F.binaryCrossEntropyWithLogits(z, ndl.zeros([3])), RangeError, "[3]"],
    [() => F.smoothL1Loss(z, z, { beta: -1 }), RangeError, "beta -1"],
    [() => F.huberLoss(z, z, { delta: 0 }), RangeError, "delta 0"],
    [() => F.klDiv(z, z, { reduction: "batch" as "mean" }), RangeError, '"batchmean"'],
    [() => F.dropout(z, -0.1), RangeError, "-0.1"],
    [() => F.oneHot(ndl.tensor([3n]), 3), RangeError, "3"],
    [() => F.oneHot(z), TypeError, "int64"],
    [() => F.embedding(ndl.tensor([2n]), z), RangeError, "2"],
    [() => F.softmax(z, 2), RangeError, "2"],
  ];
  for (const [f, type, part] of refused) assertThrows(f, type, part);
});
