"""Averages of the last checkpoints of a run: never below the best of them where it was chosen; and elsewhere?

    python -m benchmarks.soup --data cifar10-5k.npz
    python -m benchmarks.soup --data photos --model squeezenet1_1 --weights squeezenet1_1.safetensors --name soup-photos

Trains with a constant rate, where averaging should help (Izmailov et al. 2018), and with one that falls to zero. Half
of the validation images are kept from every choice, by `halftone weights average --holdout 0.5`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import Job, Outcome, arguments, shown, train_all
from halftone.base.files import write_json, write_text

CLAIM = (
    "A greedy soup of a run's last checkpoints is never below the best single one on the images that it was chosen on. "
    "The same two on images that neither was chosen on are the effect that is left."
)
DECAYS = {"constant rate": "constant", "rate falls to zero": "cosine"}
METHODS = ("greedy", "uniform", "ema")


@dataclass(frozen=True, slots=True)
class Average:
    """One average, beside the best single checkpoint; shares of correct answers."""

    label: str
    seed: int
    method: str
    num_used: int
    chosen: float
    """Of the average, on the images that were chosen on."""
    best_chosen: float
    """Of the best single checkpoint by these images, on them."""
    held_out: float
    """Of the average, on the other images."""
    best_held_out: float
    """Of that same checkpoint, on the other images."""
    num_images: int
    num_held_out: int


def main() -> None:
    parser = arguments("soup", __doc__, seeds=3)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--last", type=int, default=6, help="checkpoints, one per epoch")
    parser.add_argument("--name", default="soup", help="of the files in results/")
    settings = parser.parse_args()
    where = harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = train_all(_jobs(settings), Path(folder))
        averages = [_average(run, method, settings.last) for run in outcomes for method in METHODS]
    text = _report(averages, settings, where)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / f"{settings.name}.md", text)
        values = {"averages": [asdict(one) for one in averages], "runs": [run.to_mapping() for run in outcomes]}
        write_json(harness.RESULTS / f"{settings.name}.json", {"machine": where, **values})


def _jobs(settings: Any) -> list[Job]:
    recipe: dict[str, Any] = {
        "data": {"source": str(settings.data.expanduser().resolve())},
        "model": settings.model,
        "epochs": settings.epochs,
        "precision": "fp32",
        "warmup": "1ep",
        "run": {"keep": settings.last, "checkpoint_minutes": 1e6},
    }
    if settings.weights is not None:
        recipe["weights"] = str(settings.weights.expanduser().resolve())
    return [
        Job(label, seed, {**recipe, "decay": {"shape": shape}})
        for seed in range(settings.seeds)
        for label, shape in DECAYS.items()
    ]


def _average(run: Outcome, method: str, last: int) -> Average:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "halftone", "weights", "average", run.path, "--last", str(last)]
        words += ["--method", method, "--holdout", "0.5", "--split-seed", str(run.seed), "--json"]
        words += ["--out", f"{folder}/average.safetensors"]
        found: Mapping[str, Any] = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    best = max(found["ingredients"], key=lambda one: one["accuracy"])
    return Average(
        label=run.label,
        seed=run.seed,
        method=method,
        num_used=sum(one["added"] for one in found["ingredients"]),
        chosen=found["accuracy"],
        best_chosen=best["accuracy"],
        held_out=found["held_out"],
        best_held_out=best["held_out"],
        num_images=found["num_images"],
        num_held_out=found["num_held_out"],
    )


def _report(averages: Sequence[Average], settings: Any, where: Mapping[str, Any]) -> str:
    rows = []
    for label in DECAYS:
        for method in METHODS:
            found = [one for one in averages if (one.label, one.method) == (label, method)]
            gains = [100 * (one.chosen - one.best_chosen) for one in found]
            effects = [100 * (one.held_out - one.best_held_out) for one in found]
            rows.append((
                f"{label}, {method}",
                ", ".join(str(one.num_used) for one in found),
                shown([100 * one.best_held_out for one in found]),
                shown([100 * one.held_out for one in found]),
                shown(gains, sign="+"),
                shown(effects, sign="+"),
            ))  # fmt: skip
    greedy = [one for one in averages if one.method == "greedy"]
    kept = sum(one.chosen >= one.best_chosen for one in greedy)
    sizes = greedy[0]
    columns = ("", "files used", "best single, held out, %", "average, held out, %", "gain where chosen", "held out")
    how = (
        f"{settings.model}, {settings.epochs} epochs, the last {settings.last} checkpoints, one per epoch; chosen on "
        f"{sizes.num_images} images, {sizes.num_held_out} held out, another half for each seed. Means over "
        f"{settings.seeds} seeds with their 95 % interval; gains in points, against the single checkpoint that is best "
        "where the choice is made."
    )
    verdict = (
        f"{'met' if kept == len(greedy) else 'MISSED'}: {kept} of {len(greedy)} greedy soups are at least as good as "
        "the best single checkpoint on the images that they were chosen on."
    )
    title, command = f"# {settings.name}", f"`{harness.command_line('benchmarks.soup')}`"
    table = harness.markdown_table(columns, rows)
    parts = [title, CLAIM, command, harness.describe(where), how, table, verdict]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
