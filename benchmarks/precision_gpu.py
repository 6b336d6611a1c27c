"""Every precision on a GPU: ResNet-50 at 224, and fp8 on a ViT: images per second, peak memory, joules per image.

    python -m benchmarks.precision_gpu
    python -m benchmarks.precision_gpu --networks vit_base_patch16_224 --batch 128

Full training steps on random images that lie on the device, by halftone's own verbs, the modes in turns. Energy is read
from NVML where the package nvidia-ml-py is installed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import timm
import torch
import torchvision
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from benchmarks import harness
from halftone.base.errors import HalftoneError
from halftone.base.files import write_json, write_text
from halftone.precision.config import MODES, Mode, PrecisionConfig
from halftone.precision.verbs import Precision

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": torchvision.models.resnet50,
    "vit_base_patch16_224": lambda: timm.create_model("vit_base_patch16_224"),
}
PROMISED = "resnet50"
LEAST_TIMES, MOST_MEMORY, LEAST_SPEED = 2.3, 0.6, 4500
"""Of bf16 on `PROMISED`: images per second and memory as multiples of tf32's, and images per second."""
COLUMNS = ("", "images/s", "times fp32", "peak memory, GB", "joules per image")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="timed steps per turn")
    parser.add_argument("--dry", action="store_true", help="print, but leave results/ as it is")
    settings = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark wants a CUDA device")
    where = harness.machine(["torchvision", "timm", "torchao"])
    found = {name: _measure(name, settings) for name in settings.networks}
    parts = [
        "# precision_gpu",
        (
            f"Full training steps on {settings.batch} random images of 224 pixels on the device, channels last, SGD; "
            f"the modes take turns, {settings.rounds} rounds of {settings.steps} steps, medians (least to most)."
        ),
        f"`{harness.command_line('benchmarks.precision_gpu')}`",
        harness.describe(where),
    ]
    for name, modes in found.items():
        parts += [f"## {name}", harness.markdown_table(COLUMNS, [_row(mode, modes) for mode in modes])]
        parts += ["\n".join(_verdicts(modes))] if name == PROMISED else []
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "precision_gpu.md", text)
        write_json(harness.RESULTS / "precision_gpu.json", {"machine": where, "found": found})


def _measure(name: str, settings: argparse.Namespace) -> dict[str, dict[str, Any]]:
    images = torch.randn(settings.batch, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    targets = torch.randint(10, (settings.batch,), device="cuda")
    energy, runs = _energy_meter(), {}
    found: dict[str, dict[str, Any]] = {}
    for mode in MODES:
        try:
            runs[mode] = _Run(name, mode, images, targets)
            runs[mode].steps(3)
            found[mode] = {"seconds": [], "joules": [], "peak": runs[mode].peak()}
        except (HalftoneError, RuntimeError) as error:
            found[mode] = {"absent": " ".join(str(error).split())[:160]}
            runs.pop(mode, None)
    for _ in track(range(settings.rounds), description=name, console=Console(stderr=True), transient=True):
        for mode, run in runs.items():
            before, clock = energy(), time.perf_counter()
            run.steps(settings.steps)
            seconds, after = time.perf_counter() - clock, energy()
            count = settings.steps * settings.batch
            found[mode]["seconds"].append(seconds / count)
            if before is not None and after is not None:
                found[mode]["joules"].append((after - before) / count)
    return found


class _Run:
    """A network in one mode."""

    def __init__(self, name: str, mode: Mode, images: Tensor, targets: Tensor) -> None:
        torch.manual_seed(0)
        self._model = NETWORKS[name]().cuda().to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01, momentum=0.9, fused=True)
        self._precision = Precision(PrecisionConfig(mode=mode), self._model, optimizer)
        self._images, self._targets = images, targets

    def steps(self, count: int) -> None:
        for _ in range(count):
            with self._precision.forward():
                loss = nn.functional.cross_entropy(self._model(self._images), self._targets)
            self._precision.backward(loss)
            self._precision.step()
        torch.cuda.synchronize()

    def peak(self) -> int:
        """Return the memory of a step on top of what lies there between steps, and of this network, in bytes."""
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        self.steps(1)
        own = sum(parameter.numel() * parameter.element_size() for parameter in self._model.parameters())
        return torch.cuda.max_memory_allocated() - held + own


def _verdicts(modes: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Say of each promise whether it was kept."""
    half, full = modes["bf16"], modes["tf32"]
    if "absent" in half or "absent" in full:
        yield "- not judged: bf16 or tf32 is absent"
        return
    times = statistics.median(one / own for one, own in zip(full["seconds"], half["seconds"], strict=True))
    memory, speed = half["peak"] / full["peak"], 1 / statistics.median(half["seconds"])
    for kept, promise, found in (
        (times >= LEAST_TIMES, f"bf16 at least {LEAST_TIMES} times the images per second of tf32", f"{times:.2f}"),
        (memory <= MOST_MEMORY, f"in at most {MOST_MEMORY} of its memory", f"{memory:.2f}"),
        (speed >= LEAST_SPEED, f"at least {LEAST_SPEED:,} images per second", f"{speed:,.0f}"),
    ):
        yield f"- {'met' if kept else 'MISSED'}: {promise}; found {found}"


def _energy_meter() -> Callable[[], float | None]:
    """Return a function that reads joules since the driver was loaded, or None where there is no meter."""
    try:
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
    except Exception:  # whatever is missing, package, driver or meter: there is no figure then
        return lambda: None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1000


def _row(mode: str, modes: dict[str, dict[str, Any]]) -> Sequence[str]:
    found = modes[mode]
    if "absent" in found:
        return mode, "-", "-", "-", found["absent"]
    speeds = harness.Spread.of([1 / seconds for seconds in found["seconds"]])
    pairs = zip(modes["fp32"]["seconds"], found["seconds"], strict=True)
    times = harness.Spread.of([full / own for full, own in pairs])
    joules = f"{statistics.median(found['joules']):.3f}" if found["joules"] else "no meter"
    return mode, speeds.text(0), times.text(2), f"{found['peak'] / 2**30:.2f}", joules


if __name__ == "__main__":
    main()
