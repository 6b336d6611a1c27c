"""What loss scaling and master weights are for: the effects of Micikevicius et al. 2018, sections 3.1 and 3.2.

    python -m benchmarks.effects underflow
    python -m benchmarks.effects masters
    python -m benchmarks.effects init [--limits] [--data DATA]
    python -m benchmarks.effects regularisation --data cifar10.npz

Trains on the embedded digits by halftone's own command line, in turns; fp16 is rehearsed, so no hardware for it is
needed. `halftone diagnose precision` says beforehand what is lost.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.effects import init, regularisation
from benchmarks.runs import train_by_command
from halftone.base.files import write_bytes, write_json, write_text
from halftone.report.figures import BLUE, GREEN, ORANGE, finish, line, panels, to_png

NETWORK = Path(__file__).with_name("network.py")
Runs = Mapping[str, list[list[dict[str, str]]]]
"""The epochs of each seed, by variant."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An experiment: one task, trained in several ways."""

    claim: str
    task: Sequence[str]
    variants: Mapping[str, Sequence[str]]
    judged: str
    """The format for `halftone diagnose precision --as`."""
    told: Callable[[Mapping[str, Any]], list[str]]
    """From what it says to paragraphs."""


def _lost_gradients(diagnosis: Mapping[str, Any]) -> list[str]:
    scale, rows = diagnosis["health"]["loss_scale"], []
    for layer in diagnosis["health"]["layers"]:
        before = max(layer["gradient"]["underflow"], layer["weight_gradient"]["underflow"])
        after = max(layer["scaled_gradient"]["underflow"], layer["scaled_weight_gradient"]["underflow"])
        rows.append((layer["name"], f"{before:.1%}", f"{after:.1%}"))
    said = (
        "What `halftone diagnose precision` says of the network at the start of training: the share of the gradient "
        f"that becomes zero in fp16, without and with the loss scale of {scale:,.0f} that it proposes."
    )
    return [said, harness.markdown_table(("layer", "lost", "lost with the scale"), rows)]


def _lost_updates(diagnosis: Mapping[str, Any]) -> list[str]:
    share = diagnosis["lost_updates"]
    return [f"`halftone diagnose precision --as bf16`: {share:.1%} of a step's updates are lost without masters."]


EFFECTS = {
    "underflow": Effect(
        "Small gradients become zero in fp16, and the network does not learn; multiplied by a loss scale they survive.",
        [
            *("digits", "--model", f"{NETWORK}:SmallGradients", "--size", "32", "--batch-size", "60"),
            *("--optimizer", "adamw", "--lr", "0.02", "--epochs", "16"),
        ],
        {
            "fp32": ["--precision", "fp32"],
            "fp16 without a loss scale": ["--precision.emulate", "fp16", "--precision.scaling", "off"],
            "fp16 with a loss scale": ["--precision.emulate", "fp16"],
        },
        "fp16",
        _lost_gradients,
    ),
    "masters": Effect(
        "Small updates vanish when they are added to weights in bf16; fp32 master weights collect them.",
        [
            *("digits", "--optimizer", "adamw", "--lr", "1e-5", "--warmup", "0it", "--decay", "constant"),
            *("--epochs", "30"),
        ],
        {
            "bf16": ["--precision", "bf16"],
            "bf16-true without masters": ["--precision", "bf16-true", "--no-precision.master"],
            "bf16-true": ["--precision", "bf16-true"],
        },
        "bf16",
        _lost_updates,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effects", description=__doc__.splitlines()[0])
    parser.add_argument("effect", choices=[*EFFECTS, "init", "regularisation"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print, but leave results/ as it is")
    parser.add_argument("--data", default="digits", help="init: the images; regularisation: an .npz file of CIFAR-10")
    parser.add_argument("--limits", action="store_true", help="init: where the verdict turns, by depth and gain")
    settings = parser.parse_args()
    if settings.effect == "init":
        init.run(data=settings.data, seeds=settings.seeds, limits=settings.limits, dry=settings.dry)
        return
    if settings.effect == "regularisation":
        regularisation.run(data=Path(settings.data).expanduser(), seeds=settings.seeds, dry=settings.dry)
        return
    effect, where = EFFECTS[settings.effect], harness.machine()
    runs: dict[str, list[list[dict[str, str]]]] = {name: [] for name in effect.variants}
    for seed in range(settings.seeds):  # the variants take turns
        for name, flags in effect.variants.items():
            runs[name].append(_train([*effect.task, *flags, "--seed", str(seed)]))
    diagnosis = _diagnose(effect)
    text = _report(settings.effect, runs, diagnosis, where, settings.seeds)
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / f"{settings.effect}.md", text)
        values = {"machine": where, "runs": runs, "diagnosis": diagnosis}
        write_json(harness.RESULTS / f"{settings.effect}.json", values)
        write_bytes(harness.RESULTS / f"{settings.effect}.png", to_png(_figure(runs)))


def _train(flags: Sequence[str]) -> list[dict[str, str]]:
    kept = ("epoch", "train_loss", "val_loss", "val_accuracy", "loss_scale", "skipped_steps")
    return [{name: row[name] for name in kept} for row in train_by_command(flags)]


def _diagnose(effect: Effect) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "halftone", "diagnose", "precision", *effect.task, "--as", effect.judged]
        words += ["--out", folder, "--json"]
        found: dict[str, Any] = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
        return found


def _report(name: str, runs: Runs, diagnosis: Mapping[str, Any], where: Mapping[str, Any], seeds: int) -> str:
    rows = []
    for variant, epochs in runs.items():
        accuracies = [100 * float(run[-1]["val_accuracy"]) for run in epochs]
        losses = [float(run[-1]["train_loss"]) for run in epochs]
        spread = f"{statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else "-"
        rows.append((variant, f"{statistics.mean(accuracies):.2f}", spread, f"{statistics.mean(losses):.3f}"))
    effect = EFFECTS[name]
    task = " ".join(Path(word).name if "/" in word else word for word in effect.task)
    parts = [
        f"# {name}",
        effect.claim,
        f"`{harness.command_line('benchmarks.effects')}`",
        harness.describe(where),
        f"`halftone train {task}`, last epoch, {seeds} seeds:",
        harness.markdown_table(("", "validation accuracy, %, mean", "standard deviation", "training loss, mean"), rows),
        *effect.told(diagnosis),
    ]
    return "\n\n".join(parts) + "\n"


def _figure(runs: Runs) -> Figure:
    figure, (loss, accuracy) = panels(2)
    for (name, seeds), colour in zip(runs.items(), (BLUE, ORANGE, GREEN), strict=True):
        for number, run in enumerate(seeds):
            epochs: list[float | None] = [float(row["epoch"]) for row in run]
            label = name if number == 0 else "_"
            line(loss, epochs, [float(row["train_loss"]) for row in run], label, colour)
            line(accuracy, epochs, [100 * float(row["val_accuracy"]) for row in run], label, colour)
    finish(loss, "Training loss", "epoch")
    finish(accuracy, "Validation accuracy, %", "epoch")
    return figure


if __name__ == "__main__":
    main()
