"""Writes optim.json: what PyTorch's optimisers and learning rate schedules compute.

Optimisers: 10 steps on loss = sum(c * (w - t)^2) in float64 for two parameters; the parameters after steps 1, 2
and 10. Schedules: the learning rates of each group (and momentum or beta1, where cycled) at construction and after
each of 40 steps. Names are those of the TypeScript API.

Run: python tests/golden/make_optim.py   (needs PyTorch)
"""
import json
import math
import os
import warnings

import torch

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
S = torch.optim.lr_scheduler


def snake(name):
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


def problem():
    starts = [[[0.5, -1.0, 2.0], [1.5, -0.25, 0.0]], [3.0, -2.0, 1.0, 0.125]]
    targets = [[[1.0, 1.0, -1.0], [0.0, 0.5, 2.0]], [-1.0, 0.0, 2.0, 0.25]]
    scales = [[[1.0, 0.5, 2.0], [0.1, 3.0, 1.0]], [0.7, 1.0, 0.01, 5.0]]
    return [[torch.tensor(x) for x in v] for v in (starts, targets, scales)]


OPTIMIZERS = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "weightDecay": 0.1}),
    ("SGD", {"lr": 0.05, "maximize": True, "weightDecay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weightDecay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weightDecay": 0.01}),
    ("SGD", {"lr": 0.02, "momentum": 0.5, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": [0.8, 0.95], "eps": 1e-3}),
    ("Adam", {"lr": 0.1, "betas": [0.3, 0.4], "weightDecay": 0.1}),
    ("Adam", {"lr": 0.3, "amsgrad": True, "betas": [0.9, 0.5]}),
    ("Adam", {"lr": 0.1, "maximize": True, "weightDecay": 0.1}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "weightDecay": 0.2, "amsgrad": True, "betas": [0.9, 0.5]}),
    ("AdamW", {"lr": 0.1, "weightDecay": 0.2, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.8, "eps": 1e-4, "weightDecay": 0.1}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.05, "centered": True}),
    ("RMSprop", {"lr": 0.05, "centered": True, "momentum": 0.5, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.5, "lrDecay": 0.1, "weightDecay": 0.1}),
    ("Adagrad", {"lr": 0.5, "initialAccumulatorValue": 0.5, "eps": 1e-3, "maximize": True}),
]


def run_optimizer(name, options):
    starts, targets, scales = problem()
    params = [w.clone().requires_grad_() for w in starts]
    kwargs = {snake(k): tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    optimizer = getattr(torch.optim, name)(params, **kwargs)
    after = {}
    for step in range(1, 11):
        optimizer.zero_grad()
        loss = sum((c * (w - t).square()).sum() for w, t, c in zip(params, targets, scales))
        loss.backward()
        optimizer.step()
        if step in (1, 2, 10):
            after[step] = [w.tolist() for w in params]
    return {"optimizer": name, "options": options, "after": after}


# Each: optimiser, groups' learning rates, [[scheduler, positional arguments, options], ...]; more than one
# scheduler makes a SequentialLR with the milestones that follow.
SCHEDULES = [
    ("SGD", [0.5], [["StepLR", [7], {}]], None),
    ("SGD", [0.5, 0.02], [["StepLR", [3], {"gamma": 0.7}]], None),
    ("SGD", [0.5], [["MultiStepLR", [[5, 9, 9, 30]], {"gamma": 0.3}]], None),
    ("SGD", [0.5], [["ExponentialLR", [0.9], {}]], None),
    ("SGD", [0.5], [["LinearLR", [], {}]], None),
    ("SGD", [0.5, 0.1], [["LinearLR", [], {"startFactor": 0.25, "endFactor": 0.75, "totalIters": 17}]], None),
    ("SGD", [0.5], [["LinearLR", [], {"startFactor": 1.0, "endFactor": 0.0, "totalIters": 11}]], None),
    ("SGD", [0.5], [["CosineAnnealingLR", [40], {}]], None),
    ("SGD", [0.5, 0.1], [["CosineAnnealingLR", [9], {"etaMin": 0.01}]], None),
    ("SGD", [0.5], [["CosineAnnealingWarmRestarts", [10], {}]], None),
    ("SGD", [0.5], [["CosineAnnealingWarmRestarts", [4], {"tMult": 2, "etaMin": 0.05}]], None),
    ("SGD", [0.1], [["OneCycleLR", [0.8], {"totalSteps": 40}]], None),
    ("SGD", [0.1, 0.2], [["OneCycleLR", [[0.8, 0.4]], {"epochs": 6, "stepsPerEpoch": 7, "annealStrategy": "linear",
                                                       "maxMomentum": [0.95, 0.9], "baseMomentum": 0.8}]], None),
    ("Adam", [0.1], [["OneCycleLR", [0.8], {"totalSteps": 41, "threePhase": True, "pctStart": 0.4, "divFactor": 10,
                                            "finalDivFactor": 100}]], None),
    ("RMSprop", [0.1], [["OneCycleLR", [0.8], {"totalSteps": 45, "cycleMomentum": False}]], None),
    ("SGD", [0.5, 0.1], [["LambdaLR", [], {}]], None),
    ("SGD", [0.5], [["LinearLR", [], {"totalIters": 6}], ["CosineAnnealingLR", [30], {}]], [6]),
    ("SGD", [0.5], [["LinearLR", [], {"totalIters": 4}], ["ExponentialLR", [0.8], {}], ["StepLR", [3], {}]], [8, 20]),
    ("SGD", [0.5], [["ExponentialLR", [0.5], {}], ["CosineAnnealingWarmRestarts", [5], {}],
                    ["MultiStepLR", [[2, 4]], {}]], [3, 25]),
    ("SGD", [0.5], [["ReduceLROnPlateau", [], {"patience": 3}]], None),
    ("SGD", [0.5, 0.2], [["ReduceLROnPlateau", [], {"mode": "max", "factor": 0.5, "patience": 1, "cooldown": 2,
                                                    "minLr": [0.1, 0.05]}]], None),
    ("SGD", [0.5], [["ReduceLROnPlateau", [], {"thresholdMode": "abs", "threshold": 0.2, "patience": 2,
                                               "factor": 0.6, "eps": 0.01}]], None),
    ("SGD", [0.5], [["ReduceLROnPlateau", [], {"mode": "max", "thresholdMode": "abs", "threshold": 0.01,
                                               "patience": 4}]], None),
]


def metric(i):
    return round(math.sin(0.7 * i) + 5 / (1 + i), 6)


def make(optimizer, name, args, options):
    if name == "LambdaLR":
        return S.LambdaLR(optimizer, [lambda e: 0.95**e, lambda e: 1 / (1 + e)])
    names = {"t0": "T_0", "tMult": "T_mult"}
    return getattr(S, name)(optimizer, *args, **{names.get(k, snake(k)): v for k, v in options.items()})


def run_schedule(name, lrs, schedulers, milestones):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in lrs]
    optimizer = getattr(torch.optim, name)(groups, lr=0.1)
    made = [make(optimizer, *s) for s in schedulers]
    scheduler = made[0] if milestones is None else S.SequentialLR(optimizer, made, milestones)
    plateau = schedulers[0][0] == "ReduceLROnPlateau"
    cycles = schedulers[0][0] == "OneCycleLR" and schedulers[0][2].get("cycleMomentum", True)
    rates, momenta = [], []
    for step in range(41):
        if step > 0:
            optimizer.step()
            scheduler.step(metric(step)) if plateau else scheduler.step()
        rates.append([g["lr"] for g in optimizer.param_groups])
        if cycles:
            momenta.append([g["betas"][0] if "betas" in g else g["momentum"] for g in optimizer.param_groups])
    row = {"optimizer": name, "lrs": lrs, "schedulers": schedulers, "milestones": milestones, "rates": rates}
    if cycles:
        row["momenta"] = momenta
    return row


table = {
    "torch": torch.__version__.split("+")[0],
    "metrics": [metric(i) for i in range(41)],
    "optimizers": [run_optimizer(*row) for row in OPTIMIZERS],
    "schedules": [run_schedule(*row) for row in SCHEDULES],
}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "optim.json")
with open(path, "w") as file:
    parts = [f'{json.dumps(k)}: ' + ("[\n" + ",\n".join(json.dumps(r) for r in v) + "\n]" if k in ("optimizers", "schedules")
                                     else json.dumps(v)) for k, v in table.items()]
    file.write("{\n" + ",\n".join(parts) + "\n}\n")
