// Layout, indexing and einsum methods against PyTorch: the answers stand in golden/layout.json, under PyTorch's own
// expression; golden/make_layout.py wrote them.

import { assertEquals } from "@std/assert";
import * as ndl from "../mod.ts";
import type { Tensor } from "../lib/tensor/mod.ts";
import { nativeDevices } from "./harness.ts";
import expected from "./golden/layout.json" with { type: "json" };

const { cat, einsum, stack } = ndl;
const { embedding, oneHot } = ndl.nn.functional;

/** The numbers i * 7 % 11 - 3 for i = 0, 1, ... in a shape. */
function make(shape: readonly number[], dtype: ndl.DType = "float32"): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return ndl.tensor(Float64Array.from({ length: n }, (_, i) => (i * 7) % 11 - 3), { shape, dtype });
}

function int64(data: number[] | number[][]): Tensor {
  return ndl.tensor(data, { dtype: "int64" });
}

function environment() {
  return {
    X: make([3, 4]),
    Y: make([2, 3, 4]),
    Z: make([2, 3, 4, 5]),
    V: make([6]),
    I: make([3, 4], "int64"),
    A: make([2, 3]),
    B: make([3, 5]),
    C: make([5, 2]),
    E: make([0, 3]),
    S: ndl.tensor(2.5),
    M: ndl.tensor([
      [true, false, true, false],
      [false, false, false, false],
      [true, true, true, true],
    ]),
    rows: int64([2, 0, 2]),
    grid: int64([[0, 1], [2, -1]]),
    cols: int64([1, 3, 0]),
    J: int64([[0, 1, 2, 0], [2, 2, 1, 1]]),
  };
}

type Environment = ReturnType<typeof environment>;

const cases: Record<keyof typeof expected, (e: Environment) => Tensor | Tensor[]> = {
  "X.flatten()": ({ X }) => X.flatten(),
  "Z.flatten(1,2)": ({ Z }) => Z.flatten(1, 2),
  "Z.flatten(-2)": ({ Z }) => Z.flatten(-2),
  "S.flatten()": ({ S }) => S.flatten(),
  "Z.unflatten(3,[5,1])": ({ Z }) => Z.unflatten(3, [5, 1]),
  "V.unflatten(0,[-1,2])": ({ V }) => V.unflatten(0, [-1, 2]),
  "Z.permute(3,0,2,1)": ({ Z }) => Z.permute(3, 0, 2, 1),
  "Z.permute(0,-1,1,2)": ({ Z }) => Z.permute([0, -1, 1, 2]),
  "Z.transpose(1,-1)": ({ Z }) => Z.transpose(1, -1),
  "X.T": ({ X }) => X.T,
  "Z.movedim(0,2)": ({ Z }) => Z.movedim(0, 2),
  "Z.movedim([0,1],[-1,0])": ({ Z }) => Z.movedim([0, 1], [-1, 0]),
  "X.unsqueeze(1).squeeze()": ({ X }) => X.unsqueeze(1).squeeze(),
  "X.unsqueeze(-1)": ({ X }) => X.unsqueeze(-1),
  "X.unsqueeze(0).squeeze(0)": ({ X }) => X.unsqueeze(0).squeeze(0),
  "X.squeeze(0)": ({ X }) => X.squeeze(0),
  "X.T.unsqueeze(1)": ({ X }) => X.T.unsqueeze(1),
  "X.T.reshape(2,6)": ({ X }) => X.T.reshape(2, 6),
  "X[1:,::2]": ({ X }) => X.slice([1, null], [null, null, 2]),
  "X[-2:10,-3:-1]": ({ X }) => X.slice([-2, 10], [-3, -1]),
  "X[:,3:1]": ({ X }) => X.slice(null, [3, 1]),
  "Z[0:1,:,1:4:2]": ({ Z }) => Z.slice([0, 1], null, [1, 4, 2]),
  "X.select(1,-1)": ({ X }) => X.select(1, -1),
  "X.narrow(1,1,2)": ({ X }) => X.narrow(1, 1, 2),
  "X.narrow(1,-2,2)": ({ X }) => X.narrow(1, -2, 2),
  "V.split(4)": ({ V }) => V.split(4),
  "V.split([1,2,3])": ({ V }) => V.split([1, 2, 3]),
  "X.split(2,1)": ({ X }) => X.split(2, 1),
  "V.chunk(4)": ({ V }) => V.chunk(4),
  "V.chunk(5)": ({ V }) => V.chunk(5),
  "V.chunk(100)": ({ V }) => V.chunk(100),
  "E.chunk(3)": ({ E }) => E.chunk(3),
  "E.split(2)": ({ E }) => E.split(2),
  "X.unbind(1)": ({ X }) => X.unbind(1),
  "X.flip(0)": ({ X }) => X.flip(0),
  "Y.flip(-1,0)": ({ Y }) => Y.flip(-1, 0),
  "Y.flip([1,2])": ({ Y }) => Y.flip([1, 2]),
  "V.roll(2)": ({ V }) => V.roll(2),
  "X.roll(-3)": ({ X }) => X.roll(-3),
  "X.roll(5,1)": ({ X }) => X.roll(5, 1),
  "X.roll([1,-2],[0,1])": ({ X }) => X.roll([1, -2], [0, 1]),
  "X.repeat(2,3)": ({ X }) => X.repeat(2, 3),
  "X.repeat(2,1,2)": ({ X }) => X.repeat(2, 1, 2),
  "X.repeat(0,1)": ({ X }) => X.repeat(0, 1),
  "X.tile(2)": ({ X }) => X.tile(2),
  "X.tile(2,1,1)": ({ X }) => X.tile(2, 1, 1),
  "X.T.repeat(1,2)": ({ X }) => X.T.repeat(1, 2),
  "S.repeat(3)": ({ S }) => S.repeat(3),
  "F.pad(X,[1,2])": ({ X }) => X.pad([1, 2]),
  "F.pad(X,[1,2,0,1],value=9)": ({ X }) => X.pad([1, 2, 0, 1], { value: 9 }),
  "F.pad(X,[-1,2,1,-1],value=-1)": ({ X }) => X.pad([-1, 2, 1, -1], { value: -1 }),
  'F.pad(Y,[2,1],mode="reflect")': ({ Y }) => Y.pad([2, 1], { mode: "reflect" }),
  'F.pad(Z,[2,1,1,2],mode="reflect")': ({ Z }) => Z.pad([2, 1, 1, 2], { mode: "reflect" }),
  'F.pad(Z,[2,7,1,2],mode="replicate")': ({ Z }) => Z.pad([2, 7, 1, 2], { mode: "replicate" }),
  'F.pad(Z,[5,1,1,4],mode="circular")': ({ Z }) => Z.pad([5, 1, 1, 4], { mode: "circular" }),
  "F.pad(Z,[1,1,2,0])": ({ Z }) => Z.permute(0, 2, 3, 1).permute(0, 3, 1, 2).pad([1, 1, 2, 0]),
  "F.pad(I,[1,1],value=5)": ({ I }) => I.pad([1, 1], { value: 5 }),
  "X.tril()": ({ X }) => X.tril(),
  "X.tril(-1)": ({ X }) => X.tril(-1),
  "Y.triu(1)": ({ Y }) => Y.triu(1),
  "M.tril()": ({ M }) => M.tril(),
  "X.diagonal()": ({ X }) => X.diagonal(),
  "X.diagonal(1)": ({ X }) => X.diagonal(1),
  "Z.diagonal(-1,1,3)": ({ Z }) => Z.diagonal(-1, 1, 3),
  "Z.diagonal(dim1=2,dim2=0)": ({ Z }) => Z.diagonal({ dim1: 2, dim2: 0 }),
  "torch.cat([X,I.float()])": ({ X, I }) => cat([X, I.to("float32")]),
  "torch.cat([X,I],1)": ({ X, I }) => cat([X, I], 1),
  "torch.cat([Y,Y],-2)": ({ Y }) => cat([Y, Y], -2),
  "torch.cat([torch.zeros(0),X])": ({ X }) => cat([ndl.zeros([0]), X]),
  "torch.cat([M,I])": ({ I, M }) => cat([M, I]),
  "torch.stack([X,X*2],1)": ({ X }) => stack([X, X.mul(2)], 1),
  "torch.stack([S,S])": ({ S }) => stack([S, S]),
  "torch.stack([X.T,X.T],-1)": ({ X }) => stack([X.T, X.T], -1),
  "X[1]": ({ X }) => X.get(1),
  "X[-1,1:]": ({ X }) => X.get(-1, [1, null]),
  "Y[...,2]": ({ Y }) => Y.get("...", 2),
  "Y[1,...,0:2]": ({ Y }) => Y.get(1, "...", [0, 2]),
  "X[rows]": ({ X, rows }) => X.get(rows),
  "X[grid]": ({ X, grid }) => X.get(grid),
  "X[:,grid]": ({ X, grid }) => X.get(null, grid),
  "X[rows,cols]": ({ X, rows, cols }) => X.get(rows, cols),
  "Y[:,rows,cols]": ({ Y, rows, cols }) => Y.get(null, rows, cols),
  "Z[torch.tensor([0,1,0]),:,cols]": ({ Z, cols }) => Z.get(ndl.tensor([0n, 1n, 0n]), null, cols),
  "Z[:,rows,0:2,cols]": ({ Z, rows, cols }) => Z.get(null, rows, [0, 2], cols),
  "Z[0,:,rows]": ({ Z, rows }) => Z.get(0, null, rows),
  "Z[:,rows,0,cols]": ({ Z, rows, cols }) => Z.get(null, rows, 0, cols),
  "Y[:,grid,rows.reshape(3,1,1)]": ({ Y, rows, grid }) => Y.get(null, grid, rows.reshape(3, 1, 1)),
  "X[M]": ({ X, M }) => X.get(M),
  "Y[:,M]": ({ Y, M }) => Y.get(null, M),
  "Y[1,M]": ({ Y, M }) => Y.get(1, M),
  "X[:,torch.tensor([True,False,True,True])]": ({ X }) =>
    X.get(null, ndl.tensor([true, false, true, true])),
  "X.T[rows]": ({ X, rows }) => X.T.get(rows),
  "X[torch.zeros(0,dtype=torch.int64)]": ({ X }) => X.get(ndl.zeros([0], { dtype: "int64" })),
  "st(X,1,5)": ({ X }) => X.clone().set(1, 5),
  "st(X,(s(0,2),1),torch.tensor([7.,8.]))": ({ X }) =>
    X.clone().set([[0, 2], 1], ndl.tensor([7, 8])),
  "st(X,(s(None),cols),torch.tensor([1.,2,3]))": ({ X, cols }) =>
    X.clone().set([null, cols], ndl.tensor([1, 2, 3])),
  "st(X,rows,0)": ({ X, rows }) => X.clone().set(rows, 0),
  "st(X,(rows,cols),torch.tensor([[9.,8,7]]))": ({ X, rows, cols }) =>
    X.clone().set([rows, cols], ndl.tensor([[9, 8, 7]])),
  "st(X,M,-5)": ({ X, M }) => X.clone().set(M, -5),
  "st(X,M,torch.arange(6).float())": ({ X, M }) => X.clone().set(M, ndl.arange(6)),
  "st(X.T,cols,1)": ({ X, cols }) => X.clone().T.set(cols, 1),
  "st(Z,(1,s(None),cols),torch.tensor([[1.,2,3,4,5]]))": ({ Z, cols }) =>
    Z.clone().set([1, null, cols], ndl.tensor([[1, 2, 3, 4, 5]])),
  "X.gather(1,torch.tensor([[0,3],[1,1],[2,0]]))": ({ X }) =>
    X.gather(1, ndl.tensor([[0n, 3n], [1n, 1n], [2n, 0n]])),
  "X.gather(0,J)": ({ X, J }) => X.gather(0, J),
  "X.gather(0,J[:,0:2])": ({ X, J }) => X.gather(0, J.slice(null, [0, 2])),
  "Y.gather(2,torch.ones(1,2,6,dtype=torch.int64))": ({ Y }) =>
    Y.gather(2, ndl.ones([1, 2, 6], { dtype: "int64" })),
  "S.gather(0,torch.tensor(0))": ({ S }) => S.gather(0, ndl.tensor(0n)),
  "X.scatter(0,J,torch.ones(2,4)*50)": ({ X, J }) => X.scatter(0, J, ndl.ones([2, 4]).mul(50)),
  "X.scatter(0,J,7)": ({ X, J }) => X.scatter(0, J, 7),
  "X.scatter(0,J[:,0:2],torch.ones(3,4))": ({ X, J }) =>
    X.scatter(0, J.slice(null, [0, 2]), ndl.ones([3, 4])),
  "X.scatter_add(0,J,torch.arange(8).reshape(2,4).float())": ({ X, J }) =>
    X.scatterAdd(0, J, ndl.arange(8).reshape(2, 4).to("float32")),
  "X.scatter_add(0,J[:,1:3],torch.arange(8).reshape(2,4).float())": ({ X, J }) =>
    X.scatterAdd(0, J.slice(null, [1, 3]), ndl.arange(8).reshape(2, 4).to("float32")),
  "X.index_select(0,rows)": ({ X, rows }) => X.indexSelect(0, rows),
  "Y.index_select(-1,rows)": ({ Y, rows }) => Y.indexSelect(-1, rows),
  "X.index_select(0,torch.tensor(1))": ({ X }) => X.indexSelect(0, ndl.tensor(1n)),
  "S.index_select(0,torch.tensor([0]))": ({ S }) => S.indexSelect(0, ndl.tensor([0n])),
  "X.index_add(0,rows,torch.ones(3,4))": ({ X, rows }) => X.indexAdd(0, rows, ndl.ones([3, 4])),
  "X.index_add(1,rows,torch.ones(3,3),alpha=2)": ({ X, rows }) =>
    X.indexAdd(1, rows, ndl.ones([3, 3]), { alpha: 2 }),
  "I.index_add(1,rows,torch.ones(3,3,dtype=torch.int64))": ({ I, rows }) =>
    I.indexAdd(1, rows, ndl.ones([3, 3], { dtype: "int64" })),
  "X.take(grid)": ({ X, grid }) => X.take(grid),
  "X.T.take(grid)": ({ X, grid }) => X.T.take(grid),
  "X.masked_select(M)": ({ X, M }) => X.maskedSelect(M),
  "X.masked_select(torch.tensor([True,False,True,True]))": ({ X }) =>
    X.maskedSelect(ndl.tensor([true, false, true, true])),
  "Y.masked_select(M)": ({ Y, M }) => Y.maskedSelect(M),
  "X.nonzero()": ({ X }) => X.nonzero(),
  "M.nonzero()": ({ M }) => M.nonzero(),
  "S.nonzero()": ({ S }) => S.nonzero(),
  "E.nonzero()": ({ E }) => E.nonzero(),
  "X.nonzero(as_tuple=True)": ({ X }) => X.nonzero({ asTuple: true }),
  "F.one_hot(rows)": ({ rows }) => oneHot(rows),
  "F.one_hot(grid.abs(),5)": ({ grid }) => oneHot(grid.abs(), 5),
  "F.embedding(grid.abs(),X)": ({ X, grid }) => embedding(grid.abs(), X),
  'torch.einsum("ij,jk->ik",A,B)': ({ A, B }) => einsum("ij,jk->ik", A, B),
  'torch.einsum("ij,jk,kl",A,B,C)': ({ A, B, C }) => einsum("ij,jk,kl", A, B, C),
  'torch.einsum("ij->ji",A)': ({ A }) => einsum("ij->ji", A),
  'torch.einsum("ji",A)': ({ A }) => einsum("ji", A),
  'torch.einsum("ij->",A)': ({ A }) => einsum("ij->", A),
  'torch.einsum("ij->j",A)': ({ A }) => einsum("ij->j", A),
  'torch.einsum("ii",X[:,0:3])': ({ X }) => einsum("ii", X.slice(null, [0, 3])),
  'torch.einsum("ii->i",X[:,0:3])': ({ X }) => einsum("ii->i", X.slice(null, [0, 3])),
  'torch.einsum("ij,ij->ij",A,A)': ({ A }) => einsum("ij,ij->ij", A, A),
  'torch.einsum("i,j->ij",V,rows.float())': ({ V, rows }) =>
    einsum("i,j->ij", V, rows.to("float32")),
  'torch.einsum("bij,bjk->bik",Y,Y.transpose(1,2))': ({ Y }) =>
    einsum("bij,bjk->bik", Y, Y.transpose(1, 2)),
  'torch.einsum("...ij,...kj->...ik",Z,Z)': ({ Z }) => einsum("...ij,...kj->...ik", Z, Z),
  'torch.einsum("...j,j",Y,X[0])': ({ X, Y }) => einsum("...j,j", Y, X.get(0)),
  'torch.einsum("b...i->...b",Z[...,0:1])': ({ Z }) =>
    einsum("b...i->...b", Z.slice(null, null, null, [0, 1])),
  'torch.einsum("bhqd,bhkd->bhqk",Z,Z)': ({ Z }) => einsum("bhqd,bhkd->bhqk", Z, Z),
  'torch.einsum("abcd,dcb->a",Z,Z[0].permute(2,1,0))': ({ Z }) =>
    einsum("abcd,dcb->a", Z, Z.get(0).permute(2, 1, 0)),
  'torch.einsum("ij,kj->ik",X,X[0:1])': ({ X }) => einsum("ij,kj->ik", X, X.slice([0, 1])),
  'torch.einsum("ij, jk -> ki",A,B)': ({ A, B }) => einsum("ij, jk -> ki", A, B),
  'torch.einsum("i,i->",V,V)': ({ V }) => einsum("i,i->", V, V),
  'torch.einsum(",ij->ij",S,A)': ({ A, S }) => einsum(",ij->ij", S, A),
  'torch.einsum("aabb->ab",Z[:,0:2,0:2,0:2])': ({ Z }) =>
    einsum("aabb->ab", Z.slice(null, [0, 2], [0, 2], [0, 2])),
};

function plain(result: Tensor | Tensor[]): unknown {
  if (Array.isArray(result)) return result.map(plain);
  const { dtype, shape } = result;
  const data = Array.from(
    result.toTypedArray() as Iterable<number | bigint>,
    (x) => dtype === "bool" ? x !== 0 : Number(x) + 0, // + 0: no negative zero
  );
  return { shape: [...shape], dtype, data };
}

for (const device of [ndl.reference(), ...nativeDevices()]) {
  Deno.test(`layout, indexing and einsum answer as PyTorch does on ${device}`, () => {
    const before = ndl.defaultDevice();
    ndl.setDefaultDevice(device);
    try {
      for (const [expression, run] of Object.entries(cases)) {
        const want = expected[expression as keyof typeof expected] as unknown;
        assertEquals(plain(run(environment())), want, expression);
      }
    } finally {
      ndl.setDefaultDevice(before);
    }
  });
}
