"""Number formats: what each can hold, and how torch is told to use it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from halftone.base.errors import RecipeError
from halftone.precision.config import Mode, lowered
from halftone.system.device import DeviceFacts, emulated_formats


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    largest: float
    smallest_normal: float

    @property
    def smallest(self) -> float:
        """The smallest number above zero, a subnormal one."""
        return self.smallest_normal * 2.0**-self.mantissa_bits


def _format(name: str, exponent_bits: int, mantissa_bits: int, dtype: torch.dtype) -> Format:
    held = torch.finfo(dtype)
    return Format(name, exponent_bits, mantissa_bits, held.max, held.smallest_normal)


FORMATS = {
    "fp32": _format("fp32", 8, 23, torch.float32),
    "tf32": _format("tf32", 8, 10, torch.float32),
    "bf16": _format("bf16", 8, 7, torch.bfloat16),
    "fp16": _format("fp16", 5, 10, torch.float16),
    "fp8-e4m3": _format("fp8-e4m3", 4, 3, torch.float8_e4m3fn),
    "fp8-e5m2": _format("fp8-e5m2", 5, 2, torch.float8_e5m2),
}
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The formats of 16 bits as types of torch."""
_NAMES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float64: "fp64",
    torch.float8_e4m3fn: "fp8-e4m3",
    torch.float8_e5m2: "fp8-e5m2",
}


def name_of(dtype: torch.dtype) -> str:
    """Return a type's short name, `bf16` for `torch.bfloat16`."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def check_tf32(mode: str, facts: DeviceFacts, *, hint: str) -> None:
    """Refuse tf32 on a device without its units.

    Raises:
        RecipeError: with the hint.
    """
    if mode == "tf32" and "tf32" not in facts.native:
        raise RecipeError(
            f"precision.mode = tf32: {facts.name} has no tf32 units; they are in NVIDIA GPUs from Ampere on", hint=hint
        )


def emulation(mode: Mode, facts: DeviceFacts) -> str | None:
    """Say what a mode of 16 bits costs on a device that lacks its format, or None where nothing is to be said."""
    half = lowered(mode)
    if half not in emulated_formats(facts.native):
        return None
    kind = "instructions" if facts.kind == "cpu" else "units"
    return f"{facts.name} has no {half} {kind}; torch emulates them, several times slower than fp32"


def autocast_dtype(mode: Mode) -> torch.dtype | None:
    """Return the type that autocast lowers to, or None where there is nothing to lower."""
    return HALVES.get(lowered(mode))


def autocast(device_type: str, mode: Mode) -> AbstractContextManager[Any]:
    """Return the context of a forward pass in a mode; on CUDA, what stays in fp32 follows `float32_arithmetic`."""
    dtype = autocast_dtype(mode)
    inner = nullcontext() if dtype is None else torch.autocast(device_type, dtype)
    return together(float32_arithmetic(mode), inner) if device_type == "cuda" else inner


@contextmanager
def together(*contexts: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter one context within another."""
    if not contexts:
        yield
        return
    with contexts[0], together(*contexts[1:]):
        yield


@contextmanager
def float32_arithmetic(mode: Mode) -> Iterator[None]:
    """Make "fp32" mean what it says for as long as the context lasts.

    By default torch rounds the inputs of CUDA convolutions to tf32 while it leaves other matrix products in
    full fp32. Here both are full fp32, except in the mode `tf32`, where both are rounded.
    """
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, convolution.fp32_precision
    wanted = "tf32" if mode == "tf32" else "ieee"
    matmul.fp32_precision = convolution.fp32_precision = wanted
    try:
        yield
    finally:
        matmul.fp32_precision, convolution.fp32_precision = before
