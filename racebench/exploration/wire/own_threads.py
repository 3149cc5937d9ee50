"""Whether the threads of this process are at rest, but for the one that asks: an application that runs in it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection

from racebench.exploration.kernel_threads import KernelThread
from racebench.exploration.wire.rest import ApplicationRest

_TASKS = "/proc/self/task"
#: A thread that waits for the interpreter's lock gets it meanwhile, in seconds.
_PAUSE_S = 0.0003

_sleep = time.sleep  # this one: while calls are explored, that of the module is another


class _OwnThreads:
    """The threads of this process, but for the one that has made this."""

    def __init__(self) -> None:
        self._asking = threading.get_native_id()
        self._threads: dict[int, KernelThread] = {}

    def threads(self) -> Collection[KernelThread]:
        """All threads that live now, but for one."""
        for tid in map(int, os.listdir(_TASKS)):  # noqa: PTH208 - by far the fastest
            if tid not in self._threads and tid != self._asking:
                try:
                    self._threads[tid] = KernelThread(os.getpid(), tid)
                except OSError:
                    continue  # it has ended already
        return self._threads.values()

    def settle(self) -> None:
        """A thread is listed as soon as it is born."""

    def forget(self, thread: KernelThread) -> None:
        """Forget a thread that has ended."""
        self._threads.pop(thread.tid, None)
        thread.close()

    def close(self) -> None:
        """Close all files."""
        for thread in self._threads.values():
            thread.close()
        self._threads.clear()


class OwnThreads(ApplicationRest):
    """The threads of this process, but for the one that asks. One that waits for the interpreter's lock is asleep."""

    def __init__(self, *, limit_s: float = 10.0) -> None:
        super().__init__(_OwnThreads(), limit_s=limit_s)

    def asleep(self) -> bool:
        """Whether every thread was asleep for as long as one that waits for the interpreter's lock needs to get it."""
        if not super().asleep():
            return False
        before = self.activity()
        _sleep(_PAUSE_S)
        return super().asleep() and self.activity() == before
