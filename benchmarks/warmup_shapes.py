"""What warmup repairs, and where there is nothing to repair (Goyal et al. 2017, section 2.2).

    python -m benchmarks.warmup_shapes large --data cifar10.npz
    python -m benchmarks.warmup_shapes small --data cifar10.npz

`large` trains with a large batch at a large rate: without a warmup, and with each shape. `small` does the same at a
small rate, where a warmup has nothing to do. Afterwards `halftone diagnose warmup` judges the runs from their logs.
"""

import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, by_label, first_images, shown, train_all
from halftone.base.files import write_bytes, write_json, write_text
from halftone.base.tables import read_table
from halftone.report.figures import BLUE, GREEN, INK, ORANGE, finish, line, panels, to_png

NONE = "none"
SHAPES = ("linear", "exponential", "cosine", "constant", "adaptive")
COLOURS = (INK, BLUE, GREEN, "#8b5cf6", "#0c8599", ORANGE)
NUM_TRAIN, NUM_TEST = 10_000, 5_000
TASKS: Mapping[str, Mapping[str, Any]] = {
    "large": {"optimizer": {"name": "sgd", "lr": 1.6}, "batch_size": 512},
    "small": {"optimizer": {"name": "sgd", "lr": 0.02}, "batch_size": 128},
}


def main() -> None:
    parser = arguments("warmup_shapes", __doc__, seeds=5)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--data", required=True, type=Path, help="an .npz file")
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--length", default="2ep")
    settings = parser.parse_args()
    where = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = first_images("cifar10", settings.data.expanduser(), root, train=NUM_TRAIN, test=NUM_TEST)
        task = TASKS[settings.task]
        base = {
            **task,
            "data": {"source": str(data), "size": settings.size},
            "model": settings.model,
            "precision": "fp32",
        }
        jobs = [
            Job(shape, seed, {**base, "epochs": settings.epochs, "warmup": _warmup(shape, settings.length)})
            for seed in range(settings.seeds)
            for shape in (NONE, *SHAPES)
        ]
        outcomes = train_all(jobs, root)
        found = by_label(outcomes)
        judged = {name: [_diagnosed(run) for run in runs] for name, runs in found.items()}
        losses = {name: _losses(runs[0]) for name, runs in found.items()}
    text = _report(found, judged, settings, where)
    print(text)
    if not settings.dry:
        name = f"warmup_{settings.task}"
        write_text(harness.RESULTS / f"{name}.md", text)
        runs = [outcome.to_mapping() for outcome in outcomes]
        write_json(harness.RESULTS / f"{name}.json", {"machine": where, "runs": runs, "diagnoses": judged})
        write_bytes(harness.RESULTS / f"{name}.png", to_png(_figure(found, losses)))


def _warmup(shape: str, length: str) -> Mapping[str, Any]:
    if shape == NONE:
        return {"length": "none"}
    start = {"start": 0.1} if shape == "constant" else {}
    return {"length": length, "shape": shape, **start}


def _diagnosed(run: Outcome) -> dict[str, str]:
    from halftone.diagnose.warmup import diagnose_warmup
    from halftone.run.folder import RunFolder

    found = diagnose_warmup(RunFolder(Path(run.path))).diagnosis
    return {"verdict": found.verdict, "advice": found.advice}


def _losses(run: Outcome) -> list[float | None]:
    rows = read_table(Path(run.path) / "steps.csv")
    return [float(row["loss"]) if row["loss"] else None for row in rows]


def _report(
    found: Mapping[str, Sequence[Outcome]],
    judged: Mapping[str, list[dict[str, str]]],
    settings: Any,
    where: Mapping[str, Any],
) -> str:
    rows = []
    for name, runs in found.items():
        against = [run.accuracy - other.accuracy for run, other in zip(runs, found[NONE], strict=True)]
        verdicts = Counter(one["verdict"] for one in judged[name])
        said = ", ".join(f"{verdict} ({count})" for verdict, count in verdicts.most_common())
        diverged = sum(bool(run.fault) for run in runs)
        difference = "-" if name == NONE else shown(against, sign="+")
        rows.append((name, shown([run.accuracy for run in runs]), difference, str(diverged), said))
    task = TASKS[settings.task]
    columns = ("warmup", "accuracy, %", "points against none, paired", "diverged", "`halftone diagnose warmup` says")
    advice = Counter(one["advice"] for one in judged[NONE]).most_common(1)[0][0]
    parts = [
        f"# warmup_{settings.task}",
        (
            f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images of CIFAR-10 at {settings.size} pixels, "
            f"{settings.model}, SGD at {task['optimizer']['lr']:g} with batches of {task['batch_size']}, "
            f"{settings.epochs} epochs, a warmup of {settings.length}, then cosine; {settings.seeds} seeds, mean and "
            "95 % interval of the last epoch. A run that diverges counts as guessing. The constant warmup starts at a "
            "tenth of the peak, the others at a hundredth."
        ),
        f"`{harness.command_line('benchmarks.warmup_shapes')}`",
        harness.describe(where),
        harness.markdown_table(columns, rows),
        f"The advice for the runs without a warmup: {advice}",
    ]
    return "\n\n".join(parts) + "\n"


def _figure(found: Mapping[str, Sequence[Outcome]], losses: Mapping[str, list[float | None]]) -> Any:
    figure, (left, right) = panels(2)
    for (name, runs), colour in zip(found.items(), COLOURS, strict=True):
        values = losses[name]
        line(left, [float(step) for step in range(1, len(values) + 1)], values, name, colour)
        whole = [run for run in runs if not run.fault]
        if whole:
            epochs: list[float | None] = [float(row["epoch"]) for row in whole[0].epochs]
            curves = [[100 * float(row["val_accuracy"]) for row in run.epochs] for run in whole]
            line(right, epochs, [statistics.mean(values) for values in zip(*curves, strict=True)], name, colour)
    finish(left, "Training loss, seed 0", "optimizer step")
    left.set_ylim(0, 4)
    finish(right, "Validation accuracy, %, mean of the seeds", "epoch")
    return figure


if __name__ == "__main__":
    main()
