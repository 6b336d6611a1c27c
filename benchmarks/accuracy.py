"""Trains with the exact command lines of the claims, once per seed, and collects accuracies and times.

    python -m benchmarks.accuracy digits
    python -m benchmarks.accuracy fashion-mnist --data DIR
    python -m benchmarks.accuracy photos --data DIR --weights FILE
    python -m benchmarks.accuracy digits --name digits-short --seeds 2 -- --epochs 2

What follows `--` is added to the command. It is another claim then: nothing is judged, and it wants a name of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import harness
from halftone.base.files import write_json, write_text
from halftone.base.tables import read_table


@dataclass(frozen=True, slots=True)
class Preset:
    """A claim about what a command line reaches."""

    claim: str
    command: Callable[[str, str], list[str]]
    """From where the data and the weights are to the arguments of `halftone`."""
    seeds: int
    least_accuracy: float
    """Of the best epoch, the mean over the seeds."""
    most_seconds: float | None = None
    """Of the whole command, the mean over the seeds."""
    needs: tuple[str, ...] = ()
    """Which of `data` and `weights` must be given."""


def _photos(data: str, weights: str) -> list[str]:
    return ["train", data, "--model", "squeezenet1_1", "--weights", weights, "--epochs", "8"]


PRESETS = {
    "digits": Preset(
        "The embedded digits, as in `halftone demo`: at least 98.5 % (mean of 5 seeds), in under 60 s on 2 cores.",
        lambda data, weights: ["train", "digits"],
        seeds=5,
        least_accuracy=0.985,
        most_seconds=60,
    ),
    "fashion-mnist": Preset(
        "Fashion-MNIST with `--epochs 10` and nothing else: at least 93.0 %, under 10 minutes on 2 cores.",
        lambda data, weights: ["train", "fashion-mnist", "--data.root", data, "--epochs", "10"],
        seeds=1,
        least_accuracy=0.93,
        most_seconds=600,
        needs=("data",),
    ),
    "cifar10": Preset(
        "CIFAR-10 (an .npz file) with `--epochs 10` and nothing else: at least 91 %, under 15 minutes on 2 cores.",
        lambda data, weights: ["train", data, "--epochs", "10"],
        seeds=1,
        least_accuracy=0.91,
        most_seconds=900,
        needs=("data",),
    ),
    "photos": Preset(
        "645 photos of 10 classes from SqueezeNet's ImageNet weights, 8 epochs: at least 96 %.",
        _photos,
        seeds=3,
        least_accuracy=0.96,
        needs=("data", "weights"),
    ),
    "photos-scratch": Preset(
        "The same photos and network without the weights, for comparison; nothing is promised.",
        lambda data, weights: ["train", data, "--model", "squeezenet1_1", "--epochs", "8"],
        seeds=3,
        least_accuracy=0.0,
        needs=("data",),
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    seed: int
    best_accuracy: float
    """Of the best epoch on the validation images."""
    last_accuracy: float
    wall_seconds: float
    """Of the whole command: imports, plan, data, training, evaluation, report."""
    run_seconds: float
    """Of training and evaluation, as `results.csv` says."""


@dataclass(frozen=True, slots=True)
class Column:
    """One row of the table: a number of each run, summarised."""

    field: str
    title: str
    factor: float
    digits: int

    def summary(self, outcomes: Sequence[Outcome]) -> dict[str, float | None]:
        """Return mean, sample standard deviation (None for one run), least and most."""
        values = [getattr(outcome, self.field) for outcome in outcomes]
        spread = statistics.stdev(values) if len(values) > 1 else None
        return {"mean": statistics.mean(values), "std": spread, "min": min(values), "max": max(values)}

    def row(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Return the summary as text."""
        found = self.summary(outcomes).values()
        return [self.title, *("-" if x is None else f"{x * self.factor:.{self.digits}f}" for x in found)]


COLUMNS = (
    Column("best_accuracy", "accuracy of the best epoch, %", 100, 2),
    Column("last_accuracy", "accuracy of the last epoch, %", 100, 2),
    Column("wall_seconds", "whole command, s", 1, 1),
    Column("run_seconds", "training and evaluation in it, s", 1, 1),
)
HEADINGS = ("", "mean", "standard deviation", "min", "max")


def main() -> None:
    settings = _arguments()
    preset = PRESETS[settings.preset]
    name = settings.name or f"accuracy_{settings.preset}"
    shown = " ".join(["halftone", *preset.command("DATA", "WEIGHTS"), *settings.extra, "--seed N"])
    where = harness.machine()
    command = [*preset.command(settings.data, settings.weights), *settings.extra]
    outcomes = [train_once(command, seed) for seed in range(settings.seeds or preset.seeds)]
    verdicts = [] if settings.extra else list(judge(preset, outcomes))
    out = Console(width=120)
    table = Table(title=f"{shown}, {len(outcomes)} seeds", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading else "left")
    for column in COLUMNS:
        table.add_row(*column.row(outcomes))
    out.print(table)
    for verdict in verdicts:
        out.print(verdict, highlight=False)
    if not settings.dry:
        claim = "" if settings.extra else preset.claim
        write_outcomes(name, claim, shown, outcomes, verdicts, where)


def _arguments() -> argparse.Namespace:
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Trains once per seed and collects accuracies and times; what follows -- is added to the command.",
    )
    parser.add_argument("preset", choices=list(PRESETS))
    parser.add_argument("--data", help="where the images are", type=_existing)
    parser.add_argument("--weights", help="the file of starting weights", type=_existing)
    parser.add_argument("--seeds", type=int, help="how many; the preset has a number of its own")
    parser.add_argument("--name", help="of the results, when they are not the preset's")
    parser.add_argument("--dry", action="store_true", help="print the table, but leave results/ as it is")
    settings = parser.parse_args(words[:end])
    settings.extra = words[end + 1 :]
    missing = [need for need in PRESETS[settings.preset].needs if getattr(settings, need) is None]
    if missing:
        parser.error(f"{settings.preset} needs --{' and --'.join(missing)}")
    if settings.extra and not (settings.name or settings.dry):
        parser.error("with another command line the results want a --name of their own, or --dry")
    return settings


def _existing(text: str) -> str:
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise argparse.ArgumentTypeError("there is nothing")
    return str(path)


def train_once(command: Sequence[str], seed: int) -> Outcome:
    """Run a command line in a folder of its own, with its talk going to the terminal, and read what it left."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "halftone", *command, "--seed", str(seed), "--json"]
        begun = time.perf_counter()
        finished = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
        wall = time.perf_counter() - begun
        if finished.returncode:
            raise SystemExit(f"the run with seed {seed} ended with exit code {finished.returncode}")
        rows = read_table(Path(json.loads(finished.stdout)["run"]) / "results.csv")
    best = [row for row in rows if row["best"] == "1"]
    return Outcome(
        seed=seed,
        best_accuracy=float(best[-1]["val_accuracy"]),
        last_accuracy=float(rows[-1]["val_accuracy"]),
        wall_seconds=round(wall, 2),
        run_seconds=float(rows[-1]["seconds"]),
    )


def judge(preset: Preset, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Say of each promise whether it was kept."""
    accuracy = statistics.mean(outcome.best_accuracy for outcome in outcomes)
    if preset.least_accuracy:
        word = "met" if accuracy >= preset.least_accuracy else "MISSED"
        yield f"{word}: at least {preset.least_accuracy:.1%}; found {accuracy:.2%} (n = {len(outcomes)})"
    if preset.most_seconds is not None:
        wall = statistics.mean(outcome.wall_seconds for outcome in outcomes)
        word = "met" if wall <= preset.most_seconds else "MISSED"
        yield f"{word}: at most {preset.most_seconds:.0f} s for the whole command; found {wall:.0f} s"


def write_outcomes(
    name: str,
    claim: str,
    command: str,
    outcomes: Sequence[Outcome],
    verdicts: Sequence[str],
    where: Mapping[str, Any],
) -> None:
    """Write results/NAME.json and results/NAME.md."""
    harness.RESULTS.mkdir(exist_ok=True)
    values = {
        "name": name,
        "claim": claim,
        "command": command,
        "machine": dict(where),
        "runs": [asdict(outcome) for outcome in outcomes],
        "summary": {column.field: column.summary(outcomes) for column in COLUMNS},
        "verdicts": list(verdicts),
    }
    write_json(harness.RESULTS / f"{name}.json", values)
    table = harness.markdown_table(HEADINGS, (column.row(outcomes) for column in COLUMNS))
    seeds = f"n = {len(outcomes)} seeds, counted from 0."
    ends = "\n".join(f"- {verdict}" for verdict in verdicts)
    parts = [f"# {name}", claim, f"`{command}`", harness.describe(where), seeds, table, ends]
    write_text(harness.RESULTS / f"{name}.md", "\n\n".join(part for part in parts if part) + "\n")


if __name__ == "__main__":
    main()
