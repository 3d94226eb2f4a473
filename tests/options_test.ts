// Options that PyTorch has beside the usual ones: in place, by position or by name, weights of losses, sizes of results,
// positions of maxima; and functions of the namespace beside methods. The numbers are PyTorch's.

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Device } from "../lib/device.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { assertClose, nativeDevices } from "./harness.ts";

const { nn } = ndl, F = nn.functional;
const close = { rtol: 1e-5, atol: 1e-6 };

function same(a: Tensor, b: Tensor): void {
  assertEquals(a.dtype, b.dtype);
  assertEquals([...a.shape], [...b.shape]);
  assertClose(a.toTypedArray(), b.toTypedArray(), close, "tensors");
}

const devices = [ndl.reference(), ...nativeDevices()];

function test(name: string, run: (device: Device) => void): void {
  for (const device of devices) {
    Deno.test(`${name} on ${device}`, () => run(device));
  }
}

test("activations in place write their input and have the same gradient", (device) => {
  const layers: [string, ndl.nn.Module, (x: Tensor) => Tensor][] = [
    ["ReLU", new nn.ReLU({ inplace: true }), (x) => x.relu()],
    ["SELU", new nn.SELU({ inplace: true }), (x) => x.selu()],
    ["SiLU", new nn.SiLU({ inplace: true }), (x) => x.silu()],
    ["Mish", new nn.Mish({ inplace: true }), (x) => x.mish()],
    ["LeakyReLU", new nn.LeakyReLU(0.2, { inplace: true }), (x) => x.leakyRelu(0.2)],
    ["ELU", new nn.ELU({ alpha: 0.5, inplace: true }), (x) => x.elu(0.5)],
  ];
  for (const [name, layer, plain] of layers) {
    const leaf = ndl.tensor([[-2, -0.5, 0], [0.25, 1, 3]], { device, requiresGrad: true });
    const want = plain(leaf.mul(2)), x = leaf.mul(2), y = layer.forward(x);
    assert(y === x, `${name} gives its input back`);
    same(x, want);
    const [g] = ndl.grad(y.mul(y).sum(), [leaf]), [h] = ndl.grad(want.mul(want).sum(), [leaf]);
    same(g!, h!);
    assertThrows(() => layer.forward(leaf), Error, "leaf");
    assert(layer.toString().includes("inplace=true"), name);
  }
});

test("dropout in place writes its input", (device) => {
  const x = ndl.ones([200], { device }), y = F.dropout(x, 0.5, { inplace: true });
  assert(y === x);
  const values = new Set(x.tolist() as number[]);
  assertEquals([...values].sort(), [0, 2]);
  const layer = new nn.Dropout({ p: 1, inplace: true }), z = ndl.ones([3], { device });
  layer.forward(z);
  assertEquals(z.tolist(), [0, 0, 0]);
});

test("one number stands by position or by name", (device) => {
  const x = ndl.tensor([[-3, -1, 0.5], [1, 2, 9]], { device });
  same(F.leakyRelu(x, 0.2), F.leakyRelu(x, { negativeSlope: 0.2 }));
  same(F.elu(x, 0.5), F.elu(x, { alpha: 0.5 }));
  same(F.softplus(x, 2, 3), F.softplus(x, { beta: 2, threshold: 3 }));
  same(F.softplus(x, 2, 3), F.softplus(x, 2, { threshold: 3 }));
  same(new nn.Softplus(2, 3).forward(x), new nn.Softplus({ threshold: 3, beta: 2 }).forward(x));
  same(new nn.Softmax(0).forward(x), new nn.Softmax({ dim: 0 }).forward(x));
  same(F.softmax(x, 0, { dtype: "float64" }), F.softmax(x, { dim: 0, dtype: "float64" }));
  same(new nn.Flatten(0).forward(x), new nn.Flatten({ startDim: 0, endDim: 1 }).forward(x));
});

test("a number may stand on the left", (device) => {
  const x = ndl.tensor([1, 2, 4], { device, requiresGrad: true });
  const cases: [Tensor, number[], number[]][] = [
    [ndl.add(1, x), [2, 3, 5], [1, 1, 1]],
    [ndl.add(1, x, { alpha: 2 }), [3, 5, 9], [2, 2, 2]],
    [ndl.sub(1, x), [0, -1, -3], [-1, -1, -1]],
    [ndl.sub(1, x, { alpha: 0.5 }), [0.5, 0, -1], [-0.5, -0.5, -0.5]],
    [ndl.mul(3, x), [3, 6, 12], [3, 3, 3]],
    [ndl.div(4, x), [4, 2, 1], [-4, -1, -0.25]],
    [ndl.pow(2, x), [2, 4, 16], [2, 4, 16].map((v) => v * Math.LN2)],
    [ndl.remainder(5, x), [0, 1, 1], [-5, -2, -1]],
  ];
  for (const [y, want, slope] of cases) {
    assertClose(y.toTypedArray(), want, close, "values");
    assertClose(ndl.grad(y.sum(), [x])[0]!.toTypedArray(), slope, close, "slopes");
  }
  const whole = ndl.tensor([2n, 3n], { device });
  assertEquals(ndl.floorDivide(7, whole).tolist(), [3, 2]);
  assertEquals(ndl.pow(2, whole).dtype, "int64");
  assertThrows(() => ndl.add(1, 2), TypeError, "two numbers");
  assertThrows(() => ndl.sub(1, whole.gt(0)), TypeError, "bool");
});

test("regression losses take weights, whose sum divides the mean", (device) => {
  const x = ndl.tensor([1, 2, 4], { device }), y = ndl.tensor([0, 4, 1], { device });
  const weight = ndl.tensor([1, 0.5, 2], { device });
  const values: [typeof F.mseLoss, number[]][] = [
    [F.mseLoss, [1, 2, 18]],
    [F.l1Loss, [1, 1, 6]],
    [F.huberLoss, [0.5, 0.75, 5]],
  ];
  for (const [loss, each] of values) {
    const sum = each.reduce((a, b) => a + b);
    assertEquals(loss(x, y, { weight, reduction: "none" }).tolist(), each);
    assertClose([loss(x, y, { weight, reduction: "sum" }).item() as number], [sum], close, "sum");
    assertClose([loss(x, y, { weight }).item() as number], [sum / 3.5], close, "mean");
    assertThrows(() => loss(x, y, { weight: weight.narrow(0, 0, 1) }), RangeError, "equal");
  }
});

test("MaxPool2d gives positions, ConvTranspose takes the size of its result", (device) => {
  const x = ndl.arange(16, { dtype: "float32", device }).reshape(1, 1, 4, 4);
  const [y, at] = new nn.MaxPool2d(2, { returnIndices: true }).forward(x);
  assertEquals(y.tolist(), [[[[5, 7], [13, 15]]]]);
  assertEquals(at.tolist(), [[[[5, 7], [13, 15]]]]);
  const wide = new nn.ConvTranspose2d(2, 3, 3, { stride: 2, padding: 1, device });
  const image = ndl.ones([1, 2, 4, 5], { device });
  assertEquals(wide.forward(image).shape, [1, 3, 7, 9]);
  assertEquals(wide.forward(image, [8, 9]).shape, [1, 3, 8, 9]);
  same(
    wide.forward(image, [8, 10]),
    F.convTranspose2d(image, wide.weight, {
      bias: wide.bias,
      stride: 2,
      padding: 1,
      outputPadding: 1,
    }),
  );
  assertThrows(() => wide.forward(image, [9, 9]), RangeError, "from 7 to 8");
  const line = new nn.ConvTranspose1d(2, 3, 3, { stride: 2, device });
  assertEquals(line.forward(ndl.ones([2, 4], { device }), [10]).shape, [3, 10]);
});

test("a table with maxNorm scales the rows that it looks up, and no others", (device) => {
  const table = new nn.Embedding(3, 2, { maxNorm: 1, device });
  table.loadStateDict({ weight: ndl.tensor([[3, 4], [6, 8], [0.3, 0.4]], { device }) });
  table.forward(ndl.tensor([0n, 2n, 0n], { device }));
  const want = [0.6, 0.8, 6, 8, 0.3, 0.4];
  assertClose(table.weight.toTypedArray(), want, close, "weight");
  assertThrows(() => F.embedding(ndl.tensor([0n]), ndl.ones([2, 2]), { maxNorm: -1 }), RangeError);
});

test("an operation takes dtype and device from another tensor", (device) => {
  const x = ndl.ones([2], { device, dtype: "float64" });
  const y = ndl.ones([2], { device: ndl.reference() }).to(x);
  assertEquals([y.dtype, String(y.device)], ["float64", String(device)]);
  assertThrows(() => x.to({ dtpe: "float32" } as never), TypeError, '"dtpe"');
});

test("rearranging functions are the methods", (device) => {
  const x = ndl.arange(6, { device }).reshape(2, 3), i = ndl.tensor([[0n, 1n, 0n]], { device });
  const one = ndl.tensor([1n], { device }), src = ndl.ones([1, 3], { dtype: "int64", device });
  const pairs: [Tensor, Tensor][] = [
    [ndl.clone(x), x],
    [ndl.unflatten(x, 1, [3, 1]), x.reshape(2, 3, 1)],
    [ndl.movedim(x, 0, 1), x.T],
    [ndl.broadcastTo(x, [2, 2, 3]), x.expand(2, 2, 3)],
    [ndl.select(x, 0, 1), x.get(1)],
    [ndl.narrow(x, 1, 1, 2), x.slice(null, [1, 3])],
    [ndl.unbind(x, 1)[2]!, x.get(null, 2)],
    [ndl.roll(x, 1, 0), ndl.cat([x.get([1, 2]), x.get([0, 1])])],
    [ndl.tile(x, [2]), ndl.cat([x, x], 1)],
    [ndl.diagonal(x, { offset: 1 }), ndl.tensor([1n, 5n], { device })],
    [ndl.scatter(x, 0, i, 9), x.scatter(0, i, 9)],
    [ndl.scatterAdd(x, 0, i, src), x.scatterAdd(0, i, src)],
    [ndl.indexAdd(x, 0, one, src, { alpha: 2 }), x.indexAdd(0, one, src.mul(2))],
    [ndl.take(x, i), i.mul(1)],
    [ndl.nonzero(x, { asTuple: true })[1]!, x.nonzero().get(null, 1)],
  ];
  for (const [a, b] of pairs) same(a, b);
  assertEquals(ndl.numel(x), 6);
});
