"""Whether a deep plain network learns is decided before training: He et al. 2015, section 2.2, on real images.

Each network is trained from several starting weights with everything else equal; beside the accuracy stands what
`halftone diagnose weights` said of it beforehand. And the limits of that verdict are tried: networks of growing depth,
and growing gains.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.runs import train_by_command
from halftone.base.files import write_bytes, write_json, write_text
from halftone.report.figures import BLUE, GREEN, ORANGE, finish, line, panels, to_png

_TASK = (
    *("--optimizer", "adam", "--lr", "5e-4", "--batch-size", "64", "--epochs", "10", "--warmup", "0it"),
    *("--decay", "constant", "--augment", "none", "--precision", "fp32"),
)
_HE, _XAVIER = ["--init", "he"], ["--init", "xavier"]
_SIGMOID = ["--init", "xavier", "--init.gain", "4"]
NETWORKS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "plain30": {"he": _HE, "xavier": _XAVIER, "lsuv": ["--init", "lsuv"]},
    "plain30_tanh": {"he": _HE, "xavier": _XAVIER, "lsuv": ["--init", "lsuv"]},
    "plain10_sigmoid": {"he": _HE, "xavier": _XAVIER, "xavier, gain 4": _SIGMOID},
}
"""Glorot and Bengio 2010 use four times their deviation for the sigmoid."""
LIMITS: Mapping[str, Sequence[str]] = {
    **{f"plain{depth}": _XAVIER for depth in (8, 12, 16, 18, 20, 22, 24, 30)},
    **{f"plain16 gain {gain}": ["--init", "xavier", "--init.gain", str(gain)] for gain in (2, 2.5, 3, 4)},
}
"""The factor grows with the depth, by the root of 2 per layer, and with the gain."""
_COLOURS = (BLUE, ORANGE, GREEN)


@dataclass(slots=True)
class Case:
    """One network from one start."""

    network: str
    init: str
    flags: Sequence[str]
    verdict: dict[str, Any] = field(default_factory=dict)
    runs: list[list[dict[str, str]]] = field(default_factory=list)
    """The epochs of each seed."""

    def accuracies(self) -> list[float]:
        """Return the validation accuracy at the end of each run, in per cent."""
        return [100 * float(run[-1]["val_accuracy"]) if run else math.nan for run in self.runs]

    def factor(self) -> float:
        """Return how many times something falls or grows through the network, the worse of the two."""
        ratios = [self.verdict[name] for name in ("activations", "gradients")]
        return max((max(ratio, 1 / ratio) for ratio in ratios if ratio), default=math.inf)


def run(*, data: str, seeds: int, limits: bool, dry: bool) -> None:
    """Train every case and write the results, for `digits` under their own name."""
    where = harness.machine()
    if limits:
        cases = [Case(name.split()[0], name, flags) for name, flags in LIMITS.items()]
    else:
        cases = [Case(network, init, flags) for network, inits in NETWORKS.items() for init, flags in inits.items()]
    for seed in range(seeds):  # the cases take turns
        for case in cases:
            words = [data, "--model", case.network, *_TASK, *case.flags, "--seed", str(seed)]
            if not seed:
                case.verdict = _verdict(words)
            case.runs.append(_train(words))
    name = "init_limits" if limits else "init"
    name += "" if data == "digits" else f"_{Path(data).stem}"
    text = _report(name, cases, data, where, seeds, limits=limits)
    print(text)
    if not dry:
        write_text(harness.RESULTS / f"{name}.md", text)
        values = [{"network": one.network, "init": one.init, "verdict": one.verdict, "runs": one.runs} for one in cases]
        write_json(harness.RESULTS / f"{name}.json", {"machine": where, "cases": values})
        figure = _limits_figure(cases) if limits else _curves(cases)
        write_bytes(harness.RESULTS / f"{name}.png", to_png(figure))


def _verdict(words: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        asked = [sys.executable, "-m", "halftone", "diagnose", "weights", *words, "--out", folder, "--json"]
        found = json.loads(subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout)
        verdict: dict[str, Any] = found[0]["verdict"]
        return verdict


def _train(words: Sequence[str]) -> list[dict[str, str]]:
    """Return the epochs of a run; one that diverges keeps those before."""
    rows = train_by_command(words, may_diverge=True)
    return [{name: row[name] for name in ("epoch", "train_loss", "val_loss", "val_accuracy")} for row in rows]


def _report(name: str, cases: Sequence[Case], data: str, where: Mapping[str, Any], seeds: int, *, limits: bool) -> str:
    rows = []
    for case in cases:
        accuracies = case.accuracies()
        spread = f"{statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else "-"
        shown = f"{statistics.mean(accuracies):.1f}"
        start = f"{case.factor():.2g}"
        rows.append((case.network, case.init, case.verdict["text"], start, shown, spread))
    titles = ("network", "init", "`diagnose weights`, before training", "factor", "validation accuracy, %", "deviation")
    parts = [
        f"# {name}",
        "The largest factor by which activations or gradients fall or grow, and what became of the network."
        if limits
        else "Deep plain networks learn or stall by their starting weights alone; it can be seen before training.",
        f"`{harness.command_line('benchmarks.effects')}`",
        harness.describe(where),
        f"`halftone train {Path(data).name} --model NETWORK {' '.join(_TASK)}`, last epoch, {seeds} seeds:",
        harness.markdown_table(titles, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _curves(cases: Sequence[Case]) -> Figure:
    """Draw the training loss of every run, a panel for each network."""
    networks = list(dict.fromkeys(case.network for case in cases))
    figure, axes = panels(len(networks), size=(4.2 * len(networks), 3.4))
    for network, place in zip(networks, axes, strict=True):
        shown = [case for case in cases if case.network == network]
        for case, colour in zip(shown, _COLOURS, strict=False):
            for number, epochs in enumerate(case.runs):
                label = f"{case.init} ({case.verdict['outcome']})" if number == 0 else "_"
                numbers: list[float | None] = [float(row["epoch"]) for row in epochs]
                line(place, numbers, [float(row["train_loss"]) for row in epochs], label, colour)
        place.set_ylim(bottom=0)
        finish(place, f"{network}: training loss", "epoch")
    return figure


def _limits_figure(cases: Sequence[Case]) -> Figure:
    """Draw the accuracy over the factor, a dot for each run."""
    figure, (axes,) = panels(1, size=(6.4, 3.6))
    colours = {"healthy": GREEN, "vanishes": BLUE, "explodes": ORANGE}
    for outcome, colour in colours.items():
        dots = [
            (one.factor(), found) for one in cases if one.verdict["outcome"] == outcome for found in one.accuracies()
        ]
        axes.scatter([dot[0] for dot in dots], [dot[1] for dot in dots], s=22, color=colour, label=outcome)
    axes.set_xscale("log")
    finish(axes, "Validation accuracy, %", "factor by which activations or gradients fall or grow")
    return figure
