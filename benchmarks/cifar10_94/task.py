"""What is claimed of the speed recipe, and the two trainings in numbers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness
from benchmarks.cifar10_94.plain import BATCH, EPOCHS, WHITEN_EPOCHS
from halftone.run.recipe import read_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "cifar10-94.yaml"
CLAIM = (
    "The recipe reaches 94 % on CIFAR-10 (mean of at least 5 seeds, 6 views of each test image), in at most 0.68 of "
    "the time that a plain eager PyTorch transcription of the published training takes."
)
LEAST_ACCURACY, MOST_RATIO, LEAST_SEEDS = 0.94, 0.68, 5
MOST_GPU_SECONDS = 1.5
"""Training and the evaluation at its end, on a GPU, the start of the device left out."""
IMAGES = 50_000
BATCHES = IMAGES // BATCH
"""In an epoch."""
PLAIN_STEPS = EPOCHS * BATCHES
PLAIN_ENDS = {"stem.bias": WHITEN_EPOCHS * BATCHES, "": PLAIN_STEPS}
"""The steps in which the stretches of the transcription end, by what changes there."""


def our_ends() -> dict[str, int]:
    """Return the steps in which the stretches of the recipe end, in order, by what changes there."""
    recipe = read_recipe(RECIPE)
    total = recipe.max_steps or 0
    changes = {**recipe.weights.freeze_after, **{str(size): until for size, until in recipe.data.progressive.items()}}
    ends = {name: span.steps(steps_per_epoch=BATCHES, total_steps=total) for name, span in changes.items()}
    return dict(sorted(ends.items(), key=lambda pair: pair[1])) | {"": total}


def judged_ratio(ratios: Sequence[float], what: str, *, shortened: bool) -> str:
    """Say whether the ratio of the times was kept; a shortened benchmark is not judged."""
    found = harness.Spread.of(ratios)
    word = "not judged" if shortened else "met" if found.median <= MOST_RATIO else "MISSED"
    return f"- {word}: at most {MOST_RATIO} of the time of plain PyTorch; found {found.text(3)} ({what})"


def setting(settings: argparse.Namespace) -> str:
    """Say on what, for how long and in what both train."""
    images = f"{settings.images:,} images" if settings.images else "all 50,000 images"
    threads = f", {settings.threads} threads" if settings.threads else ""
    length = (
        f"{settings.epochs} epochs" if settings.epochs else f"{our_ends()['']} steps of ours, {PLAIN_STEPS} of theirs"
    )
    return f"{images}, batch {BATCH}, {length}, {settings.precision} on {settings.device}{threads}."
