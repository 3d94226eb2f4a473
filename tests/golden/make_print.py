"""Writes print.json: tensors and what PyTorch prints of them, for print_test.ts.

python3 tests/golden/make_print.py   (needs torch)

The texts are PyTorch's but for names: float64 for torch.float64, true for True, requiresGrad for requires_grad.
"""
import json
import math
import pathlib
import random
import re

import torch

nan, inf = math.nan, math.inf
draw = random.Random(5)
cases = []


def number(v):
    if isinstance(v, (bool, int)):
        return int(v)
    if v == 0 and math.copysign(1, v) < 0:
        return "-0"
    return v if math.isfinite(v) else {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(v)]


def case(t, grad=False, divisor=None):
    """With a divisor the elements are (37 i mod 1009 - 500) / divisor, and not stored."""
    t.requires_grad_(grad)
    text = str(t).replace("torch.", "").replace("True", "true").replace("False", "false")
    text = text.replace("requires_grad", "requiresGrad")
    text = re.sub(r"size=\(([^)]*?),?\)", r"size=[\1]", text)
    cases.append({"dtype": str(t.dtype)[6:], "shape": list(t.shape), "grad": grad,
                  **({"divisor": divisor} if divisor else {"values": [number(v) for v in t.detach().flatten().tolist()]}),
                  "text": text})


def tensor(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


def random_tensor(shape, dtype, f):
    return tensor([f() for _ in range(math.prod(shape))], dtype).reshape(shape)


for values in [1.0, -2.5, nan, inf, 0.0, -0.0, 1e-5, 123456789.0, 1e8, 99999.5]:
    case(tensor(values))
    case(tensor([values, 1.0]))
case(tensor([0.125, 0.0625, 0.00005, 0.515625]))  # ties round to even
case(tensor([0.515625, 1e-4], torch.bfloat16))
case(tensor([-0.0, 0, 1]))
case(tensor([nan, inf, -inf]))
case(tensor([nan, 1, -2]))
case(tensor([nan, 1.5, -inf]))
case(tensor([nan, 1e9, -inf]))
case(tensor([1, 1001.0]))
case(tensor([0.5, 1000.0]))
for dtype in [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8, torch.bool]:
    case(tensor([0, 1, 2], dtype))
    case(tensor(1, dtype))
    case(torch.zeros((0,), dtype=dtype))
    case(torch.zeros((2, 0, 3), dtype=dtype))
case(torch.zeros((0,)))
case(torch.zeros((0, 3)))
case(tensor([[True, False], [False, False]], torch.bool))
case(tensor([[-100, 5], [30, 1]], torch.int32))
case(tensor([2**62, -1], torch.int64))
for shape in [(3, 4), (2, 2, 3), (1, 17), (30,), (2, 1, 1, 3), (12,), (3, 9)]:
    for dtype in [torch.float32, torch.float64, torch.bfloat16]:
        case(random_tensor(shape, dtype, lambda: draw.gauss(0, 1)))
        case(random_tensor(shape, dtype, lambda: float(draw.randint(-5, 2000))))
        case(random_tensor(shape, dtype, lambda: draw.gauss(0, 1) * 10.0 ** draw.randint(-6, 6)))
    case(random_tensor(shape, torch.int32, lambda: draw.randint(-3, 200)))
case(random_tensor((3, 4), torch.float32, lambda: draw.gauss(0, 1)), True)
case(random_tensor((13,), torch.float64, lambda: draw.gauss(0, 1e-5)), True)
case(random_tensor((12,), torch.float32, lambda: draw.gauss(0, 1)), True)
for shape in [(1001,), (11, 10, 10), (3, 400), (1000,), (2, 600, 1), (5, 5, 5, 9)]:
    grid = (torch.arange(math.prod(shape)) * 37 % 1009 - 500).reshape(shape)
    case(grid.float() / 8, divisor=8)
    case(grid, divisor=1)

path = pathlib.Path(__file__).with_name("print.json")
path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
