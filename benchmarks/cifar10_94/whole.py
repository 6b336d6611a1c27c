"""Whole trainings, to their end: how good they become, and how long they take."""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import harness
from benchmarks.cifar10_94.sides import halftone, run_ours, run_plain
from benchmarks.cifar10_94.task import LEAST_ACCURACY, LEAST_SEEDS, MOST_GPU_SECONDS, RECIPE, judged_ratio, setting
from halftone.base.tables import read_table
from halftone.run.inference import evaluate_run
from halftone.run.recipe import read_recipe
from halftone.verbs import train


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one training came to."""

    seed: int
    accuracy_views: float
    """With six views."""
    accuracy: float
    """With one."""
    seconds: float
    """Training and the evaluation at its end."""
    wall_seconds: float
    """The whole command."""


def race_whole(settings: argparse.Namespace, data: str) -> tuple[dict[str, Any], list[str]]:
    """Train both to the end, in turn."""
    ours, plain = [], []
    for seed in range(settings.seeds):
        with tempfile.TemporaryDirectory() as folder:
            run, wall = run_ours(settings, data, seed, folder)
            rows = read_table(run / "results.csv")
            once = halftone(folder, "evaluate", str(run), "--weights", "last", "--views", "1", "--json")
        last = rows[-1]
        ours.append(Outcome(seed, float(last["val_accuracy"]), once["accuracy"], float(last["seconds"]), wall))
        if not settings.ours_only:
            said, wall = run_plain(settings, data, seed)
            plain.append(Outcome(seed, said["accuracy_views"], said["accuracy"], said["seconds"], wall))
        print(json.dumps({"ours": asdict(ours[-1]), "plain": asdict(plain[-1]) if plain else None}), file=sys.stderr)
    rows_of = {"halftone, by its command line": ours, "plain eager PyTorch": plain}
    heads = ("", "accuracy, 6 views, %", "accuracy, 1 view, %", "training and evaluation, s", "whole command, s")
    table = [[name, *_summaries(found)] for name, found in rows_of.items() if found]
    parts = [
        f"n = {len(ours)} seeds, counted from 0; mean ± standard deviation (least to most). {setting(settings)}",
        harness.markdown_table(heads, table),
        "\n".join(_verdicts(settings, ours, plain)),
    ]
    return {"ours": [asdict(one) for one in ours], "plain": [asdict(one) for one in plain]}, parts


def train_on_gpu(settings: argparse.Namespace, data: str) -> tuple[dict[str, Any], list[str]]:
    """Train ours for each seed, warm, after a first run that counts for nothing but its time."""
    found = []
    for seed in (settings.seeds, *range(settings.seeds)):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            run = {"root": folder, "report": False, "tensorboard": False, "fit_images": 0}
            changes = {"data": {"source": data}, "run": run, "seed": seed}
            changes |= {"precision": settings.precision, "device": settings.device}
            changes |= {"epochs": settings.epochs, "max_steps": None} if settings.epochs else {}
            path = train(read_recipe(RECIPE, changes)).path
            wall = time.perf_counter() - begun
            last = read_table(path / "results.csv")[-1]
            once = evaluate_run(path, weights="last", views=1).metrics.accuracy
        found.append(Outcome(seed, float(last["val_accuracy"]), once or 0.0, float(last["seconds"]), wall))
        print(json.dumps(asdict(found[-1])), file=sys.stderr)
    cold, *warm = found
    heads = ("", "accuracy, 6 views, %", "accuracy, 1 view, %", "training and evaluation, s", "whole call, s")
    seconds = statistics.mean(one.seconds for one in warm)
    word = "met" if seconds <= MOST_GPU_SECONDS else "MISSED"
    parts = [
        f"n = {len(warm)} seeds, counted from 0; mean ± standard deviation (least to most). {setting(settings)}",
        harness.markdown_table(heads, [["halftone, warm", *_summaries(warm)], ["the first run", *_summaries([cold])]]),
        "\n".join([*_verdicts(settings, warm, ()), f"- {word}: at most {MOST_GPU_SECONDS} s; found {seconds:.2f} s"]),
    ]
    return {"ours": [asdict(one) for one in warm], "first": asdict(cold)}, parts


def _summaries(found: Sequence[Outcome]) -> Iterator[str]:
    for name, factor, digits in (
        ("accuracy_views", 100, 2),
        ("accuracy", 100, 2),
        ("seconds", 1, 1),
        ("wall_seconds", 1, 1),
    ):
        values = [factor * getattr(one, name) for one in found]
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        yield f"{statistics.mean(values):.{digits}f}{spread} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _verdicts(settings: argparse.Namespace, ours: Sequence[Outcome], plain: Sequence[Outcome]) -> Iterator[str]:
    """Say of each promise whether it was kept."""
    accuracy = statistics.mean(one.accuracy_views for one in ours)
    shortened = settings.epochs > 0 or settings.images > 0
    if shortened or len(ours) < LEAST_SEEDS:
        yield f"- not judged: {len(ours)} seeds{', shortened' * shortened}; accuracy {accuracy:.2%}"
    else:
        word = "met" if accuracy >= LEAST_ACCURACY else "MISSED"
        yield f"- {word}: at least {LEAST_ACCURACY:.0%} with 6 views; found {accuracy:.2%}"
    if plain:
        ratios = [mine.wall_seconds / other.wall_seconds for mine, other in zip(ours, plain, strict=True)]
        yield judged_ratio(ratios, "whole commands, seed by seed", shortened=shortened)
