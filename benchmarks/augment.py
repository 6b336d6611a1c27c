"""Random changes of decoded images and their normalisation: whole batches by halftone, image by image by torchvision.

    python -m benchmarks.augment

Each side starts from the same uint8 pixels of 224 x 224 and ends with a normalised float batch, in one thread, as in a
loader's process. Decoding and cropping, which come before, are `benchmarks.loader`'s subject.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torchvision.transforms import v2

from benchmarks import harness
from benchmarks.harness import Contestant, Race, Target
from halftone.base.inputs import InputSpec
from halftone.data.augment.pipeline import Augment
from halftone.data.config import AugmentConfig
from halftone.data.feed import Batch
from halftone.run.plan.decide import augmentation
from halftone.system.memory import keep_freed_memory

CLAIM = (
    "With the changes that photos get by default, halftone makes a normalised batch in at most 0.6 of the time that "
    "torchvision's transforms (v2, on uint8 tensors) take for the same, image by image."
)
SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")
TORCHVISION, OURS = "torchvision v2, image by image", "halftone, whole batches"
DEFAULT, MOST_RATIO = "as photos are by default: mirrored, turned, light and colours", 0.6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="images in a batch")
    parser.add_argument("--batches", type=int, default=4, help="in a turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    settings = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    where, races = harness.machine(["torchvision"]), []
    bilinear = v2.InterpolationMode.BILINEAR
    mirror, turn, jitter = v2.RandomHorizontalFlip(), v2.RandomRotation(5, bilinear), v2.ColorJitter(0.2, 0.2, 0.2)
    cases: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "mirrored": ({"policy": "light"}, [mirror]),
        DEFAULT: ({}, [mirror, turn, jitter]),
        "mirrored, TrivialAugment": (
            {"policy": "light", "random_ops": "trivial"},
            [mirror, v2.TrivialAugmentWide(interpolation=bilinear)],
        ),
    }
    for title, (ours, theirs) in cases.items():
        race = Race(
            title=f"{title}: time per batch of {settings.batch} images",
            reference=TORCHVISION,
            settings={"rounds": settings.rounds, "batches in a turn": settings.batches, "threads": settings.threads},
            targets=[Target(OURS, "ratio", MOST_RATIO)] if title == DEFAULT else [],
        )
        pixels = torch.randint(0, 256, (settings.batch, SIZE, SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        work = {TORCHVISION: _torchvision(pixels, theirs), OURS: _ours(pixels, AugmentConfig(**ours))}
        turns = [Contestant(name, partial(_turn, change, settings.batches)) for name, change in work.items()]
        race.run(turns, rounds=settings.rounds)
        harness.show_race(Console(width=150), race)
        races.append(race)
    if not settings.dry:
        harness.write_races("augment", CLAIM, races, where, harness.command_line("benchmarks.augment"))


Change = Callable[[], Tensor]


def _torchvision(pixels: Tensor, changes: list[Any]) -> Change:
    change = v2.Compose([*changes, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    planes = list(pixels.contiguous())  # as its decoder gives them

    def batch() -> Tensor:
        return torch.stack([change(image) for image in planes])

    return batch


def _ours(pixels: Tensor, config: AugmentConfig) -> Change:
    settled, _ = augmentation(config, size=SIZE, small=False, source="photos", gray=False)
    spec = InputSpec(size=SIZE, mean=MEAN, std=STD)
    change = Augment(settled, spec, CPU, num_classes=2, seed=0, crop=False)
    given = Batch(pixels, torch.zeros(len(pixels), dtype=torch.long), np.arange(len(pixels)))
    steps = count()

    def batch() -> Tensor:
        return change(given, next(steps))[0]

    return batch


def _turn(change: Change, batches: int) -> Sequence[float]:
    seconds = []
    for _ in range(batches):
        began = time.perf_counter()
        change()
        seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
