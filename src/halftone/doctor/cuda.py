"""NVIDIA's GPUs: tensor cores, kernels, driver, CUDA and cuDNN, and whether they fit together."""

from collections.abc import Iterator, Sequence

import torch

from halftone.doctor.devices import GET_TORCH
from halftone.doctor.record import Finding
from halftone.system.cuda import (
    OLDEST_DRIVER,
    Capability,
    NvidiaDriver,
    cudnn_versions,
    driver_fits,
    has_kernels,
    major_version,
    tensor_cores,
)
from halftone.system.device import DeviceFacts

Version = tuple[int, int, int]


def cuda_findings(gpus: Sequence[DeviceFacts], driver: NvidiaDriver | None) -> Iterator[Finding]:
    """Look at what NVIDIA's GPUs need.

    Args:
        gpus: those that torch reaches.
        driver: as nvidia-smi tells it, or None without nvidia-smi.
    """
    distinct = [(gpu.name, gpu.capability) for gpu in dict.fromkeys(gpus) if gpu.capability is not None]
    for name, capability in distinct:
        yield tensor_cores_finding(name, capability)
        if architectures := torch.cuda.get_arch_list():
            yield kernels_finding(name, capability, architectures)
    if driver is not None and driver.fault:
        yield driver_fault_finding(driver.fault)
    elif driver is not None and torch.version.cuda is not None:
        yield driver_finding(driver.version, torch.version.cuda, reached=bool(distinct))
    if distinct and (versions := cudnn_versions()) is not None:
        yield cudnn_finding(*versions, oldest=min(capability for _, capability in distinct))


def tensor_cores_finding(name: str, capability: Capability) -> Finding:
    """Say which formats a GPU's tensor cores multiply."""
    cores, number = tensor_cores(*capability, name), _dotted(capability)
    if cores is None:
        return Finding(what="tensor cores", state="note", found=f"{name} (capability {number}) has none")
    found = f"{name} ({cores.generation}, capability {number}): {', '.join(cores.formats)}"
    return Finding(what="tensor cores", state="good", found=found)


def kernels_finding(name: str, capability: Capability, architectures: Sequence[str]) -> Finding:
    """Say whether torch brings code for a GPU.

    Args:
        name: of the GPU.
        capability: of the GPU.
        architectures: that torch is built for, such as `sm_90`.
    """
    gpu = f"{name} (capability {_dotted(capability)})"
    if has_kernels(architectures, capability):
        return Finding(what="kernels", state="good", found=f"torch has code for {gpu}")
    return Finding(
        what="kernels",
        state="bad",
        found=f"torch has no code for {gpu}; it is built for {', '.join(architectures)}",
        advice=f"install a torch with code for it: {GET_TORCH}; until then use --device cpu",
    )


def driver_finding(driver_version: str, cuda_version: str, *, reached: bool = False) -> Finding:
    """Say whether NVIDIA's driver is new enough for the CUDA that torch is built for.

    Args:
        driver_version: such as `535.104.05`.
        cuda_version: such as `13.0`.
        reached: torch reaches the GPU all the same, by a package for forward compatibility.
    """
    if driver_fits(driver_version, cuda_version):
        return Finding(what="driver", state="good", found=f"{driver_version}; torch is built for CUDA {cuda_version}")
    oldest = OLDEST_DRIVER[major_version(cuda_version)]
    if reached:
        found = f"{driver_version}, which CUDA {cuda_version} reaches by a package for forward compatibility"
        return Finding(what="driver", state="note", found=found, advice=f"if there is trouble, update it to {oldest}")
    fitting = [cuda for cuda, needed in OLDEST_DRIVER.items() if needed <= major_version(driver_version)]
    other = f", or install a torch that is built for CUDA {max(fitting)}: {GET_TORCH}" if fitting else ""
    return Finding(
        what="driver",
        state="bad",
        found=f"torch is built for CUDA {cuda_version}, but the driver is {driver_version}",
        advice=f"update the driver to {oldest} or newer{other}",
    )


def driver_fault_finding(fault: str) -> Finding:
    """Say that nvidia-smi is there and does not tell the driver's version."""
    return Finding(
        what="driver",
        state="note",
        found=f"nvidia-smi does not tell its version: {fault}",
        advice="if there should be a GPU, install its driver again, and restart the machine after an update of it",
    )


def cudnn_finding(compiled: Version, loaded: Version, *, oldest: Capability) -> Finding:
    """Say whether the cuDNN that is loaded fits torch and the oldest GPU.

    Args:
        compiled: the version that torch was compiled with.
        loaded: the version that it found.
        oldest: the smallest compute capability of all GPUs.
    """
    fits = loaded[0] == compiled[0] and loaded[1] >= compiled[1]
    served = loaded < (9, 11, 0) or oldest >= (7, 5)
    advice = ""
    if not fits:
        advice = "torch brings its own cuDNN: take the other one out of LD_LIBRARY_PATH, or install torch again"
    elif not served:
        advice = f"cuDNN has no code below capability 7.5 from 9.11 on: install an older build of torch, {GET_TORCH}"
    return Finding(
        what="cuDNN",
        state="good" if fits and served else "bad",
        found=f"{_dotted(loaded)}; torch was compiled with {_dotted(compiled)}"
        + ("" if served else f", and there is a GPU of capability {_dotted(oldest)}"),
        advice=advice,
    )


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)
