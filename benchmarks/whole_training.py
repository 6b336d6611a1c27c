"""Whole training of resnet18 at 224 px from a folder of JPEGs, beside the network alone and the loops of others.

python -m benchmarks.whole_training --photos DIR
python -m benchmarks.whole_training --photos DIR --precisions fp32 --rounds 7 --steps 2 --dry

The photos of `DIR/<class>/*.jpg` are enlarged to 500 x 375 pixels, so that decoding is that of usual photos. Each
contestant runs in a process of its own, and they take turns; a turn begins with a fresh way through the data and some
steps that are not timed, so that nobody works ahead while others are timed.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from rich.console import Console
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Contestant, Race, Target
from benchmarks.turns import serve, workers
from halftone.diagnose.speed_pace import WARM, on_one_batch, random_batch, take_steps
from halftone.run.measuring import measuring
from halftone.run.prepare import prepare
from halftone.run.recipe import Recipe
from halftone.system.device import device_facts
from halftone.system.memory import keep_freed_memory
from halftone.system.threads import usable_cores

MODULE = "benchmarks.whole_training"
CLAIM = (
    "Whole training of resnet18 at 224 px from a folder of 500 x 375 JPEGs on 2 cores reaches at least 0.95 of the "
    "images per second of the network alone on random data that is there."
)
OURS, ALONE, REFERENCE, TIMM = "halftone", "the network alone", "torchvision's reference style", "timm's style"
SIDES = {OURS: "ours", ALONE: "ours", REFERENCE: "torchvision", TIMM: "timm"}
SIZE, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTH, HEIGHT, QUALITY = 500, 375, 90
Turn = Callable[[str], float]


def main() -> None:
    settings = _arguments()
    if settings.worker:
        torch.set_num_threads(usable_cores())
        side, folder, precision = settings.worker
        serve(_SETUPS[side](Path(folder), precision, settings.batch, settings.steps))
        return
    where = harness.machine(["torchvision", "timm"])
    native = "bf16" in device_facts(torch.device("cpu")).native
    races, out = [], Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        enlarge(settings.photos, Path(folder), most=settings.images)
        for precision in settings.precisions:
            if precision == "fp32" or native:
                race = _race(Path(folder), precision, settings)
                harness.show_race(out, race)
                races.append(race)
    if not settings.dry:
        harness.write_races("whole_training", CLAIM, races, where, harness.command_line(MODULE))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder with a folder of JPEGs for each class")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--images", type=int, default=640, help="at most")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant, at least 7")
    parser.add_argument("--steps", type=int, default=8, help="timed steps per turn")
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "FOLDER", "PRECISION"), help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if not settings.worker and settings.photos is None:
        parser.error("--photos is missing")
    return settings


def enlarge(photos: Path, folder: Path, *, most: int) -> None:
    """Write photos as JPEGs of 500 x 375 pixels, in folders by class."""
    found = sorted(photos.glob("*/*.jpg"))
    if not found:
        raise SystemExit(f"no JPEGs in folders below {photos.name}")
    for path in found[:: max(1, -(-len(found) // most))]:
        target = folder / "train" / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            large = picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        large.save(target / path.name, quality=QUALITY)


def _race(folder: Path, precision: str, settings: argparse.Namespace) -> Race:
    race = Race(
        f"resnet18, {precision}",
        reference=ALONE,
        settings={
            "batch": settings.batch,
            "pixels": SIZE,
            "threads": usable_cores(),
            "loading": f"{usable_cores()} threads or processes",
            "changes": "random crops of 35 to 100 % of the area, mirrored",
            "untimed steps per turn": WARM,
            "timed steps per turn": settings.steps,
            "rounds": settings.rounds,
        },
        targets=[Target(OURS, "ratio", 1 / 0.95)],
    )
    sides = ["ours", "torchvision", *(["timm"] if importlib.util.find_spec("timm") else [])]
    shared = ["--batch", str(settings.batch), "--steps", str(settings.steps)]
    with workers(MODULE, [[*shared, "--worker", side, str(folder), precision] for side in sides]) as started:
        running = dict(zip(sides, started, strict=True))
        race.run(
            [
                Contestant(name, partial(_turn, running[side].ask, name))
                for name, side in SIDES.items()
                if side in running
            ],
            rounds=settings.rounds,
        )
    return race


def _turn(ask: Callable[[str], Any], name: str) -> list[float]:
    return [float(ask(name))]


def _ours(folder: Path, precision: str, batch: int, steps: int) -> Turn:
    """Halftone's own loop over the folder, and the same on one batch."""
    keep_freed_memory()
    recipe = Recipe(
        data=str(folder), model="resnet18", precision=precision, batch_size=batch, size=SIZE, epochs=90, device="cpu",
        optimizer="sgd", lr=0.1, warmup="5%", augment="light",
    )  # fmt: skip
    prepared = prepare(recipe)
    context = measuring(prepared, num_batches=WARM + steps + 1)
    session = context.__enter__()  # to the end of the process
    for group in session.optimizer.param_groups:
        group["peak"] = 0.0
    classes = len(prepared.plan.data.classes)
    alone = on_one_batch(session, random_batch(session, batch, size=SIZE, channels=3, num_classes=classes))
    turns = iter(range(1 << 30))

    def turn(name: str) -> float:
        assert context is not None
        chosen = session if name == OURS else alone
        return take_steps(chosen, steps, warm=WARM, max_skipped=32, epoch=next(turns)).seconds / steps

    return turn


def _others(
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]], precision: str, steps: int, classes: int, *, last: bool
) -> Turn:
    """Return the turns of a plain loop over a fresh iterator of float batches.

    Args:
        batches: begins a way through the data.
        precision: fp32, or bf16 by autocast.
        steps: to time.
        classes: of the data.
        last: whether gradients are cleared after the update, as timm does, or before the backward pass.
    """
    network = torchvision.models.resnet18(num_classes=classes).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)

    def turn(_: str) -> float:
        clock, running = time.perf_counter(), 0.0
        for number, (images, labels) in enumerate(batches()):
            if number == WARM:
                clock = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = network(images)
                loss = F.cross_entropy(outputs, labels)
            if not last:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if last:
                optimizer.zero_grad()
            running += loss.item() + float((outputs.argmax(1) == labels).float().mean())  # what their meters read
            if number + 1 == WARM + steps:
                break
        return (time.perf_counter() - clock) / steps

    return turn


def _torchvision(folder: Path, precision: str, batch: int, steps: int) -> Turn:
    """ImageFolder, the transforms and the loader as in torchvision's classification reference."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    changes = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, scale=(0.35, 1.0), interpolation=InterpolationMode.BILINEAR),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize(mean=MEAN, std=STD),
        ]
    )
    images = torchvision.datasets.ImageFolder(str(folder / "train"), changes)
    order = torch.utils.data.RandomSampler(images, replacement=True, num_samples=(WARM + steps + 4) * batch)
    loader = torch.utils.data.DataLoader(images, batch_size=batch, sampler=order, num_workers=usable_cores())
    return _others(lambda: iter(loader), precision, steps, len(images.classes), last=False)


def _timm(folder: Path, precision: str, batch: int, steps: int) -> Turn:
    """Timm's data set and loader, with its own collation and normalisation."""
    from timm.data import create_dataset, create_loader

    images = create_dataset("", root=str(folder / "train"))
    loader = create_loader(
        images, input_size=(3, SIZE, SIZE), batch_size=batch, is_training=True, no_aug=False, scale=(0.35, 1.0),
        color_jitter=0.0, hflip=0.5, interpolation="bilinear", mean=MEAN, std=STD, num_workers=usable_cores(),
        use_prefetcher=False, device=torch.device("cpu"), persistent_workers=False,
    )  # fmt: skip
    classes = len({label for _, label in images.reader.samples})

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    return _others(batches, precision, steps, classes, last=True)


_SETUPS: dict[str, Callable[[Path, str, int, int], Turn]] = {"ours": _ours, "torchvision": _torchvision, "timm": _timm}


if __name__ == "__main__":
    main()
