"""What is known of this process."""

import os
import time
from pathlib import Path


def seconds_since_start() -> float | None:
    """Return how long ago this process was started, by the system's account; None where it keeps none to read."""
    try:
        # the name of the program may hold blanks and brackets: what counts comes behind the last bracket
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return None
