"""A watch over code that must never wait for the device: reading a tensor is an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "masked_select", "unique")
_PYTHON = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "nonzero", "equal")


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.removesuffix("_") if func.overloadpacket.__name__ != "item" else "item"
        here = {value.device for value in args if isinstance(value, torch.Tensor) and value.dim()}
        device = (kwargs or {}).get("device")
        if name in _READING:
            raise AssertionError(f"{func} reads from the device")
        if name in ("_to_copy", "copy") and (len(here) > 1 or (device is not None and here and device not in here)):
            raise AssertionError(f"{func} copies between devices")
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _PYTHON:
            raise AssertionError(f"{func} reads from the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_is_read() -> Iterator[None]:
    """Raise an AssertionError where a number of a tensor reaches Python, or a tensor another device."""
    with _Methods(), _Operations():
        yield
