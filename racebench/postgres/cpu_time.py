"""CPU time as the kernel counts it: of the server with its sessions, and the time that the hypervisor took.

None where it is not known.
"""

from __future__ import annotations

import os
from pathlib import Path

from racebench.core.target import Target

_PROC = Path("/proc")


def server_seconds(target: Target) -> float | None:
    """User and system time of the embedded server, its living sessions and those that have ended, in seconds.

    Source: proc(5); it counts in ticks of a hundredth of a second.
    """
    if target.server_pid is None or not _PROC.is_dir():
        return None
    try:
        ticks = _ticks(target.server_pid, ended=True)
        children = (_PROC / str(target.server_pid) / "task" / str(target.server_pid) / "children").read_text().split()
    except (OSError, ValueError, IndexError):
        return None
    for child in children:
        try:
            ticks += _ticks(int(child), ended=False)
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int, *, ended: bool) -> int:
    """utime and stime of a process, with those of its children that have ended."""
    # The second field is the name in brackets, which may hold spaces.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11 : 15 if ended else 13])


def machine_ticks() -> tuple[int, int] | None:
    """What the hypervisor took from this machine's processors, and all their time, since it started; in ticks.

    Source: proc(5), /proc/stat: user nice system idle iowait irq softirq steal; guest time is in user time already.
    """
    try:
        fields = [int(field) for field in (_PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return (fields[7], sum(fields)) if len(fields) == 8 else None
