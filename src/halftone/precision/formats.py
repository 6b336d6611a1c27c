"""Number formats: what each can hold, and how torch is told to use it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from halftone.precision.config import Mode


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    largest: float
    smallest_normal: float


FORMATS = {
    "fp32": Format("fp32", 8, 23, torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny),
    "tf32": Format("tf32", 8, 10, torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny),
    "bf16": Format("bf16", 8, 7, torch.finfo(torch.bfloat16).max, torch.finfo(torch.bfloat16).tiny),
    "fp16": Format("fp16", 5, 10, torch.finfo(torch.float16).max, torch.finfo(torch.float16).tiny),
}


def autocast_dtype(mode: Mode) -> torch.dtype | None:
    """Return the type that autocast lowers to, or None where there is nothing to lower."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mode)


def autocast(device_type: str, mode: Mode) -> AbstractContextManager[Any]:
    """Return the context of a forward pass in a mode; on CUDA, what stays in fp32 follows `float32_arithmetic`."""
    dtype = autocast_dtype(mode)
    lowered = nullcontext() if dtype is None else torch.autocast(device_type, dtype)
    return _both(float32_arithmetic(mode), lowered) if device_type == "cuda" else lowered


@contextmanager
def _both(outer: AbstractContextManager[Any], inner: AbstractContextManager[Any]) -> Iterator[None]:
    with outer, inner:
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
