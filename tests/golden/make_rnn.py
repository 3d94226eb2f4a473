"""Writes rnn.json: recurrent and attention layers by PyTorch in float64, forward and gradients.

Run with a Python that has torch: python3 tests/golden/make_rnn.py > tests/golden/rnn.json
Inputs and parameters are waves of their position, so that only results need storing. The loss is the sum of all
outputs times waves; a gradient is stored as its own sum times a wave.
"""
import json
import torch

torch.set_default_dtype(torch.float64)


def wave(shape, phase, size=0.5):
    n = 1
    for s in shape:
        n *= s
    return (size * torch.sin(0.7 * torch.arange(n) + phase)).reshape(shape)


def flat(x):
    """Tensors in nested tuples, in order."""
    if x is None:
        return []
    return [x] if torch.is_tensor(x) else [t for part in x for t in flat(part)]


def short(x):
    return float(f"{x:.9g}")


def digest(g):
    return short((g.reshape(-1) * torch.cos(torch.arange(g.numel()) * 1.0)).sum().item())


def fill(module):
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(wave(p.shape, i))


def result(module, inputs, outputs):
    ys = flat(outputs)
    loss = sum((y * wave(y.shape, 10 + i, 1)).sum() for i, y in enumerate(ys))
    params = dict(module.named_parameters())
    grads = torch.autograd.grad(loss, [*params.values(), *inputs], allow_unused=True)
    parts = [None if g is None else digest(g) for g in grads]
    return dict(
        outputs=[dict(shape=list(y.shape), values=[short(v) for v in y.detach().reshape(-1).tolist()]) for y in ys],
        params=dict(zip(params, parts)),
        inputs=parts[len(params):],
    )


out = {"recurrent": [], "cells": [], "attention": [], "encoder": [], "scaledDotProduct": []}

STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
for kind, count in STATES.items():
    for options, x_shape, given in [
        ({}, (3, 2, 4), True),
        ({"num_layers": 2, "bidirectional": True}, (4, 2, 4), True),
        ({"num_layers": 2, "batch_first": True, "bias": False}, (2, 3, 4), False),
        ({"bidirectional": True}, (3, 4), True),
        *([({"nonlinearity": "relu"}, (3, 2, 4), True)] if kind == "RNN" else []),
        *([({"proj_size": 2}, (3, 2, 4), False),
           ({"proj_size": 1, "num_layers": 2, "bidirectional": True, "bias": False}, (4, 2, 4), True)]
          if kind == "LSTM" else []),
    ]:
        module = getattr(torch.nn, kind)(4, 3, **options)
        fill(module)
        x = wave(x_shape, 20, 1).requires_grad_()
        layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        batch = () if len(x_shape) == 2 else (x_shape[0 if options.get("batch_first") else 1],)
        sizes = [options.get("proj_size", 3), 3]
        states = [wave((layers, *batch, sizes[i]), 30 + i).requires_grad_() for i in range(count if given else 0)]
        state = None if not given else tuple(states) if count == 2 else states[0]
        y = module(x, state)
        out["recurrent"].append(dict(kind=kind, options=options, x=list(x_shape), given=given,
                                     **result(module, [x, *states], y)))

for kind, count in {"RNNCell": 1, "GRUCell": 1, "LSTMCell": 2}.items():
    for x_shape, given in [((2, 4), True), ((4,), True), ((2, 4), False)]:
        module = getattr(torch.nn, kind)(4, 3)
        fill(module)
        x = wave(x_shape, 20, 1).requires_grad_()
        states = [wave((*x_shape[:-1], 3), 30 + i).requires_grad_() for i in range(count if given else 0)]
        state = None if not given else tuple(states) if count == 2 else states[0]
        out["cells"].append(dict(kind=kind, x=list(x_shape), given=given,
                                 **result(module, [x, *states], module(x, state))))

L, S, N, E = 3, 4, 2, 4
MASKS = {
    "none": None,
    "bool": torch.tensor([[False, True, False, True], [True, False, False, False], [False, False, True, False]]),
    "float": wave((L, S), 40, 1),
    "heads": wave((N * 2, L, S), 41, 1),
}
PADDING = torch.tensor([[False, False, False, True], [False, True, False, False]])
for mask, padding, weights, average, first, wide, same, *extra in [
    ("none", False, True, True, False, False, False),
    ("bool", False, True, False, True, False, False),
    ("float", True, True, True, False, True, False),
    ("heads", False, False, True, True, False, False),
    ("bool", True, False, True, False, False, False),
    ("none", True, False, True, True, True, False),
    ("none", False, False, True, False, False, True),
    ("none", False, True, True, False, False, False, "add_bias_kv"),
    ("bool", True, True, False, True, False, False, "add_zero_attn"),
    ("float", False, False, True, False, True, False, "add_bias_kv", "add_zero_attn"),
]:
    options = {"kdim": 5, "vdim": 3} if wide else {}
    module = torch.nn.MultiheadAttention(E, 2, batch_first=first, **options, **{name: True for name in extra})
    fill(module)
    lay = (lambda n, t, e: (n, t, e)) if first else (lambda n, t, e: (t, n, e))
    q = wave(lay(N, L, E), 50, 1).requires_grad_()
    k = q if same else wave(lay(N, S, 5 if wide else E), 51, 1).requires_grad_()
    v = q if same else wave(lay(N, S, 3 if wide else E), 52, 1).requires_grad_()
    y = module(q, k, v, attn_mask=MASKS[mask], key_padding_mask=PADDING if padding else None,
               need_weights=weights, average_attn_weights=average)
    out["attention"].append(dict(mask=mask, padding=padding, weights=weights, average=average, first=first, wide=wide,
                                 same=same, extra=extra, **result(module, [q] if same else [q, k, v], y)))

for options, causal in [({}, False), ({"norm_first": True, "activation": "gelu"}, True),
                        ({"bias": False, "batch_first": True}, True)]:
    module = torch.nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, dropout=0.0, **options)
    fill(module)
    x = wave((3, 2, 4), 60, 1).requires_grad_()
    length = 2 if options.get("batch_first") else 3
    mask = torch.nn.Transformer.generate_square_subsequent_mask(length) if causal else None
    out["encoder"].append(dict(options=options, causal=causal, **result(module, [x], module(x, src_mask=mask))))

for shape, mask, causal, scale in [((2, 3, 5, 4), None, False, None), ((3, 5, 4), None, True, 0.3),
                                   ((5, 4), (5, 5), False, None), ((2, 1, 3, 5, 4), (3, 1, 5), False, None)]:
    q, k, v = [wave(shape, 70 + i, 1).requires_grad_() for i in range(3)]
    m = None if mask is None else wave(mask, 80, 1).requires_grad_()
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, m, is_causal=causal, scale=scale)
    inputs = [q, k, v] + ([] if m is None else [m])
    out["scaledDotProduct"].append(dict(shape=list(shape), shared=None, mask=mask, causal=causal, scale=scale,
                                        **result(torch.nn.Identity(), inputs, y)))

for shape, shared, causal in [((2, 4, 3, 5), (2, 2, 3, 5), False), ((6, 5, 4), (2, 5, 4), True), ((2, 3, 2, 2), (2, 1, 2, 2), False)]:
    q, k, v = [wave(shared if i else shape, 70 + i, 1).requires_grad_() for i in range(3)]
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    out["scaledDotProduct"].append(dict(shape=list(shape), shared=list(shared), mask=None, causal=causal, scale=None,
                                        **result(torch.nn.Identity(), [q, k, v], y)))

print(json.dumps(out))
