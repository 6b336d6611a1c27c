"""Which device to use, what it is called, and which number formats its hardware really computes in."""

import platform
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache

import torch

from halftone.base.errors import RecipeError, ResourceError, closest
from halftone.system.cuda import tensor_cores

KINDS = ("cuda", "xpu", "mps", "cpu")
FORMAT_NAMES = ("fp32", "tf32", "bf16", "fp16", "fp8")
"""The number formats that training knows, from wide to narrow."""
_INSTRUCTIONS = {
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_bf16": "AMX BF16",
    "amx_fp16": "AMX FP16",
    "amx_int8": "AMX INT8",
    "bf16": "NEON BF16",
    "fp16_arith": "NEON FP16",
    "i8mm": "NEON I8MM",
    "sve_bf16": "SVE BF16",
}
"""Instructions for reduced formats: torch's names and their makers'."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device, as far as training depends on it."""

    kind: str
    """`cpu`, `cuda`, `mps` or `xpu`."""
    name: str
    """As its maker calls it."""
    native: frozenset[str]
    """Formats with hardware of their own, out of `fp32`, `tf32`, `bf16`, `fp16`, `fp8`. Emulated ones are left out."""
    capability: tuple[int, int] | None = None
    """The CUDA compute capability, of NVIDIA's GPUs only."""


def choose_device(asked: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`, ....

    Raises:
        RecipeError: the name means nothing to torch.
        ResourceError: the device is not there.
    """
    if asked == "auto":
        return torch.device(next(kind for kind in KINDS if _count(kind)))
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise RecipeError(
            f"device = '{asked}': it must be auto, {', '.join(KINDS)}, or one with a number",
            hint="did you mean 'cuda'?" if asked == "gpu" else closest(asked.lower(), ["auto", *KINDS]),
        ) from None
    if device.type not in KINDS:
        raise RecipeError(f"device = '{asked}': halftone trains on {', '.join(KINDS)}")
    count = _count(device.type)
    if count == 0:
        raise ResourceError(f"device = '{asked}', but there is no {device.type} device here", hint="use --device auto")
    if device.index is not None and device.index >= count:
        there = f"is only {device.type}:0" if count == 1 else f"are only {device.type}:0 to {device.type}:{count - 1}"
        raise ResourceError(f"device = '{asked}', but there {there}", hint="use --device auto")
    return device


def devices() -> Iterator[torch.device]:
    """Yield all devices that are there, the best first."""
    for kind in KINDS:
        for index in range(_count(kind)):
            yield torch.device(kind, index) if kind in ("cuda", "xpu") else torch.device(kind)


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if torch.xpu.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that was asked of it; the CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def device_facts(device: torch.device) -> DeviceFacts:
    """Describe a device that is there."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.version.hip:
            architecture = torch.cuda.get_device_properties(device).gcnArchName
            return DeviceFacts("cuda", name, rocm_formats(architecture))
        major, minor = torch.cuda.get_device_capability(device)
        return DeviceFacts("cuda", name, cuda_formats(major, minor, name), (major, minor))
    if device.type == "xpu":
        return DeviceFacts("xpu", torch.xpu.get_device_name(device), frozenset({"fp32", "bf16", "fp16"}))
    if device.type == "mps":
        return DeviceFacts("mps", f"Apple {platform.machine()}", frozenset({"fp32", "fp16"}))
    return DeviceFacts("cpu", cpu_name(), cpu_formats(cpu_capabilities()))


def cuda_formats(major: int, minor: int, name: str = "") -> frozenset[str]:
    """Return the formats with hardware for matrix products, by compute capability: fp32, and what tensor cores have.

    fp16 came with Volta (7.0), bf16 and tf32 with Ampere (8.0), fp8 with Ada (8.9). The GTX 16 series (7.5) has no
    tensor cores, which only its name tells. `torch.cuda.is_bf16_supported()` also counts emulation, so it is not asked.
    """
    cores = tensor_cores(major, minor, name)
    return frozenset({"fp32"} | (set(cores.formats) & set(FORMAT_NAMES) if cores else set()))


def rocm_formats(architecture: str) -> frozenset[str]:
    """Return the formats with matrix units in AMD's GPUs, by architecture such as `gfx90a:sramecc+:xnack-`."""
    units = architecture.startswith(("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12"))
    return frozenset({"fp32", "bf16", "fp16"} if units else {"fp32"})


def emulated_formats(native: Set[str]) -> tuple[str, ...]:
    """Return the halves that torch computes on a device without their hardware: it converts to fp32 and back."""
    return tuple(name for name in ("bf16", "fp16") if name not in native)


@cache
def cpu_capabilities() -> dict[str, object]:
    """Return what the processor's instruction set offers, as torch names it."""
    try:
        return dict(torch.cpu.get_capabilities())
    except AttributeError:  # an older torch: nothing is known, so nothing is promised
        return {}


def cpu_formats(capabilities: Mapping[str, object]) -> frozenset[str]:
    """Return the formats in which this processor multiplies matrices by instructions of their own."""
    formats = {"fp32"}
    if any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")):
        formats.add("bf16")
    if any(capabilities.get(name) for name in ("avx512_fp16", "amx_fp16", "fp16_arith")):
        formats.add("fp16")
    return frozenset(formats)


def cpu_instructions(capabilities: Mapping[str, object]) -> dict[str, bool]:
    """Return which instructions for reduced formats a processor of this family has, by their makers' names."""
    return {title: bool(capabilities[name]) for name, title in _INSTRUCTIONS.items() if name in capabilities}


def cpu_name() -> str:
    """Return the processor's name."""
    return str(cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine())
