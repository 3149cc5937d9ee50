"""How many processors this process may use, and how many of them had nothing to do of late."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

#: The limit of a container, of cgroup version 2: microseconds of CPU time, or "max", and the period for them.
_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Those that it is allowed to run on (`taskset`, a container's limits), where the system says that; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        most, period = _LIMIT.read_text().split()
        if most != "max":
            cores = min(cores, math.ceil(int(most) / int(period)))
    return max(1, cores)


def idle_cores() -> int:
    """How many of the usable ones had nothing to do in the last minute, on average (getloadavg); all if unknown."""
    usable = usable_cores()
    try:
        busy = os.getloadavg()[0]
    except (AttributeError, OSError):
        return usable
    return max(0, min(usable, round((os.cpu_count() or usable) - busy)))
