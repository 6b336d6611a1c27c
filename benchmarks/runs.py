"""Many small training runs for one claim: side by side on one thread each, and what they came to."""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from halftone.base.tables import read_table
from halftone.system.threads import usable_cores

QUIET = {"report": False, "tensorboard": False}


@dataclass(frozen=True, slots=True)
class Job:
    """A recipe to be trained."""

    label: str
    seed: int
    recipe: Mapping[str, Any]
    """In its nested form, as in YAML; seed, thread and folder are added."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    label: str
    seed: int
    path: str
    """Of the run's folder, as long as the benchmark goes on."""
    fault: str
    """Why it ended early; empty if it did not."""
    epochs: list[dict[str, str]]
    """The rows of results.csv."""
    settled: dict[str, Any]
    """What the plan decided on rate and warmup."""

    @property
    def accuracy(self) -> float:
        """Of the last epoch, on the validation images, in per cent; that of guessing for a run that diverged."""
        if self.fault or not self.epochs:
            return 100 / self.settled["num_classes"]
        return 100 * float(self.epochs[-1]["val_accuracy"])

    @property
    def seconds(self) -> float:
        """Wall time of the run, without start-up."""
        return float(self.epochs[-1]["seconds"]) if self.epochs else math.nan

    @property
    def train_seconds(self) -> float:
        """Wall time of the training steps, without start-up and evaluation."""
        return sum(float(row["train_seconds"]) for row in self.epochs)

    def to_mapping(self) -> dict[str, Any]:
        """Return it for a file of results; folders of a machine are nobody's business."""
        values = asdict(self)
        del values["path"]
        return values


def train_all(jobs: Sequence[Job], root: Path, *, workers: int | None = None) -> list[Outcome]:
    """Train jobs, as many at once as there are cores, each on one thread; in the order given."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers or usable_cores(), mp_context=context) as pool:
        futures = [pool.submit(_train, job, str(root)) for job in jobs]
        outcomes = []
        for future in futures:
            outcome = future.result()
            print(
                f"{outcome.label}, seed {outcome.seed}: {outcome.fault or f'{outcome.accuracy:.2f} %'}", file=sys.stderr
            )
            outcomes.append(outcome)
    return outcomes


def _train(job: Job, root: str) -> Outcome:
    import halftone as ht
    from halftone.run.folder import RunFolder

    name = f"{''.join(letter if letter.isalnum() else '-' for letter in job.label)}-{job.seed}"
    values = dict(job.recipe)
    values["run"] = {**QUIET, **values.get("run", {}), "root": root, "name": name}
    fault = ""
    try:
        ht.train(ht.Recipe.parse({"threads": 1, **values, "seed": job.seed}))
    except ht.Diverged as error:
        fault = str(error)
    folder = RunFolder(Path(root) / name)
    plan = folder.read_plan()
    settled = {
        "optimizer": plan.settled.optimizer.name,
        "lr": plan.settled.optimizer.lr,
        "warmup": plan.settled.warmup.model_dump(mode="json"),
        "warmup_steps": plan.warmup_steps,
        "total_steps": plan.total_steps,
        "num_classes": len(plan.data.classes),
    }
    rows = read_table(folder.results) if folder.results.is_file() else []
    return Outcome(job.label, job.seed, str(folder.path), fault, rows, settled)


def train_by_command(flags: Sequence[str]) -> list[dict[str, str]]:
    """Train by the command line, with `flags` behind `halftone train`, and return the rows of results.csv."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["--run.root", folder, "--no-run.report", "--no-run.tensorboard", "--name", "one", "--json"]
        words = [sys.executable, "-m", "halftone", "train", *flags, *quiet]
        subprocess.run(words, stdout=subprocess.PIPE, check=True)
        return read_table(Path(folder) / "one" / "results.csv")


def by_label(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Gather outcomes by what was tried, seeds in order."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.label, []).append(outcome)
    return found


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the reach of its 95 % interval (Student's t) to both sides; NaN from one value."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan
    error = statistics.stdev(values) / len(values) ** 0.5
    return mean, float(stats.t.ppf(0.975, len(values) - 1)) * error


def shown(values: Sequence[float], *, sign: str = "") -> str:
    """Write the mean and its 95 % interval."""
    mean, reach = mean_and_interval(values)
    return (
        f"{mean:{sign}.2f}"
        if math.isnan(reach)
        else f"{mean:{sign}.2f} ({mean - reach:{sign}.2f} to {mean + reach:{sign}.2f})"
    )


def first_images(name: str, source: Path, folder: Path, *, train: int, test: int) -> Path:
    """Write the first images of each part of a data set as an .npz file.

    Args:
        name: `fashion-mnist`, from a folder for torchvision, or any other, from an .npz file.
        source: the folder or file.
        folder: where the file goes.
        train: training images.
        test: test images.
    """
    if source.suffix == ".npz":
        with np.load(source) as stored:
            arrays = {key: stored[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    else:
        from torchvision.datasets import FashionMNIST

        parts = {part: FashionMNIST(source, train=part == "train", download=False) for part in ("train", "test")}
        arrays = {f"x_{part}": held.data.numpy() for part, held in parts.items()}
        arrays |= {f"y_{part}": held.targets.numpy() for part, held in parts.items()}
    path = folder / f"{name}-{train}.npz"
    cut = {key: value[: train if key.endswith("train") else test] for key, value in arrays.items()}
    np.savez(path, **cut)
    return path


def arguments(module: str, text: str, *, seeds: int) -> argparse.ArgumentParser:
    """Return a parser with what all of these benchmarks take."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=text.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--dry", action="store_true", help="print, but leave results/ as it is")
    return parser
