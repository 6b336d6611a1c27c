"""Transfer learning on photos: the head alone, gradual unfreezing, rates by layer, everything, and from scratch.

    python -m benchmarks.transfer --data photos --weights squeezenet1_1.safetensors

Trains torchvision's SqueezeNet 1.1. Frozen parameters and statistics are compared bit for bit with the file.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, by_label, shown, train_all
from halftone.base.files import read_json, write_bytes, write_json, write_text
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, line, panels, to_png
from halftone.weights.files import load_weights

MODEL = "squeezenet1_1"
HEAD = "classifier.1."
COLOURS = (BLUE, GREEN, ORANGE, "#8b5cf6", INK)


def main() -> None:
    parser = arguments("transfer", __doc__, seeds=5)
    parser.add_argument("--data", required=True, type=Path, help="a folder with train/ and val/")
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    settings = parser.parse_args()
    where = harness.machine(["torchvision"])
    data, weights = settings.data.expanduser().resolve(), settings.weights.expanduser().resolve()
    images = {"source": str(data), "size": settings.size}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            Job(name, seed, {"data": images, "model": MODEL, "epochs": settings.epochs, **recipe})
            for seed in range(settings.seeds)
            for name, recipe in _variants(weights).items()
        ]
        outcomes = train_all(jobs, Path(folder))
        found = by_label(outcomes)
        scores = {name: [_scores(run) for run in runs] for name, runs in found.items()}
        still = {run.seed: _still(run, weights) for run in found["head alone"]}
    text = _report(found, scores, still, settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "transfer.md", text)
        runs = [outcome.to_mapping() for outcome in outcomes]
        write_json(
            harness.RESULTS / "transfer.json", {"machine": where, "runs": runs, "scores": scores, "still": still}
        )
        write_bytes(harness.RESULTS / "transfer.png", to_png(_figure(found)))


def _variants(weights: Path) -> Mapping[str, Mapping[str, Any]]:
    file = {"file": str(weights)}
    common = {"precision": "fp32", "optimizer": {"name": "adamw"}, "warmup": "5%"}
    return {
        "head alone": {**common, "weights": {**file, "freeze": "backbone"}},
        "gradual unfreezing": {**common, "weights": {**file, "unfreeze": "0.5ep"}},
        "rates by layer": {**common, "optimizer": {"name": "adamw", "layer_decay": 0.7}, "weights": file},
        "all at one rate": {**common, "weights": file},
        "from scratch": common,
    }


def _scores(run: Outcome) -> dict[str, float]:
    report = read_json(Path(run.path) / "classification_report.json")
    last = run.epochs[-1]
    return {
        "accuracy": 100 * float(last["val_accuracy"]),
        "precision": 100 * float(last["val_precision"] or "nan"),
        "recall": 100 * float(last["val_recall"] or "nan"),
        "best": 100 * report["accuracy"],
        "seconds": run.seconds,
    }


def _still(run: Outcome, weights: Path) -> bool:
    """Tell whether all but the head is the file's, statistics included, to the bit."""
    before, after = load_weights(weights).tensors, load_weights(Path(run.path) / "last.safetensors").tensors
    kept = [name for name in after if not name.startswith(HEAD)]
    return len(kept) > 40 and all(torch.equal(before[name], after[name]) for name in kept)


def _report(
    found: Mapping[str, Sequence[Outcome]],
    scores: Mapping[str, list[dict[str, float]]],
    still: Mapping[int, bool],
    settings: Any,
    where: Mapping[str, Any],
) -> str:
    rows = []
    for name in found:
        columns = [shown([score[key] for score in scores[name]]) for key in ("accuracy", "precision", "recall", "best")]
        seconds = [score["seconds"] for score in scores[name]]
        rows.append((name, *columns, f"{statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"))
    columns = ("", "accuracy, %", "precision, %", "recall, %", "accuracy of the best epoch, %", "seconds")
    bits = f"{sum(still.values())} of {len(still)}"
    parts = [
        "# transfer",
        (
            f"{MODEL} at {settings.size} pixels, {settings.epochs} epochs, {settings.seeds} seeds; mean and 95 % "
            "interval of the last epoch on the validation photos, precision and recall averaged over the classes; "
            "seconds on one thread, two runs side by side, median and range. The optimizer is AdamW at the rate that "
            "the plan takes for it."
        ),
        f"`{harness.command_line('benchmarks.transfer')}`",
        harness.describe(where),
        harness.markdown_table(columns, rows),
        f"With the head alone, all other tensors were the file's to the bit at the end in {bits} runs.",
    ]
    return "\n\n".join(parts) + "\n"


def _figure(found: Mapping[str, Sequence[Outcome]]) -> Any:
    figure, (loss, accuracy) = panels(2)
    for (name, runs), colour in zip(found.items(), COLOURS, strict=True):
        epochs: list[float | None] = [float(row["epoch"]) for row in runs[0].epochs]
        for axes, column, factor in ((loss, "val_loss", 1), (accuracy, "val_accuracy", 100)):
            curves = [[factor * float(row[column]) for row in run.epochs] for run in runs]
            mean: list[float | None] = [statistics.mean(values) for values in zip(*curves, strict=True)]
            line(axes, epochs, mean, name, colour)
    finish(loss, "Validation loss, mean of the seeds", "epoch")
    finish(accuracy, "Validation accuracy, %, mean of the seeds", "epoch")
    return figure


if __name__ == "__main__":
    main()
