"""Which device to use, what it is called, and which number formats its hardware really computes in."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch

from halftone.base.errors import RecipeError, ResourceError, closest

KINDS = ("cuda", "xpu", "mps", "cpu")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device, as far as training depends on it."""

    kind: str
    """`cpu`, `cuda`, `mps` or `xpu`."""
    name: str
    """As its maker calls it."""
    native: frozenset[str]
    """Formats with hardware of their own, out of `fp32`, `tf32`, `bf16`, `fp16`. Emulated ones are left out."""
    capability: tuple[int, int] | None = None
    """The CUDA compute capability."""


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


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if torch.xpu.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def device_facts(device: torch.device) -> DeviceFacts:
    """Describe a device that is there."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return DeviceFacts("cuda", torch.cuda.get_device_name(device), cuda_formats(major, minor), (major, minor))
    if device.type == "xpu":
        return DeviceFacts("xpu", torch.xpu.get_device_name(device), frozenset({"fp32", "bf16", "fp16"}))
    if device.type == "mps":
        return DeviceFacts("mps", f"Apple {platform.machine()}", frozenset({"fp32", "fp16"}))
    return DeviceFacts("cpu", cpu_name(), cpu_formats(cpu_capabilities()))


def cuda_formats(major: int, minor: int) -> frozenset[str]:
    """Return the formats with hardware for matrix products, by compute capability.

    fp16 tensor cores came with Volta (7.0), though not on the GTX 16 series (7.5 in part); bf16 and tf32 with
    Ampere (8.0). `torch.cuda.is_bf16_supported()` also counts emulation, so it is not asked.
    """
    formats = {"fp32"}
    if (major, minor) >= (7, 0):
        formats.add("fp16")
    if (major, minor) >= (8, 0):
        formats |= {"bf16", "tf32"}
    return frozenset(formats)


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


def cpu_name() -> str:
    """Return the processor's name."""
    return str(cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine())
