"""The precision that `auto` finds, beside the uniform ones: seconds per full training step, and peak memory.

python -m benchmarks.precision_auto
python -m benchmarks.precision_auto --networks resnet18 vit_small --allocator default
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import timm
import torch
import torchvision
from rich.console import Console
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.harness import Contestant, Race, Target
from halftone.precision.config import PrecisionConfig
from halftone.precision.probe import Probe
from halftone.precision.trial import Candidate, Trial, affordable
from halftone.run.plan.precision import candidates
from halftone.system.device import device_facts
from halftone.system.memory import keep_freed_memory, peak_bytes
from halftone.system.threads import usable_cores

CLAIM = (
    "The precision that `auto` finds by measuring is never under 0.97 of the speed of the best uniform one, and on a "
    "CPU with bf16 instructions at least 1.05 times as fast as fp32 with channels last on mobilenet_v3_small and "
    "efficientnet_b0, 1.6 times on resnet18, 2.2 times on convnext_tiny and vit_small."
)
FULL, PLAIN, RAW = "fp32, channels last", "fp32", "raw PyTorch, fp32"
UNIFORM = (FULL, PLAIN, "bf16", "bf16-true")
SIZE = 224


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the claim."""

    build: Callable[[], nn.Module]
    batch: int
    speed: float | None = None
    """Promised times of fp32 with channels last."""
    memory: float | None = None
    """Promised peak of a bf16 step over that of fp32."""


NETWORKS: Mapping[str, Network] = {
    "resnet18": Network(torchvision.models.resnet18, 16, 1.6, 0.60),
    "mobilenet_v3_small": Network(torchvision.models.mobilenet_v3_small, 32, 1.05),
    "efficientnet_b0": Network(torchvision.models.efficientnet_b0, 16, 1.05, 0.55),
    "vgg11": Network(torchvision.models.vgg11, 4),
    "convnext_tiny": Network(torchvision.models.convnext_tiny, 8, 2.2),
    "vit_small": Network(lambda: timm.create_model("vit_small_patch16_224"), 8, 2.2),
}


def main() -> None:
    settings = _arguments()
    if settings.memory:
        print(_peak_of_steps(*settings.memory))
        return
    if settings.allocator == "keep" and not keep_freed_memory():
        raise SystemExit("this system's allocator cannot keep memory: --allocator default")
    where = harness.machine(["torchvision", "timm"])
    torch.set_num_threads(settings.threads)
    races, out = [], Console(width=140)
    for name in settings.networks:
        race = _race(name, settings)
        best = min((one for one in UNIFORM if one in race.means), key=lambda one: statistics.median(race.means[one]))
        beside = Race(
            f"{name}: auto beside the best uniform precision",
            reference=best,
            settings=race.settings,
            targets=[Target("auto", "ratio", 1 / 0.97)],
            means={one: race.means[one] for one in (best, "auto")},
            medians={one: race.medians[one] for one in (best, "auto")},
        )
        for shown in (race, beside):
            harness.show_race(out, shown)
            races.append(shown)
    if not settings.dry:
        harness.write_races("precision_auto", CLAIM, races, where, harness.command_line("benchmarks.precision_auto"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision_auto", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant, at least 7")
    parser.add_argument("--steps", type=int, default=2, help="timed steps per turn")
    parser.add_argument("--seconds", type=float, default=20.0, help="the budget of auto")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--allocator", choices=["keep", "default"], default="keep", help="for all contestants alike")
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    parser.add_argument("--memory", nargs=2, metavar=("NETWORK", "MODE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _race(name: str, settings: argparse.Namespace) -> Race:
    network = NETWORKS[name]
    torch.manual_seed(0)
    model = network.build().train()
    images, targets = torch.randn(network.batch, 3, SIZE, SIZE), torch.randint(10, (network.batch,))
    laid = images.contiguous(memory_format=torch.channels_last)

    def trial(channels_last: bool = True, part: int = network.batch) -> Trial:
        own = copy.deepcopy(model)
        own = own.to(memory_format=torch.channels_last) if channels_last else own
        return Trial(own, (laid if channels_last else images)[:part], targets[:part], nn.functional.cross_entropy)

    modes = candidates(device_facts(torch.device("cpu")))
    # what the plan does: a batch that is too long for the budget is probed in part
    part, _ = affordable(trial().model, laid, targets, nn.functional.cross_entropy, seconds=settings.seconds)
    found = Probe(trial(part=part), modes, seconds=settings.seconds).run(part)
    auto = Candidate(found.mode, found.layers)
    ratios = _memory_ratio(name)
    contestants = [
        _contestant(FULL, trial(), PrecisionConfig(mode="fp32"), settings.steps),
        _contestant(PLAIN, trial(channels_last=False), PrecisionConfig(mode="fp32"), settings.steps),
        Contestant(RAW, _raw(copy.deepcopy(model), images, targets, settings.steps)),
        *(
            _contestant(mode, trial(), PrecisionConfig(mode=mode), settings.steps)
            for mode in ("bf16", "bf16-true")
            if mode in modes
        ),
        _contestant("auto", trial(), auto.config(), settings.steps),
    ]
    race = Race(
        name,
        reference=FULL,
        settings={
            "batch": network.batch,
            "threads": settings.threads,
            "allocator": "memory is kept" if settings.allocator == "keep" else "as the C library has it",
            "auto": (
                f"{auto} (found in {found.seconds:.0f} s on {part} images"
                f"{'' if found.complete else ', not all was measured'})"
            ),
            "bf16 matrix products over fp32's": f"{_product_ratio():.1f}",
            "steps per turn": settings.steps,
            "peak memory of a bf16 step over fp32": f"{ratios:.2f}"
            + ("" if network.memory is None else f" (promised at most {network.memory})"),
        },
        targets=[] if network.speed is None else [Target("auto", "ratio", 1 / network.speed)],
    )
    race.run(contestants, rounds=settings.rounds)
    return race


def _contestant(name: str, trial: Trial, config: PrecisionConfig, steps: int) -> Contestant:
    return Contestant(name, lambda: [trial.seconds(config) for _ in range(steps)])


def _raw(model: nn.Module, images: Tensor, targets: Tensor, steps: int) -> Callable[[], Sequence[float]]:
    """Return a plain loop, as a tutorial has it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def measure() -> list[float]:
        seconds = []
        for _ in range(steps):
            clock = time.perf_counter()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
            loss.item()
            seconds.append(time.perf_counter() - clock)
        return seconds

    return measure


def _product_ratio() -> float:
    """Return how many times as fast the CPU multiplies matrices in bf16: what no network can exceed by products."""
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        one, other = torch.randn(2, 2048, 2048).to(dtype)
        times = []
        for _ in range(7):
            clock = time.perf_counter()
            one @ other
            times.append(time.perf_counter() - clock)
        seconds.append(min(times))
    return seconds[0] / seconds[1]


def _memory_ratio(name: str) -> float:
    """Return the peak memory of steps in bf16 over that in fp32, each in a process of its own."""
    peaks = []
    for mode in ("bf16", "fp32"):
        words = [sys.executable, "-m", "benchmarks.precision_auto", "--memory", name, mode]
        peaks.append(json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout))
    return peaks[0] / peaks[1]


def _peak_of_steps(name: str, mode: str) -> int:
    """Return what three steps take at their peak on top of the network and its batch, in bytes."""
    network = NETWORKS[name]
    model = network.build().train().to(memory_format=torch.channels_last)
    images = torch.randn(network.batch, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    trial = Trial(model, images, torch.randint(10, (network.batch,)), nn.functional.cross_entropy)
    before = peak_bytes(torch.device("cpu"))
    for _ in range(3):
        trial.seconds(PrecisionConfig.parse({"mode": mode}))
    return peak_bytes(torch.device("cpu")) - before


if __name__ == "__main__":
    main()
