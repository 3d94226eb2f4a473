// Modules and losses against PyTorch: same parameters by state dict, same input; outputs, gradients, buffers, the
// order of parameters, initialisation and gradient clipping. golden/make_nn.py wrote the answers into golden/nn.json.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";
import { floats, type Golden, golden, makeModule, makeTensor, numbers } from "./nn_support.ts";

const devices = [ndl.reference(), ...nativeDevices()];
const close = { rtol: 2e-4, atol: 2e-5 };

/** Compares a tensor with golden values. */
function compare(got: Tensor | null, want: Golden | null, what: string): void {
  if (want === null || got === null) {
    assertEquals(got, want, what);
    return;
  }
  assertEquals([...got.shape], want.shape, `shape of ${what}`);
  assertClose(got.toTypedArray(), numbers(want.values), close, what);
}

function check(c: typeof golden.cases[number], device: Device): void {
  const what = `${c.module} ${JSON.stringify(c.args)} ${JSON.stringify(c.options)} on ${
    JSON.stringify(c.inputs)
  }, ${device}`;
  const model = makeModule(c, device).train(c.training);
  model.loadStateDict(
    Object.fromEntries(Object.entries(c.state).map(([k, v]) => [k, makeTensor(v, device)])),
  );
  const names = [...model.namedParameters()].map(([name]) => name);
  assertEquals(names, c.parameters, `parameters of ${what}`);
  const inputs = c.inputs.map((v) => makeTensor(v, device));
  const leaves = inputs.filter((t, i) =>
    t.dtype === "float32" && (c.inputs[i] as { grad?: boolean }).grad !== false
  ).map((t) => t.requiresGrad_());
  let y = model.forward(...inputs);
  for (let step = 1; step < c.steps; step++) y = model.forward(...inputs);
  compare(y, c.output, `output of ${what}`);
  const gradOutputs = ndl.tensor(Array.from({ length: y.numel() }, (_, i) => Math.cos(1 + i)), {
    shape: y.shape,
    device,
  });
  const wanted = [...leaves, ...model.parameters()];
  const grads = ndl.grad(y, wanted, { gradOutputs, allowUnused: true });
  grads.forEach((g, i) => compare(g, c.grads[i]!, `gradient ${i} of ${what}`));
  const buffers = Object.fromEntries(model.namedBuffers());
  assertEquals(Object.keys(buffers), Object.keys(c.buffers), `buffers of ${what}`);
  for (const [name, b] of Object.entries(buffers)) {
    compare(b, c.buffers[name]!, `${name} of ${what}`);
  }
}

for (const device of devices) {
  for (const name of new Set(golden.cases.map((c) => c.module))) {
    Deno.test(`${name} agrees with PyTorch on ${device}`, () => {
      for (const c of golden.cases) if (c.module === name) check(c, device);
    });
  }
}

/** Mean, standard deviation (of the population) and largest absolute element. */
function statistics(values: ArrayLike<number>): { mean: number; std: number; max: number } {
  let sum = 0, squares = 0, max = 0;
  for (let i = 0; i < values.length; i++) {
    sum += values[i]!;
    squares += values[i]! ** 2;
    max = Math.max(max, Math.abs(values[i]!));
  }
  const mean = sum / values.length;
  return { mean, std: Math.sqrt(Math.max(0, squares / values.length - mean ** 2)), max };
}

for (const module of golden.initial) {
  Deno.test(`${module.module} starts with PyTorch's distribution ${JSON.stringify([...module.args, module.options])}`, () => {
    const values: Record<string, number[]> = {};
    for (let seed = 0; seed < 20; seed++) {
      ndl.manualSeed(seed);
      for (const [name, p] of makeModule(module, ndl.reference()).namedParameters()) {
        assertEquals([...p.shape], module.parameters[name]?.shape, name);
        (values[name] ??= []).push(...p.toTypedArray() as Float32Array);
      }
    }
    assertEquals(Object.keys(values), Object.keys(module.parameters));
    for (const [name, want] of Object.entries(module.parameters)) {
      const got = statistics(values[name]!), n = values[name]!.length;
      // Two estimates of one standard deviation; a uniform distribution also shows its bound.
      const slack = 6 / Math.sqrt(n) * want.std;
      assert(Math.abs(got.std - want.std) <= slack, `std of ${name}: ${got.std}, not ${want.std}`);
      const uniform = want.max < 1.8 * want.std;
      const bound = uniform ? 0.02 + 5 / n : 0.5;
      assert(
        Math.abs(got.max - want.max) <= bound * want.max,
        `bound of ${name}: ${got.max}, not ${want.max}`,
      );
    }
  });
}

Deno.test("nn.init draws what torch.nn.init draws", () => {
  const functions = ndl.nn.init as unknown as Record<
    string,
    (t: Tensor, ...a: unknown[]) => Tensor
  >;
  ndl.manualSeed(1);
  for (const [key, want] of Object.entries(golden.inits)) {
    const [name, args, options] = JSON.parse(key) as [string, number[], object];
    const t = ndl.zeros([48, 32, 3, 3]);
    const given = Object.keys(options).length > 0 ? [options] : args;
    assert(functions[name]!(t, ...given) === t, `${key} returns its tensor`);
    const got = statistics(t.toTypedArray() as Float32Array);
    const slack = 6 / Math.sqrt(t.numel()) * want.std + 1e-6;
    assert(
      Math.abs(got.mean - want.mean) < 1.5 * slack,
      `mean of ${key}: ${got.mean}, not ${want.mean}`,
    );
    assert(Math.abs(got.std - want.std) < slack, `std of ${key}: ${got.std}, not ${want.std}`);
    assert(Math.abs(got.max - want.max) < 0.3 * want.max + 1e-6, `max of ${key}: ${got.max}`);
  }
});

Deno.test("orthogonal_ and eye_ hold exactly", () => {
  for (const [rows, cols] of [[4, 9], [9, 4], [5, 5]] as const) {
    const w = ndl.nn.init.orthogonal_(ndl.zeros([rows, cols]), 2);
    const product = rows < cols ? w.matmul(w.T) : w.T.matmul(w);
    const n = Math.min(rows, cols);
    assertClose(
      product.toTypedArray(),
      ndl.eye(n).mul(4).toTypedArray(),
      { rtol: 0, atol: 1e-5 },
      "wwᵀ",
    );
  }
  assertEquals(ndl.nn.init.eye_(ndl.zeros([2, 3])).tolist(), [[1, 0, 0], [0, 1, 0]]);
  assertThrows(() => ndl.nn.init.xavierNormal_(ndl.zeros([3])), RangeError, "fan in");
});

for (const device of devices) {
  Deno.test(`nn.utils clips gradients as PyTorch on ${device}`, () => {
    for (const c of golden.clips) {
      const parameters = [[3, 4], [5], []].map((shape, k) => {
        const p = ndl.zeros(shape, { device, requiresGrad: true });
        p.grad = ndl.tensor(floats(shape, k, "wide"), { shape, device });
        return p;
      });
      parameters.push(ndl.zeros([2], { device, requiresGrad: true }));
      const options = Object.fromEntries(Object.entries(c.options).map(([k, v]) => [k, Number(v)]));
      const what = `${c.name} ${JSON.stringify(c.options)} on ${device}`;
      if (c.name === "clipGradValue_") ndl.nn.utils.clipGradValue_(parameters, c.value);
      else {
        const total = ndl.nn.utils.clipGradNorm_(parameters, c.value, options);
        assertClose([total.item() as number], [Number(c.total)], close, what);
      }
      c.grads.forEach((g, i) => compare(parameters[i]!.grad, g, `gradient ${i} of ${what}`));
      assertEquals(parameters[3]!.grad, null);
    }
  });

  Deno.test(`parametersToVector and vectorToParameters are inverse on ${device}`, () => {
    const model = new ndl.nn.Linear(3, 2, { device });
    const before = [...model.parameters()].flatMap((p) => [...p.toTypedArray() as Float32Array]);
    const vector = ndl.nn.utils.parametersToVector(model.parameters());
    assertEquals([...vector.toTypedArray() as Float32Array], before);
    assert(vector.requiresGrad, "the vector is recorded");
    ndl.nn.utils.vectorToParameters(vector.detach().mul(2), model.parameters());
    assertEquals(
      [...model.weight.toTypedArray() as Float32Array],
      before.slice(0, 6).map((v) => 2 * v),
    );
    assert(model.weight.requiresGrad && model.weight.isLeaf);
    assertThrows(
      () => ndl.nn.utils.vectorToParameters(ndl.zeros([7], { device }), model.parameters()),
      RangeError,
      "8 elements",
    );
  });

  Deno.test(`clipGradNorm_ reports a norm that is not finite on ${device}`, () => {
    const p = ndl.zeros([2], { device, requiresGrad: true });
    p.grad = ndl.tensor([NaN, 1], { device });
    assertThrows(() => ndl.nn.utils.clipGradNorm_(p, 1, { errorIfNonfinite: true }), Error, "NaN");
    assertEquals(ndl.nn.utils.clipGradNorm_([], 1).item(), 0);
  });
}
