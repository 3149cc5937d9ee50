"""How many processors this process may use, and how many of them had nothing to do of late."""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path

#: The limit of a container, of cgroup version 2: microseconds of CPU time, or "max", and the period for them.
_LIMIT = Path("/sys/fs/cgroup/cpu.max")
#: What the processors have done since the start of the system.
_TIMES = Path("/proc/stat")


def usable_cores() -> int:
    """Those that it is allowed to run on (`taskset`, a container's limits), where the system says that; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        most, period = _LIMIT.read_text().split()
        if most != "max":
            cores = min(cores, math.ceil(int(most) / int(period)))
    return max(1, cores)


class IdleCores:
    """How many of the usable ones have had nothing to do since this was made, beside what was at work then.

    By the idle time of all processors (proc_stat(5)), or where there is none by the average of the last minute
    (getloadavg); all if neither is known.
    """

    def __init__(self) -> None:
        self._began_s, self._idle_s = time.monotonic(), _idle_s()

    @property
    def lasted_s(self) -> float:
        """For how long it has looked, in seconds."""
        return time.monotonic() - self._began_s

    def count(self) -> int:
        """The number, rounded."""
        usable, idle_s = usable_cores(), _idle_s()
        if idle_s is not None and self._idle_s is not None:
            return max(0, min(usable, round((idle_s - self._idle_s) / self.lasted_s)))
        try:
            busy = os.getloadavg()[0]
        except (AttributeError, OSError):
            return usable
        return max(0, min(usable, round((os.cpu_count() or usable) - busy)))


def _idle_s() -> float | None:
    """How long all processors together have been idle since the start of the system, in seconds; None if unknown."""
    try:
        name, *ticks = _TIMES.read_text().split("\n", 1)[0].split()
        return sum(map(int, ticks[3:5])) / os.sysconf("SC_CLK_TCK") if name == "cpu" else None  # idle, and for a disk
    except (OSError, ValueError):
        return None
