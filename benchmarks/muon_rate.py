"""Which rate of Muon suits a network, by its width: the built-in `cnn` is wide, `cifar_resnet8` is narrow.

python -m benchmarks.muon_rate --data cifar10.npz
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, by_label, first_images, shown, train_all
from halftone.base.files import write_json, write_text

MODELS, RATES = ("cnn", "cifar_resnet8"), (0.01, 0.02, 0.04, 0.08, 0.16)
SIZE, NUM_TRAIN, NUM_TEST = 16, 4000, 2000


def main() -> None:
    parser = arguments("muon_rate", __doc__, seeds=2)
    parser.add_argument("--data", required=True, type=Path, help="an .npz file")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=128)
    settings = parser.parse_args()
    where = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = first_images("cifar10", settings.data.expanduser(), root, train=NUM_TRAIN, test=NUM_TEST)
        base = {
            "data": {"source": str(data), "size": SIZE},
            "precision": "fp32",
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
        }
        jobs = [
            Job(_label(model, rate), seed, {**base, "model": model, "optimizer": {"name": "muon", "lr": rate}})
            for seed in range(settings.seeds)
            for model in MODELS
            for rate in RATES
        ]
        outcomes = train_all(jobs, root)
    text = _report(by_label(outcomes), settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "muon_rate.md", text)
        values = {"machine": where, "runs": [run.to_mapping() for run in outcomes]}
        write_json(harness.RESULTS / "muon_rate.json", values)


def _label(model: str, rate: float) -> str:
    return f"{model} {rate:g}"


def _report(found: Mapping[str, Sequence[Outcome]], settings: Any, where: Mapping[str, Any]) -> str:
    rows = [
        (model, *(shown([run.accuracy for run in found[_label(model, rate)]]) for rate in RATES)) for model in MODELS
    ]
    num_steps = next(iter(found.values()))[0].settled["total_steps"]
    parts = [
        "# muon_rate",
        (
            f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images of CIFAR-10 at {SIZE} pixels, Muon, "
            f"batches of {settings.batch_size}, {settings.epochs} epochs, {num_steps} steps, default warmup and decay; "
            f"{settings.seeds} seeds, accuracy of the last epoch in per cent, mean and 95 % interval, by the peak rate."
        ),
        f"`{harness.command_line('benchmarks.muon_rate')}`",
        harness.describe(where),
        harness.markdown_table(("", *map(str, RATES)), rows),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
