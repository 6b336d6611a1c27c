"""Thirty trials against the defaults: rate, warmup and decay of weights on Fashion-MNIST, then both with fresh seeds.

    python -m benchmarks.tune --data DIR

Two processes share the search, each on one thread, with pruning. Afterwards the best trial and the defaults are trained
again with fresh seeds in turns, and judged twice: on the 5,000 images that chose the trial, and on 5,000 others that
chose nothing.
"""

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, first_images, mean_and_interval, shown, train_all
from halftone.base.files import write_bytes, write_json, write_text
from halftone.run.inference import evaluate_run
from halftone.run.recipe import Recipe, merge
from halftone.tune.config import TuneConfig
from halftone.tune.records import Summary
from halftone.tune.study import tune

SPACE = {"lr": "log:1e-4..1", "warmup": "none,5%,10%,20%", "l2": "log:1e-5..0.5"}
NUM_TRAIN, NUM_TEST = 10_000, 5_000
DEFAULTS = "defaults"


def main() -> None:
    parser = arguments("tune", __doc__, seeds=5)
    parser.add_argument("--data", required=True, type=Path, help="a folder for torchvision")
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--train", type=int, default=NUM_TRAIN, help="training images")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    settings = parser.parse_args()
    where = harness.machine(["torchvision", "optuna"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data, others = _images(settings.data.expanduser(), root, train=settings.train)
        base = {
            "data": {"source": str(data), "size": settings.size},
            "model": settings.model,
            "epochs": settings.epochs,
            "precision": "fp32",
            "threads": 1,
        }
        summary = _search(base, root, settings)
        runs = train_all(_jobs(base, summary, settings.seeds), root, workers=settings.processes)
        fresh = {run.path: _accuracy(Path(run.path), others) for run in runs}
        text = _report(summary, runs, fresh, settings, where)
        pictures = {path.name: path.read_bytes() for path in Path(summary.folder).glob("*.png")}
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "tune.md", text)
        study = summary.model_dump(mode="json", exclude={"folder", "recipe"})
        held_out = [fresh[run.path] for run in runs]
        values = {"machine": where, "study": study, "runs": [run.to_mapping() for run in runs], "held_out": held_out}
        write_json(harness.RESULTS / "tune.json", values)
        for name, picture in pictures.items():
            write_bytes(harness.RESULTS / f"tune_{name}", picture)


def _images(source: Path, root: Path, *, train: int) -> tuple[Path, Path]:
    """Write the set to search on, and the images that choose nothing: the other half of the test images."""
    data = first_images("fashion-mnist", source, root, train=train, test=NUM_TEST)
    everything = first_images("fashion-mnist", source, root, train=10, test=2 * NUM_TEST)
    with np.load(everything) as stored:
        arrays = {key: stored[key][NUM_TEST:] if key.endswith("test") else stored[key] for key in stored.files}
    others = root / "others.npz"
    np.savez(others, **arrays)
    return data, others


def _search(base: Mapping[str, Any], root: Path, settings: argparse.Namespace) -> Summary:
    """Let several processes share a study; the last summary has everything."""
    context = get_context("spawn")
    with ProcessPoolExecutor(settings.processes, mp_context=context) as pool:
        futures = [pool.submit(_join, base, root, settings.trials) for _ in range(settings.processes)]
        summaries = [future.result() for future in futures]
    return max(summaries, key=lambda summary: len(summary.outcomes))


def _join(base: Mapping[str, Any], root: Path, trials: int) -> Summary:
    recipe = Recipe.parse(merge(base, {"run": {"root": root}}))
    return tune(recipe, SPACE, TuneConfig(trials=trials, judged="last"), study="tune")


def _jobs(base: Mapping[str, Any], summary: Summary, seeds: int) -> list[Job]:
    """Return the runs with fresh seeds, the defaults and the best trial in turns."""
    ways: dict[str, Mapping[str, Any]] = {DEFAULTS: base}
    best = summary.outcome(summary.best or 0)
    if best is not None and best.number:
        ways[f"trial {best.number}"] = merge(base, best.values)
    return [Job(name, seed, recipe) for seed in range(1, seeds + 1) for name, recipe in ways.items()]


def _accuracy(run: Path, others: Path) -> float:
    """Return the accuracy of the last epoch on other images, in per cent; NaN for a run that diverged."""
    if not (run / "last.safetensors").is_file():
        return math.nan
    found = evaluate_run(run, str(others), weights="last").evaluation.metrics.accuracy
    return math.nan if found is None else 100 * found


def _report(
    summary: Summary,
    runs: Sequence[Outcome],
    fresh: Mapping[str, float],
    settings: argparse.Namespace,
    where: Mapping[str, Any],
) -> str:
    ways = list(dict.fromkeys(run.label for run in runs))
    chosen = {way: [run.accuracy for run in runs if run.label == way] for way in ways}
    held_out = {way: [fresh[run.path] for run in runs if run.label == way] for way in ways}
    rows = []
    for way in ways:
        differences = [
            [ours - theirs for ours, theirs in zip(values[way], values[DEFAULTS], strict=True)]
            for values in (chosen, held_out)
        ]
        apart = ["-", "-"] if way == DEFAULTS else [shown(values, sign="+") for values in differences]
        rows.append((way, shown(chosen[way]), apart[0], shown(held_out[way]), apart[1]))
    epochs = sum(outcome.num_epochs for outcome in summary.outcomes)
    full = len(summary.outcomes) * settings.epochs
    seconds = sum(outcome.seconds for outcome in summary.outcomes)
    parts = [
        "# tune",
        (
            f"The first {settings.train:,} training and {NUM_TEST:,} test images of Fashion-MNIST at {settings.size} "
            f"pixels, {settings.model}, {settings.epochs} epochs, fp32; accuracy of the last epoch in per cent, mean "
            f"and 95 % interval over {settings.seeds} seeds that the search did not see. Searched: "
            + ", ".join(f"`{name}={text}`" for name, text in SPACE.items())
            + f", by TPE with Hyperband's pruning, {settings.processes} processes on one storage."
        ),
        f"`{harness.command_line('benchmarks.tune')}`",
        harness.describe(where),
        "## The search",
        "\n".join(f"- {sentence}" for sentence in summary.sentences)
        + f"\n- {epochs} epochs were trained of {full} without pruning; {seconds:.0f} seconds of training in all",
        "## With fresh seeds",
        harness.markdown_table(
            ("", "images that chose", "points, paired", "images that chose nothing", "points, paired"), rows
        ),
        _verdict(held_out),
    ]
    return "\n\n".join(parts) + "\n"


def _verdict(held_out: Mapping[str, Sequence[float]]) -> str:
    ways = [way for way in held_out if way != DEFAULTS]
    if not ways:
        return "No trial beat the defaults."
    differences = [ours - theirs for ours, theirs in zip(held_out[ways[0]], held_out[DEFAULTS], strict=True)]
    mean, reach = mean_and_interval(differences)
    points = f"{shown(differences, sign='+')} points"
    if mean - reach > 0:
        return f"The best trial beats the defaults on images that chose nothing: {points}."
    if mean + reach < 0:
        return f"The defaults beat the best trial on images that chose nothing: {points}."
    return f"The best trial is not shown to beat the defaults on images that chose nothing: {points}."


if __name__ == "__main__":
    main()
