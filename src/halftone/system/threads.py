"""How many threads this process may truly use: affinity and container quota, not the number of cores."""

import math
import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of cores that the scheduler grants this process, at least one.

    Threads beyond it do not merely help less: spinning barriers in the math library make a step many times
    slower. `cgroup` is the mount of the control groups that may hold a quota.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota(cgroup)))


def _quota(cgroup: Path) -> int:
    unlimited = 1 << 16
    try:  # version 2: "max 100000" or "150000 100000", microseconds of time per period
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # version 1: -1 means no limit
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return unlimited
    if not (quota.isdigit() and period.isdigit() and int(period)):  # "max", and -1
        return unlimited
    return max(1, math.ceil(int(quota) / int(period)))
