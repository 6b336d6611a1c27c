"""When a warmup is needed: what it gains, over how far an update at the peak rate would have moved the fresh weights.

    python -m benchmarks.warmup_needed --data DIR

Small networks on Fashion-MNIST at rates from harmless to violent, each with a warmup of one epoch and without. The
abscissa is read from the log of the run with the warmup, as `halftone diagnose warmup` reads it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, by_label, first_images, shown, train_all
from halftone.base.files import write_bytes, write_json, write_text
from halftone.diagnose.warmup import diagnose_warmup
from halftone.diagnose.warmup_evidence import HARMLESS, VIOLENT
from halftone.report.figures import BLUE, INK, ORANGE, finish, panels, to_png
from halftone.run.folder import RunFolder

MODEL, SIZE, NUM_TRAIN, NUM_TEST = "cifar_resnet8", 14, 6000, 5000
RATES: Mapping[str, Sequence[float]] = {"sgd": (0.05, 0.2, 0.4, 0.8, 1.6), "adamw": (1e-3, 3e-3, 1e-2, 3e-2)}
COLOURS = {"sgd": BLUE, "adamw": ORANGE}
WITH, WITHOUT = "1ep", "none"
Case = tuple[str, float]
"""An optimizer and its peak rate."""


def main() -> None:
    parser = arguments("warmup_needed", __doc__, seeds=3)
    parser.add_argument("--data", required=True, type=Path, help="a folder for torchvision's FashionMNIST")
    parser.add_argument("--epochs", type=int, default=6)
    settings = parser.parse_args()
    where = harness.machine()
    cases = [(name, rate) for name, rates in RATES.items() for rate in rates]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = first_images("fashion-mnist", settings.data.expanduser(), root, train=NUM_TRAIN, test=NUM_TEST)
        jobs = [
            Job(_label(case, length), seed, _recipe(case, length, data, settings.epochs))
            for seed in range(settings.seeds)
            for case in cases
            for length in (WITH, WITHOUT)
        ]
        outcomes = train_all(jobs, root)
        found = by_label(outcomes)
        judged = {case: [_diagnosed(run) for run in found[_label(case, WITH)]] for case in cases}
    gains = {
        case: [
            run.accuracy - other.accuracy
            for run, other in zip(found[_label(case, WITH)], found[_label(case, WITHOUT)], strict=True)
        ]
        for case in cases
    }
    text = _report(found, judged, gains, settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "warmup_needed.md", text)
        told = {_label(case, WITH): values for case, values in judged.items()}
        values = {"machine": where, "runs": [run.to_mapping() for run in outcomes], "diagnoses": told}
        write_json(harness.RESULTS / "warmup_needed.json", values)
        write_bytes(harness.RESULTS / "warmup_needed.png", to_png(_figure(judged, gains)))


def _label(case: Case, length: str) -> str:
    return f"{case[0]} {case[1]:g} {length}"


def _recipe(case: Case, length: str, data: Path, epochs: int) -> Mapping[str, Any]:
    return {
        "data": {"source": str(data), "size": SIZE},
        "model": MODEL,
        "precision": "fp32",
        "optimizer": {"name": case[0], "lr": case[1]},
        "batch_size": 256,
        "epochs": epochs,
        "warmup": length,
    }


def _diagnosed(run: Outcome) -> dict[str, Any]:
    found = diagnose_warmup(RunFolder(Path(run.path))).diagnosis
    held_back = next(one.value for one in found.evidence if one.name == "held back")
    return {"verdict": found.verdict, "held_back": held_back}


def _report(
    found: Mapping[str, Sequence[Outcome]],
    judged: Mapping[Case, Sequence[Mapping[str, Any]]],
    gains: Mapping[Case, Sequence[float]],
    settings: Any,
    where: Mapping[str, Any],
) -> str:
    rows = []
    for case, told in judged.items():
        held_back = shown([100 * one["held_back"] for one in told])
        accuracies = (shown([run.accuracy for run in found[_label(case, length)]]) for length in (WITHOUT, WITH))
        verdicts = ", ".join(one["verdict"] for one in told)
        rows.append((f"{case[0]}, {case[1]:g}", held_back, *accuracies, shown(gains[case], sign="+"), verdicts))
    columns = (
        *("optimizer and peak rate", "an update at the peak, % of the weights' norm"),
        *("without, %", "with a warmup, %", "points gained", "`halftone diagnose warmup` says of the warmup"),
    )
    parts = [
        "# warmup_needed",
        (
            f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images of Fashion-MNIST at {SIZE} pixels, "
            f"{MODEL}, batches of 256, {settings.epochs} epochs, a warmup of one epoch or none, then cosine; "
            f"{settings.seeds} seeds, mean and 95 % interval of the last epoch, points gained within the pairs. A run "
            "that diverges counts as guessing."
        ),
        f"`{harness.command_line('benchmarks.warmup_needed')}`",
        harness.describe(where),
        harness.markdown_table(columns, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _figure(judged: Mapping[Case, Sequence[Mapping[str, Any]]], gains: Mapping[Case, Sequence[float]]) -> Figure:
    figure, (axes,) = panels(1)
    for name, colour in COLOURS.items():
        points = [
            (100 * one["held_back"], gain)
            for case, told in judged.items()
            if case[0] == name
            for one, gain in zip(told, gains[case], strict=True)
        ]
        axes.plot(*zip(*points, strict=True), "o", color=colour, label=name)
    axes.axhline(0, color=INK, alpha=0.4, linewidth=1)
    for bound in (HARMLESS, VIOLENT):
        axes.axvline(100 * bound, color=INK, alpha=0.4, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("an update at the peak rate, % of the norm of the fresh weights")
    axes.legend(frameon=False)
    finish(axes, "Points of accuracy that a warmup gains")
    return figure


if __name__ == "__main__":
    main()
