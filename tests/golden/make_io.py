"""Writes io/: files of NumPy, safetensors and PyTorch, and io/expected.json with their contents.

python3 tests/golden/make_io.py   (needs numpy, safetensors and torch; then deno fmt)
"""

import collections
import copy
import json
import os

import numpy as np
import safetensors.torch
import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "io")
os.makedirs(OUT, exist_ok=True)
expected = {}


def path(name):
    return os.path.join(OUT, name)


def describe(value):
    """Tensors and arrays as dtype, shape and hex of their bytes in C order; containers as JSON."""
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"))
        return {"dtype": str(value.dtype.newbyteorder("=")), "shape": list(value.shape), "hex": little.tobytes().hex()}
    if isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().reshape(-1)
        return {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "hex": flat.view(torch.uint8).numpy().tobytes().hex(),
        }
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value).removeprefix("torch.")
    return value


tensors = {
    "float32": torch.tensor([[1.5, -0.0, float("inf")], [float("nan"), 1e-45, 3.4e38]]),
    "float64": torch.tensor([0.1, -1e300], dtype=torch.float64),
    "float16": torch.tensor([1.0, 65504.0, 6e-8], dtype=torch.float16),
    "bfloat16": torch.tensor([1.0, 3.0e38, -0.1], dtype=torch.bfloat16),
    "int32": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
    "int64": torch.tensor([-(2**63), 2**53 + 1], dtype=torch.int64),
    "uint8": torch.tensor([0, 255, 7], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(2, 0, 3),
    "größe": torch.arange(2.0),
}
safetensors.torch.save_file(tensors, path("all.safetensors"), metadata={"format": "pt", "é": "ü"})
expected["all.safetensors"] = describe(tensors)

arrays = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3) / 3,
    "float64": np.array([np.pi, -np.inf]),
    "float16": np.array([0.1, 65504], dtype=np.float16),
    "int32": np.array([[-1], [2]], dtype=np.int32),
    "int64": np.array([2**62 + 1, -5], dtype=np.int64),
    "uint8": np.array([1, 2, 255], dtype=np.uint8),
    "bool": np.array([True, False]),
    "scalar": np.array(3.5),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "fortran": np.asfortranarray(np.arange(24, dtype=np.int32).reshape(2, 3, 4)),
    "big_endian": np.array([[1.5, -2.0]], dtype=">f8"),
}
np.savez(path("stored.npz"), **arrays)
np.savez_compressed(path("deflated.npz"), **arrays)
expected["stored.npz"] = expected["deflated.npz"] = describe(arrays)
for name in ["float32", "fortran", "big_endian", "scalar"]:
    np.save(path(f"{name}.npy"), arrays[name])
    expected[f"{name}.npy"] = describe(arrays[name])
with open(path("version2.npy"), "wb") as f:
    np.lib.format.write_array(f, arrays["int64"], version=(2, 0))
expected["version2.npy"] = describe(arrays["int64"])
np.save(path("int16.npy"), np.arange(3, dtype=np.int16))
np.save(path("structured.npy"), np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
np.save(path("object.npy"), np.array([{}], dtype=object), allow_pickle=True)

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
torch.save(model.state_dict(), path("model.pt"))
expected["model.pt"] = describe(model.state_dict())
del tensors["größe"]
base = torch.arange(12, dtype=torch.int64)
tensors |= {
    "base": base,
    "transposed": base.view(3, 4).t(),
    "window": base.view(3, 4)[1:, ::2],
    "expanded": torch.ones(1, 2).expand(3, 2),
    "parameter": torch.nn.Parameter(torch.tensor([1.0, 2.0])),
}
torch.save(tensors, path("tensors.pt"))
expected["tensors.pt"] = describe(tensors)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
model(torch.ones(3, 2)).sum().backward()
optimizer.step()
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
nested = {
    "optimizer": optimizer.state_dict(),
    "milestones": scheduler.state_dict()["milestones"],
    "epoch": 3,
    "best": float("inf"),
    "big": 2**70,
    "negative": -(2**40),
    "small": -1,
    "long": 70000,
    "name": "größe",
    "none": None,
    "flags": [True, False],
    "shape": torch.Size([2, 3]),
    "tuple": (1, (2.5, "x"), [], {}, ()),
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "ordered": collections.OrderedDict([("__proto__", 1), ("constructor", 2)]),
}
torch.save(nested, path("nested.pt"))
nested["best"] = "inf"
nested["big"] = str(2**70)
expected["nested.pt"] = describe(nested)

# Optimisers and schedules after three steps, and what the fourth step makes of them
lrs = torch.optim.lr_scheduler
runs = {}
for name, options in [("SGD", {"lr": 0.1, "momentum": 0.9}), ("SGD", {"lr": 0.1}), ("Adam", {"amsgrad": True}),
                      ("AdamW", {"lr": 0.01, "betas": (0.8, 0.9)}), ("Adagrad", {"lr_decay": 0.1}),
                      ("RMSprop", {"momentum": 0.9, "centered": True})]:
    params = [torch.tensor([1.0, -2.0]).requires_grad_(), torch.tensor([[0.5]]).requires_grad_()]
    optimizer = getattr(torch.optim, name)(params, **options)
    for i in range(4):
        if i == 3:
            state = {"optimizer": optimizer.state_dict(), "before": [p.detach().clone() for p in params]}
            state = copy.deepcopy(state)
        for k, p in enumerate(params):
            p.grad = torch.full_like(p, 0.5 + i - k)
        optimizer.step()
    runs[f"{name} {len(runs)}"] = {**state, "after": [p.detach() for p in params]}
for name, make in {
    "StepLR": lambda o: lrs.StepLR(o, 2), "MultiStepLR": lambda o: lrs.MultiStepLR(o, [2, 4, 4]),
    "ExponentialLR": lambda o: lrs.ExponentialLR(o, 0.9), "LinearLR": lambda o: lrs.LinearLR(o),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, 4),
    "CosineAnnealingWarmRestarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 2, T_mult=2),
    "OneCycleLR": lambda o: lrs.OneCycleLR(o, 0.5, total_steps=10),
    "LambdaLR": lambda o: lrs.LambdaLR(o, lambda e: 0.9**e),
    "ReduceLROnPlateau": lambda o: lrs.ReduceLROnPlateau(o, patience=0, factor=0.5),
    "SequentialLR": lambda o: lrs.SequentialLR(o, [lrs.LinearLR(o), lrs.ExponentialLR(o, 0.9)], [2]),
}.items():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    schedule, rates = make(optimizer), []
    for i in range(8):
        if i == 3:
            state = copy.deepcopy({"optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()})
        optimizer.step()
        schedule.step(*([1.0] if name == "ReduceLROnPlateau" else []))
        rates.append(optimizer.param_groups[0]["lr"])
    runs[name] = {**state, "rates": rates[3:]}
torch.save(runs, path("training.pt"))


class Evil:
    def __reduce__(self):
        return (os.system, ("echo executed",))


torch.save({"a": Evil()}, path("evil.pt"))
torch.save(torch.zeros(1), path("legacy.pt"), _use_new_zipfile_serialization=False)
torch.save({"a": torch.zeros(1, dtype=torch.int16)}, path("int16.pt"))
torch.save({"a": model}, path("module.pt"))
torch.save({(1, 2): 3}, path("tuple_key.pt"))
torch.save({"a": {1}}, path("set.pt"))
torch.jit.script(torch.nn.Identity()).save(path("script.pt"))

with open(path("expected.json"), "w") as f:
    json.dump(expected, f, ensure_ascii=False)
