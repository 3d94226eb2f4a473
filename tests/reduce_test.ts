// Reductions, sorting and losses against PyTorch's numbers (golden/make_reductions.py), and their corners: ties,
// NaN, empty tensors, integer dtypes, and errors.

import { assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import * as F from "../lib/functional/loss.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";

interface Golden {
  readonly x: number[];
  readonly t: number[];
  readonly cases: Record<string, number[]>;
}

const golden = JSON.parse(
  Deno.readTextFileSync(new URL("golden/reductions.json", import.meta.url)),
) as Golden;
const devices = [ndl.reference(), ...nativeDevices()];

function losses(device: Device): Record<string, (z: Tensor) => Tensor> {
  const options = { dtype: "float64", device } as const;
  const t = ndl.tensor(golden.t, { shape: [4, 5], ...options }), w = ndl.arange(1, 6, 1, options);
  const labels = ndl.tensor([0, -100, 3, 4], { dtype: "int64", device });
  const grid = ndl.tensor([[0, 1], [2, 3]], { dtype: "int32", device });
  const cases: Record<string, (z: Tensor) => Tensor> = {};
  for (const reduction of ["mean", "sum", "none"] as const) {
    const r = { reduction },
      weighted = { weight: w, ...r },
      smoothed = { labelSmoothing: 0.1, ...r };
    const deep = (z: Tensor): Tensor => z.reshape(2, 5, 2);
    Object.assign(cases, {
      [`mseLoss ${reduction}`]: (z: Tensor) => F.mseLoss(z, t, r),
      [`l1Loss ${reduction}`]: (z: Tensor) => F.l1Loss(z, t, r),
      [`smoothL1Loss ${reduction}`]: (z: Tensor) => F.smoothL1Loss(z, t, { beta: 0.5, ...r }),
      [`huberLoss ${reduction}`]: (z: Tensor) => F.huberLoss(z, t, { delta: 0.7, ...r }),
      [`binaryCrossEntropy ${reduction}`]: (z: Tensor) =>
        F.binaryCrossEntropy(z.sigmoid(), t, { weight: t.add(1), ...r }),
      [`binaryCrossEntropyWithLogits ${reduction}`]: (z: Tensor) =>
        F.binaryCrossEntropyWithLogits(z.mul(30), t, { weight: t.add(1), posWeight: w, ...r }),
      [`klDiv ${reduction}`]: (z: Tensor) => F.klDiv(z, t, r),
      [`klDiv of logarithms ${reduction}`]: (z: Tensor) =>
        F.klDiv(z, t.log(), { logTarget: true, ...r }),
      [`crossEntropy ${reduction}`]: (z: Tensor) => F.crossEntropy(z, labels, r),
      [`crossEntropy smoothed ${reduction}`]: (z: Tensor) => F.crossEntropy(z, labels, smoothed),
      [`crossEntropy weighted ${reduction}`]: (z: Tensor) =>
        F.crossEntropy(z, labels, { ...weighted, ...smoothed }),
      [`crossEntropy of probabilities ${reduction}`]: (z: Tensor) =>
        F.crossEntropy(z, t, { ...weighted, ...smoothed }),
      [`crossEntropy in 3 dims ${reduction}`]: (z: Tensor) =>
        F.crossEntropy(deep(z), grid, weighted),
      [`crossEntropy of probabilities in 3 dims ${reduction}`]: (z: Tensor) =>
        F.crossEntropy(deep(z), deep(t), weighted),
      [`nllLoss ${reduction}`]: (z: Tensor) => F.nllLoss(z.logSoftmax(1), labels, weighted),
    });
  }
  const two = ndl.tensor(2, { dtype: "int64", device });
  return {
    ...cases,
    "klDiv batchmean": (z) => F.klDiv(z, t, { reduction: "batchmean" }),
    "crossEntropy of one row": (z) => F.crossEntropy(z.select(0, 0), two),
  };
}

const orders: Record<string, number> = {
  "3": 3,
  "1": 1,
  "2": 2,
  "0.5": 0.5,
  "-1": -1,
  inf: Infinity,
  "-inf": -Infinity,
};

const reductions: Record<string, (z: Tensor) => Tensor> = {
  ...Object.fromEntries(
    Object.entries(orders).map(([name, p]) => [`norm ${name}`, (z: Tensor) => z.norm(0, { p })]),
  ),
  "norm of all": (z) => z.norm(),
  std: (z) => z.std(1),
  var: (z) => z.var([0, 1], { correction: 2 }),
  logsumexp: (z) => z.logsumexp([0, 1]),
  softmax: (z) => z.softmax(0),
  logSoftmax: (z) => z.logSoftmax(1),
  cumsum: (z) => z.cumsum(0),
  cumprod: (z) => z.cumprod(1),
  prod: (z) => z.prod(1),
  topk: (z) => z.topk(2, 0).values,
  sort: (z) => z.sort(1, { descending: true }).values,
  max: (z) => z.max(1).values,
  amin: (z) => z.amin([0, 1]),
};

for (const device of devices) {
  Deno.test(`reductions and losses on ${device} have PyTorch's values and gradients`, () => {
    const cases = { ...losses(device), ...reductions };
    assertEquals(Object.keys(cases).toSorted(), Object.keys(golden.cases).toSorted());
    const options = { dtype: "float64", device } as const;
    for (const [name, f] of Object.entries(cases)) {
      const z = ndl.tensor(golden.x, { shape: [4, 5], requiresGrad: true, ...options });
      const y = f(z);
      const total = y.mul(ndl.arange(1, y.numel() + 1, 1, options).reshape(y.shape)).sum();
      total.backward();
      const got = [total.item(), ...z.grad!.toTypedArray() as Float64Array];
      assertClose(got, golden.cases[name]!, { rtol: 1e-12, atol: 1e-12 }, `${name} on ${device}`);
    }
  });

  Deno.test(`corners of reductions on ${device} are PyTorch's`, () => {
    const of = (data: ndl.NestedData, dtype: ndl.DType = "float32"): Tensor =>
      ndl.tensor(data, { dtype, device });
    const pair = (
      r: { values: Tensor; indices: Tensor },
    ): unknown[] => [r.values.tolist(), r.indices.tolist()];
    assertEquals(pair(of([1, NaN, 3, NaN]).max(0)), [NaN, 1]);
    assertEquals(of([1, NaN, 3]).argmin().item(), 1);
    assertEquals(pair(of([1, 3, 3]).max(0)), [3, 1]);
    assertEquals(pair(of([1, 1, 3]).min(-1, { keepdim: true })), [[1], [0]]);
    assertEquals(pair(of([1, NaN, -0, 0, 2]).sort()), [[-0, 0, 1, 2, NaN], [2, 3, 0, 4, 1]]);
    assertEquals(pair(of([1, NaN, -0, 0]).sort(0, { descending: true })), [[NaN, 1, -0, 0], [
      1,
      0,
      2,
      3,
    ]]);
    assertEquals(pair(of([1, NaN, 5]).topk(2)), [[NaN, 5], [1, 2]]);
    assertEquals(pair(of([3, 1, 2]).topk(2, 0, { largest: false })), [[1, 2], [1, 2]]);
    assertEquals(of([[2, 1], [3, 0]]).argsort(1).tolist(), [[1, 0], [1, 0]]);
    assertEquals(pair(of(3).sort()), [3, 0]);
    assertEquals(of([]).sum().item(), 0);
    assertEquals(of([]).prod().item(), 1);
    assertEquals(of([]).mean().item(), NaN);
    assertEquals(of([]).any().item(), false as unknown as number);
    assertEquals(of([]).all().item(), true as unknown as number);
    assertEquals(of([0, NaN]).any().item(), true as unknown as number);
    assertEquals(of([]).logsumexp(0).item(), -Infinity);
    assertEquals(of([1]).var().item(), NaN);
    assertEquals(of([1, 3]).var(null, { unbiased: false }).item(), 1);
    assertEquals(of([-Infinity, -Infinity]).softmax(0).tolist(), [NaN, NaN]);
    assertEquals(of([1, 2], "int32").sum().dtype, "int64");
    assertEquals(of([true, true], "bool").cumsum(0).tolist(), [1, 2]);
    assertEquals(of([true, false], "bool").max().dtype, "bool");
    assertEquals(of([[1, 2], [3, 4]]).sum([]).item(), 10);
    assertEquals(of([[1, 2], [3, 4]]).sum([0, -1], { keepdim: true }).shape, [1, 1]);
    assertEquals(of([1, 1], "float16").mul(40000).mean().item(), 40000);
    const gradient = (values: number[], f: (z: Tensor) => Tensor): unknown => {
      const z = ndl.tensor(values, { requiresGrad: true, device });
      f(z).backward();
      return z.grad!.tolist();
    };
    assertEquals(gradient([2, 2, 1], (z) => z.max()), [0.5, 0.5, 0]);
    assertEquals(gradient([2, 2, 1], (z) => z.max(0).values), [1, 0, 0]);
    assertEquals(gradient([0, 0], (z) => z.norm()), [0, 0]);
    assertEquals(gradient([2, 2], (z) => z.std()), [0, 0]);
    assertEquals(gradient([3, 0, 2], (z) => z.prod()), [0, 6, 0]);
    assertEquals(gradient([3, 0, 2, 0], (z) => z.cumprod(0).sum()), [1, 9, 0, 0]);
  });

  Deno.test(`errors of reductions and losses on ${device} say what to do`, () => {
    const labels = (data: number[]): Tensor => ndl.tensor(data, { dtype: "int64", device });
    const x = ndl.zeros([2, 3], { device });
    assertThrows(() => ndl.zeros([0], { device }).max(), RangeError, "there are no elements");
    assertThrows(() => labels([1]).mean(), TypeError, 'to("float32")');
    assertThrows(() => x.topk(4), RangeError, "it has 3 elements");
    assertThrows(() => x.sum(2), RangeError, "dim 2");
    assertThrows(() => x.sum([0, 0]), RangeError, "a dim appears twice");
    assertThrows(
      () => F.crossEntropy(x, labels([0, 7])),
      RangeError,
      "label 7 at position 1 is not in [0, 3)",
    );
    assertThrows(
      () => F.nllLoss(x, labels([-1, 0])),
      RangeError,
      "label -1 at position 0 is not in [0, 3)",
    );
    assertThrows(() => F.crossEntropy(x, ndl.zeros([2], { device })), TypeError, 'dtype: "int64"');
    assertThrows(() => F.crossEntropy(x, labels([0])), RangeError, "labels must be [2]");
    assertThrows(() => F.binaryCrossEntropy(x.add(2), x), RangeError, "element 0 is 2");
    assertThrows(
      () => F.binaryCrossEntropyWithLogits(x, x.sum(0)),
      RangeError,
      "shapes must be equal",
    );
    const typo = { reductoin: "sum" } as unknown as F.LossOptions;
    assertThrows(() => F.mseLoss(x, x, typo), TypeError, 'Unknown option "reductoin"');
    // All rows ignored: the mean of nothing, but no gradient.
    const z = ndl.zeros([2, 3], { device, requiresGrad: true });
    const loss = F.crossEntropy(z, labels([-100, -100]));
    loss.backward();
    assertEquals(loss.item(), NaN);
    assertEquals(z.grad!.tolist(), [[0, 0, 0], [0, 0, 0]]);
  });
}
