"""Planted wrong labels: how many `halftone check-data --run` finds, and how many right ones it names with them."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from sklearn.datasets import load_digits

from benchmarks import harness
from halftone.base.files import write_json, write_text

CLAIM = (
    "Of the digits with 5 % of their labels wrong, a run of a few seconds finds at least 75 % of those among the "
    "images that it was not trained on, and at least 80 % of what it names there is wrong."
)
LEAST_RECALL, LEAST_PRECISION = 0.75, 0.8
COLUMNS = ["images", "wrong", "named", "recall", "precision", "agrees with"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="an .npz file as train takes it; without it the digits")
    parser.add_argument("--share", type=float, default=0.05, help="of the labels, made wrong")
    parser.add_argument("--seeds", type=int, default=5, help="of the wrong labels, the split and the run")
    parser.add_argument("--epochs", type=int, default=15, help="of training")
    parser.add_argument("--validation", type=float, default=0.2, help="the share held out")
    parser.add_argument("--flags", default="", help="more flags for train")
    parser.add_argument("--dry", action="store_true", help="leave results/ as they are")
    settings = parser.parse_args()
    where = harness.machine(["numpy"])
    images, labels = _images(settings.data)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in track(range(settings.seeds), transient=True):
            for part, values in _round(images, labels, seed, Path(scratch) / str(seed), settings).items():
                found.setdefault(part, []).append(values)
    rows = [
        [part, *(_spread([values[name] for values in rounds]) for name in rounds[0])] for part, rounds in found.items()
    ]
    held = found["not trained on"]
    recall, precision = (float(np.mean([values[name] for values in held])) for name in ("recall", "precision"))
    met = {
        f"a mean recall of at least {LEAST_RECALL:.0%}, found {recall:.1%}": recall >= LEAST_RECALL,
        f"a mean precision of at least {LEAST_PRECISION:.0%}, found {precision:.1%}": precision >= LEAST_PRECISION,
    }
    name = "label_errors" if settings.data is None else f"label_errors_{settings.data.stem}"
    told = f"{len(labels):,} images, {settings.share:.0%} of the labels made wrong, {settings.epochs} epochs, "
    told += f"{settings.seeds} seeds: the mean, and in brackets the least and the most."
    ends = "\n".join(f"- {'met' if fine else 'MISSED'}: {what}" for what, fine in met.items())
    command = harness.command_line("benchmarks.label_errors")
    table = harness.markdown_table(COLUMNS, rows)
    text = "\n\n".join([f"# {name}", CLAIM, f"`{command}`", harness.describe(where), told, table, ends]) + "\n"
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / f"{name}.md", text)
        values: dict[str, Any] = {"claim": CLAIM, "command": command, "machine": where, "found": found, "met": met}
        write_json(harness.RESULTS / f"{name}.json", values)


def _images(path: Path | None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return images and labels: of a file's training part, or the digits."""
    if path is not None:
        with np.load(path) as archive:
            return archive["x_train"], archive["y_train"].astype(np.int64)
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)


def _round(
    images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], seed: int, folder: Path, settings: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Plant, train and judge; return what was found in each part."""
    random = np.random.default_rng(seed)
    wrong = random.choice(len(labels), round(settings.share * len(labels)), replace=False)
    given, num_classes = labels.copy(), int(labels.max()) + 1
    given[wrong] = (labels[wrong] + random.integers(1, num_classes, len(wrong))) % num_classes
    folder.mkdir()
    data = folder / "data.npz"
    np.savez(data, x_train=images, y_train=given)
    chance = ["--data.validation", str(settings.validation), "--data.split-seed", str(seed), "--seed", str(seed)]
    place = ["--run.root", str(folder), "--name", "run", "--no-run.report"]
    more = ["--epochs", str(settings.epochs), *settings.flags.split()]
    _halftone("train", str(data), *chance, *place, *more)
    judged = json.loads(_halftone("check-data", str(data), "--run", str(folder / "run"), "--json", "--no-look-alikes"))
    planted = {f"train-{number:05d}" for number in wrong.tolist()}
    held = _held_out(folder / "run")
    return {
        {"yes": "trained on", "no": "not trained on"}[part["trained_on"]]: _scores(part, planted, held)
        for part in judged["labels"]
    }


def _scores(part: dict[str, Any], planted: set[str], held: set[str]) -> dict[str, float]:
    named = {error["name"] for error in part["errors"]}
    there = planted & held if part["trained_on"] == "no" else planted - held
    return {
        "wrong": len(there),
        "named": len(named),
        "recall": len(named & there) / max(len(there), 1),
        "precision": len(named & there) / max(len(named), 1),
        "agreement": part["agreement"],
    }


def _held_out(run: Path) -> set[str]:
    """Return the images that the run was validated on, by its own account."""
    lines = (run / "predictions.csv").read_text("utf-8").splitlines()
    column = lines[0].split(",").index("name")
    return {line.split(",")[column] for line in lines[1:]}


def _spread(values: list[float]) -> str:
    scale = ".1%" if max(values) <= 1 else ".0f"
    return f"{np.mean(values):{scale}} ({min(values):{scale}} to {max(values):{scale}})"


def _halftone(*arguments: str) -> str:
    command = [sys.executable, "-m", "halftone", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
