"""Writes layout.json: what PyTorch answers to the expressions of tests/layout_test.ts (layout, indexing, einsum).

python3 tests/golden/make_layout.py > tests/golden/layout.json   (needs torch)
"""

import json

import torch
import torch.nn.functional as F


def make(*shape, dtype=torch.float32):
    """The numbers i * 7 % 11 - 3 for i = 0, 1, ... in a shape."""
    n = 1
    for size in shape:
        n *= size
    return (torch.arange(n) * 7 % 11 - 3).to(dtype).reshape(*shape)


def st(t, key, value):
    t[key] = value
    return t


def environment():
    return dict(
        F=F, torch=torch, st=st, s=slice,
        X=make(3, 4), Y=make(2, 3, 4), Z=make(2, 3, 4, 5), V=make(6), I=make(3, 4, dtype=torch.int64),
        A=make(2, 3), B=make(3, 5), C=make(5, 2), E=make(0, 3), S=torch.tensor(2.5),
        M=torch.tensor([[True, False, True, False], [False] * 4, [True] * 4]),
        rows=torch.tensor([2, 0, 2]), grid=torch.tensor([[0, 1], [2, -1]]), cols=torch.tensor([1, 3, 0]),
        J=torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]]),
    )


def plain(result):
    if isinstance(result, (tuple, list)):
        return [plain(x) for x in result]
    dtype = str(result.dtype).removeprefix("torch.")
    return {"shape": list(result.shape), "dtype": dtype, "data": result.flatten().tolist()}


expressions = """
X.flatten()
Z.flatten(1,2)
Z.flatten(-2)
S.flatten()
Z.unflatten(3,[5,1])
V.unflatten(0,[-1,2])
Z.permute(3,0,2,1)
Z.permute(0,-1,1,2)
Z.transpose(1,-1)
X.T
Z.movedim(0,2)
Z.movedim([0,1],[-1,0])
X.unsqueeze(1).squeeze()
X.unsqueeze(-1)
X.unsqueeze(0).squeeze(0)
X.squeeze(0)
X.T.unsqueeze(1)
X.T.reshape(2,6)
X[1:,::2]
X[-2:10,-3:-1]
X[:,3:1]
Z[0:1,:,1:4:2]
X.select(1,-1)
X.narrow(1,1,2)
X.narrow(1,-2,2)
V.split(4)
V.split([1,2,3])
X.split(2,1)
V.chunk(4)
V.chunk(5)
V.chunk(100)
E.chunk(3)
E.split(2)
X.unbind(1)
X.flip(0)
Y.flip(-1,0)
Y.flip([1,2])
V.roll(2)
X.roll(-3)
X.roll(5,1)
X.roll([1,-2],[0,1])
X.repeat(2,3)
X.repeat(2,1,2)
X.repeat(0,1)
X.tile(2)
X.tile(2,1,1)
X.T.repeat(1,2)
S.repeat(3)
F.pad(X,[1,2])
F.pad(X,[1,2,0,1],value=9)
F.pad(X,[-1,2,1,-1],value=-1)
F.pad(Y,[2,1],mode="reflect")
F.pad(Z,[2,1,1,2],mode="reflect")
F.pad(Z,[2,7,1,2],mode="replicate")
F.pad(Z,[5,1,1,4],mode="circular")
F.pad(Z,[1,1,2,0])
F.pad(I,[1,1],value=5)
X.tril()
X.tril(-1)
Y.triu(1)
M.tril()
X.diagonal()
X.diagonal(1)
Z.diagonal(-1,1,3)
Z.diagonal(dim1=2,dim2=0)
torch.cat([X,I.float()])
torch.cat([X,I],1)
torch.cat([Y,Y],-2)
torch.cat([torch.zeros(0),X])
torch.cat([M,I])
torch.stack([X,X*2],1)
torch.stack([S,S])
torch.stack([X.T,X.T],-1)
X[1]
X[-1,1:]
Y[...,2]
Y[1,...,0:2]
X[rows]
X[grid]
X[:,grid]
X[rows,cols]
Y[:,rows,cols]
Z[torch.tensor([0,1,0]),:,cols]
Z[:,rows,0:2,cols]
Z[0,:,rows]
Z[:,rows,0,cols]
Y[:,grid,rows.reshape(3,1,1)]
X[M]
Y[:,M]
Y[1,M]
X[:,torch.tensor([True,False,True,True])]
X.T[rows]
X[torch.zeros(0,dtype=torch.int64)]
st(X,1,5)
st(X,(s(0,2),1),torch.tensor([7.,8.]))
st(X,(s(None),cols),torch.tensor([1.,2,3]))
st(X,rows,0)
st(X,(rows,cols),torch.tensor([[9.,8,7]]))
st(X,M,-5)
st(X,M,torch.arange(6).float())
st(X.T,cols,1)
st(Z,(1,s(None),cols),torch.tensor([[1.,2,3,4,5]]))
X.gather(1,torch.tensor([[0,3],[1,1],[2,0]]))
X.gather(0,J)
X.gather(0,J[:,0:2])
Y.gather(2,torch.ones(1,2,6,dtype=torch.int64))
S.gather(0,torch.tensor(0))
X.scatter(0,J,torch.ones(2,4)*50)
X.scatter(0,J,7)
X.scatter(0,J[:,0:2],torch.ones(3,4))
X.scatter_add(0,J,torch.arange(8).reshape(2,4).float())
X.scatter_add(0,J[:,1:3],torch.arange(8).reshape(2,4).float())
X.index_select(0,rows)
Y.index_select(-1,rows)
X.index_select(0,torch.tensor(1))
S.index_select(0,torch.tensor([0]))
X.index_add(0,rows,torch.ones(3,4))
X.index_add(1,rows,torch.ones(3,3),alpha=2)
I.index_add(1,rows,torch.ones(3,3,dtype=torch.int64))
X.take(grid)
X.T.take(grid)
X.masked_select(M)
X.masked_select(torch.tensor([True,False,True,True]))
Y.masked_select(M)
X.nonzero()
M.nonzero()
S.nonzero()
E.nonzero()
X.nonzero(as_tuple=True)
F.one_hot(rows)
F.one_hot(grid.abs(),5)
F.embedding(grid.abs(),X)
torch.einsum("ij,jk->ik",A,B)
torch.einsum("ij,jk,kl",A,B,C)
torch.einsum("ij->ji",A)
torch.einsum("ji",A)
torch.einsum("ij->",A)
torch.einsum("ij->j",A)
torch.einsum("ii",X[:,0:3])
torch.einsum("ii->i",X[:,0:3])
torch.einsum("ij,ij->ij",A,A)
torch.einsum("i,j->ij",V,rows.float())
torch.einsum("bij,bjk->bik",Y,Y.transpose(1,2))
torch.einsum("...ij,...kj->...ik",Z,Z)
torch.einsum("...j,j",Y,X[0])
torch.einsum("b...i->...b",Z[...,0:1])
torch.einsum("bhqd,bhkd->bhqk",Z,Z)
torch.einsum("abcd,dcb->a",Z,Z[0].permute(2,1,0))
torch.einsum("ij,kj->ik",X,X[0:1])
torch.einsum("ij, jk -> ki",A,B)
torch.einsum("i,i->",V,V)
torch.einsum(",ij->ij",S,A)
torch.einsum("aabb->ab",Z[:,0:2,0:2,0:2])
"""

lines = [line for line in expressions.split("\n") if line]
print("{")
for i, line in enumerate(lines):
    answer = json.dumps(plain(eval(line, environment())), separators=(",", ":"))
    print(f"{json.dumps(line)}: {answer}" + ("," if i + 1 < len(lines) else ""))
print("}")
