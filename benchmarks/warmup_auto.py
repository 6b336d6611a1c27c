"""Nothing tuned against a grid: `--lr auto --warmup auto` beside twelve pairs of rate and warmup length.

    python -m benchmarks.warmup_auto grid fashion-mnist --data DIR
    python -m benchmarks.warmup_auto grid cifar10 --data cifar10.npz
    python -m benchmarks.warmup_auto random --data cifar10.npz

The grid has four rates, each four times the one before, and three lengths of a linear warmup; runs of one seed share
starting weights, order and augmentation. With `--keep`, the grid is read from the committed results, which hold for
a rate that is given, and only what is untuned is trained. `random` trains twenty small networks drawn at random, with
nothing tuned, and counts those that diverge or learn nothing.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, by_label, first_images, shown, train_all
from halftone.base.files import read_json, write_json, write_text

AUTO = "auto"
RATES = (0.0025, 0.01, 0.04, 0.16)
"""Of Muon, which the plan takes for this network; a factor of four apart, so that the best lies within."""
LENGTHS = ("none", "5%", "20%")
NUM_TRAIN, NUM_TEST = 10_000, 5_000
PROMISED = 0.3
"""Points that nothing tuned may lose against the best of the grid."""


def main() -> None:
    parser = arguments("warmup_auto", __doc__, seeds=3)
    parser.add_argument("task", choices=["grid", "random"])
    parser.add_argument("name", nargs="?", choices=["fashion-mnist", "cifar10"], default="cifar10")
    parser.add_argument("--data", required=True, type=Path, help="a folder for torchvision, or an .npz file")
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--nets", type=int, default=20)
    parser.add_argument("--keep", action="store_true", help="grid: train only what is untuned")
    settings = parser.parse_args()
    where = harness.machine(["torchvision"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if settings.task == "grid":
            data = first_images(settings.name, settings.data.expanduser(), root, train=NUM_TRAIN, test=NUM_TEST)
            outcomes = _grid(data, root, settings)
            name, text = f"warmup_auto_{settings.name}", _grid_report(by_label(outcomes), settings, where)
        else:
            data = first_images(settings.name, settings.data.expanduser(), root, train=4000, test=1000)
            outcomes = train_all(_random_nets(data, settings.size, settings.nets), root)
            name, text = "warmup_auto_random", _random_report(outcomes, settings.size, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / f"{name}.md", text)
        runs = [outcome.to_mapping() for outcome in outcomes]
        write_json(harness.RESULTS / f"{name}.json", {"machine": where, "runs": runs})


def _grid(data: Path, root: Path, settings: argparse.Namespace) -> list[Outcome]:
    images = {"source": str(data), "size": settings.size}
    base = {"data": images, "model": settings.model, "epochs": settings.epochs, "precision": "fp32"}
    untuned = train_all([Job(AUTO, seed, base) for seed in range(settings.seeds)], root)
    if settings.keep:
        return [*untuned, *_kept(settings.name)]
    jobs = []
    for seed in range(settings.seeds):
        for lr in RATES:
            for length in LENGTHS:
                tuned = {**base, "optimizer": {"lr": lr}, "warmup": {"length": length, "shape": "linear"}}
                jobs.append(Job(f"lr {lr:g}, warmup {length}", seed, tuned))
    return [*untuned, *train_all(jobs, root)]


def _kept(name: str) -> list[Outcome]:
    """Read the grid's runs back; they have no folders any more."""
    stored = read_json(harness.RESULTS / f"warmup_auto_{name}.json")["runs"]
    return [Outcome(**run, path="") for run in stored if run["label"] != AUTO]


def _grid_report(found: Mapping[str, list[Outcome]], settings: argparse.Namespace, where: Mapping[str, Any]) -> str:
    means = {name: statistics.mean(run.accuracy for run in runs) for name, runs in found.items()}
    best = max((name for name in found if name != AUTO), key=means.__getitem__)
    rows = []
    for name in sorted(found, key=lambda name: -means[name]):
        pairs = zip(found[name], found[best], strict=True)
        differences = [run.accuracy - other.accuracy for run, other in pairs]
        diverged = sum(bool(run.fault) for run in found[name])
        label = f"**{name}**: {_chosen(found[name])}" if name == AUTO else name
        rows.append((label, shown([run.accuracy for run in found[name]]), shown(differences, sign="+"), str(diverged)))
    behind = means[best] - means[AUTO]
    verdict = "met" if behind <= PROMISED else "MISSED"
    parts = [
        f"# warmup_auto, {settings.name}",
        (
            f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images at {settings.size} pixels, "
            f"{settings.model}, {settings.epochs} epochs, {settings.seeds} seeds, fp32; accuracy of the last epoch in "
            "per cent, mean and 95 % interval. A run that diverges counts as guessing."
        ),
        f"`{harness.command_line('benchmarks.warmup_auto')}`",
        harness.describe(where),
        harness.markdown_table(("", "accuracy, %", f"points against {best}, paired", "diverged"), rows),
        (
            f"{verdict}: nothing tuned is {behind:+.2f} points behind the best of {len(found) - 1}, which was chosen "
            f"on the same images; at most {PROMISED:g} were promised."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _chosen(runs: list[Outcome]) -> str:
    rates = ", ".join(f"{run.settled['lr']:g}" for run in runs)
    starts = ", ".join(f"{run.settled['warmup']['start']:.2g}" for run in runs)
    return f"{runs[0].settled['optimizer']}, rates {rates}, starts {starts} of them"


def _random_nets(data: Path, size: int, count: int) -> list[Job]:
    """Draw networks, batches and optimizers, with everything about the rate left open."""
    draw = random.Random(0)
    jobs = []
    for number in range(count):
        model = draw.choice(
            ["cnn", "cifar_resnet8", "cifar_resnet14", "cifar_resnet20", "plain6", "plain10", "plain14"]
        )
        recipe: dict[str, Any] = {
            "data": {"source": str(data), "size": size},
            "model": model,
            "precision": "fp32",
            "epochs": draw.choice([3, 5, 8]) if model != "cnn" else 3,
            "batch_size": draw.choice([16, 32, 64, 128, 256]),
            "optimizer": {"name": draw.choice(["auto", "sgd", "adamw", "muon", "rmsprop"])},
        }
        label = f"{number + 1}: {model}, {recipe['optimizer']['name']}, batch {recipe['batch_size']}"
        jobs.append(Job(label, number, recipe))
    return jobs


def _random_report(outcomes: list[Outcome], size: int, where: Mapping[str, Any]) -> str:
    rows = []
    for run in outcomes:
        warmup = run.settled["warmup"]
        first, last = (float(run.epochs[at]["train_loss"] or "nan") for at in (0, -1)) if run.epochs else (0.0, 0.0)
        rows.append(
            (
                run.label,
                f"{run.settled['lr']:g}",
                f"{warmup['start']:.2g}",
                f"{run.settled['warmup_steps']} of {run.settled['total_steps']}",
                f"{first:.3f}",
                f"{last:.3f}",
                run.fault or f"{run.accuracy:.1f}",
            )
        )
    columns = ("network", "rate", "start", "warmup, steps", "first epoch's loss", "last epoch's loss", "accuracy, %")
    num_diverged = sum(bool(run.fault) for run in outcomes)
    num_stuck = sum(not run.fault and run.accuracy < 1.5 * 100 / run.settled["num_classes"] for run in outcomes)
    parts = [
        "# warmup_auto, random networks",
        (
            f"{len(outcomes)} networks, batches and optimizers drawn at random, 4,000 training images of CIFAR-10 at "
            f"{size} pixels, nothing tuned."
        ),
        f"`{harness.command_line('benchmarks.warmup_auto')}`",
        harness.describe(where),
        harness.markdown_table(columns, rows),
        f"Diverged: {num_diverged} of {len(outcomes)}. Less than 1.5 times as good as guessing: {num_stuck}.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
