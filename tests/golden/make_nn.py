"""Writes nn.json: what torch.nn's modules and losses answer, with all gradients, for nn_test.ts and functional_test.ts.

python3 tests/golden/make_nn.py   (needs torch)

Inputs and parameters are not stored: both sides make them from a shape, a seed and a kind. Results are computed in
float64 and kept to 6 digits. Gradients are those of sum(output * cos(1 + i)), i counting the output's elements.
"""
import json
import math
import pathlib

import torch
from torch import nn

cases = []


def floats(shape, seed, kind="wide"):
    """Numbers that float32 holds exactly; the same as in nn_test.ts."""
    n = math.prod(shape)
    k = torch.tensor([(i * 7919 + seed * 5557) % 199 - 99 for i in range(n)], dtype=torch.float64)
    return {"wide": k / 64, "positive": k.abs() / 64 + 0.5, "unit": (k + 100) / 256}[kind].reshape(shape)


def spec(*shape, seed=1, kind="wide"):
    return {"shape": list(shape), "seed": seed, "kind": kind}


def given(values, shape=None, dtype="float32", grad=True):
    return {"values": values, "shape": [len(values)] if shape is None else list(shape), "dtype": dtype, "grad": grad}


def number(v):
    return str(v).replace("inf", "Infinity").replace("nan", "NaN") if not math.isfinite(v) else float(f"{v:.6g}")


def flat(t):
    return {"shape": list(t.shape), "values": [number(v) for v in t.detach().flatten().tolist()]}


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(w.capitalize() for w in rest)


def make(v):
    """The tensor or module that a description stands for; everything else as it is."""
    if isinstance(v, list):
        return tuple(map(make, v)) if all(isinstance(x, int) for x in v) else [make(x) for x in v]
    if not isinstance(v, dict):
        return v
    if "module" in v:
        return getattr(nn, v["module"])(*map(make, v["args"]), **{k: make(x) for k, x in v["options"].items()})
    if "values" in v:
        dtype = torch.float64 if v["dtype"] == "float32" else getattr(torch, v["dtype"])
        return torch.tensor([float(x) if isinstance(x, str) else x for x in v["values"]], dtype=dtype).reshape(v["shape"])
    return floats(v["shape"], v["seed"], v["kind"])


def of(module, *args, **options):
    return {"module": module, "args": list(args), "options": options}


def renamed(v):
    """A description with options under their camelCase names, as the library has them."""
    if isinstance(v, dict) and "module" in v:
        options = {camel(k): renamed(x) for k, x in v["options"].items()}
        return {"module": v["module"], "args": [renamed(x) for x in v["args"]], "options": options}
    return [renamed(x) for x in v] if isinstance(v, list) else v


def case(module, inputs, training=True, steps=1):
    torch.manual_seed(0)
    m = make(module).double().train(training)
    state = {}
    for k, (name, t) in enumerate(m.state_dict().items()):
        if t.dtype == torch.int64:
            state[name] = given([3], [], "int64")
        elif name in module["options"]:  # a loss's weights: what it was made with
            state[name] = module["options"][name]
        else:
            kind = "positive" if name.endswith("running_var") else "wide"
            state[name] = spec(*t.shape, seed=100 + 7 * k, kind=kind)
    m.load_state_dict({k: make(v) for k, v in state.items()})
    tensors = [make(x) for x in inputs]
    leaves = [t for t, v in zip(tensors, inputs) if t.is_floating_point() and v.get("grad", True)]
    for t in leaves:
        t.requires_grad_()
    for _ in range(steps):
        y = m(*tensors)
    w = torch.cos(1 + torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape)
    parameters = list(m.parameters())
    grads = torch.autograd.grad((y * w).sum(), leaves + parameters, allow_unused=True)
    cases.append({
        **renamed(module), "training": training, "steps": steps, "state": state, "inputs": inputs,
        "parameters": [name for name, _ in m.named_parameters()],
        "output": flat(y),
        "grads": [None if g is None else flat(g) for g in grads],
        "buffers": {name: flat(b) for name, b in m.named_buffers()},
    })


# Layers
x = spec(2, 3, 6, 5)
case(of("Linear", 4, 5), [spec(2, 3, 4)])
case(of("Linear", 4, 3, bias=False), [spec(4)])
case(of("Bilinear", 3, 4, 2), [spec(5, 3), spec(5, 4, seed=2)])
case(of("Bilinear", 2, 3, 4, bias=False), [spec(2, 3, 2), spec(2, 3, 3, seed=2)])
case(of("Conv2d", 3, 4, 3), [x])
case(of("Conv2d", 3, 4, 3, padding="same"), [x])
case(of("Conv2d", 3, 2, [2, 4], padding="same", dilation=[1, 2], bias=False), [spec(1, 3, 5, 7)])
case(of("Conv2d", 3, 4, 2, padding="valid", stride=[1, 2]), [x])
case(of("Conv2d", 4, 6, 3, stride=2, padding=[2, 1], groups=2), [spec(2, 4, 7, 5)])
case(of("Conv2d", 4, 8, 3, padding=1, groups=4), [spec(1, 4, 4, 4)])
case(of("Conv2d", 2, 3, 3, dilation=2, padding=2, stride=2), [spec(2, 2, 6, 7)])
case(of("Conv2d", 3, 5, 1), [x])
case(of("Conv2d", 3, 2, 3), [spec(3, 5, 4)])
case(of("Conv1d", 3, 4, 3, stride=2, padding=1), [spec(2, 3, 7)])
case(of("Conv1d", 4, 2, 4, padding="same", groups=2, dilation=2), [spec(2, 4, 9)])
case(of("ConvTranspose2d", 3, 4, 3), [spec(2, 3, 4, 3)])
case(of("ConvTranspose2d", 4, 2, [3, 2], stride=2, padding=1, output_padding=1, groups=2), [spec(2, 4, 3, 4)])
case(of("ConvTranspose2d", 2, 3, 3, stride=[3, 2], output_padding=[2, 0], dilation=2, bias=False), [spec(1, 2, 3, 3)])
for options in [{}, {"stride": 1, "padding": 1}, {"stride": 2, "ceil_mode": True}, {"dilation": 2, "stride": 1}]:
    case(of("MaxPool2d", 3, **options), [spec(2, 2, 7, 6)])
case(of("MaxPool2d", [2, 3]), [spec(3, 5, 6)])
for options in [{}, {"stride": 2, "padding": 1}, {"stride": 2, "padding": 1, "count_include_pad": False},
                {"stride": 2, "padding": 1, "ceil_mode": True}, {"divisor_override": 5}]:
    case(of("AvgPool2d", 3, **options), [spec(2, 2, 7, 6)])
for size in [1, [3, 2], [None, 4], 9]:
    case(of("AdaptiveAvgPool2d", size), [spec(2, 2, 7, 6)])

for mode in ["reflect", "replicate", "circular"]:
    case(of("Conv2d", 2, 3, [2, 3], padding=[1, 2], padding_mode=mode), [spec(2, 2, 5, 4)])
    case(of("Conv1d", 2, 4, 4, padding="same", dilation=2, groups=2, padding_mode=mode), [spec(2, 2, 7)])
case(of("Conv2d", 2, 3, 3, stride=2, padding=1, padding_mode="circular", bias=False), [spec(2, 5, 4)])

# Norms
for name, input in [("BatchNorm1d", spec(5, 3)), ("BatchNorm1d", spec(3, 3, 4)), ("BatchNorm2d", spec(3, 3, 4, 2))]:
    for training in [True, False]:
        case(of(name, 3), [input], training, steps=2 if training else 1)
        case(of(name, 3, momentum=None, eps=1e-3), [input], training, steps=2 if training else 1)
    case(of(name, 3, affine=False, momentum=0.5), [input])
    case(of(name, 3, track_running_stats=False), [input], training=False)
    case(of(name, 3, bias=False), [input])
case(of("LayerNorm", 5), [spec(3, 4, 5)])
case(of("LayerNorm", [4, 5], eps=0.1, bias=False), [spec(3, 4, 5)])
case(of("LayerNorm", 5, elementwise_affine=False), [spec(3, 5)])
case(of("GroupNorm", 2, 4), [spec(3, 4, 3, 2)])
case(of("GroupNorm", 4, 4, eps=0.1), [spec(3, 4, 5)])
case(of("GroupNorm", 1, 4, affine=False), [spec(3, 4)])
case(of("GroupNorm", 2, 4, bias=False), [spec(3, 4)])
case(of("RMSNorm", 5), [spec(3, 4, 5)])
case(of("RMSNorm", [4, 5], eps=0.1), [spec(3, 4, 5)])
case(of("RMSNorm", 5, elementwise_affine=False), [spec(3, 5)])

# Lookup, dropout out of training, containers
index = given([0, 5, 2, 2, 1, 0], [2, 3], "int64")
case(of("Embedding", 6, 3), [index])
case(of("Embedding", 6, 3, padding_idx=2), [index])
case(of("Embedding", 6, 3, padding_idx=-6), [index])
case(of("Embedding", 6, 3, max_norm=1.0), [index])
case(of("Embedding", 6, 3, max_norm=0.5, norm_type=1.0), [index])
case(of("Embedding", 6, 3, scale_grad_by_freq=True), [index])
case(of("Embedding", 6, 3, padding_idx=2, scale_grad_by_freq=True), [index])
case(of("Dropout", 0.5), [spec(3, 4)], training=False)
case(of("Dropout", 0.0), [spec(3, 4)])
case(of("Dropout", 1.0), [spec(3, 4)])
case(of("Identity"), [spec(3, 4)])
case(of("Flatten"), [spec(2, 3, 4)])
case(of("Flatten", 0, 1), [spec(2, 3, 4)])
net = of("Sequential", of("Conv2d", 2, 4, 3, padding=1, bias=False), of("BatchNorm2d", 4), of("ReLU"),
         of("MaxPool2d", 2), of("Sequential", of("Flatten"), of("Linear", 16, 3)), of("LogSoftmax", 1))
case(net, [spec(3, 2, 4, 4)], steps=2)
case(net, [spec(3, 2, 4, 4)], training=False)

# Activations: a plain grid, and special values.
special = given(["NaN", "Infinity", "-Infinity", 0, -0.0, 1, -1, 30, -30, 88, -88, 100, -100, 1e-4, -1e-4, 19.5, 20.5])
for act in [of("ReLU"), of("LeakyReLU"), of("LeakyReLU", 0.2), of("ELU"), of("ELU", 0.5), of("SELU"), of("GELU"),
            of("GELU", approximate="tanh"), of("SiLU"), of("Mish"), of("Softplus"), of("Softplus", 2.5, 3.0),
            of("Sigmoid"), of("Tanh"), of("Softmax", 1), of("LogSoftmax", 1)]:
    case(act, [spec(4, 7)])
    if "oft" not in act["module"][:4] and act["module"] != "LogSoftmax":
        case(act, [special])
case(of("Softplus"), [special])
case(of("Softmax", -1), [given([1000, 999, -1000, "-Infinity", 0, 1], [2, 3])])
case(of("Softmax", 0), [spec(3, 1, 2)])
for shape in [(), (4,), (2, 3), (2, 3, 4), (2, 3, 2, 2)]:  # torch's implicit dim
    case(of("Softmax"), [spec(*shape)])
    case(of("LogSoftmax"), [spec(*shape)])
case(of("LogSoftmax", -1), [given([1000, 999, -1000, "-Infinity", 0, 1], [2, 3])])

# Losses
logits, classes = spec(5, 4), given([1, 3, 0, 2, 3], None, "int64")
image, labels = spec(2, 3, 2, 2), given([0, 2, 1, 1, 2, 0, 0, 1], [2, 2, 2], "int64")
ignored = given([1, -100, 0, 2, -100], None, "int64")
weight = spec(4, seed=9, kind="positive")
for reduction in ["mean", "sum", "none"]:
    case(of("CrossEntropyLoss", reduction=reduction), [logits, classes])
    case(of("CrossEntropyLoss", reduction=reduction, weight=weight, label_smoothing=0.1), [logits, ignored])
    case(of("CrossEntropyLoss", reduction=reduction, ignore_index=1), [image, labels])
    case(of("CrossEntropyLoss", reduction=reduction, weight=weight, label_smoothing=0.2),
         [logits, spec(5, 4, seed=2, kind="unit")])
    case(of("CrossEntropyLoss", reduction=reduction), [image, spec(2, 3, 2, 2, seed=2, kind="unit")])
    case(of("NLLLoss", reduction=reduction), [logits, classes])
    case(of("NLLLoss", reduction=reduction, weight=weight, ignore_index=3), [logits, classes])
    case(of("NLLLoss", reduction=reduction), [image, labels])
    pair = [spec(3, 4), spec(3, 4, seed=2)]
    case(of("MSELoss", reduction=reduction), pair)
    case(of("L1Loss", reduction=reduction), pair)
    case(of("SmoothL1Loss", reduction=reduction), pair)
    case(of("SmoothL1Loss", reduction=reduction, beta=0.5), pair)
    case(of("HuberLoss", reduction=reduction), pair)
    case(of("HuberLoss", reduction=reduction, delta=0.5), pair)
    target = given([0, 1, 1, 0, 0.25, 0.5, 1, 0.75, 0, 0, 1, 1], [3, 4])
    case(of("BCELoss", reduction=reduction), [spec(3, 4, kind="unit"), target])
    case(of("BCELoss", reduction=reduction, weight=weight), [spec(3, 4, kind="unit"), target])
    case(of("BCEWithLogitsLoss", reduction=reduction), [spec(3, 4), target])
    case(of("BCEWithLogitsLoss", reduction=reduction, weight=weight, pos_weight=spec(4, seed=5, kind="positive")),
         [spec(3, 4), target])
    case(of("KLDivLoss", reduction=reduction), [spec(3, 4), spec(3, 4, seed=2, kind="unit")])
    case(of("KLDivLoss", reduction=reduction, log_target=True), pair)
case(of("KLDivLoss", reduction="batchmean"), [spec(3, 4), given([0, 0, 1, 0] * 3, [3, 4], grad=False)])
case(of("KLDivLoss", reduction="batchmean", log_target=True), pair)
case(of("CrossEntropyLoss"), [spec(4), given([2], [], "int64")])
case(of("CrossEntropyLoss", label_smoothing=1.0), [logits, classes])
case(of("CrossEntropyLoss"), [logits, given([-100] * 5, None, "int64")])
case(of("CrossEntropyLoss", reduction="sum"), [logits, given([-100] * 5, None, "int64")])
case(of("CrossEntropyLoss", weight=weight), [spec(4), spec(4, seed=2, kind="unit")])
case(of("CrossEntropyLoss"), [given([1000, 0, -1000, 3], [2, 2]), given([1, 0], None, "int64")])
case(of("NLLLoss"), [spec(4), given([2], [], "int64")])
case(of("BCELoss"), [given([0, 1, 0, 1]), given([0, 0, 1, 1])])
case(of("BCEWithLogitsLoss"), [given([-200, 200, 0, 90]), given([1, 0, 1, 1])])
case(of("MSELoss"), [spec(1), spec(1, seed=2)])
case(of("SmoothL1Loss", beta=0.0), pair)
case(of("L1Loss", reduction="none"), [given([1, 2, 3]), given([1, 3, 2])])
case(of("HuberLoss", reduction="none"), [given([1, 2, 3]), given([0, 3, 3])])
far = [given(["Infinity", "-Infinity", 1e30, 0.5, -2, "NaN"]), given([1, 2, 3, "Infinity", -2, 0])]
case(of("HuberLoss", reduction="none", delta=0.5), far)
case(of("SmoothL1Loss", reduction="none", beta=0.5), far)

# Initial parameters: name, shape, and the bounds or standard deviation that torch draws them with
initial = []
for module in [of("Linear", 60, 80), of("Bilinear", 20, 15, 30), of("Conv1d", 16, 32, 5), of("Conv2d", 16, 32, 3),
               of("Conv2d", 16, 32, 3, groups=4), of("ConvTranspose2d", 16, 32, 3), of("Embedding", 100, 50),
               of("ConvTranspose2d", 32, 16, [3, 5], groups=2), of("BatchNorm2d", 7), of("LayerNorm", [3, 4]),
               of("GroupNorm", 2, 4), of("RMSNorm", 5), of("RNN", 20, 64), of("LSTM", 20, 64), of("GRU", 20, 64),
               of("LSTMCell", 20, 64), of("MultiheadAttention", 64, 4),
               of("TransformerEncoderLayer", 32, 4, dim_feedforward=64)]:
    values = {}
    for seed in range(20):
        torch.manual_seed(seed)
        for name, p in make(module).named_parameters():
            values.setdefault(name, []).append(p.detach().flatten())
    shapes = {name: list(p.shape) for name, p in make(module).named_parameters()}
    initial.append({**renamed(module), "parameters": {
        name: {"shape": shapes[name], "std": number(torch.cat(v).std(correction=0).item()),
               "max": number(torch.cat(v).abs().max().item())} for name, v in values.items()}})

# nn.init on a weight of 48 by 32 by 3 by 3: standard deviation and largest element
inits = {}
for name, args, options in [
        ("uniform_", [-2.0, 3.0], {}), ("normal_", [1.0, 2.0], {}), ("trunc_normal_", [], {}), ("constant_", [1.5], {}),
        ("trunc_normal_", [1.0, 0.5, 0.0, 3.0], {}), ("xavier_uniform_", [], {}), ("xavier_uniform_", [2.0], {}),
        ("xavier_normal_", [], {}), ("kaiming_uniform_", [], {}), ("kaiming_normal_", [], {}), ("orthogonal_", [], {}),
        ("kaiming_normal_", [], {"mode": "fan_out", "nonlinearity": "relu"}), ("ones_", [], {}), ("zeros_", [], {}),
        ("kaiming_uniform_", [], {"a": 2.0}), ("kaiming_uniform_", [], {"nonlinearity": "tanh"})]:
    t = torch.empty(48, 32, 3, 3)
    getattr(nn.init, name)(t, *args, **options)
    key = json.dumps([camel(name[:-1]) + "_", args, {k: camel(v) if isinstance(v, str) else v for k, v in options.items()}])
    inits[key] = {"mean": number(t.mean().item()), "std": number(t.std().item()), "max": number(t.abs().max().item())}

# nn.utils on three gradients
clips = []
for name, value, options in [("clip_grad_norm_", 1.0, {}), ("clip_grad_norm_", 100.0, {}), ("clip_grad_value_", 0.5, {}),
                             ("clip_grad_norm_", 1.0, {"norm_type": 1.0}), ("clip_grad_norm_", 0.0, {}),
                             ("clip_grad_norm_", 0.5, {"norm_type": math.inf}), ("clip_grad_norm_", 1, {"norm_type": 3.0})]:
    parameters = [torch.zeros(s, dtype=torch.float64).requires_grad_() for s in [(3, 4), (5,), ()]]
    for k, p in enumerate(parameters):
        p.grad = floats(p.shape, k)
    parameters.append(torch.zeros(2, requires_grad=True))
    total = getattr(nn.utils, name)(parameters, value, **options)
    clips.append({"name": camel(name[:-1]) + "_", "value": value,
                  "options": {camel(k): number(v) for k, v in options.items()},
                  "total": None if total is None else number(total.item()),
                  "grads": [flat(p.grad) for p in parameters[:3]]})

path = pathlib.Path(__file__).with_name("nn.json")
lines = [json.dumps(c, separators=(",", ":")) for c in cases]
rest = json.dumps({"initial": initial, "inits": inits, "clips": clips}, separators=(",", ":"))
path.write_text('{"cases":[\n' + ",\n".join(lines) + "\n],\n" + rest[1:] + "\n")
