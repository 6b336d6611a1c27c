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
    "on efficientnet_b0 (32 images each) and 1.0 on vgg11 (4 images)."
)
LIMITS = {"resnet18": 0.60, "efficientnet_b0": 0.55, "vgg11": 1.0}
"""What is promised."""
BATCHES: dict[str, tuple[int, ...]] = {"resnet18": (32, 16), "efficientnet_b0": (32, 16), "vgg11": (4,)}
"""Images in a batch; the promise is for the first. 32 is what the plan takes at 224 pixels on a CPU."""
Found = dict[tuple[str, int], dict[str, list[float]]]
"""Megabytes, by network and batch, and by mode."""
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
        name, mode, batch = settings.measure
        print(_peak(name, mode, int(batch), threads=settings.threads))
        return
    where, out = harness.machine(["torchvision"]), Console(width=140)
    cases = [(name, batch) for name in settings.networks for batch in BATCHES[name]]
    turns = [(case, mode) for _ in range(settings.repeats) for case in cases for mode in MODES]
    found: Found = {case: {mode: [] for mode in MODES} for case in cases}
    for (name, batch), mode in track(turns, description="memory", console=Console(stderr=True), transient=True):
        found[name, batch][mode].append(_in_a_process(name, mode, batch, settings.threads))
    rows = [_row(*case, found[case]) for case in cases]
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
    parser.add_argument("--measure", nargs=3, metavar=("NETWORK", "MODE", "BATCH"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(name: str, mode: str, batch: int, threads: int) -> float:
    """Return megabytes."""
    words = [sys.executable, "-m", "benchmarks.memory", "--threads", str(threads), "--measure", name, mode, str(batch)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout) / 2**20


def _peak(name: str, mode: str, batch: int, *, threads: int) -> int:
    """Return what the steps take at their peak on top of what the process holds before them, in bytes."""
    torch.set_num_threads(threads)
    importlib.import_module("torch._dynamo")  # the first optimizer imports it, and it is large
    network = build(name)
    losses = ours(name, network, mode, batch=batch)
    before = harness.held_bytes()
    for _ in islice(losses, min(STEPS, MOST)):
        pass
    return process_peak_bytes() - before


def _row(name: str, batch: int, peaks: dict[str, list[float]]) -> tuple[str, ...]:
    ratio, limit = _ratio(peaks), LIMITS[name]
    shown = [Spread.of(peaks[mode]).text() for mode in MODES]
    verdict = f"{'met' if ratio <= limit else 'MISSED'}: at most {limit:g}" if batch == BATCHES[name][0] else ""
    return (f"{name}, batch {batch}", *shown, f"{ratio:.3f}", verdict)


def _ratio(peaks: dict[str, list[float]]) -> float:
    return statistics.median(peaks["bf16"]) / statistics.median(peaks["fp32"])


def _write(
    found: dict[tuple[str, int], dict[str, list[float]]], rows: list[tuple[str, ...]], where: dict[str, Any]
) -> None:
    command = harness.command_line("benchmarks.memory")
    targets = {name: {"limit": LIMITS[name], "found": _ratio(found[name, BATCHES[name][0]])} for name, _ in found}
    megabytes = {f"{name}, batch {batch}": peaks for (name, batch), peaks in found.items()}
    values = {"name": "memory", "claim": CLAIM, "command": command, "machine": where, "megabytes": megabytes}
    write_json(harness.RESULTS / "memory.json", values | {"targets": targets})
    columns = (f"network, {SIZE} px", *(f"{mode}, MB" for mode in MODES), "bf16 over fp32", "promised")
    parts = ["# memory", CLAIM, f"`{command}`", harness.describe(where), HOW_TO_READ]
    write_text(harness.RESULTS / "memory.md", "\n\n".join([*parts, harness.markdown_table(columns, rows)]) + "\n")


if __name__ == "__main__":
    main()
