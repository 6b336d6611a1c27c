"""What a plan thinks that a training step takes in memory on the CPU, beside what steps took, each in its own process.

python -m benchmarks.step_memory
python -m benchmarks.step_memory --networks resnet18 --dry
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from benchmarks import harness
from halftone.base.files import write_json, write_text
from halftone.models.build import build_model
from halftone.precision.config import Mode, PrecisionConfig
from halftone.precision.trial import StepMemory, Trial
from halftone.system.memory import process_peak_bytes

CLAIM = (
    "On the CPU a step takes at most what the plan thinks by which it divides a batch: weighed on 4 images, "
    "for steps on 8, in fp32 and bf16. No network keeps 1,000 times the bytes of its input."
)
NETWORKS = {
    "resnet18": 224,
    "resnet50": 224,
    "densenet121": 224,
    "vgg11_bn": 224,
    "mobilenet_v2": 224,
    "efficientnet_b0": 224,
    "efficientnet_b4": 380,
    "vit_b_16": 224,
    "convnext_tiny": 224,
    "cnn": 64,
    "cifar_resnet20": 32,
}
"""And the pixels a side."""
FEW, BATCHES, MODES = 4, (8,), ("fp32", "bf16")
HOW_TO_READ = (
    "The peak is what a step takes beyond the process with its network and images in it: gradients, momentum, and what "
    "the pass keeps and needs meanwhile. Freed memory goes back to the system here, so that each step shows its own. "
    "`kept` is over the bytes of the input in fp32."
)


def main() -> None:
    settings = _arguments()
    if settings.measure:
        name, mode, batch = settings.measure
        print(json.dumps(_measured(name, mode, int(batch))))
        return
    where, out = harness.machine(["torchvision"]), Console(width=140)
    turns = [(name, mode, batch) for name in settings.networks for mode in MODES for batch in BATCHES]
    found = [
        {"network": name, "mode": mode, "batch": batch, **_in_a_process(name, mode, batch)}
        for name, mode, batch in track(turns, description="step memory", console=Console(stderr=True), transient=True)
    ]
    rows = [_row(one) for one in found]
    for row in rows:
        out.print(" | ".join(row), highlight=False)
    if not settings.dry:
        _write(found, rows, where)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--dry", action="store_true", help="print the table, but leave results/ as it is")
    parser.add_argument("--measure", nargs=3, metavar=("NETWORK", "MODE", "BATCH"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(name: str, mode: str, batch: int) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.step_memory", "--measure", name, mode, str(batch)]
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _measured(name: str, mode: Mode, batch: int) -> dict[str, float]:
    """Return bytes: what was thought and what was taken; and what the pass keeps over its input."""
    size = NETWORKS[name]
    model = build_model(name, num_classes=10, channels=3, size=size, dropout=None).module.train()
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    trial = Trial(model, images, torch.zeros(batch, dtype=torch.long), nn.CrossEntropyLoss())
    config = PrecisionConfig(mode=mode)
    step: StepMemory = trial.memory(config, few=FEW)
    Trial(model, images[:2], torch.zeros(2, dtype=torch.long), nn.CrossEntropyLoss()).seconds(config)  # libraries load
    model.zero_grad()
    before = harness.held_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    trial.seconds(config)
    kept = trial.activation_bytes(config) / (images.numel() * 4)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    thought = step.fixed + weights + batch * step.per_image  # the momentum beside the gradients
    return {"thought": thought, "taken": process_peak_bytes() - before, "kept": kept}


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    thought, taken = one["thought"] / 2**20, one["taken"] / 2**20
    met = taken <= thought and one["kept"] < 1000
    name = f"{one['network']}, {NETWORKS[one['network']]} px"
    shown = (f"{thought:,.0f}", f"{taken:,.0f}", f"{taken / thought:.2f}", f"{one['kept']:.0f}")
    return (name, one["mode"], str(one["batch"]), *shown, "met" if met else "MISSED")


def _write(found: list[dict[str, Any]], rows: list[tuple[str, ...]], where: dict[str, Any]) -> None:
    command = harness.command_line("benchmarks.step_memory")
    values = {"name": "step_memory", "claim": CLAIM, "command": command, "machine": where, "bytes": found}
    write_json(harness.RESULTS / "step_memory.json", values)
    columns = ("network", "mode", "batch", "thought, MB", "taken, MB", "taken over thought", "kept", "promised")
    parts = ["# step_memory", CLAIM, f"`{command}`", harness.describe(where), HOW_TO_READ]
    write_text(harness.RESULTS / "step_memory.md", "\n\n".join([*parts, harness.markdown_table(columns, rows)]) + "\n")


if __name__ == "__main__":
    main()
