"""What the rule for pictures that look alike finds in real sets: where copies are known, and where there are none."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from halftone.base.files import write_json, write_text
from halftone.data.check import check_part
from halftone.data.config import DataConfig
from halftone.data.copies import find_copies, leaked
from halftone.data.labelled import Labelled, Subset
from halftone.data.open import open_source
from halftone.system.threads import usable_cores

CLAIM = (
    "In CIFAR-10 at least 1.3 % of the test images are found to have a near-duplicate in training; people found one "
    "for 3.25 % by eye (Barz and Denzler 2020), also where it is cut otherwise. In Fashion-MNIST and the digits, whose "
    "pictures are much alike without being copies, at most 2 % of the images are named."
)
COLUMNS = ["set", "images", "equal groups", "pairs alike", "under two labels", "held-out images with a copy", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar", type=Path, help="cifar10.npz")
    parser.add_argument("--fashion", type=Path, help="the folder that torchvision's Fashion-MNIST lies in")
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    parser.add_argument("--most", type=int, help="take an even sample of this many images of each part")
    parser.add_argument("--dry", action="store_true", help="leave results/ as they are")
    settings = parser.parse_args()
    where = harness.machine(["numpy", "scipy", "pillow"])
    sources = {"the digits": DataConfig(source="digits")}
    if settings.cifar:
        sources["CIFAR-10"] = DataConfig(source=str(settings.cifar))
    if settings.fashion:
        sources["Fashion-MNIST"] = DataConfig(source="fashion-mnist", root=settings.fashion)
    if settings.photos:
        sources["photos"] = DataConfig(source=str(settings.photos))
    found = {name: _look(config, settings.most) for name, config in sources.items()}
    rows = [[name, *(f"{values[column]}" for column in COLUMNS[1:])] for name, values in found.items()]
    command = harness.command_line("benchmarks.look_alikes")
    table = harness.markdown_table(COLUMNS, rows)
    text = "\n\n".join(["# look_alikes", CLAIM, f"`{command}`", harness.describe(where), table]) + "\n"
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "look_alikes.md", text)
        write_json(
            harness.RESULTS / "look_alikes.json",
            {"claim": CLAIM, "command": command, "machine": where, "found": found},
        )


def _look(config: DataConfig, most: int | None) -> dict[str, Any]:
    parts = open_source(config)
    checks = []
    for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        if part is not None:
            *_, check = check_part(name, _sample(part, most), workers=usable_cores())
            checks.append(check)
    began = time.perf_counter()
    copies = find_copies(checks)
    seconds = time.perf_counter() - began
    alike = [group for group in copies if group.kind == "alike"]
    held = [f"{leaked(copies, check.part)} of {check.num_images:,}" for check in checks if check.part != "train"]
    return {
        "images": f"{sum(check.num_images for check in checks):,}",
        "equal groups": len(copies) - len(alike),
        "pairs alike": len(alike),
        "under two labels": sum(len(group.labels) > 1 for group in copies),
        "held-out images with a copy": ", ".join(held) or "-",
        "seconds": f"{seconds:.0f}",
    }


def _sample(part: Labelled, most: int | None) -> Labelled:
    count = len(part.labels)
    return part if most is None or count <= most else Subset(part, np.linspace(0, count - 1, most).astype(np.int64))


if __name__ == "__main__":
    main()
