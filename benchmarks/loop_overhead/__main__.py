"""halftone's loop beside a raw PyTorch loop, timm's, Accelerate's, Lightning's and fastai's: microseconds per step."""

import argparse
import importlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Clock, Contestant, Race, Target
from benchmarks.loop_overhead import ours, plain, rivals
from benchmarks.loop_overhead.task import Loop, Task, resnet, tiny
from halftone.system.threads import usable_cores

CLAIM = (
    "A training step of halftone costs at most 40 us more than that of a raw PyTorch loop with logging off, at most "
    "100 us more with everything on, and at most 1.02 times as much on a small residual network."
)
RAW = "raw PyTorch"
OFF, ON, SHOWN = "halftone, logging off", "halftone, everything on", "halftone, everything on, with bar"
LOOPS: Mapping[str, Loop] = {
    RAW: plain.raw,
    "raw PyTorch, normalised beforehand": plain.raw_floats,
    OFF: ours.logging_off,
    ON: ours.everything_on,
    SHOWN: ours.everything_on_terminal,
    "timm": plain.timm,
    "Accelerate": rivals.accelerate,
    "Lightning, bare": rivals.lightning_bare,
    "Lightning, as shipped": rivals.lightning,
    "fastai": rivals.fastai,
}
LIBRARIES: Mapping[str, str] = {
    "timm": "timm",
    "Accelerate": "accelerate",
    "Lightning, bare": "lightning",
    "Lightning, as shipped": "lightning",
    "fastai": "fastai",
}
TARGETS = {
    "tiny": [Target(OFF, "microseconds", 40), Target(ON, "microseconds", 100), Target(SHOWN, "microseconds", 100)],
    "resnet": [Target(OFF, "ratio", 1.02), Target(ON, "ratio", 1.02), Target(SHOWN, "ratio", 1.02)],
}
TOLERANCE = 0.05
"""Weights may end this share of their way from the raw loop's: a fused update rounds otherwise, which training on noise
magnifies. An omitted weight decay or another schedule ends far beyond it."""


def main() -> None:
    settings = _arguments()
    where = harness.machine(sorted(set(LIBRARIES.values())))
    absent = _absent()
    _quieten()
    races, out = [], Console(width=140)
    for name, task in (
        ("tiny", tiny(settings.tiny_steps)),
        ("resnet", resnet(settings.resnet_steps, settings.threads)),
    ):
        if settings.task in (name, "both"):
            race = _race(task, TARGETS[name], absent, settings)
            harness.show_race(out, race)
            races.append(race)
    if not settings.dry:
        command = harness.command_line("benchmarks.loop_overhead")
        harness.write_races("loop_overhead", CLAIM, races, where, command)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop_overhead", description=__doc__)
    parser.add_argument("--task", choices=["tiny", "resnet", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=11, help="turns of each contestant, at least 7")
    parser.add_argument("--tiny-steps", type=int, default=600, help="timed steps per turn")
    parser.add_argument("--resnet-steps", type=int, default=8, help="timed steps per turn")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="threads for the ResNet; tiny has one")
    parser.add_argument("--only", nargs="+", choices=list(LOOPS), default=list(LOOPS), help="beside the raw loop")
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    return parser.parse_args()


def _absent() -> dict[str, str]:
    """Return the rivals whose library is not here, with the reason."""
    found = {}
    for rival, library in LIBRARIES.items():
        try:
            importlib.import_module(library)
        except ImportError as error:
            found[rival] = str(error)
    return found


def _race(task: Task, targets: list[Target], absent: dict[str, str], settings: argparse.Namespace) -> Race:
    torch.set_num_threads(task.threads)
    race = Race(
        title=task.title,
        reference=RAW,
        settings={
            "timed steps per round": task.steps,
            "rounds": settings.rounds,
            "threads": task.threads,
            "precision": "fp32, channels last",
            "optimizer": "SGD with Nesterov momentum and weight decay, cosine per step",
            "allocator": "as the C library has it (halftone's keep_memory off)",
        },
        targets=targets,
        absent=absent,
    )
    trained: dict[str, Tensor] = {}
    names = [name for name in LOOPS if name not in absent and name in {RAW, *settings.only}]
    race.run([Contestant(name, _turn(name, task, trained)) for name in names], rounds=settings.rounds)
    return race


def _turn(name: str, task: Task, trained: dict[str, Tensor]) -> Callable[[], Sequence[float]]:
    """Return the turn of a contestant; the first one, which does not count, shows whether it does the same work."""

    def measure() -> Sequence[float]:
        clock = Clock(warm=task.warm, steps=task.steps)
        network = LOOPS[name](task, clock)
        if name not in trained:
            trained[name] = _weights(network)
            start, wanted = _weights(task.network), trained[RAW]
            apart = float((trained[name] - wanted).norm() / (wanted - start).norm())
            if not apart <= TOLERANCE:
                raise SystemExit(f"{name} does other work than {RAW}: the weights are {apart:.1%} of the way apart")
        return clock.seconds()

    return measure


def _weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def _quieten() -> None:
    """Libraries greet, advise and warn; nothing of it is about the measurement."""
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
