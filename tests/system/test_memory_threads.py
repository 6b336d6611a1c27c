"""Memory and threads that this process may truly use."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from halftone.system import threads
from halftone.system.memory import available_bytes, keep_freed_memory, peak_bytes
from halftone.system.threads import usable_cores

CPU = torch.device("cpu")


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no affinity")
def test_F11_cores_follow_the_affinity(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores(tmp_path) == len(before)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu_dot_max": "max 100000"}, 64),
        ({"cpu_dot_max": "150000 100000"}, 2),
        ({"cpu_dot_max": "50000 100000"}, 1),
        ({"cpu_dot_max": "400000 100000"}, 4),
        ({"cpu_dot_max": "nonsense"}, 64),
        ({"cpu__cpu.cfs_quota_us": "-1", "cpu__cpu.cfs_period_us": "100000"}, 64),
        ({"cpu__cpu.cfs_quota_us": "300000", "cpu__cpu.cfs_period_us": "100000"}, 3),
        ({"cpu__cpu.cfs_quota_us": "300000", "cpu__cpu.cfs_period_us": "0"}, 64),
        ({"cpu__cpu.cfs_quota_us": "300000", "cpu__cpu.cfs_period_us": "broken"}, 64),
        ({"cpu__cpu.cfs_quota_us": "300000"}, 64),
        ({}, 64),
    ],
)
def test_F11_cores_follow_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert usable_cores(write(tmp_path, **files)) == cores


def test_without_affinity_the_cores_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(threads.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("files", "room"),
    [
        (
            {
                "memory_dot_max": "1000000",
                "memory_dot_current": "700000",
                "memory_dot_stat": "anon 5\ninactive_file 200000",
            },
            500_000,
        ),
        ({"memory_dot_max": "1000", "memory_dot_current": "7000", "memory_dot_stat": "inactive_file 0"}, 0),
        (
            {
                "memory__memory.limit_in_bytes": "1000000",
                "memory__memory.usage_in_bytes": "900000",
                "memory__memory.stat": "cache 1\ntotal_inactive_file 100000",
            },
            200_000,
        ),
    ],
)  # fmt: skip
def test_F11_memory_follows_the_limit_of_the_container(tmp_path: Path, files: dict[str, str], room: int) -> None:
    assert available_bytes(CPU, write(tmp_path, **files)) == room


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory_dot_max": "max", "memory_dot_current": "700000", "memory_dot_stat": "inactive_file 2"},
        {"memory_dot_max": "12", "memory_dot_current": "7", "memory_dot_stat": "broken"},
    ],
)
def test_without_a_limit_memory_is_what_the_machine_has(tmp_path: Path, files: dict[str, str]) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 2**26 < available_bytes(CPU, write(tmp_path, **files)) <= total


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is Unix's")
def test_the_peak_counts_bytes() -> None:
    before = peak_bytes(CPU)
    held = np.ones(64 << 20, dtype=np.uint8)
    after = peak_bytes(CPU)
    assert held.nbytes // 2 < after
    assert before <= after < 2**40


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    kept = keep_freed_memory()
    assert kept is keep_freed_memory()
    if not sys.platform.startswith("linux"):
        assert kept is False
