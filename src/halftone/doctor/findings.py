"""Looking at the machine: devices, number formats, driver, threads, memory, packages."""

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from halftone.doctor.cuda import cuda_findings
from halftone.doctor.devices import device_findings, look, no_gpu_finding
from halftone.doctor.record import Finding
from halftone.system.cuda import nvidia_driver
from halftone.system.memory import available_bytes, keep_freed_memory
from halftone.system.threads import usable_cores

_OLDEST_TORCH = (2, 10)
"""Older ones load weight files unsafely: CVE-2025-32434 (up to 2.5.1), CVE-2026-24747 (before 2.10)."""


def findings() -> Iterator[Finding]:
    """Look at everything that training depends on."""
    yield from _packages()
    seen, driver = look(), nvidia_driver()
    yield from device_findings(seen)
    if not seen.faults and set(seen.facts) == {"cpu"}:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        yield no_gpu_finding(torch.version.cuda, driver, visible=visible, said=seen.said)
    yield from cuda_findings([facts for facts in seen.facts.values() if facts.kind == "cuda"], driver)
    yield _threads()
    yield _memory()
    yield _hub()
    yield fp8_finding(_installed("torchao"), wanted=any("fp8" in facts.native for facts in seen.facts.values()))


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


def _threads() -> Finding:
    total = os.cpu_count() or 1
    return threads_finding(
        total=total,
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total,
        granted=usable_cores(),
        used=torch.get_num_threads(),
        asked=os.environ.get("OMP_NUM_THREADS", ""),
    )


def threads_finding(*, total: int, affinity: int, granted: int, used: int, asked: str) -> Finding:
    """Say whether torch's threads fit the cores that this process may use.

    Args:
        total: cores of the machine.
        affinity: cores that the scheduler lets this process run on.
        granted: cores within affinity and the quota of a container.
        used: threads that torch uses unless told otherwise.
        asked: the variable OMP_NUM_THREADS.
    """
    reasons = (("affinity", affinity < total), ("the container's quota", granted < affinity))
    limits = " and ".join(name for name, holds in reasons if holds)
    cores = f"cores granted: {granted} of {total}, by {limits}" if limits else f"cores granted: {granted}"
    advice = ""
    if used > granted:
        advice = f"halftone uses {granted}; for other programs set OMP_NUM_THREADS={granted}"
    elif used < granted and asked:
        advice = f"training uses {granted} all the same; for other programs set OMP_NUM_THREADS={granted}"
    return Finding(
        what="threads",
        state="note" if advice else "good",
        found=f"{cores}; threads of torch: {used}" + (f"; OMP_NUM_THREADS={asked}" if asked else ""),
        advice=advice,
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


def _hub() -> Finding:
    found = _installed("datasets")
    return Finding(
        what="datasets",
        state="note" if found is None else "good",
        found=found or "not installed; needed for data sets of the Hugging Face hub (hf:NAME)",
        advice='pip install "halftone[hub]"' if found is None else "",
    )


def fp8_finding(found: str | None, *, wanted: bool) -> Finding:
    """Say whether precision fp8 can be had.

    Args:
        found: the version of torchao, or None without it.
        wanted: a device here multiplies fp8.
    """
    use = "precision fp8, on GPUs from Ada (8.9) on"
    missing = found is None and wanted
    return Finding(
        what="torchao",
        state="note" if missing else "good",
        found=f"{found or 'not installed'}; for {use}" + ("" if wanted else ", and there is none here"),
        advice='pip install "halftone[fp8]"' if missing else "",
    )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
