"""A whole training step of halftone's beside a plain raw PyTorch loop of the same mathematics, six networks at 224 px.

python -m benchmarks.step_speed
python -m benchmarks.step_speed --networks resnet18 --precisions fp32 --dry

Each side runs in a process of its own, and they take turns: halftone's keeps freed memory and lays channels last, as it
does by default; the raw loop has the layout, the allocator and the optimizer that PyTorch gives who asks for nothing.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import Contestant, Race, Target
from benchmarks.step_speed.sides import SIDES
from benchmarks.step_speed.task import NETWORKS, RATE, SIZE, build, set_dropout
from benchmarks.turns import serve, workers
from halftone.system.device import device_facts
from halftone.system.threads import usable_cores

MODULE = "benchmarks.step_speed"
CLAIM = (
    "On the CPU a whole training step of halftone's takes at most 0.90 of the time of a plain raw PyTorch loop of the "
    "same mathematics on resnet18 at 224 px, in fp32 and in bf16, and is no slower on any of six networks."
)
OURS, RAW = "halftone", "raw PyTorch"
CHECKED = 2
"""Steps without dropout after which the weights of both sides are compared."""
TOLERANCE = {"fp32": 0.1, "bf16": 0.5}
"""Weights may end this share of their way from the raw loop's: layouts round otherwise."""


def main() -> None:
    settings = _arguments()
    if settings.worker:
        torch.set_num_threads(settings.threads)
        _work(*settings.worker, steps=settings.steps)
        return
    where = harness.machine(["torchvision"])
    native = "bf16" in device_facts(torch.device("cpu")).native
    where["bf16 instructions"] = native
    races, out = [], Console(width=140)
    for precision in settings.precisions:
        if precision == "bf16" and not native:
            out.print("bf16 is left out: this CPU has no instructions for it", style="yellow")
            continue
        for name in settings.networks:
            race = _race(name, precision, settings)
            harness.show_race(out, race)
            races.append(race)
    if not settings.dry:
        note = "" if native else " This CPU has no bf16 instructions, so bf16 was not measured."
        harness.write_races("step_speed", CLAIM + note, races, where, harness.command_line(MODULE))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side, at least 7")
    parser.add_argument("--steps", type=int, default=3, help="timed steps per turn")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of torch, for both sides")
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "NETWORK", "PRECISION"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _race(name: str, precision: str, settings: argparse.Namespace) -> Race:
    race = Race(
        f"{name}, {precision}",
        reference=RAW,
        settings={
            "batch": NETWORKS[name].batch,
            "pixels": SIZE,
            "threads": settings.threads,
            "optimizer": "SGD with Nesterov momentum and weight decay",
            "timed steps per turn": settings.steps,
            "rounds": settings.rounds,
        },
        targets=[Target(OURS, "ratio", NETWORKS[name].limit)],
    )
    shared = ["--steps", str(settings.steps), "--threads", str(settings.threads)]
    words = [[*shared, "--worker", side, name, precision] for side in ("raw", "ours")]
    with workers(MODULE, words) as (raw, ours), tempfile.TemporaryDirectory() as folder:
        _compare([worker.ask(str(Path(folder, str(place)))) for place, worker in enumerate((raw, ours))], precision)
        race.run([Contestant(RAW, raw.ask), Contestant(OURS, ours.ask)], rounds=settings.rounds)
    return race


def _compare(files: Sequence[str], precision: str) -> None:
    """Refuse to time two sides that do other work.

    Raises:
        SystemExit: their weights went other ways.
    """
    (start, wanted), (_, found) = (torch.load(file, weights_only=True) for file in files)
    apart = float((found - wanted).norm() / (wanted - start).norm())
    if not apart <= TOLERANCE[precision]:
        raise SystemExit(f"the two sides do other work: after {CHECKED} steps they are {apart:.1%} of the way apart")


def _work(side: str, name: str, precision: str, *, steps: int) -> None:
    """Be one side: asked for a turn, train and answer with the seconds of each step; asked with a path, check."""
    network = build(name)
    start, losses = _weights(network), SIDES[side](name, network, precision)

    def answer(order: str) -> object:
        if order == "turn":
            return [_timed(losses) for _ in range(steps)]
        kept = set_dropout(network)
        for _ in range(CHECKED):
            next(losses)
        set_dropout(network, kept)
        torch.save((start, _weights(network)), order)
        return order

    serve(answer)


def _timed(losses: Iterator[Tensor]) -> float:
    clock = time.perf_counter()
    loss = float(next(losses))
    seconds = time.perf_counter() - clock
    if not math.isfinite(loss):
        raise SystemExit(f"the loss is {loss} at a rate of {RATE}")
    return seconds


def _weights(network: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


if __name__ == "__main__":
    main()
