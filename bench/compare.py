#!/usr/bin/env python3
"""Needle and PyTorch on the same work, in turn, in one run: prints a table of ratios (above 1: Needle is better).

The PyTorch side is torch_peer.py, the other `deno task bench:peer`; both print JSON lines under the same names.
Workload by workload the two run in turn, one process each. A row shows the median over the rounds of each side and
the median of the ratios round by round; the last line has their geometric mean.

VENV is a virtual environment with PyTorch (python3 -m venv VENV && VENV/bin/pip install torch).
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parent


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME-PREFIX", help="workloads (default: all)")
    parser.add_argument("--torch", required=True, metavar="VENV", help="where PyTorch is installed")
    parser.add_argument("--device", default="dnnl", help="Needle's device (default dnnl)")
    parser.add_argument("--peer-device", default="cpu", help="PyTorch's device (default cpu)")
    parser.add_argument("--threads", type=int, default=0, help="of both (default: one per core)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--seconds", default="0.5", help="time for each kernel workload (default 0.5)")
    parser.add_argument("--json", metavar="FILE", help="write the table there too")
    return parser.parse_args()


def deno():
    """The command that starts Deno: $DENO, else deno on PATH, else by npx."""
    found = os.environ.get("DENO") or shutil.which("deno")
    return [found] if found else ["npx", "-y", "deno@2.9.6"]


def rows(command):
    """Runs one side: its rows by name; none, with the end of the error output shown, where it fails."""
    done = subprocess.run(command, cwd=BENCH.parent, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{' '.join(command)} failed ({done.returncode}): {done.stderr[-600:]}", file=sys.stderr)
        return {}
    parsed = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {row["name"]: row for row in parsed if row["name"] not in ("torch", "needle")}


def compare(name, rounds):
    """The line of the table for `name`, from the rounds of both sides."""
    example = next(torch[name] for torch, _ in rounds if name in torch)
    line = dict(name=name, torch=example["value"], needle=None, ratio=None, unit=example["unit"])
    pairs = [(torch[name], needle[name]) for torch, needle in rounds if name in torch and name in needle]
    if not pairs:
        return line
    low = example["better"] == "low"
    line["torch"] = statistics.median(t["value"] for t, _ in pairs)
    line["needle"] = statistics.median(n["value"] for _, n in pairs)
    line["ratio"] = statistics.median(
        t["value"] / n["value"] if low else n["value"] / t["value"] for t, n in pairs
    )
    if all("rss_mb" in row for pair in pairs for row in pair):
        line["rss_torch"] = max(t["rss_mb"] for t, _ in pairs)
        line["rss_needle"] = max(n["rss_mb"] for _, n in pairs)
    return line


def show(line):
    def number(value, form):
        return "-".rjust(12) if value is None else format(value, form).rjust(12)

    memory = ""
    if "rss_torch" in line:
        memory = f"  RSS {line['rss_needle']:.0f} / {line['rss_torch']:.0f} MB"
    print(
        f"{line['name']:38s} torch {number(line['torch'], '.2f')}  needle {number(line['needle'], '.2f')} "
        f"{line['unit']:10s} ratio {number(line['ratio'], '.2f').strip()}{memory}"
    )


def main():
    options = parse_arguments()
    common = ["--seconds", options.seconds]
    if options.threads:
        common += ["--threads", str(options.threads)]
    python = str(pathlib.Path(options.torch) / "bin" / "python")
    torch = [python, str(BENCH / "torch_peer.py"), "--device", options.peer_device, *common]
    needle = [*deno(), "task", "bench:peer", "--device", options.device, *common]
    listed = subprocess.run([*torch, "--list"], stdout=subprocess.PIPE, text=True, check=True)
    prefixes = tuple(options.names) or ("",)
    works = [work for work in listed.stdout.split() if work.startswith(prefixes)]
    rounds = [({}, {}) for _ in range(options.rounds)]
    for number, work in enumerate(works, 1):  # in turn, because the speed of a machine drifts
        print(f"{number} of {len(works)}: {work}", file=sys.stderr)
        for by_torch, by_needle in rounds:
            by_torch.update(rows([*torch, "--only", work]))
            by_needle.update(rows([*needle, "--only", work]))
    names = dict.fromkeys(name for by_torch, _ in rounds for name in by_torch)
    table = sorted((compare(name, rounds) for name in names), key=lambda line: line["ratio"] or 0)
    for line in table:
        show(line)
    ratios = [line["ratio"] for line in table if line["ratio"] is not None]
    if ratios:
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(
            f"geometric mean of {len(ratios)}: {mean:.2f}; below 1: {sum(r < 1 for r in ratios)}; "
            f"missing: {len(table) - len(ratios)}"
        )
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
