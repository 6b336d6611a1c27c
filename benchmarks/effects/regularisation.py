"""What penalties, dropout and stopping early do to a network that has far too few images: accuracy, and the gap."""

import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.runs import Job, Outcome, by_label, first_images, shown, train_all
from halftone.base.files import read_json, write_bytes, write_json, write_text
from halftone.report.figures import BLUE, ORANGE, finish, panels, to_png
from halftone.run.folder import RunFolder

NUM_TRAIN, NUM_TEST = 2000, 1000
TASK: Mapping[str, Any] = {
    "model": {"name": "cifar_resnet20"},
    "data": {"size": 16},
    "epochs": 20,
    "batch_size": 64,
    "optimizer": {"name": "sgd", "lr": 0.05, "l2": 0},
    "warmup": {"length": "5%"},
    "precision": {"mode": "fp32"},
    "augment": {"policy": "none"},
    "loss": {"label_smoothing": 0},
    "stop": {},
}
"""Nothing that regularises."""
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "none": {},
    "--l1 3e-4": {"optimizer": {"l1": 3e-4}},
    "--l2 0.01": {"optimizer": {"l2": 0.01}},
    "--dropout 0.3": {"model": {"dropout": 0.3}},
    "--patience 5": {"stop": {"patience": 5}},
    "--augment strong": {"augment": {"policy": "strong"}},
    "all": {
        "optimizer": {"l1": 3e-5, "l2": 0.003},
        "model": {"dropout": 0.3},
        "stop": {"patience": 5},
        "augment": {"policy": "strong"},
    },
}
"""Together, the penalties are milder."""
COLUMNS = (
    "",
    "last epoch, %",
    "best epoch, %",
    "precision, %",
    "recall, %",
    "F1, %",
    "training, %",
    "gap, points",
    "verdicts",
)


@dataclass(frozen=True, slots=True)
class Found:
    """One run: its last epoch, its best weights on validation and training images, and the verdict."""

    seed: int
    last_accuracy: float
    """In per cent, as all shares here."""
    accuracy: float
    precision: float
    recall: float
    f1: float
    training_accuracy: float
    verdict: str
    epochs: int
    """That were trained."""

    @property
    def gap(self) -> float:
        """Training less validation, in points."""
        return self.training_accuracy - self.accuracy

    @classmethod
    def of(cls, outcome: Outcome) -> "Found":
        """Read a run's folder."""
        folder = RunFolder(Path(outcome.path))
        validation, training = read_json(folder.classification_report), read_json(folder.train_report)
        return cls(
            seed=outcome.seed,
            last_accuracy=outcome.accuracy,
            **{name: 100 * validation[name] for name in ("accuracy", "precision", "recall", "f1")},
            training_accuracy=100 * training["accuracy"],
            verdict=training["verdict"]["kind"],
            epochs=len(outcome.epochs),
        )


def run(*, data: Path, seeds: int, dry: bool) -> None:
    """Train all variants, and print and keep what they came to."""
    where = harness.machine(("scipy",))
    with tempfile.TemporaryDirectory() as folder:
        source = first_images("cifar10", data, Path(folder), train=NUM_TRAIN, test=NUM_TEST)
        jobs = [Job(name, seed, _recipe(source, name)) for seed in range(seeds) for name in VARIANTS]
        outcomes = by_label(train_all(jobs, Path(folder)))
        found = {name: [Found.of(outcome) for outcome in runs] for name, runs in outcomes.items()}
    text = _report(found, outcomes, where, seeds)
    print(text)
    if not dry:
        values = {name: [outcome.to_mapping() for outcome in runs] for name, runs in outcomes.items()}
        judged = {name: [_mapping(one) for one in runs] for name, runs in found.items()}
        write_text(harness.RESULTS / "regularisation.md", text)
        write_json(harness.RESULTS / "regularisation.json", {"machine": where, "found": judged, "runs": values})
        write_bytes(harness.RESULTS / "regularisation.png", to_png(_figure(found)))


def _recipe(source: Path, variant: str) -> dict[str, Any]:
    recipe = {room: dict(value) if isinstance(value, Mapping) else value for room, value in TASK.items()}
    recipe["data"] = {**recipe["data"], "source": str(source)}
    for room, changes in VARIANTS[variant].items():
        recipe[room] = {**recipe[room], **changes}
    return recipe


def _mapping(found: Found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Found.__slots__} | {"gap": found.gap}


def _report(
    found: Mapping[str, Sequence[Found]],
    outcomes: Mapping[str, Sequence[Outcome]],
    where: Mapping[str, Any],
    seeds: int,
) -> str:
    rows = []
    for name, runs in found.items():
        means = [f"{statistics.mean(getattr(one, key) for one in runs):.1f}" for key in ("precision", "recall", "f1")]
        verdicts = ", ".join(f"{count} {kind}" for kind, count in Counter(one.verdict for one in runs).items())
        rows.append(
            (
                name,
                shown([one.last_accuracy for one in runs]),
                shown([one.accuracy for one in runs]),
                *means,
                f"{statistics.mean(one.training_accuracy for one in runs):.1f}",
                shown([one.gap for one in runs]),
                verdicts,
            )
        )
    seconds = max(outcome.seconds for runs in outcomes.values() for outcome in runs)
    claim = (
        "A network of 270,000 weights learns 2,000 images by heart. What each remedy does to the accuracy, and to the "
        "gap between training and validation."
    )
    task = (
        f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images of CIFAR-10 at 16 x 16, cifar_resnet20, at "
        f"most {TASK['epochs']} epochs, SGD, no label smoothing, no augmentation but where it says so; {seeds} seeds, "
        "means and 95 % intervals. All but the first column are of the epoch with the best validation accuracy; "
        f"training is measured without augmentation. The longest run took {seconds:.0f} s on one thread."
    )
    command = f"`{harness.command_line('benchmarks.effects')}`"
    table = harness.markdown_table(COLUMNS, rows)
    return "\n\n".join(["# regularisation", claim, command, harness.describe(where), task, table]) + "\n"


def _figure(found: Mapping[str, Sequence[Found]]) -> Figure:
    """Draw training and validation accuracy of each variant, a dot per seed, and the gap as the line between."""
    figure, (axes,) = panels(1, size=(7, 0.6 + 0.42 * len(found)))
    for place, runs in enumerate(found.values()):
        training, validation = ([getattr(one, key) for one in runs] for key in ("training_accuracy", "accuracy"))
        axes.plot(
            [statistics.mean(validation), statistics.mean(training)],
            [place, place],
            color="#b8c0c8",
            linewidth=3,
            zorder=1,
        )
        names = ("validation", "training") if place == 0 else (None, None)
        axes.scatter(validation, [place] * len(runs), color=ORANGE, s=18, label=names[0])
        axes.scatter(training, [place] * len(runs), color=BLUE, s=18, label=names[1])
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    finish(axes, "Best epoch: accuracy in training and validation", "%")
    return figure
