"""The gradient of a convolution's weight, layer by layer: torch's kernel beside a product with the input's columns.

    python -m benchmarks.weight_gradients
    python -m benchmarks.weight_gradients --precisions fp32 bf16

What `halftone.models.im2col` goes by. Of bf16 it says what such a product would take; nothing computes so in bf16.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import harness
from benchmarks.harness import Contestant, Race
from halftone.base.files import write_json, write_text
from halftone.models.convolution import Geometry
from halftone.models.im2col import columns_pay, weight_gradient
from halftone.system.memory import keep_freed_memory
from halftone.system.threads import usable_cores

CLAIM = (
    "On processors without AVX-512, in fp32, the layers that take the way of columns find the gradient of their weight "
    "in less time so, each of them."
)
LAYERS = (
    # images, channels before and after, pixels a side, stride, kernel
    (16, 64, 64, 56, 1, 3),
    (16, 64, 128, 56, 2, 3),
    (16, 128, 128, 28, 1, 3),
    (16, 256, 256, 14, 1, 3),
    (16, 512, 512, 7, 1, 3),
    (4, 64, 128, 112, 1, 3),
    (4, 256, 256, 56, 1, 3),
    (500, 64, 256, 15, 1, 3),
    (500, 256, 256, 7, 1, 3),
    (16, 64, 192, 27, 1, 5),
    (16, 32, 32, 56, 1, 3),
    (16, 64, 64, 28, 1, 3),
    (16, 192, 192, 17, 1, 7),
    (16, 256, 64, 56, 1, 1),
    (16, 1024, 256, 14, 1, 1),
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
KERNEL, COLUMNS = "torch's kernel", "columns"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weight_gradients", description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), default=["fp32"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--dry", action="store_true", help="print the table, but leave results/ as it is")
    settings = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    where, rows, values = harness.machine(), [], {}
    for precision in settings.precisions:
        for images, before, after, side, stride, kernel in LAYERS:
            shape = f"{before} to {after}, {kernel} x {kernel}, stride {stride}"
            label = f"{shape}, {side} pixels, {images} images, {precision}"
            layer = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2)
            geometry = Geometry.of(layer, (side, side))
            race = _race(label, layer, geometry, images, DTYPES[precision], settings.rounds)
            work = 2 * images * geometry.pixels_after * geometry.places * before * after
            speeds = [f"{work / statistics.median(race.means[name]) / 1e9:.0f}" for name in (KERNEL, COLUMNS)]
            taken = "yes" if columns_pay(layer, geometry, DTYPES[precision]) else ""
            rows.append((label, *speeds, race.ratio(COLUMNS).text(2), taken))
            values[label] = {"seconds": race.means, "taken": bool(taken)}
            Console(width=140).print(" | ".join(rows[-1]), highlight=False)
    if not settings.dry:
        columns = ("layer", f"{KERNEL}, GFLOP/s", f"{COLUMNS}, GFLOP/s", "ratio of times within a round", "taken here")
        parts = ["# weight_gradients", CLAIM, f"`{harness.command_line('benchmarks.weight_gradients')}`"]
        parts += [harness.describe(where), f"{settings.rounds} rounds; medians (least to most)."]
        page = "\n\n".join([*parts, harness.markdown_table(columns, rows)])
        write_text(harness.RESULTS / "weight_gradients.md", page + "\n")
        write_json(harness.RESULTS / "weight_gradients.json", {"claim": CLAIM, "machine": where, "layers": values})


def _race(label: str, layer: nn.Conv2d, geometry: Geometry, images: int, dtype: torch.dtype, rounds: int) -> Race:
    torch.manual_seed(0)
    last: dict[str, Any] = {"memory_format": torch.channels_last, "dtype": dtype}
    inputs = torch.randn(images, layer.in_channels, *geometry.size).to(**last)
    weight = layer.weight.detach().to(**last)
    gradient = torch.randn_like(F.conv2d(inputs, weight, None, geometry.stride, geometry.padding))
    work: dict[str, Callable[[], Tensor]] = {
        KERNEL: partial(_by_kernel, gradient, inputs, weight, geometry),
        COLUMNS: partial(weight_gradient, inputs, gradient, geometry),
    }
    race = Race(label, KERNEL, {})
    race.run([Contestant(name, partial(_timed, one)) for name, one in work.items()], rounds=rounds)
    return race


def _by_kernel(gradient: Tensor, inputs: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    found = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, geometry.stride, geometry.padding, geometry.dilation, False, (0, 0), 1,
        (False, True, False),
    )  # fmt: skip
    return found[1]


def _timed(work: Callable[[], Tensor]) -> Sequence[float]:
    began = time.perf_counter()
    work()
    return [time.perf_counter() - began]


if __name__ == "__main__":
    main()
