"""Training steps with convolutions as `halftone.models.cpu_convolutions` computes them, beside torch's own.

    python -m benchmarks.convolutions

The same network twice in one process: as `halftone train` builds it, and with torch's convolutions. A turn is the
forward and the backward pass of one batch of random pictures. On a processor without AVX-512, where other layers
gain, the results have a name of their own.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from benchmarks import harness
from benchmarks.harness import Contestant, Race
from halftone.base.files import write_json, write_text
from halftone.models.build import build_model
from halftone.system.memory import keep_freed_memory
from halftone.system.threads import usable_cores

CLAIM = (
    "On the CPU networks train faster than with PyTorch's convolutions where maps are small or layers depthwise: "
    "torchvision's resnet18 on pictures of 32 pixels in at most 0.7 of the time in fp32 and 0.5 in bf16, "
    "mobilenet_v3_small and efficientnet_b0 at 224 pixels in bf16 in at most 0.7."
)
CLAIM_AVX2 = (
    "On processors without AVX-512 networks train faster in fp32 than with PyTorch's convolutions where layers have "
    "many channels: resnet18 at 224 pixels in at most 0.95 of the time, vgg11 in at most 0.85."
)
AVX2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
CASES = (
    ("resnet18", 32, 64, {} if AVX2 else {"fp32": 0.7, "bf16": 0.5}),
    ("resnet50", 32, 64, {}),
    ("vgg11_bn", 32, 64, {}),
    ("resnet18", 224, 32, {"fp32": 0.95} if AVX2 else {}),
    ("resnet50", 224, 8, {}),
    ("vgg11", 224, 4, {"fp32": 0.85} if AVX2 else {}),
    ("mobilenet_v3_small", 224, 32, {"bf16": 0.7}),
    ("efficientnet_b0", 224, 8, {"bf16": 0.7}),
    ("convnext_tiny", 224, 8, {}),
)
"""Network, pixels a side, images in a batch, and what is promised."""
NAMES = {name for name, *_ in CASES}
PRECISIONS = ("fp32",) if AVX2 else ("fp32", "bf16")
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=sorted(NAMES), default=sorted(NAMES))
    parser.add_argument("--rounds", type=int, default=harness.LEAST_ROUNDS)
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--dry", action="store_true", help="print the table, but leave results/ as it is")
    settings = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    where, rows, values = harness.machine(["torchvision"]), [], {}
    for name, size, batch, promised in CASES:
        for precision in PRECISIONS:
            if name in settings.networks:
                race = _race(name, size, batch, precision, steps=settings.steps, rounds=settings.rounds)
                label, limit = f"{name}, {size} px, batch {batch}, {precision}", promised.get(precision)
                rows.append((label, *_shown(race, limit)))
                values[label] = {"seconds": race.means, "limit": limit}
                Console(width=140).print(" | ".join(rows[-1]), highlight=False)
    if not settings.dry:
        columns = ("network", "torch's, ms", "ours, ms", "ratio within a round", "promised")
        claim, file = (CLAIM_AVX2, "convolutions_avx2") if AVX2 else (CLAIM, "convolutions")
        parts = [
            f"# {file}",
            claim,
            f"`{harness.command_line('benchmarks.convolutions')}`",
            harness.describe(where),
        ]
        parts += [f"{settings.rounds} rounds of {settings.steps} steps; medians (least to most)."]
        write_text(harness.RESULTS / f"{file}.md", "\n\n".join([*parts, harness.markdown_table(columns, rows)]) + "\n")
        write_json(harness.RESULTS / f"{file}.json", {"claim": claim, "machine": where, "races": values})


def _race(name: str, size: int, batch: int, precision: str, *, steps: int, rounds: int) -> Race:
    torch.manual_seed(0)
    ours = build_model(name, num_classes=CLASSES, channels=3, size=size, dropout=None).module.train()
    ours = ours.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(ours)
    for layer in plain.modules():
        layer.__dict__.pop("forward", None)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    targets = torch.randint(0, CLASSES, (batch,))
    race = Race(f"{name} {precision}", "torch", {})
    sides: dict[str, nn.Module] = {"torch": plain, "ours": ours}
    work: dict[str, Callable[[], Sequence[float]]] = {
        side: partial(_steps, model, images, targets, precision, steps) for side, model in sides.items()
    }
    race.run([Contestant(side, measure) for side, measure in work.items()], rounds=rounds)
    return race


def _steps(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, precision: str, count: int
) -> Sequence[float]:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(images), targets)
        loss.backward()
        seconds.append(time.perf_counter() - began)
    return seconds


def _shown(race: Race, limit: float | None) -> tuple[str, ...]:
    found = race.ratio("ours")
    verdict = "" if limit is None else f"{'met' if found.median <= limit else 'MISSED'}: at most {limit:g}"
    return (*(_milliseconds(race, side) for side in ("torch", "ours")), found.text(3), verdict)


def _milliseconds(race: Race, side: str) -> str:
    return harness.Spread.of([second * 1e3 for second in race.means[side]]).text(1)


if __name__ == "__main__":
    main()
