"""Whether other threads of this process are at rest: asleep, and not about to go on by themselves.

On Linux the kernel says so (proc(5): stat and schedstat). A thread that waits for the interpreter's lock is asleep too,
so that its processor time is read twice, with a pause in which it gets the lock. Elsewhere a longer pause must do.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Sequence

_TASKS = "/proc/self/task"
#: There if the kernel says when a thread ran: not every Linux does.
_SCHEDSTAT = "/proc/self/schedstat"
_ASLEEP = (b"S", b"T", b"t")
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
        if not os.path.exists(_SCHEDSTAT):  # noqa: PTH110 - at every statement
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
            stat = _read(f"{_TASKS}/{number}/stat")
            activity[number] = _read(f"{_TASKS}/{number}/schedstat")
        except OSError:
            continue  # it has ended
        if stat[stat.rindex(b")") + 2 :][:1] not in _ASLEEP:
            return None
    return activity


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
