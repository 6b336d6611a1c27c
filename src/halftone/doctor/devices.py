"""Devices, and the formats that each computes in."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from halftone.doctor.record import Finding
from halftone.system.cuda import NvidiaDriver, driver_fits
from halftone.system.device import (
    FORMAT_NAMES,
    DeviceFacts,
    cpu_capabilities,
    cpu_instructions,
    device_facts,
    devices,
    emulated_formats,
)

GET_TORCH = "https://pytorch.org/get-started/locally"
"""Where PyTorch says which build to install for which system."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The devices that are there."""

    facts: Mapping[str, DeviceFacts]
    """By name, such as `cuda:0`."""
    faults: Mapping[str, str]
    """Why a device that is there does not answer, by name."""
    said: str = ""
    """What torch said of CUDA while it looked, in one line."""


def look() -> Seen:
    """See which devices are there; torch's own warnings of CUDA become part of what was seen."""
    facts: dict[str, DeviceFacts] = {}
    faults: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for device in devices():
            try:
                facts[str(device)] = device_facts(device)
            except RuntimeError as error:
                faults[str(device)] = _one_line(error)
    about = [_one_line(warning.message) for warning in caught]
    return Seen(facts, faults, next((line for line in about if line.startswith("CUDA initialization")), ""))


def _one_line(message: object) -> str:
    return " ".join(str(message).split(" (Triggered internally")[0].split())[:200]


def device_findings(seen: Seen) -> Iterator[Finding]:
    """Say for each device in which formats it computes."""
    for name, facts in seen.facts.items():
        yield device_finding(name, facts)
        instructions = cpu_instructions(cpu_capabilities()) if facts.kind == "cpu" else {}
        if instructions:
            yield instructions_finding(instructions)
    for name, fault in seen.faults.items():
        yield Finding(
            what=f"device {name}",
            state="bad",
            found=f"it is there, but does not answer: {fault}",
            advice="restart the machine if that stays so; until then use --device cpu",
        )


def device_finding(name: str, facts: DeviceFacts) -> Finding:
    """Say in which formats a device computes natively, and which ones it only emulates."""
    native = ", ".join(each for each in FORMAT_NAMES if each in facts.native)
    emulated = ", ".join(emulated_formats(facts.native))
    halves = facts.native & {"bf16", "fp16"}
    slow = "bf16" not in halves if facts.kind == "cpu" else facts.kind == "cuda" and not halves
    advice = ""
    if facts.kind == "cpu" and "bf16" in halves:
        advice = "bf16 trains faster here"
    elif facts.kind == "cpu":
        advice = "train in fp32 here: this processor has no bf16 instructions"
    elif facts.kind == "cuda" and halves == {"fp16"}:
        advice = "use fp16: bf16 would be emulated"
    elif slow:
        advice = "train in fp32 here: bf16 and fp16 would be emulated"
    return Finding(
        what=f"device {name}",
        state="note" if slow else "good",
        found=f"{facts.name}; native: {native}" + (f"; emulated: {emulated}" if emulated else ""),
        advice=advice,
    )


def instructions_finding(instructions: Mapping[str, bool]) -> Finding:
    """Say which instructions for reduced formats the processor has."""
    present = ", ".join(name for name, there in instructions.items() if there) or "none"
    absent = ", ".join(name for name, there in instructions.items() if not there) or "none"
    return Finding(what="instructions", state="good", found=f"present: {present}; absent: {absent}")


def no_gpu_finding(cuda_version: str | None, driver: NvidiaDriver | None, *, visible: str | None, said: str) -> Finding:
    """Say why there may be no GPU, by what is there without one.

    Args:
        cuda_version: that torch is built for.
        driver: NVIDIA's, or None without nvidia-smi.
        visible: the variable CUDA_VISIBLE_DEVICES.
        said: what torch says of it.
    """
    built = f"torch is built for CUDA {cuda_version}" if cuda_version else "torch is built without CUDA"
    if driver is None or not driver.version:
        found = f"none ({built})"
        advice = "if there should be one, install its driver; nvidia-smi must list it" if cuda_version else ""
    elif visible is not None and visible.strip() in ("", "-1"):
        found, advice = f"none: CUDA_VISIBLE_DEVICES='{visible}' hides them", "unset CUDA_VISIBLE_DEVICES"
    elif cuda_version is None:
        found = f"none: {built}, though NVIDIA's driver {driver.version} is here"
        advice = f"to train on the GPU, install a torch that is built for CUDA: {GET_TORCH}"
    elif not driver_fits(driver.version, cuda_version):
        found, advice = "none: the driver is too old for this torch", ""  # the finding on the driver says what to do
    else:
        found = f"none, though NVIDIA's driver {driver.version} is here" + (f"; torch says: {said}" if said else "")
        advice = "restart the machine if the driver was updated; start a container with access to its GPUs"
    return Finding(what="GPU", state="note", found=found, advice=advice)
