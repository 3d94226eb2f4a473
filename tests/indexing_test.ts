// Layout and indexing methods: gradients by finite differences, what is a view, in-place writes, errors.

import { assertEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { nativeDevices } from "./harness.ts";

const { embedding, oneHot } = ndl.nn.functional;
const reference = ndl.reference();

function make(...shape: number[]): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  const data = Float64Array.from({ length: n }, (_, i) => Math.sin(3 * i + 1));
  return ndl.tensor(data, { shape, device: reference, requiresGrad: true });
}

function int64(data: number[] | number[][]): Tensor {
  return ndl.tensor(data, { dtype: "int64", device: reference });
}

const rows = int64([2, 0, 2]), columns = int64([[1, 3], [0, 3]]);
const mask = ndl.tensor([
  [true, false, true, false],
  [false, false, false, false],
  [true, true, true, true],
], { device: reference });

const differentiable: Record<string, [(...xs: Tensor[]) => Tensor | Tensor[], ...Tensor[]]> = {
  reshape: [(x) => x.T.reshape(2, 6), make(3, 4)],
  unflatten: [(x) => x.unflatten(1, [2, 2]), make(3, 4)],
  squeeze: [(x) => x.unsqueeze(1).squeeze(1).unsqueeze(-1), make(3, 4)],
  slice: [(x) => x.slice([1, null], [null, null, 2]), make(3, 4)],
  split: [(x) => x.split([1, 3], 1), make(3, 4)],
  "split, one part unused": [(x) => x.split(2, 1)[1]!.square(), make(3, 4)],
  unbind: [(x) => x.unbind(1).map((t, i) => t.mul(i)), make(3, 4)],
  flip: [(x) => x.flip(0, 1).square(), make(3, 4)],
  roll: [(x) => x.roll([1, -1], [0, 1]).square(), make(3, 4)],
  repeat: [(x) => x.repeat(2, 1, 3).square(), make(3, 4)],
  pad: [(x) => x.pad([1, -1, 0, 2], { value: 3 }).square(), make(3, 4)],
  dilate: [(x) => x.dilate([0, 1], 2).square(), make(2, 3)],
  undilate: [(x) => x.undilate(1, 1).square(), make(2, 5)],
  tril: [(x) => x.tril(1).square(), make(2, 3, 4)],
  diagonal: [(x) => x.diagonal(1).square(), make(3, 4)],
  cat: [(x, y) => ndl.cat([x, y, x], 1).square(), make(2, 3), make(2, 1)],
  stack: [(x, y) => ndl.stack([x, y, x], 1).square(), make(2, 3), make(2, 3)],
  "get a view": [(x) => x.get(1, [1, null]).square(), make(3, 4)],
  "get rows": [(x) => x.get(rows).square(), make(3, 4)],
  "get pairs": [(x) => x.get(null, rows.reshape(3, 1, 1), columns).square(), make(2, 3, 4)],
  "get apart": [(x) => x.get(rows, null, int64([1, 1, 0])).square(), make(3, 2, 2)],
  "get a mask": [(x) => x.get(mask).square(), make(3, 4)],
  gather: [(x) => x.gather(1, columns).square(), make(3, 4)],
  scatter: [
    (x, y) => x.scatter(1, int64([[1, 3], [0, 2]]), y).square(),
    make(3, 4),
    make(2, 3),
  ],
  scatterAdd: [(x, y) => x.scatterAdd(1, columns, y).square(), make(3, 4), make(2, 2)],
  indexSelect: [(x) => x.indexSelect(-1, rows).square(), make(2, 3)],
  indexAdd: [
    (x, y) => x.indexAdd(0, rows, y, { alpha: 2 }).square(),
    make(3, 2),
    make(3, 2),
  ],
  take: [(x) => x.take(int64([[0, -1], [5, 5]])).square(), make(3, 4)],
  maskedSelect: [(x) => x.maskedSelect(mask).square(), make(3, 4)],
  embedding: [(w) => embedding(columns, w).square(), make(4, 3)],
  set: [
    (x, y) => {
      const t = x.mul(2);
      t.set(1, y).set([rows.slice([0, 2]), [0, 2]], y.get([0, 2])).set(mask.T.T, 3);
      return t.square();
    },
    make(3, 4),
    make(4),
  ],
  "set pairs": [(x, y) => x.mul(2).set([rows, int64([0, 1, 3])], y).square(), make(3, 4), make(3)],
  einsum: [(a, b) => ndl.einsum("bij,bjk->bik", a, b), make(2, 3, 4), make(2, 4, 2)],
  "einsum of three": [
    (a, b, c) => ndl.einsum("ij,jk,ik->i", a, b, c),
    make(2, 3),
    make(3, 2),
    make(2, 2),
  ],
  "einsum of a diagonal": [(a) => ndl.einsum("iji->j", a), make(2, 3, 2)],
};

for (const [name, [run, ...inputs]] of Object.entries(differentiable)) {
  Deno.test(`${name}: first and second derivatives`, () => {
    const f = (): Tensor[] => [run(...inputs)].flat();
    ndl.gradcheck(f, inputs);
    ndl.gradgradcheck(f, inputs);
  });
}

Deno.test("views share memory with what they view, copies do not", () => {
  const views: ((x: Tensor) => Tensor)[] = [
    (x) => x.view(4, 3),
    (x) => x.flatten(),
    (x) => x.unflatten(1, [2, 2]),
    (x) => x.T,
    (x) => x.transpose(0, 1),
    (x) => x.movedim(0, 1),
    (x) => x.unsqueeze(0),
    (x) => x.slice([1, 3]),
    (x) => x.select(0, 1),
    (x) => x.narrow(1, 0, 4),
    (x) => x.split(2)[0]!,
    (x) => x.chunk(2)[0]!,
    (x) => x.unbind(1)[0]!,
    (x) => x.diagonal(),
    (x) => x.get(1, [0, 2]),
    (x) => x.get(),
    (x) => x.undilate(0, 1),
    (x) => x.expand(2, 3, 4).get(0),
  ];
  for (const f of views) {
    const x = ndl.zeros([3, 4], { device: reference });
    f(x).fill_(1);
    assertEquals(x.sum().item() > 0, true, String(f));
  }
  const copies: ((x: Tensor) => Tensor)[] = [
    (x) => x.flip(0),
    (x) => x.roll(1, 0),
    (x) => x.roll(0, 0),
    (x) => x.repeat(1, 1),
    (x) => x.pad([0, 0]),
    (x) => x.dilate(0, 0),
    (x) => x.get(rows),
    (x) => ndl.cat([x]),
  ];
  for (const f of copies) {
    const x = ndl.zeros([3, 4], { device: reference });
    f(x).fill_(1);
    assertEquals(x.sum().item(), 0, String(f));
  }
});

Deno.test("writing through parts of a tensor reaches its gradient", () => {
  const x = make(3, 4);
  const y = x.mul(1);
  const [a, b] = y.split(2, 1) as [Tensor, Tensor];
  a.mul_(3);
  const [g] = ndl.grad(y.sum().add(b.sum()), x);
  assertEquals(g!.tolist(), [[3, 3, 2, 2], [3, 3, 2, 2], [3, 3, 2, 2]]);
  assertThrows(() => x.set(0, 1), Error, "leaf");
  ndl.noGrad(() => x.set(rows, 0));
  assertEquals(x.get(2).detach().tolist(), [0, 0, 0, 0]);
});

Deno.test("set writes its own memory safely", () => {
  const x = ndl.arange(4);
  x.set(int64([0, 1, 2, 3]).to(x.device), x.flip(0));
  assertEquals(x.tolist(), [3, 2, 1, 0]);
  x.set(int64([3, 0]).to(x.device), x.slice([0, 2]));
  assertEquals(x.tolist(), [2, 2, 1, 3]);
  assertEquals(ndl.zeros([2, 2]).set([], 7).tolist(), [[7, 7], [7, 7]]);
  // Leading dims of size 1 do not matter, and only the part written must have elements of its own.
  assertEquals(ndl.zeros([2, 2]).set(1, ndl.ones([1, 1, 2])).tolist(), [[0, 0], [1, 1]]);
  const row = ndl.zeros([2]), rows = row.expand(3, 2);
  rows.set(1, ndl.tensor([5, 6]));
  assertEquals(row.tolist(), [5, 6]);
  assertThrows(() => rows.set(null, 1), Error, "share memory");
});

Deno.test("dilate puts zeros after every element and undilate takes them away", () => {
  const x = ndl.tensor([[1, 2], [3, 4]]);
  const y = x.dilate([0, 1], 1);
  assertEquals(y.tolist(), [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]);
  assertEquals(y.undilate([0, 1], 1).tolist(), x.tolist());
});

Deno.test("joining keeps channels-last memory", () => {
  const x = ndl.arange(48).reshape(2, 2, 3, 4).permute(0, 3, 1, 2).clone();
  const y = ndl.cat([x, x], 1);
  assertEquals(y._strides, [48, 1, 24, 8]);
  assertEquals(y.narrow(1, 4, 4).tolist(), x.tolist());
  assertEquals(x.pad([1, 1])._strides, [40, 1, 20, 4]);
});

for (const device of [reference, ...nativeDevices()]) {
  Deno.test(`an index out of range is named on ${device}`, () => {
    const x = ndl.zeros([3, 4], { device }), big = int64([0, 1, 5]).to(device);
    const last = int64([[0, 1], [4, 0], [1, -1]]).to(device);
    const errors: [() => unknown, string][] = [
      [
        () => x.indexSelect(0, big),
        "Cannot indexSelect: index 5 at position 2 is out of range: dim 0 has size 3",
      ],
      [() => x.indexAdd(0, big, x), "Cannot indexAdd: index 5 at position 2"],
      [() => x.gather(1, last), "Cannot gather: index 4 at position 2 is out of range: dim 1"],
      [() => x.scatter(1, last, 1), "Cannot scatter: index 4 at position 2"],
      [
        () => x.scatterAdd(1, last, ndl.ones([3, 2], { device })),
        "Cannot scatterAdd: index 4 at position 2",
      ],
      [() => embedding(big, x), "Cannot embedding: index 5 at position 2"],
      [() => oneHot(big, 3), "Cannot oneHot: index 5 at position 2"],
      [() => x.get(null, big), "Cannot index: index 5 at position 2 is out of range: dim 1"],
      [() => x.set(big, 0), "Cannot index: index 5 at position 2"],
      [() => x.take(last.mul(4)), "Cannot index: index 16 at position 2"],
      [() => x.select(0, 3), "Cannot select index 3"],
      [() => x.indexSelect(0, int64([-1]).to(device)), "index -1 at position 0"],
    ];
    for (const [run, message] of errors) assertThrows(run, RangeError, message);
    assertEquals(x.sum().item(), 0); // nothing was written
  });
}

Deno.test("mistakes are named", () => {
  const x = make(3, 4).detach(), float = ndl.tensor([0, 1], { device: reference });
  const errors: [() => unknown, string][] = [
    [() => x.get(float), 'dtype: "int64"'],
    [() => x.gather(1, float), 'dtype: "int64"'],
    [() => embedding(float, x), 'dtype: "int64"'],
    [() => x.slice([null, null, -1]), "flip"],
    [() => x.get(0, 0, 0), "it has 2"],
    [() => x.get(mask.get(0)), "mask of shape [4]"],
    [() => x.view(5, 5), "[3, 4]"],
    [() => x.reshape(-1, 5), "12 elements do not divide by 5"],
    [() => ndl.cat([x, x.T]), "sizes 4 and 3 of dim 1 differ"],
    [() => ndl.cat([]), "nothing"],
    [() => ndl.cat([ndl.tensor(1), ndl.tensor(2)]), "stack"],
    [() => ndl.stack([x, x.T]), "the shapes must be equal"],
    [() => x.pad([0, 4], { mode: "reflect" }), "at most 3"],
    [() => x.pad([1]), "two sizes per dim"],
    [() => x.pad([1, 1], { fill: 0 } as never), 'Unknown option "fill"'],
    [() => x.split([1, 1]), "add up to 3"],
    [() => x.narrow(0, 2, 2), "it has size 3"],
    [() => x.flip(2), "dim 2"],
    [
      () =>
        x.scatterAdd(
          0,
          rows.reshape(1, 3),
          ndl.ones([1, 3], { dtype: "int32", device: reference }),
        ),
      "float64",
    ],
    [() => x.set([0], ndl.zeros([3], { device: reference })), "[3]"],
    [() => x.set([rows], ndl.zeros([2, 4], { device: reference })), "[3, 4]"],
    [() => ndl.einsum("ij,jk->ik", x, x), 'dims named "j" have sizes 4 and 3'],
    [() => ndl.einsum("ij->ik", x), 'the output names "k"'],
    [() => ndl.einsum("ijk->ik", x), '"ijk" does not name the 2 dims'],
  ];
  for (const [run, message] of errors) assertThrows(run, Error, message);
});

Deno.test("bools are added as a logical or", () => {
  for (const device of [ndl.reference(), ...nativeDevices()]) {
    const x = ndl.tensor([true, false, false, false], { device });
    const src = ndl.tensor([true, true, false], { device });
    const index = ndl.tensor([1n, 1n, 2n], { device });
    assertEquals(x.scatterAdd(0, index, src).tolist(), [true, true, false, false]);
    assertEquals(x.indexAdd(0, index, src).tolist(), [true, true, false, false]);
  }
});
