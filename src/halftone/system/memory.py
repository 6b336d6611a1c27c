"""Memory: what is there, what was used at the peak, what tells that it ran out, and keeping it between steps."""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from halftone.base.errors import ResourceError

_MALLOPT_TRIM_THRESHOLD = -1
_MALLOPT_TOP_PAD = -2
_MALLOPT_MMAP_MAX = -4
_RAN_OUT = (
    "can't allocate memory",  # torch's allocator on the CPU; "not enough memory" on Windows
    "not enough memory",
    "std::bad_alloc",  # any library in C++
    "out of memory",  # the driver itself, and MPS
    "_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    "could not create a primitive",  # oneDNN, which gives no reason: where it cannot compute, torch does not ask it
    "could not execute a primitive",
)
"""What a RuntimeError says when there was no memory."""


def peak_bytes(device: torch.device) -> int:
    """Return the largest memory used so far: of the device where it keeps count, of this process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "xpu":
        return torch.xpu.max_memory_allocated(device)
    return process_peak_bytes()


def restart_peak(device: torch.device) -> int:
    """Let a GPU count its peak anew, and return the bytes that are held now."""
    module = torch.get_device_module(device)
    module.reset_peak_memory_stats(device)
    return module.memory_allocated(device)


def process_peak_bytes() -> int:
    """Return the largest memory that this process has held so far."""
    try:  # on Linux, what getrusage says of a young process is the peak of the one that started it
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def available_bytes(device: torch.device, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how much memory could still be taken on the device.

    For the CPU: without swapping, and within what a container may use; `cgroup` is the mount of the control groups
    that may set a limit.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)[0]
    return min(_machine_bytes(), _container_bytes(cgroup))


def _machine_bytes() -> int:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _container_bytes(cgroup: Path) -> int:
    """Return what the control group leaves: its limit less what is used; cached files give way when asked."""
    versions = (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    )
    for limit, used, table, cached in versions:
        try:
            rows = dict(line.split() for line in (cgroup / table).read_text().splitlines())
            taken = int((cgroup / used).read_text()) - int(rows[cached])
            return max(0, int((cgroup / limit).read_text()) - taken)
        except (OSError, KeyError, ValueError):  # another version, or "max"
            continue
    return sys.maxsize


def ran_out(error: BaseException) -> bool:
    """Tell whether an error means that the device or this machine has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _RAN_OUT)


def shortage(error: BaseException) -> str:
    """Return what was said when memory ran out, as one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def give_back(device: torch.device) -> None:
    """Free what a pass has left that failed for lack of memory, so that the next one finds it in one piece."""
    gc.collect()  # what failed may hold itself by a cycle
    if device.type in ("cuda", "xpu", "mps"):
        torch.get_device_module(device).empty_cache()


@contextmanager
def out_of_memory_named(hint: str) -> Iterator[None]:
    """Turn any of the ways in which memory runs out within the context into one error with a hint.

    Raises:
        ResourceError: the device or this machine has no memory left.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise ResourceError(f"out of memory: {shortage(error)}", hint=hint) from error


@cache
def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory in the process instead of returning it to the kernel.

    On Linux, glibc gives every large tensor back when it is freed and the next step faults its pages in
    again, which can cost a third of a training step on the CPU. The price is a slightly higher peak. It must
    run before the first large allocation. Returns whether the C library accepted it.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MALLOPT_MMAP_MAX, 0), (_MALLOPT_TRIM_THRESHOLD, -1), (_MALLOPT_TOP_PAD, 64 << 20))
    return all(mallopt(option, value) == 1 for option, value in settings)
