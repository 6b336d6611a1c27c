"""Smaller pictures at first: what they save, and what they cost, beside full size from the start to the end.

    python -m benchmarks.progressive --data photos --weights squeezenet1_1.safetensors --model squeezenet1_1
    python -m benchmarks.progressive --data cifar10-5k.npz --model cifar_resnet8 --epochs 16 --name progressive_cifar10

Each seed trains in every way, and differences are within a seed. Evaluation sees the full size. "shorter" trains at
full size for as many epochs as take about the pixels of `resize`: the time could be saved so, too.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, by_label, shown, train_all
from halftone.base.files import write_json, write_text

FULL = "full size"
STAGES = ((0.57, 40), (0.79, 70))
"""Shares of the side, and until which per cent of the run."""


def main() -> None:
    parser = arguments("progressive", __doc__, seeds=5)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--size", type=int, default=0, help="of the network's input; by default 32 for an .npz file, 224 for photos"
    )
    parser.add_argument("--name", default="progressive", help="of the files in results/")
    settings = parser.parse_args()
    where = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = train_all(_jobs(settings), Path(folder))
    text = _report(by_label(outcomes), settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / f"{settings.name}.md", text)
        runs = [outcome.to_mapping() for outcome in outcomes]
        write_json(harness.RESULTS / f"{settings.name}.json", {"machine": where, "runs": runs})


def _jobs(settings: Any) -> list[Job]:
    data: dict[str, Any] = {"source": str(settings.data.expanduser().resolve())}
    size = settings.size or (32 if settings.data.suffix == ".npz" else 224)
    data["size"] = size
    common: dict[str, Any] = {"model": settings.model, "epochs": settings.epochs}
    if settings.weights:
        common["weights"] = {"file": str(settings.weights.expanduser().resolve())}
    growing = {"progressive": ",".join(f"{round(share * size)}={until}%" for share, until in STAGES)}
    shorter = max(1, round(settings.epochs * _pixels(size)))
    ways = {
        FULL: {**common, "data": data},
        "resize": {**common, "data": {**data, **growing}},
        "crop": {**common, "data": {**data, **growing, "progressive_by": "crop"}},
        f"shorter, {shorter} epochs": {**common, "data": data, "epochs": shorter},
    }
    return [Job(name, seed, recipe) for seed in range(settings.seeds) for name, recipe in ways.items()]


def _pixels(size: int) -> float:
    """Return the share of the pixels that growing pictures have."""
    share, start = 0.0, 0
    for side, until in STAGES:
        share += (until - start) / 100 * (round(side * size) / size) ** 2
        start = until
    return share + (100 - start) / 100


def _report(found: Mapping[str, Sequence[Outcome]], settings: Any, where: Mapping[str, Any]) -> str:
    rows = []
    for name, runs in found.items():
        pairs = list(zip(runs, found[FULL], strict=True))
        ratios = harness.Spread.of([mine.train_seconds / full.train_seconds for mine, full in pairs])
        change = "" if name == FULL else shown([mine.accuracy - full.accuracy for mine, full in pairs], sign="+")
        seconds = statistics.median(run.train_seconds for run in runs)
        rows.append((name, shown([run.accuracy for run in runs]), change, f"{seconds:.0f}", ratios.text(2)))
    heads = ("", "accuracy, %", "beside full size, points", "seconds of training", "of the time at full size")
    stages = ", ".join(f"{share:.0%} of the side until {until} % of the run" for share, until in STAGES)
    parts = [
        f"# {settings.name}",
        (
            f"{settings.model}, {settings.epochs} epochs, {settings.seeds} seeds; pictures grow: {stages}. Accuracy of "
            "the last epoch on the validation images at full size, mean and 95 % interval; seconds of the training "
            "steps on one thread, two runs side by side, median; ratios within a seed, median and range."
        ),
        f"`{harness.command_line('benchmarks.progressive')}`",
        harness.describe(where),
        harness.markdown_table(heads, rows),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
