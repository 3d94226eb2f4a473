#!/usr/bin/env python3
"""Writes reductions.json: values and gradients of PyTorch's reductions and losses, for tests/reduce_test.ts.

Usage: make_reductions.py (needs torch)
Each entry is the value of sum(f(x) * [1, 2, ...]) and its gradient with respect to x, in float64.
"""
import json
import math
import pathlib
import torch
import torch.nn.functional as F

torch.manual_seed(0)
x = torch.randn(4, 5, dtype=torch.float64)
t = torch.rand(4, 5, dtype=torch.float64)
w = torch.arange(1, 6, dtype=torch.float64)
labels, grid = torch.tensor([0, -100, 3, 4]), torch.tensor([[0, 1], [2, 3]])
out = {"x": x.flatten().tolist(), "t": t.flatten().tolist(), "cases": {}}


def case(name, f):
    z = x.clone().requires_grad_()
    y = f(z)
    y = (y * torch.arange(1, y.numel() + 1, dtype=torch.float64).reshape(y.shape)).sum()
    y.backward()
    out["cases"][name] = [y.item(), *z.grad.flatten().tolist()]


for r in ["mean", "sum", "none"]:
    o = dict(reduction=r)
    case(f"mseLoss {r}", lambda z: F.mse_loss(z, t, **o))
    case(f"l1Loss {r}", lambda z: F.l1_loss(z, t, **o))
    case(f"smoothL1Loss {r}", lambda z: F.smooth_l1_loss(z, t, beta=0.5, **o))
    case(f"huberLoss {r}", lambda z: F.huber_loss(z, t, delta=0.7, **o))
    case(f"binaryCrossEntropy {r}", lambda z: F.binary_cross_entropy(z.sigmoid(), t, weight=t + 1, **o))
    case(f"binaryCrossEntropyWithLogits {r}",
         lambda z: F.binary_cross_entropy_with_logits(z * 30, t, weight=t + 1, pos_weight=w, **o))
    case(f"klDiv {r}", lambda z: F.kl_div(z, t, **o))
    case(f"klDiv of logarithms {r}", lambda z: F.kl_div(z, t.log(), log_target=True, **o))
    case(f"crossEntropy {r}", lambda z: F.cross_entropy(z, labels, **o))
    case(f"crossEntropy smoothed {r}", lambda z: F.cross_entropy(z, labels, label_smoothing=0.1, **o))
    case(f"crossEntropy weighted {r}", lambda z: F.cross_entropy(z, labels, weight=w, label_smoothing=0.1, **o))
    case(f"crossEntropy of probabilities {r}",
         lambda z: F.cross_entropy(z, t, weight=w, label_smoothing=0.1, **o))
    case(f"crossEntropy in 3 dims {r}", lambda z: F.cross_entropy(z.reshape(2, 5, 2), grid, weight=w, **o))
    case(f"crossEntropy of probabilities in 3 dims {r}",
         lambda z: F.cross_entropy(z.reshape(2, 5, 2), t.reshape(2, 5, 2), weight=w, **o))
    case(f"nllLoss {r}", lambda z: F.nll_loss(z.log_softmax(1), labels, weight=w, **o))
case("klDiv batchmean", lambda z: F.kl_div(z, t, reduction="batchmean"))
case("crossEntropy of one row", lambda z: F.cross_entropy(z[0], torch.tensor(2)))
for p in [3, 1, 2, 0.5, -1, math.inf, -math.inf]:
    case(f"norm {p}", lambda z: z.norm(p=p, dim=0))
case("norm of all", lambda z: z.norm())
case("std", lambda z: z.std(1))
case("var", lambda z: z.var((0, 1), correction=2))
case("logsumexp", lambda z: z.logsumexp((0, 1)))
case("softmax", lambda z: z.softmax(0))
case("logSoftmax", lambda z: z.log_softmax(1))
case("cumsum", lambda z: z.cumsum(0))
case("cumprod", lambda z: z.cumprod(1))
case("prod", lambda z: z.prod(1))
case("topk", lambda z: z.topk(2, 0).values)
case("sort", lambda z: z.sort(1, descending=True).values)
case("max", lambda z: z.max(1).values)
case("amin", lambda z: z.amin((0, 1)))
path = pathlib.Path(__file__).with_name("reductions.json")
path.write_text(json.dumps(out) + "\n")
