"""The speed recipe on CIFAR-10 beside a plain eager PyTorch transcription of the published one, in turn.

    python -m benchmarks.cifar10_94 --data cifar10.npz
    python -m benchmarks.cifar10_94 --data cifar10.npz --steps 8
    python -m benchmarks.cifar10_94 --data cifar10.npz --device cuda --seeds 20

Each training is a process of its own, so that the allocator of one is not that of the other: ours is the command line
`halftone train DATA --recipe recipes/cifar10-94.yaml`, the other `plain.py`. `--steps K` trains nothing to
its end: it times K steps of each stretch of both trainings, in alternation. Within a stretch all steps do the same: the
bias of the first convolution trains, or not, on pictures of one size.

On a GPU ours trains alone, all seeds in one process after a first run, which is reported apart: it starts the device.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.cifar10_94.steps import race_steps
from benchmarks.cifar10_94.task import CLAIM, LEAST_SEEDS
from benchmarks.cifar10_94.whole import race_whole, train_on_gpu
from halftone.base.files import write_json, write_text


def main() -> None:
    settings = _arguments()
    where = harness.machine()
    with tempfile.TemporaryDirectory() as scratch:
        data = _fewer(Path(settings.data), settings.images, Path(scratch)) if settings.images else settings.data
        report = (race_steps if settings.steps else race_whole if settings.device == "cpu" else train_on_gpu)(
            settings, data
        )
    text = "\n\n".join(
        [
            "# cifar10_94",
            CLAIM,
            f"`{harness.command_line('benchmarks.cifar10_94')}`",
            harness.describe(where),
            *report[1],
        ]
    )
    print(text)
    if not settings.dry:
        harness.RESULTS.mkdir(exist_ok=True)
        name = f"cifar10_94{'_steps' if settings.steps else ''}{'_gpu' if settings.device != 'cpu' else ''}"
        write_json(harness.RESULTS / f"{name}.json", {"claim": CLAIM, "machine": where, **report[0]})
        write_text(harness.RESULTS / f"{name}.md", text + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cifar10_94", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True, help="cifar10.npz")
    parser.add_argument("--seeds", type=int, default=LEAST_SEEDS)
    parser.add_argument("--epochs", type=int, default=0, help="train both for so many, instead of as they are meant")
    parser.add_argument("--images", type=int, default=0, help="train on so many of the images only")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--steps", type=int, default=0, help="time so many steps of each stretch, in alternation, instead"
    )
    parser.add_argument("--rounds", type=int, default=harness.LEAST_ROUNDS, help="of --steps")
    parser.add_argument("--ours-only", action="store_true", help="leave the transcription out")
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    settings = parser.parse_args()
    settings.data = str(Path(settings.data).expanduser().resolve())
    if settings.steps and settings.steps < 2:
        parser.error("--steps: at least 2; the first of each stretch does not count")
    return settings


def _fewer(data: Path, count: int, folder: Path) -> str:
    """Write a set with some of the training images, drawn at random, and return where."""
    with np.load(data) as file:
        values = {name: file[name] for name in file.files}
    chosen = np.random.default_rng(0).permutation(len(values["x_train"]))[:count]
    for name in ("x_train", "y_train"):
        values[name] = values[name][chosen]
    np.savez(folder / "fewer.npz", **values)
    return str(folder / "fewer.npz")


if __name__ == "__main__":
    main()
