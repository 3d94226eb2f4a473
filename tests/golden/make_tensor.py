"""Writes tensor.json: what PyTorch answers in the corners of tensor semantics, for tensor_test.ts.

python3 tests/golden/make_tensor.py   (needs torch)

A case is [method, tensors, arguments, result, gradients]: tensor 0 is the object, "$k" in the arguments is tensor k,
a result of "error" means that PyTorch refuses. Gradients are those of sum(output * cos(1 + i)) for float32 tensors.
"""
import itertools
import json
import math
import pathlib
import re
import warnings

import torch

warnings.simplefilter("ignore")
nan, inf = math.nan, math.inf
cases = []


def number(v):
    if isinstance(v, (bool, int)):
        return int(v)
    return float(f"{v:.6g}") if math.isfinite(v) else {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(v)]


def text(x):
    """A tensor as [dtype, shape, elements]; lists and tuples of tensors as lists of these."""
    if isinstance(x, (tuple, list)):
        return [text(t) for t in x]
    return [str(x.dtype)[6:], list(x.shape), [number(v) for v in x.detach().flatten().tolist()]]


def snake(name):
    return re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), name)


def case(name, tensors, *args, f=None, **options):
    """Runs the method `name`; `None` as an argument is left out for torch where a dim may be."""
    leaves = [t.clone().requires_grad_(t.dtype == torch.float32) for t in tensors]
    fill = lambda v: leaves[int(v[1:])] if isinstance(v, str) and v.startswith("$") else v
    js = [*args, {re.sub(r"_(.)", lambda m: m[1].upper(), k): number(v) if isinstance(v, float) else v
                 for k, v in options.items()}] if options else list(args)
    grads = []
    try:
        y = (f or getattr(torch.Tensor, snake(name)))(leaves[0], *map(fill, args), **{k: fill(v) for k, v in options.items()})
        first = y[0] if isinstance(y, (tuple, list)) else y
        result = text(y)
        if first.requires_grad:
            w = torch.cos(1 + torch.arange(first.numel())).reshape(first.shape)
            wanted = [t for t in leaves if t.requires_grad]
            found = torch.autograd.grad((first * w).sum(), wanted, materialize_grads=True)
            grads = [text(g) for g in found]
    except (RuntimeError, IndexError, TypeError, ValueError):
        result = "error"
    cases.append([name, [text(t) for t in tensors], [number(a) if isinstance(a, float) else a for a in js], result, grads])


def tensor(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


def grid(*shape, dtype=torch.float32):
    n = math.prod(shape)
    return ((torch.arange(n) * 7 % 11 - 3).to(dtype) / (4 if dtype.is_floating_point else 1)).to(dtype).reshape(shape)


x, ints = grid(2, 3, 2), grid(2, 3, dtype=torch.int64)
empty, hollow, scalar = grid(0, 3), grid(2, 0, 3), tensor(2.5)
nans, ties = tensor([[1, nan, 3], [4, 2, -1.0]]), tensor([[1, 3, 3], [2, 2, 0], [0, 0, 0.0]])
bools, bytes_ = tensor([[True, False], [True, True]], torch.bool), tensor([[250, 10], [0, 3]], torch.uint8)

# Where torch's gradient of NaN is its own affair: float64 tensors take none here
blind = nans.double()

# Reductions: all dims, one, several, kept; without elements; of one element; NaN; integers
alls = ["sum", "mean", "prod", "amax", "amin", "var", "std", "norm", "any", "all"]
full = lambda name: lambda t, dim=None, **o: (
    getattr(t, name)(**o) if dim is None and not o.get("keepdim") and name not in ("amax", "amin", "norm", "var", "std")
    else functools_all(t, name, dim, o))


def functools_all(t, name, dim, o):
    """torch's reductions of all dims take the dims or nothing, each a little differently."""
    if name == "norm":
        return torch.linalg.vector_norm(t, dim=dim, **{"ord" if k == "p" else k: v for k, v in o.items()})
    if name == "prod" and dim is None:
        return t.prod().reshape([1] * t.ndim)
    if name == "prod" and not isinstance(dim, int):
        raise TypeError
    if dim is None and name in ("amax", "amin", "sum", "mean", "any", "all"):
        dim = tuple(range(t.ndim))
    return getattr(t, name)(dim=dim, **o)


for name in alls:
    for t in [x, ints, empty, hollow, scalar, bools, blind if name == "prod" else nans]:
        case(name, [t], None, f=full(name))
    case(name, [bytes_], None, f=full(name))
    for t, dim in [(x, 0), (x, -1), (x, 3), (scalar, 0), (scalar, 1), (empty, 0), (empty, 1), (hollow, 1), (hollow, 0),
                   (blind if name == "prod" else nans, 1), (ints, -2)]:
        case(name, [t], dim, f=full(name))
        case(name, [t], dim, f=full(name), keepdim=True)
    if name != "prod":
        for t, dims in [(x, [0, 2]), (x, [-1, 1]), (hollow, [1, 2]), (x, [0, 0]), (x, [0, -3])]:
            case(name, [t], dims, f=full(name), keepdim=True)
            case(name, [t], dims, f=full(name))
    case(name, [x], None, f=full(name), keepdim=True)
for name in ["var", "std"]:
    for correction in [0, 1, 2, 3, 0.5]:
        case(name, [grid(2, 3)], 1, correction=correction)
    case(name, [grid(2, 3)], 1, unbiased=False)
    case(name, [torch.full((2, 3), 2.0)], 1)
    case(name, [grid(3, 1)], 1)
for p in [0, 0.5, 1, 1.5, 2, 3, inf, -inf, -1]:
    for t in [tensor([[3, -4, 0.5], [1, 2, -2]]), torch.zeros(2, 2), nans if abs(p) < inf else blind]:
        if p < 0 and not t.any():
            continue  # the gradient at 0 of a negative power is of no use
        case("norm", [t], 1, f=lambda t, dim, p: torch.linalg.vector_norm(t, p, dim), p=p)
for name in ["argmax", "argmin"]:
    for t in [x, ties, nans, ints, scalar, empty, bytes_]:
        case(name, [t])
    for t, dim in [(x, 0), (ties, 1), (ties, -2), (nans, 0), (scalar, 0), (empty, 0), (empty, 1), (hollow, 0)]:
        case(name, [t], dim)
        case(name, [t], dim, keepdim=True)
    case(name, [ties], None, keepdim=True)
for name in ["max", "min"]:
    for t in [x, ties, blind, ints, scalar, empty, bools, bytes_]:
        case(name, [t])
    for t, dim in [(x, 0), (ties, 1), (ties, -2), (nans, 1), (scalar, 0), (empty, 0), (empty, 1), (hollow, 0), (bools, 0)]:
        case(name, [t], dim)
        case(name, [t], dim, keepdim=True)
for t, dim in [(x, 0), (x, 2), (tensor([[-inf, -inf], [inf, 1], [1000, 999], [nan, 0]]), 1), (ints, 1), (scalar, 0),
               (x, [0, 2]), (empty, 0), (empty, 1)]:
    case("logsumexp", [t], dim)
    case("logsumexp", [t], dim, keepdim=True)
for name in ["softmax", "logSoftmax"]:
    for t, dim in [(x, 0), (x, -1), (tensor([[-inf, -inf], [inf, 1], [1000, 999], [nan, 0], [-inf, 0]]), 1), (scalar, 0),
                   (empty, 0), (hollow, 1), (ints, 1), (x, 3)]:
        case(name, [t], dim)
for name in ["cumsum", "cumprod"]:
    for t, dim in [(x, 0), (x, 1), (x, -1), (ints, 1), (bools, 0), (bytes_, 1), (blind, 1), (scalar, 0), (empty, 0), (x, 3),
                   (tensor([[1, 0, 2, 3], [0, 2, 0, 4], [2, 3, 4, 5]]), 1)]:
        case(name, [t], dim)
for t in [tensor([[0, 2, 3], [0, 0, 2], [1, 2, 3]])]:
    case("prod", [t], 1)
    case("prod", [t], None, f=lambda t, _: t.prod())
for t, dim in itertools.product([ties, nans, ints, bools, scalar, tensor([2, -0.0, 0, nan, inf, -inf, nan])], [0, -1]):
    for descending in [False, True]:
        case("sort", [t], dim, f=lambda t, dim, descending: t.sort(dim=dim, descending=descending, stable=True),
             descending=descending)
        case("argsort", [t], dim, f=lambda t, dim, descending: t.argsort(dim=dim, descending=descending, stable=True),
             descending=descending)
case("sort", [empty], 0)
case("sort", [x], 3)
for t, k, dim in [(x, 2, 1), (x, 0, 0), (nans, 2, 1), (ints, 2, 0), (scalar, 1, 0), (x, 3, 0), (x, -1, 0), (x, 1, 3)]:
    case("topk", [t], k, dim)
    case("topk", [t], k, dim, largest=False)

# Elementwise at special values, and integer arithmetic
special = tensor([nan, inf, -inf, 0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3.75, -3.75, 100, -100, 1e30])
for name in ["neg", "abs", "sign", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "square", "reciprocal", "sin",
             "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sigmoid", "relu", "erf", "floor", "ceil",
             "round", "trunc", "isnan", "isinf", "logicalNot"]:
    t = special[:-1] if name in ("sin", "cos", "tan") else special
    case(name, [t])
    for t in [tensor([-7, 0, 3], torch.int32), tensor([0, 200, 3], torch.uint8), tensor([True, False], torch.bool)]:
        case(name, [t])
values = [nan, inf, -inf, 0, -0.0, 1, -1, 2.5, -2.5, 3]
left, right = (tensor(list(v)) for v in zip(*itertools.product(values, values)))
whole = [-7, -3, -2, -1, 1, 2, 3, 7]
wholes = [tensor(list(v), torch.int64) for v in zip(*itertools.product(whole, whole))]
for name in ["add", "sub", "mul", "div", "pow", "floorDivide", "remainder", "maximum", "minimum", "atan2", "eq", "ne", "lt",
             "le", "gt", "ge", "logicalAnd", "logicalOr", "logicalXor"]:
    floats = left.double() if name == "floorDivide" else left  # which torch refuses to differentiate
    case(name, [floats, right.to(floats.dtype)], "$1")
    if name != "pow":
        case(name, wholes, "$1")
    # torch's maximum, atan2 and logical functions take no numbers; here they take them as the others do.
    as_tensor = lambda t, v: getattr(torch, snake(name))(t, v if isinstance(v, torch.Tensor) else torch.tensor(v))
    for v in [2, 2.5, -2]:
        case(name, [ints], v, f=as_tensor if name in ("maximum", "minimum", "atan2") or "logical" in name else None)
    wide, column = (x.double(), grid(3, 1).double()) if name == "floorDivide" else (x, grid(3, 1))
    case(name, [wide, column], "$1")
    case(name, [x, grid(4)], "$1")
case("pow", [tensor([-2, 0, 3], torch.int64), tensor([3, 0, 41], torch.int64)], "$1")
case("pow", [tensor([[-2, 0, 3, 1.5]])], 0)
case("pow", [tensor([[-2, 0, 3, 1.5]])], 0.5)
case("pow", [tensor([[-2, 0, 3, 1.5]])], -1)
case("pow", [tensor([[-2, 0, 3, 1.5]])], 3)
for bounds in [(-1, 1), (0.5, 0.25), (None, 0), (0, None), (1, 1), (nan, 1)]:
    case("clamp", [special], *bounds)
    if bounds != (nan, 1):
        case("clamp", [ints], *bounds)
case("clamp", [x, grid(3, 1), grid(2)], "$1", "$2")
case("clamp", [x, grid(3, 1)], "$1", None)
case("clamp", [x], None, None)
case("lerp", [x, grid(3, 2)], "$1", 0.25)
case("lerp", [x, grid(3, 2), grid(2)], "$1", "$2")
case("where", [tensor([True, False, True], torch.bool), grid(2, 3), grid(3)], "$1", "$2", f=torch.where)
case("where", [tensor([True, False, True], torch.bool), grid(2, 3)], "$1", 0.5, f=torch.where)
case("where", [tensor([1, 0]), grid(2), grid(2)], "$1", "$2", f=torch.where)
case("maskedFill", [x, tensor([True, False], torch.bool)], "$1", 9)
case("maskedFill", [x, tensor([True, False], torch.bool)], "$1", nan)
case("to", [tensor([nan, inf, 0.5, -0.0, 0, -1])], "bool", f=lambda t, _: t.bool())
case("to", [tensor([2.7, -2.7, 0.5, -0.5, 100])], "int32", f=lambda t, _: t.int())
case("to", [tensor([2.7, -2.7, 0.5, -0.5, 2.0**40])], "int64", f=lambda t, _: t.long())
case("to", [tensor([300, -1, 256, 7], torch.int64)], "uint8", f=lambda t, _: t.byte())
case("to", [tensor([2**31, -1, 2**32 + 5], torch.int64)], "int32", f=lambda t, _: t.int())
case("to", [tensor([1 / 3, 65519, 65520, 1e-8, -inf, nan])], "float16", f=lambda t, _: t.half())
case("to", [tensor([1 / 3, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, nan])], "bfloat16", f=lambda t, _: t.bfloat16())
for a, b in [((3,), (3,)), ((3,), (4,)), ((2, 3), (3,)), ((2, 3), (2,)), ((2, 3), (3, 2)), ((2, 0), (0, 3)), ((0, 2), (2, 3)),
             ((2, 2, 3), (3, 2)), ((2, 1, 2, 3), (4, 3, 2)), ((2, 2, 3), (3, 3, 2)), ((), (3,))]:
    case("matmul", [grid(*a), grid(*b)], "$1")
    case("matmul", [grid(*a, dtype=torch.int64), grid(*b, dtype=torch.int64)], "$1")

# Activations at special values; where torch's vector and scalar code differ (NaN in elu, gelu of infinity) in float64
activations = torch.nn.functional
for name in ["selu", "silu", "mish", "gelu", "softplus", "leakyRelu", "elu"]:
    f = getattr(activations, snake(name))
    t = special if name in ("silu", "mish", "softplus", "leakyRelu") else special.double()
    case(name, [t], f=f)
case("gelu", [special], approximate="tanh", f=activations.gelu)
case("leakyRelu", [special], 0.2, f=activations.leaky_relu)
case("elu", [x], 0.3, f=activations.elu)
case("elu", [x], alpha=0.3, f=activations.elu)
case("softplus", [x], 2.5, 3, f=activations.softplus)
case("softplus", [x], beta=2.5, threshold=3, f=activations.softplus)

# Options of elementwise functions, and numbers that the dtype cannot hold
for other in [ints, x]:
    case("add", [other, other], "$1", alpha=2)
    case("sub", [other, other], "$1", alpha=-3)
    case("add", [other], 2, alpha=2)
    case("add", [other, other], "$1", alpha=0.5)
for mode in ["trunc", "floor", "round"]:
    case("div", [left.double(), right.double()], "$1", rounding_mode=mode)
    case("div", wholes, "$1", rounding_mode=mode)
    case("div", [ints], -2, rounding_mode=mode)
case("div", [tensor([7, 200], torch.uint8)], 3, rounding_mode="trunc")
for decimals in [2, 0, -1]:
    case("round", [tensor([1.005, -2.675, 0.125, 25, -35, 1234.5678])], decimals=decimals)
for a, b in [(bools, ints), (ints, bools[0, 0]), (bools, bools), (x, bools[0, 0])]:
    case("sub", [a, b], "$1")
    case("sub_", [a.clone(), b], "$1")
case("pow", [bytes_], -1)
for name, v in itertools.product(["eq", "ne", "lt", "le", "gt", "ge"], [-1, 256, 300]):
    case(name, [tensor([0, 255, 44, 1], torch.uint8)], v)
case("lt", [tensor([-(2**31), 5], torch.int32)], 2**40)
for dtype in [torch.int32, torch.int64, torch.uint8]:
    case("maskedFill", [ints.abs().to(dtype), tensor([True, False, True], torch.bool)], "$1", 2.5)
    case("clamp_", [ints.abs().to(dtype)], 1, None)
    case("clamp_", [ints.abs().to(dtype)], None, 1)
    case("clamp_", [ints.abs().to(dtype), tensor([1, 2, 0]).to(dtype)], "$1", None)
    case("clamp_", [ints.abs().to(dtype)], 0.5, None)
case("maskedFill", [bools, tensor([True, False], torch.bool)], "$1", 0)
case("maskedFill", [ints, tensor([True, False, True], torch.bool), tensor(2.0)], "$1", "$2",
     f=lambda t, m, v: t.masked_fill(m, int(v)))
for dtype in [torch.float16, torch.bfloat16]:  # computed in float32, rounded once
    for name in ["add_", "sub_", "mul_", "div_"]:
        case(name, [grid(2, 3).to(dtype), (grid(3) + 1.001).double()], "$1")
    case("norm", [tensor([[100, 50, -60], [1, 2, 3.0]]).to(dtype)], 1, f=lambda t, dim, p: torch.linalg.vector_norm(t, p, dim),
         p=3)
    case("std", [grid(2, 3).to(dtype)], 1)
for weight in [0, 1, 0.5, 0.75, 2, -1]:
    case("lerp", [tensor([1e8, -inf, inf, 1, 2]), tensor([1, 2, 3, inf, -1.0])], "$1", weight)

# Shares of the gradient: NaNs in max and min of all elements, NaNs and open ends in clamp with tensors
for name in ["max", "min"]:
    case(name, [nans])
    case(name, [tensor([[nan, 2], [nan, 1]])])
    case(name, [ties])
bounded = tensor([nan, 1, 2, nan, nan, inf, -inf, 3])
low, high = tensor([0, nan, 2, nan, 0, 0, 0, 4.0]), tensor([5, 5, 5, 5, nan, 5, 5, 2.0])
case("clamp", [bounded, low, high], "$1", "$2")
case("clamp", [bounded, low], "$1", None)
case("clamp", [bounded, high], None, "$1")

# Reductions of no dims, without elements, in another dtype
for name in ["any", "all"]:
    for t in [x, ints, empty, bools, bytes_, nans]:
        case(name, [t], [], f=lambda t, d: getattr(t, name)(dim=()))
        case(name, [t], [], f=lambda t, d, keepdim: getattr(t, name)(dim=(), keepdim=keepdim), keepdim=True)
for p in [-1, -2, inf]:
    case("norm", [empty], 0, f=lambda t, dim, p: torch.linalg.vector_norm(t, p, dim), p=p)
case("norm", [x], 1, f=lambda t, dim, p: torch.linalg.vector_norm(t, 2, dim), p="fro")
retyped = lambda name: lambda t, *a, dtype: getattr(t, snake(name))(*a, dtype=getattr(torch, dtype))
for name in ["sum", "mean", "prod", "cumsum", "cumprod", "softmax", "logSoftmax"]:
    for t in [ints, x[:, :, 0], bools, bytes_]:
        for dtype in ["float64", "float32", "int32"]:
            if dtype != "int32" or "oftmax" not in name:
                case(name, [t], 1, f=retyped(name), dtype=dtype)
case("norm", [ints], 1, f=lambda t, dim, dtype: torch.linalg.vector_norm(t, 2, dim, dtype=getattr(torch, dtype)),
     dtype="float64")

# Integers in 0-d tensors index as numbers do; reflections see what is cut off
block = grid(3, 4, 5)
zero_d, row = tensor(-2, torch.int64), tensor([-5, 2], torch.int64)
case("get", [block, zero_d, row], "$1", None, "$2", f=lambda t, i, _, j: t[i, :, j])
case("get", [block, zero_d], "$1", f=lambda t, i: t[i])
case("get", [block, zero_d, row], None, "$1", "$2", f=lambda t, _, i, j: t[:, i, j])
for mode, sizes in [("reflect", [-1, 2]), ("reflect", [2, -1]), ("replicate", [-4, 3]), ("circular", [2, -1]),
                    ("constant", [-1, 2])]:
    case("pad", [grid(1, 2, 3)], sizes, f=torch.nn.functional.pad, mode=mode)

# Result dtypes of all pairs: with dims, with 0-d, with an integer and a fractional number; in place; "error" where refused
dtypes = ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "bool"]
operations = ["add", "mul", "div", "pow", "floorDivide", "remainder", "maximum", "lt", "logicalAnd", "atan2", "add_",
              "mul_", "div_", "copy_"]
promotion = {}
for name in operations:
    rows = promotion[name] = {}
    for a, b in itertools.product(dtypes, [*dtypes, "0-d", "number"]):
        others = [torch.ones((), dtype=getattr(torch, d)) for d in dtypes] if b == "0-d" else (
            [2, 2.5] if b == "number" else [torch.ones(2, dtype=getattr(torch, b))])
        found = []
        for other in others:
            if name == "copy_" and b == "number":
                continue
            try:
                left = torch.ones(2, dtype=getattr(torch, a))
                y = (torch.maximum(left, torch.tensor(other)) if name == "maximum" and b == "number" else
                     torch.atan2(left, torch.tensor(other)) if name == "atan2" and b == "number" else
                     torch.logical_and(left, torch.tensor(other)) if name == "logicalAnd" and b == "number" else
                     getattr(left, snake(name))(other))
                found.append(str(y.dtype)[6:])
            except RuntimeError:
                found.append("error")
        rows[f"{a} {b}"] = " ".join(found)

path = pathlib.Path(__file__).with_name("tensor.json")
lines = [json.dumps(c, separators=(",", ":")) for c in cases]
path.write_text('{"cases":[\n' + ",\n".join(lines) + '\n],\n"promotion":' + json.dumps(promotion, indent=0) + "}\n")
