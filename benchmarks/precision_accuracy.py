"""Accuracy in every precision: paired runs on the first 10,000 images of a data set, one per seed and precision.

    python -m benchmarks.precision_accuracy fashion-mnist --data DIR
    python -m benchmarks.precision_accuracy cifar10 --data cifar10.npz

Runs of one seed share starting weights, order and augmentation; differences are taken within a seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import first_images, mean_and_interval
from halftone.base.files import write_json, write_text
from halftone.base.tables import read_table
from halftone.system.threads import usable_cores

VARIANTS: Mapping[str, Sequence[str]] = {
    "fp32": ["--precision", "fp32"],
    "bf16": ["--precision", "bf16"],
    "bf16-true": ["--precision", "bf16-true"],
    "auto": ["--precision", "auto"],
    "fp16, rehearsed": ["--precision.emulate", "fp16"],
    "bf16-true, no masters": ["--precision", "bf16-true", "--no-precision.master"],
}
REFERENCE = "fp32"
NUM_TRAIN, NUM_TEST = 10_000, 5_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision_accuracy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("name", choices=["fashion-mnist", "cifar10"])
    parser.add_argument("--data", required=True, help="a folder for torchvision, or an .npz file")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--dry", action="store_true", help="print, but leave results/ as it is")
    settings = parser.parse_args()
    where = harness.machine(["torchvision", "scipy"])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in settings.only}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(settings.data).expanduser()
        data = first_images(settings.name, source, Path(folder), train=NUM_TRAIN, test=NUM_TEST)
        for seed in range(settings.seeds):  # the variants take turns
            for name in settings.only:
                flags = [*VARIANTS[name], "--epochs", str(settings.epochs), "--model", settings.model]
                flags += ["--threads", str(settings.threads)]
                found[name].append(_train([str(data), *flags, "--seed", str(seed)], Path(folder)))
                print(f"seed {seed}, {name}: {found[name][-1]}", file=sys.stderr)
    text = _report(found, settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / f"precision_accuracy_{settings.name}.md", text)
        write_json(harness.RESULTS / f"precision_accuracy_{settings.name}.json", {"machine": where, "runs": found})


def _train(flags: Sequence[str], folder: Path) -> dict[str, float]:
    quiet = ["--run.root", str(folder), "--no-run.report", "--no-run.tensorboard", "--json"]
    words = [sys.executable, "-m", "halftone", "train", *flags, *quiet]
    finished = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if finished.returncode == 5:
        return {"accuracy": float("nan"), "train_loss": float("nan"), "seconds": float("nan"), "skipped": float("nan")}
    if finished.returncode:
        raise SystemExit(f"a run ended with exit code {finished.returncode}: {' '.join(flags)}")
    rows = read_table(Path(json.loads(finished.stdout)["run"]) / "results.csv")
    last = rows[-1]
    return {
        "accuracy": float(last["val_accuracy"]),
        "train_loss": float(last["train_loss"]),
        "seconds": float(last["seconds"]),
        "skipped": float(last["skipped_steps"]),
    }


def _report(found: Mapping[str, list[dict[str, float]]], settings: argparse.Namespace, where: Mapping[str, Any]) -> str:
    reference = [run["accuracy"] for run in found[REFERENCE]] if REFERENCE in found else None
    rows = []
    for name, runs in found.items():
        accuracies = [100 * run["accuracy"] for run in runs]
        row = [
            name,
            f"{statistics.mean(accuracies):.2f}",
            f"{statistics.stdev(accuracies):.2f}" if len(runs) > 1 else "-",
            f"{statistics.mean(run['train_loss'] for run in runs):.4f}",
        ]
        if reference is None or name == REFERENCE or len(runs) < 2:
            row += ["-", "-"]
        else:
            differences = [a - 100 * b for a, b in zip(accuracies, reference, strict=True)]
            mean, reach = mean_and_interval(differences)
            row += [f"{mean:+.2f}", f"{mean - reach:+.2f} to {mean + reach:+.2f}"]
        times = [run["seconds"] / full["seconds"] for run, full in zip(runs, found.get(REFERENCE, runs), strict=True)]
        rows.append((*row, f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"))
    columns = (
        "",
        "accuracy, %, mean",
        "standard deviation",
        "training loss, mean",
        "against fp32, points, mean",
        "95 % interval (paired t)",
        "time over fp32's",
    )
    parts = [
        f"# precision_accuracy, {settings.name}",
        (
            f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images, {settings.model}, {settings.epochs} "
            f"epochs, {settings.seeds} seeds; accuracy of the last epoch. Runs of one seed share weights, order and "
            "augmentation; the precisions take turns. The rehearsal's time is that of imitating fp16, not of fp16."
        ),
        f"`{harness.command_line('benchmarks.precision_accuracy')}`",
        harness.describe(where),
        harness.markdown_table(columns, rows),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
