"""The peak memory of training steps in bf16 over that in fp32, each in a process of its own.

python -m benchmarks.memory
python -m benchmarks.memory --networks vgg11 --repeats 1 --dry
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from benchmarks import harness
from benchmarks.harness import Spread
from benchmarks.step_speed.sides import MOST, ours
from benchmarks.step_speed.task import SIZE, build
from halftone.base.files import write_json, write_text
from halftone.system.memory import process_peak_bytes
from halftone.system.threads import usable_cores

CLAIM = (
    "On the CPU the peak memory of training steps in bf16 is at most 0.60 of that in fp32 on resnet18 at 224 px, 0.55 "
    "on efficientnet_b0 and 1.0 on vgg11."
)
LIMITS = {"resnet18": (16, 0.60), "efficientnet_b0": (16, 0.55), "vgg11": (4, 1.0)}
"""Images in a batch, and the promise."""
MODES = ("fp32", "bf16", "bf16-true")
STEPS = 4
HOW_TO_READ = (
    "What the steps take at their peak on top of the process with the untrained network and its images in it: the "
    "momentum, the gradients and what is kept for the backward pass. Memory is kept between steps, as by default. The "
    "ratio is that of the medians."
)


def main() -> None:
    settings = _arguments()
    if settings.measure:
        print(_peak(*settings.measure, threads=settings.threads))
        return
    where, out = harness.machine(["torchvision"]), Console(width=140)
    turns = [(name, mode) for _ in range(settings.repeats) for name in settings.networks for mode in MODES]
    found: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in settings.networks}
    for name, mode in track(turns, description="memory", console=Console(stderr=True), transient=True):
        found[name][mode].append(_in_a_process(name, mode, settings.threads))
    rows = [_row(name, found[name]) for name in settings.networks]
    for row in rows:
        out.print(" | ".join(row), highlight=False)
    if not settings.dry:
        _write(found, rows, where)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--dry", action="store_true", help="print the table, but leave results/ as it is")
    parser.add_argument("--measure", nargs=2, metavar=("NETWORK", "MODE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(name: str, mode: str, threads: int) -> float:
    """Return megabytes."""
    words = [sys.executable, "-m", "benchmarks.memory", "--threads", str(threads), "--measure", name, mode]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout) / 2**20


def _peak(name: str, mode: str, *, threads: int) -> int:
    """Return what the steps take at their peak on top of what the process holds before them, in bytes."""
    torch.set_num_threads(threads)
    importlib.import_module("torch._dynamo")  # the first optimizer imports it, and it is large
    network = build(name)
    losses = ours(name, network, mode, batch=LIMITS[name][0])
    before = _held_bytes()
    for _ in islice(losses, min(STEPS, MOST)):
        pass
    return process_peak_bytes() - before


def _held_bytes() -> int:
    """Return the memory that this process holds now."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def _row(name: str, peaks: dict[str, list[float]]) -> tuple[str, ...]:
    ratio = _ratio(peaks)
    limit = LIMITS[name][1]
    shown = [Spread.of(peaks[mode]).text() for mode in MODES]
    verdict = f"{'met' if ratio <= limit else 'MISSED'}: at most {limit:g}"
    return (f"{name}, batch {LIMITS[name][0]}", *shown, f"{ratio:.3f}", verdict)


def _ratio(peaks: dict[str, list[float]]) -> float:
    return statistics.median(peaks["bf16"]) / statistics.median(peaks["fp32"])


def _write(found: dict[str, dict[str, list[float]]], rows: list[tuple[str, ...]], where: dict[str, Any]) -> None:
    command = harness.command_line("benchmarks.memory")
    targets = {name: {"limit": LIMITS[name][1], "found": _ratio(peaks)} for name, peaks in found.items()}
    values = {"name": "memory", "claim": CLAIM, "command": command, "machine": where, "megabytes": found}
    write_json(harness.RESULTS / "memory.json", values | {"targets": targets})
    columns = (f"network, {SIZE} px", *(f"{mode}, MB" for mode in MODES), "bf16 over fp32", "promised")
    parts = ["# memory", CLAIM, f"`{command}`", harness.describe(where), HOW_TO_READ]
    write_text(harness.RESULTS / "memory.md", "\n\n".join([*parts, harness.markdown_table(columns, rows)]) + "\n")


if __name__ == "__main__":
    main()
