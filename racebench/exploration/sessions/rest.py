"""Whether other threads of this process are at rest: asleep, and not about to go on by themselves.

On Linux the kernel says so (kernel_threads.py). A thread that waits for the interpreter's lock is asleep too,
so that its processor time is read twice, with a pause in which it gets the lock. Elsewhere a longer pause must do.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing

from racebench.exploration import kernel_threads
from racebench.exploration.kernel_threads import KernelThread

#: The pause between two looks at the threads, in seconds; in place of them, where the kernel does not say.
_PAUSE_S, _LONG_PAUSE_S = 0.0003, 0.005
#: How long threads are awaited, in seconds. One that is never at rest, such as a busy loop, is not awaited again.
_LIMIT_S = 0.5

_sleep, _now = time.sleep, time.monotonic  # these: while calls are explored, those of the module are others


class Rest:
    """Awaits the rest of threads. Used by the threads of one exploration."""

    def __init__(self) -> None:
        self._restless: set[int] = set()

    def awaited(self, threads: Callable[[], Collection[threading.Thread]]) -> None:
        """Return when the threads, which are asked for again and again, are at rest."""
        if not threads():
            return
        if not kernel_threads.available():
            _sleep(_LONG_PAUSE_S)
            return
        deadline = _now() + _LIMIT_S
        while True:
            ids = [thread.native_id for thread in threads() if thread.native_id not in self._restless]
            before = _activity([number for number in ids if number is not None])
            _sleep(_PAUSE_S)
            again = [thread.native_id for thread in threads() if thread.native_id not in self._restless]
            after = _activity([number for number in again if number is not None])
            if before is not None and before == after:
                return
            if _now() > deadline:
                self._restless |= {number for number in again if number is not None}
                return


def _activity(ids: Sequence[int]) -> dict[int, bytes] | None:
    """The processor time of each thread, and how often it ran; None if one of them runs."""
    activity = {}
    for number in ids:
        try:
            with closing(KernelThread(os.getpid(), number)) as thread:
                is_at_rest = thread.at_rest()
                activity[number] = thread.activity()
        except OSError:
            continue  # it has ended
        if not is_at_rest:
            return None
    return activity
