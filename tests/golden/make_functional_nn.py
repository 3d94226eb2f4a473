"""Writes functional_nn.json: results and gradients of torch.nn.functional in float64, for functional_nn_test.ts.

"$k" stands for tensor k of the case; gradients are those of sum(output * cos(1 + i)), i counting its elements.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(0)
cases = []


def tensor(*shape, low=-2.0, high=2.0):
    return (torch.rand(*shape, dtype=torch.float64) * (high - low) + low).mul(100).round().div(100)


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(w.capitalize() for w in rest)


def case(name, tensors, args=("$0", "$1"), f=None, state=(), **options):
    """Runs torch's `name`; tensors whose position is in `state` are written in place and take no gradient."""
    leaves = [t.clone().requires_grad_(i not in state) for i, t in enumerate(tensors)]
    fill = lambda v: leaves[int(v[1:])] if isinstance(v, str) and v.startswith("$") else v
    f = f or getattr(F, name)
    y = f(*map(fill, args), **{k: fill(v) for k, v in options.items()})
    ys = list(y) if isinstance(y, tuple) else [y]
    w = torch.cos(1 + torch.arange(ys[0].numel(), dtype=torch.float64)).reshape(ys[0].shape)
    wanted = [t for i, t in enumerate(leaves) if i not in state]
    grads = torch.autograd.grad((ys[0] * w).sum(), wanted)
    flat = lambda t: {"shape": list(t.shape), "values": [round(v, 9) for v in t.detach().flatten().tolist()]}
    cases.append({
        "name": camel(name),
        "tensors": [flat(t) for t in tensors],
        "args": list(args),
        "options": {camel(k): v for k, v in options.items()},
        "outputs": [flat(t) for t in ys],
        "grads": [flat(g) for g in grads],
        "state": [[i, flat(leaves[i])] for i in state],
    })


for a, b in [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)),
             ((5, 2, 3), (3, 4)), ((2, 1, 2, 3), (4, 3, 2)), ((2, 3), (2, 3, 2))]:
    case("matmul", [tensor(*a), tensor(*b)], f=torch.matmul)

case("linear", [tensor(2, 3, 4), tensor(5, 4), tensor(5)], bias="$2")
case("linear", [tensor(4), tensor(5, 4)])
case("linear", [tensor(3, 4), tensor(4)])
case("bilinear", [tensor(2, 3), tensor(2, 4), tensor(5, 3, 4), tensor(5)], args=("$0", "$1", "$2"), bias="$3")

x, w = tensor(1, 2, 5, 4), tensor(4, 2, 3, 3)
case("conv2d", [x, w, tensor(4)], bias="$2", stride=[2, 1], padding=[1, 2])
case("conv2d", [x, w], padding="same")
case("conv2d", [x, tensor(3, 2, 2, 4)], padding="same", dilation=[1, 2])
case("conv2d", [x, tensor(2, 2, 2, 2)], padding="same")
case("conv2d", [tensor(1, 2, 6, 5), w], padding="valid", dilation=2)
case("conv2d", [tensor(4, 5, 4), tensor(6, 2, 3, 3), tensor(6)], bias="$2", groups=2, padding=1)
case("conv2d", [x, tensor(4, 1, 3, 3)], groups=2)
case("conv1d", [tensor(2, 3, 7), tensor(4, 3, 3), tensor(4)], bias="$2", stride=2, padding=1)
case("conv1d", [tensor(3, 7), tensor(4, 3, 2)], padding="same", dilation=3)
case("conv_transpose2d", [tensor(2, 4, 3, 4), tensor(4, 3, 3, 2), tensor(3)], bias="$2", stride=2, padding=1,
     output_padding=1)
case("conv_transpose2d", [tensor(4, 3, 4), tensor(4, 2, 3, 3)], groups=2, dilation=2, output_padding=1)
case("conv_transpose2d", [tensor(1, 2, 3, 3), tensor(2, 2, 2, 2)], dilation=3, padding=2, output_padding=[2, 1])
case("conv_transpose1d", [tensor(2, 3, 5), tensor(3, 2, 3), tensor(2)], bias="$2", stride=3, output_padding=2)

for options in [dict(), dict(stride=1), dict(stride=2, padding=1, ceil_mode=True), dict(dilation=2, stride=1)]:
    case("max_pool2d", [tensor(1, 2, 7, 6)], args=("$0", 3), **options)
case("max_pool2d", [tensor(3, 5, 6)], args=("$0", [2, 3]), return_indices=True)
for options in [dict(), dict(stride=2, padding=1), dict(stride=2, padding=1, ceil_mode=True, count_include_pad=False),
                dict(ceil_mode=True, divisor_override=4)]:
    case("avg_pool2d", [tensor(1, 2, 7, 6)], args=("$0", 3), **options)
for size in [1, [3, 2], [None, 4], 9]:
    case("adaptive_avg_pool2d", [tensor(1, 2, 7, 6)], args=("$0", size))

for shape in [(5, 3), (2, 3, 4), (2, 3, 4, 2)]:
    x, c = tensor(*shape), shape[1]
    stats = [tensor(c), tensor(c, low=0.5)]
    affine = [tensor(c), tensor(c)]
    case("batch_norm", [x, *stats, *affine], args=("$0", "$1", "$2"), state=(1, 2), weight="$3", bias="$4",
         training=True, momentum=0.3, eps=1e-3)
    case("batch_norm", [x, *stats, *affine], args=("$0", "$1", "$2"), state=(1, 2), weight="$3", bias="$4")
    case("batch_norm", [x], args=("$0", None, None), training=True)
    case("group_norm", [x, *affine], args=("$0", 1), weight="$1", bias="$2")
    case("group_norm", [x], args=("$0", 3))
case("group_norm", [tensor(2, 6, 3, 2), tensor(6), tensor(6)], args=("$0", 2), weight="$1", bias="$2", eps=1e-2)
case("layer_norm", [tensor(3, 2, 4), tensor(2, 4), tensor(2, 4)], args=("$0", [2, 4]), weight="$1", bias="$2", eps=1e-2)
case("layer_norm", [tensor(3, 4)], args=("$0", [4]))
case("rms_norm", [tensor(3, 4), tensor(4)], args=("$0", [4]), weight="$1")
case("rms_norm", [tensor(3, 4)], args=("$0", [4]), eps=1e-2)

path = pathlib.Path(__file__).with_name("functional_nn.json")
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
