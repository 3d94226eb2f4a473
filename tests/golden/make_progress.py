"""Writes progress.json: lines of tqdm's format_meter and numbers of its format_num.

python3 tests/golden/make_progress.py > tests/golden/progress.json   (needs tqdm; then deno fmt)
"""

import json
import random

from tqdm import tqdm

random.seed(0)
meters = []
for i in range(120):
    total = random.choice([None, 0, 1, 8, 40, 100, 391, 12345678])
    n = random.randint(0, total) if total and random.random() < 0.95 else random.randint(0, 2000)
    case = dict(
        n=n,
        total=total,
        elapsed=random.choice([0, 0.04, 3.2, 59.9, 61, 3599, 3661, 360000]),
        ncols=random.choice([None, None, 0, 20, 60, 80, 81, 120]),
        # tqdm doubles the colon of "train: " where the total is unknown; ours does not.
        prefix=random.choice(["", "epoch 3", "train: " if total else "train", "学習", "\x1b[32mgreen\x1b[0m"]),
        unit=random.choice(["it", "batch"]),
        unit_scale=random.random() < 0.2,
        ascii=random.random() < 0.2,
        rate=random.choice([None, None, 0.031, 0.5, 1, 1.125, 9.999, 15.2, 1234.5, 2e6]),
        postfix=random.choice(["", "loss=1.23, acc=0.456"]),
        initial=random.choice([0, 0, 0, n]),
    )
    meters.append({**case, "line": tqdm.format_meter(**case)})

values = [0, 1, -1, 42, 999, 1000, 12345, 123456789, 1e21, 0.5, 0.1, 1 / 3, 2 / 3, 1.125, 1.375,
          2.675, 0.000123456, 0.0000123456, -0.001, 3.0e-10, 99.95, 999.5, 1e-7, 1.5e300,
          float("nan"), float("inf"), float("-inf")]
values += [random.uniform(-10, 10) * 10 ** random.randint(-8, 8) for _ in range(60)]
numbers = [[repr(v), tqdm.format_num(v)] for v in values]
print(json.dumps({"meters": meters, "numbers": numbers}, ensure_ascii=False, indent=0))
