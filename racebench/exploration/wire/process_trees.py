"""Which threads the processes of an application have: those of its first processes, and of all that descend from them.

A descendant stays one when its parent has ended. Linux only. Whether the threads are at rest is rest.py's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from racebench.exploration.kernel_threads import KernelThread

_LINE = 1024
#: If more processes and threads have been born than that, all are looked at.
_MOST_BIRTHS = 200


class ProcessTrees:
    """The threads of trees of processes. `roots`: the ids of the processes that racebench has started, asked each time.

    To find what has been born since, the ids after the last one that the kernel gave out are looked at (proc(5):
    loadavg): that costs nothing while nothing is born.
    """

    def __init__(self, roots: Callable[[], Collection[int]]) -> None:
        self._roots = roots
        self._known: frozenset[int] = frozenset()
        self._processes: set[int] = set()
        #: Process groups and sessions that a process of the trees leads: what belongs to them is found by them when its
        #: parent has ended.
        self._groups: set[int] = set()
        self._threads: dict[int, KernelThread] = {}
        self._last = 0
        #: Ids that were given out and have no process: it has ended, or its parent is in the middle of fork(2).
        self._missing: set[int] = set()
        self._loadavg = os.open("/proc/loadavg", os.O_RDONLY)
        self._counts = self._is_counting()

    def threads(self) -> Collection[KernelThread]:
        """All threads that live now; some may have ended since. The collection changes with the next question."""
        roots = frozenset(self._roots())
        last = self._last_id()
        if roots != self._known:
            self._known = roots
            self._processes = {process for process in self._processes if process in self._threads} | roots
            self._groups |= {root for root in roots if root in (_identity(root) or (0,))[1:]}
            self._add(_every_process())
        elif not self._counts or not 0 <= last - self._last <= _MOST_BIRTHS:
            self._add(_every_process())
        elif last != self._last or self._missing:
            self._add({*self._missing, *range(self._last + 1, last + 1)})
        else:
            return self._threads.values()
        self._last = last
        for process in list(self._processes):
            self._look_at(process)
        return self._threads.values()

    def settle(self) -> None:
        """Note that all threads were at rest when they were asked for: none was in the middle of fork(2)."""
        self._missing.clear()

    def forget(self, thread: KernelThread) -> None:
        """Forget a thread that has ended; with the first of its process, the process has."""
        self._threads.pop(thread.tid, None)
        thread.close()
        if thread.tid == thread.process:
            self._processes.discard(thread.process)

    def close(self) -> None:
        """Close all files."""
        for thread in self._threads.values():
            thread.close()
        self._threads.clear()
        if self._loadavg >= 0:
            os.close(self._loadavg)
            self._loadavg = -1

    def _last_id(self) -> int:
        """The id of the process or thread that was born last."""
        return int(os.pread(self._loadavg, _LINE, 0).split()[-1])

    def _is_counting(self) -> bool:
        """Whether loadavg has the last id, as it has everywhere but in some sandboxes."""
        before = self._last_id()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        return self._last_id() != before

    def _add(self, ids: Iterable[int]) -> None:
        """Add the processes that descend from a known one, or belong to a group or a session of the trees."""
        identities = {number: _identity(number) for number in ids}
        self._missing = {number for number, identity in identities.items() if identity is None}
        added = True
        while added:
            added = False
            for number, identity in list(identities.items()):
                if identity is None or not self._is_ours(*identity):
                    continue
                del identities[number]
                if _leads(number):  # otherwise it is a thread of a process that is known, or looked at
                    self._processes.add(number)
                    self._groups |= {number} & set(identity[1:])
                    added = True

    def _is_ours(self, parent: int, group: int, session: int) -> bool:
        return parent in self._processes or group in self._groups or session in self._groups

    def _look_at(self, process: int) -> None:
        """Take up the threads of a process that are new."""
        try:
            names = os.listdir(f"/proc/{process}/task")  # noqa: PTH208 - by far the fastest
        except OSError:
            self._processes.discard(process)
            return
        for tid in map(int, names):
            if tid not in self._threads:
                with suppress(OSError):  # it has ended already
                    self._threads[tid] = KernelThread(process, tid)


def _every_process() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - by far the fastest


def _identity(number: int) -> tuple[int, int, int] | None:
    """The parent, the group and the session of a process, or of a thread's process; None if there is none."""
    line = _read(f"/proc/{number}/stat")
    if not line:
        return None
    parent, group, session = line[line.rindex(b")") + 4 :].split(maxsplit=3)[:3]
    return int(parent), int(group), int(session)


def _leads(number: int) -> bool:
    """Whether a process has this id; its other threads have others."""
    return b"\nTgid:\t%d\n" % number in _read(f"/proc/{number}/status")


def _read(path: str) -> bytes:
    """The beginning of a file; empty if the process has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _LINE)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
