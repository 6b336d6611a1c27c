"""Energy, where a meter is: NVML on NVIDIA, AMD SMI on AMD, RAPL for processors, all read through zeus.

The meters count the whole device or the whole processor, whoever uses it, so a figure is that of a run only where
nothing else runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """Joules since some point in the past; the difference of two readings counts."""

    read: Callable[[], float]
    """May raise anything that a driver can think of."""
    source: str
    """What is counted, for people."""


def find_meter(device: torch.device) -> EnergyMeter | str:
    """Return the meter of what a device draws, its processor included where that can be read; or why there is none."""
    if find_spec("zeus") is None:
        return 'energy is not measured: pip install "halftone[energy]"'
    parts, sources, missing = [], [], []
    for name, find in (("accelerator", _accelerator), ("processor", _processor)):
        if name == "accelerator" and device.type != "cuda":
            continue
        try:
            parts.append(find(device))
            sources.append(name)
        except Exception as error:  # drivers, permissions, files of the kernel: there are many ways to have no meter
            missing.append(f"of the {name} there is no meter that can be read ({' '.join(str(error).split())[:80]})")
    if not parts:
        return f"energy is not measured: {'; '.join(missing)}"
    return EnergyMeter(lambda: sum(part() for part in parts), " and ".join(sources))


def _accelerator(device: torch.device) -> Callable[[], float]:
    from zeus.device import get_gpus

    gpus: Any = get_gpus()
    index = torch.cuda.current_device() if device.index is None else device.index
    gpus.get_total_energy_consumption(index)
    return lambda: gpus.get_total_energy_consumption(index) / 1000


def _processor(device: torch.device) -> Callable[[], float]:
    """Return a reading of all processors and, where it is counted, their memory; `device` makes no difference."""
    from zeus.device.cpu import get_cpus

    cpus: Any = get_cpus()

    def read() -> float:
        counted = [cpus.get_total_energy_consumption(index) for index in range(len(cpus))]
        return sum((one.cpu_mj or 0) + (one.dram_mj or 0) for one in counted) / 1000

    read()
    return read
