"""What saving costs a run at the default interval, and how much work a kill can cost.

python -m benchmarks.save_overhead
python -m benchmarks.save_overhead --photos DIR --repeats 1 --dry
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import harness
from benchmarks.harness import Spread
from halftone.base.files import write_json, write_text
from halftone.run import saving
from halftone.run.events import CheckpointDue, CheckpointSaved, Event, Finished
from halftone.run.recipe import Recipe
from halftone.track.tables import Tables
from halftone.verbs import train

CLAIM = (
    "At the default interval (an epoch, and every five minutes) saving takes at most 2 % of the wall time of a run, "
    "and a kill costs at most one interval of work."
)
LIMIT = 0.02
HOW_TO_READ = (
    "Saving is the writing, hashing and flushing of checkpoints, of the best and the last weights, and of the tables "
    "that must be on disk before them. The wall time is that of training and evaluating, from the first checkpoint on. "
    "The most that a kill can cost is the longest stretch between two checkpoints. Over the runs: the median (least to "
    "most)."
)


def main() -> None:
    settings = _arguments()
    if settings.measure:
        print(json.dumps(_run(settings)))
        return
    where, out = harness.machine(["torchvision", "safetensors"]), Console(width=140)
    turns = track(range(settings.repeats), description="saving", console=Console(stderr=True), transient=True)
    runs = [_in_a_process() for _ in turns]
    share = Spread.of([run["saving"] / run["wall"] for run in runs])
    rows = [
        ("share of the wall time", f"{_percent(share)}"),
        ("seconds of saving per epoch", Spread.of([run["saving"] / settings.epochs for run in runs]).text(2)),
        ("seconds of wall time per epoch", Spread.of([run["wall"] / settings.epochs for run in runs]).text(1)),
        ("MB written per epoch", Spread.of([run["megabytes"] / settings.epochs for run in runs]).text()),
        ("steps between checkpoints, at the most", Spread.of([run["steps"] for run in runs]).text()),
        ("seconds between checkpoints, at the most", Spread.of([run["between"] for run in runs]).text(1)),
    ]
    verdict = f"{'met' if share.median <= LIMIT else 'MISSED'}: at most {LIMIT:.0%} of the wall time"
    for row in [*rows, (verdict, "")]:
        out.print(" | ".join(row), highlight=False)
    if not settings.dry:
        _write(settings, runs, rows, verdict, where)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.save_overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder of images; without it, noise of the same size")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=640, help="of noise")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print the table, but leave results/ as it is")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process() -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.save_overhead", *sys.argv[1:], "--measure"]
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)


class _Watch:
    """Takes the time of all that saves, and of the whole."""

    def __init__(self) -> None:
        self.saving = 0.0
        self.megabytes = 0.0
        self.saved: list[tuple[int, float]] = []
        self.ended = 0.0

    def timed(self, function: Callable[..., Any], *, counts: Callable[..., bool] = lambda *arguments: True) -> Any:
        """Return a function that adds the time of its calls."""

        def with_clock(*arguments: Any, **options: Any) -> Any:
            clock = time.perf_counter()
            result = function(*arguments, **options)
            if self.saved and counts(*arguments):
                self.saving += time.perf_counter() - clock
                written = result if isinstance(result, Path) else arguments[0]
                self.megabytes += written.stat().st_size / 1e6 if isinstance(written, Path) else 0.0
            return result

        return with_clock

    def hear(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, CheckpointSaved):
            self.saved.append((event.tried, time.perf_counter()))
        elif isinstance(event, Finished):
            self.ended = time.perf_counter()

    def close(self) -> None:
        """Nothing is held."""


def _run(settings: argparse.Namespace) -> dict[str, float]:
    watch = _Watch()
    vars(saving)["save_checkpoint"] = watch.timed(saving.save_checkpoint)
    vars(saving)["save_model"] = watch.timed(saving.save_model)
    hear = watch.timed(Tables.hear, counts=lambda _, event: isinstance(event, CheckpointDue))
    Tables.hear = hear  # type: ignore[method-assign]
    data = str(settings.photos.expanduser().resolve()) if settings.photos else "given"
    with tempfile.TemporaryDirectory() as place:
        values = {"model": settings.model, "size": settings.size, "epochs": settings.epochs, "precision": "fp32"}
        run = {"root": place, "report": False, "tensorboard": False, "fit_images": 0}
        recipe = Recipe.parse({"data": data, "lr": 0.01, "run": run, **values})
        train(recipe, data=None if settings.photos else _noise(settings), listeners=[watch])
    first, last = watch.saved[0][1], watch.ended
    return {
        "saving": watch.saving,
        "wall": last - first,
        "megabytes": watch.megabytes,
        "steps": max(after[0] - before[0] for before, after in pairwise(watch.saved)),
        "between": max(after[1] - before[1] for before, after in pairwise(watch.saved)),
    }


def _noise(settings: argparse.Namespace) -> Any:
    random = np.random.default_rng(0)
    shape = (settings.images, settings.size, settings.size, 3)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    return images, np.arange(settings.images) % 10


def _percent(share: Spread) -> str:
    return f"{share.median:.2%} ({share.least:.2%} to {share.most:.2%})"


def _write(
    settings: argparse.Namespace,
    runs: list[dict[str, float]],
    rows: list[tuple[str, str]],
    verdict: str,
    where: dict[str, Any],
) -> None:
    command = harness.command_line("benchmarks.save_overhead")
    values = {"name": "save_overhead", "claim": CLAIM, "command": command, "machine": where, "runs": runs}
    write_json(harness.RESULTS / "save_overhead.json", values)
    what = f"{settings.model} in fp32, {settings.size} px, {settings.epochs} epochs, {settings.repeats} runs"
    table = harness.markdown_table((what, "median (least to most)"), rows)
    parts = ["# save_overhead", CLAIM, f"`{command}`", harness.describe(where), HOW_TO_READ, table, f"- {verdict}"]
    write_text(harness.RESULTS / "save_overhead.md", "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
