"""How many processors this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those that it is allowed to run on (`taskset`, a container's cpuset), where the system says that; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
