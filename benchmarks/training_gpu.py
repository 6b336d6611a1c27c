"""Training on a GPU: halftone's loop beside a hand-written compiled one, and how long its steps wait for JPEGs.

    python -m benchmarks.training_gpu --photos DIR
    python -m benchmarks.training_gpu --photos DIR --device cpu --batch 8 --steps 2 --dry

Both loops train resnet18 at 224 px in bf16, compiled, on images that lie on the device; they take turns in one process.
The wait is that of `halftone diagnose speed` on photos enlarged to JPEGs of 500 x 375 pixels, read by all cores.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Contestant, Race, Target
from benchmarks.step_speed.sides import MOST, ours
from benchmarks.step_speed.task import DECAY, MEAN, MOMENTUM, RATE, SIZE, STD, build, images, order
from benchmarks.whole_training import enlarge
from halftone.base.files import read_json, write_json, write_text
from halftone.diagnose.speed import diagnose_speed
from halftone.run.recipe import Recipe
from halftone.system.threads import usable_cores

MODULE = "benchmarks.training_gpu"
NETWORK, PRECISION = "resnet18", "bf16"
LEAST_SHARE, MOST_WAIT = 0.98, 0.05
CLAIM = (
    f"On a GPU halftone's loop reaches at least {LEAST_SHARE} of the images per second of a hand-written compiled one, "
    f"and resnet18 at 224 px waits for JPEGs less than {MOST_WAIT:.0%} of its time."
)
OURS, WRITTEN = "halftone", "written by hand"
DIAGNOSES = 3


def main() -> None:
    settings = _arguments()
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this benchmark wants a CUDA device")
    where = harness.machine(["torchvision"])
    race = _race(settings)
    harness.show_race(Console(width=140), race)
    waits = list(_waits(settings))
    found = harness.Spread.of(waits)
    word = "met" if found.median < MOST_WAIT else "MISSED"
    line = (
        f"- {word}: steps wait for JPEGs less than {MOST_WAIT:.0%} of their time; found {found.text(4)}, {DIAGNOSES} "
        f"diagnoses, {usable_cores()} cores"
    )
    print(line)
    if not settings.dry:
        harness.write_races("training_gpu", CLAIM, [race], where, harness.command_line(MODULE))
        page, values = harness.RESULTS / "training_gpu.md", harness.RESULTS / "training_gpu.json"
        write_text(page, f"{page.read_text('utf-8')}\n## Waiting for JPEGs\n\n{line}\n")
        write_json(values, read_json(values) | {"shares_of_waiting": waits})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder with a folder of JPEGs for each class")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each loop, at least 7")
    parser.add_argument("--steps", type=int, default=50, help="timed steps per turn")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a diagnosis")
    parser.add_argument("--dry", action="store_true", help="print, but leave results/ as it is")
    return parser.parse_args()


def _race(settings: argparse.Namespace) -> Race:
    batch, device = settings.batch, settings.device
    race = Race(
        f"{NETWORK}, {PRECISION}, compiled",
        reference=WRITTEN,
        settings={"batch": batch, "pixels": SIZE, "steps per turn": settings.steps, "rounds": settings.rounds},
        targets=[Target(OURS, "ratio", 1 / LEAST_SHARE)],
    )
    loops = {
        WRITTEN: _written(build(NETWORK), batch, device),
        OURS: ours(NETWORK, build(NETWORK), PRECISION, batch=batch, device=device, compiled=True),
    }
    turns = [Contestant(name, partial(_turn, losses, settings.steps, device)) for name, losses in loops.items()]
    race.run(turns, rounds=settings.rounds)
    return race


def _written(network: nn.Module, batch: int, device: str) -> Iterator[Tensor]:
    """Train as somebody does who knows GPUs, and yield the loss of each step, on the device."""
    pixels, labels = images(batch)
    inputs = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    targets = torch.from_numpy(labels).to(device)
    mean, std = (torch.tensor(values, device=device).mul(255).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY, fused=True
    )
    compiled = torch.compile(network, dynamic=False)
    for chosen in torch.from_numpy(order(batch, MOST)).to(device).split(batch):
        seen = (inputs.index_select(0, chosen) - mean) / std
        with torch.autocast(device, torch.bfloat16):
            loss = F.cross_entropy(compiled(seen), targets.index_select(0, chosen))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.detach()


def _turn(losses: Iterator[Tensor], steps: int, device: str) -> Sequence[float]:
    """Return the seconds of a mean step; the device is waited for at the end only."""
    clock = time.perf_counter()
    *_, last = islice(losses, steps)
    if not torch.isfinite(last):  # waits for the device
        raise SystemExit(f"the loss is {float(last)} on {device}")
    return [(time.perf_counter() - clock) / steps]


def _waits(settings: argparse.Namespace) -> Iterator[float]:
    """Yield the share of a step's time that is waiting for data, of each diagnosis."""
    with tempfile.TemporaryDirectory() as folder:
        enlarge(settings.photos, Path(folder), most=4 * settings.batch)
        recipe = Recipe(
            data={"source": folder, "cache": "off"}, model=NETWORK, precision=PRECISION, batch_size=settings.batch,
            size=SIZE, epochs=90, device=settings.device, optimizer="sgd", lr=0.1, warmup="5%", augment="light",
        )  # fmt: skip
        for _ in range(DIAGNOSES):
            step = diagnose_speed(recipe, seconds=settings.seconds).measured.step
            yield step.get("data", 0.0) / sum(step.values())


if __name__ == "__main__":
    main()
