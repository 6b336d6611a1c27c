"""Looking at the machine: devices, number formats, threads, memory, packages."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch

from halftone.base.errors import HalftoneError
from halftone.base.records import Record
from halftone.system.device import KINDS, choose_device, device_facts
from halftone.system.memory import available_bytes, keep_freed_memory
from halftone.system.threads import usable_cores

State = Literal["good", "note", "bad"]
_OLDEST_TORCH = (2, 10)
"""Older ones load weight files unsafely: CVE-2025-32434 (up to 2.5.1), CVE-2026-24747 (before 2.10)."""


class Finding(Record):
    """One thing that was looked at."""

    what: str
    state: State
    found: str
    advice: str = ""


def findings() -> Iterator[Finding]:
    """Look at everything that training depends on."""
    yield from _packages()
    yield from _devices()
    yield _threads()
    yield _memory()
    yield from _optional()


def _packages() -> Iterator[Finding]:
    numbers = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    old = numbers < _OLDEST_TORCH
    yield Finding(
        what="torch",
        state="bad" if old else "good",
        found=torch.__version__,
        advice="update it: this version loads weight files unsafely" if old else "",
    )
    for package in ("torchvision", "timm"):
        yield Finding(what=package, state="good", found=version(package))


def _devices() -> Iterator[Finding]:
    found = []
    for kind in KINDS:
        try:
            found.append(choose_device(kind))
        except HalftoneError:
            continue
    for device in found:
        facts = device_facts(device)
        formats = ", ".join(name for name in ("fp32", "tf32", "bf16", "fp16") if name in facts.native)
        advice = ""
        if device.type == "cpu" and "bf16" in facts.native:
            advice = "bf16 trains faster here, except for networks of depthwise convolutions"
        elif "bf16" not in facts.native and "fp16" in facts.native and device.type == "cuda":
            advice = "use fp16: bf16 would be emulated"
        elif device.type == "cpu":
            advice = "train in fp32 here: this processor has no bf16 instructions"
        yield Finding(
            what=f"device {device.type}",
            state="good" if device.type != "cpu" or "bf16" in facts.native else "note",
            found=f"{facts.name}; computes natively in {formats}",
            advice=advice,
        )
    if len(found) == 1:
        built = torch.version.cuda is not None
        yield Finding(
            what="GPU",
            state="note",
            found="none"
            + (f" (torch is built for CUDA {torch.version.cuda})" if built else " (torch is built without CUDA)"),
            advice="if there should be one, check its driver with nvidia-smi" if built else "",
        )


def _threads() -> Finding:
    cores, asked = usable_cores(), torch.get_num_threads()
    many = asked > cores
    return Finding(
        what="threads",
        state="note" if many else "good",
        found=f"{cores} cores are granted, torch uses {asked} threads",
        advice=f"halftone uses {cores}; for other programs set OMP_NUM_THREADS={cores}" if many else "",
    )


def _memory() -> Finding:
    free = available_bytes(torch.device("cpu")) / 2**30
    kept = keep_freed_memory()
    return Finding(
        what="memory",
        state="good" if free > 2 else "note",
        found=f"{free:.1f} GB free; freed memory {'can be kept between steps' if kept else 'goes back to the system'}",
        advice="" if free > 2 else "close other programs or use a smaller --batch-size",
    )


def _optional() -> Iterator[Finding]:
    for package, extra, use in (("datasets", "hub", "data sets of the Hugging Face hub (hf:NAME)"),):
        try:
            found = version(package)
        except PackageNotFoundError:
            advice = f'pip install "halftone[{extra}]"'
            yield Finding(what=package, state="note", found=f"not installed; needed for {use}", advice=advice)
        else:
            yield Finding(what=package, state="good", found=found)
