"""Whether an application is at rest: every thread of it is asleep, at one moment.

What only the kernel knows is asked of it (proc(5)). Elsewhere than on Linux, `available` says no, and time limits must
do. Which threads there are is process_trees.py's, or own_threads.py's; whether one goes on by itself after a time,
timers.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from racebench.exploration import kernel_threads
from racebench.exploration.kernel_threads import KernelThread
from racebench.exploration.wire import timers
from racebench.exploration.wire.process_trees import ProcessTrees
from racebench.exploration.wire.timers import Wait

#: How often the threads are looked at again because one of them has run meanwhile.
_LOOKS = 4
#: How often it is asked which threads do not come to rest, in seconds.
_PAUSE_S = 0.1
#: A thread does not come to rest if it runs, or waits for a processor, for more of the time than this. Two threads that
#: take turns, for the interpreter's lock, have half of it each.
_SHARE = 0.4
#: How long such a thread sleeps if it has come to rest after all, in seconds.
_ASLEEP_S = 0.02

Place = tuple[bytes, ...]


def available() -> bool:
    """Whether the kernel says what `Processes` asks."""
    return kernel_threads.available()


@dataclass(slots=True)
class _Idle:
    """What threads do while no session has work in the processes: the places of the waits that they repeat."""

    repeated: dict[int, set[Place]] = field(default_factory=dict)
    _noted: dict[int, dict[Place, bytes]] = field(default_factory=dict)

    def note(self, tid: int, place: Place, activity: bytes) -> None:
        """Note a wait of a thread, and what it had done then."""
        if self._noted.setdefault(tid, {}).setdefault(place, activity) != activity:
            self.repeated.setdefault(tid, set()).add(place)

    def forget(self, tid: int) -> None:
        """Forget a thread that has ended."""
        self.repeated.pop(tid, None)
        self._noted.pop(tid, None)


class Threads(Protocol):
    """Which threads an application has."""

    def threads(self) -> Collection[KernelThread]:
        """Those that live now; some may have ended since. The collection changes with the next question."""

    def settle(self) -> None:
        """Note that all threads were at rest when they were asked for."""

    def forget(self, thread: KernelThread) -> None:
        """Forget a thread that has ended."""

    def close(self) -> None:
        """Close all files."""


class ApplicationRest:
    """Whether the threads of an application are at rest. Used by one thread.

    `limit_s`: how long the application may run until its threads that never sleep are no longer awaited.
    """

    def __init__(self, threads: Threads, *, limit_s: float = 10.0) -> None:
        self._threads = threads
        self._limit_s = limit_s
        #: What each thread had done when it was last looked at.
        self._seen: dict[int, bytes] = {}
        #: When the threads were first found awake, and how long each had run then, in nanoseconds.
        self._awake_since = 0.0
        self._ran: dict[int, int] | None = None
        self._asked = 0.0
        #: Threads that never sleep, and since when each has nevertheless been asleep.
        self._restless: dict[int, float | None] = {}
        self._names: dict[int, str] = {}
        #: The thread that was awake at the last question; it is looked at first.
        self._awake: KernelThread | None = None
        self._idle = _Idle()
        #: Whether the kernel shows this user with which time-outs the threads sleep.
        self.shows_timers = timers.known()

    @property
    def restless(self) -> tuple[str, ...]:
        """The threads that never sleep, such as busy loops, by their names and ids: they are not awaited."""
        return tuple(f"{self._names[tid]} (thread {tid})" for tid in self._restless)

    @property
    def awake(self) -> str:
        """The name and id of a thread that was awake when this was last asked; "" if there was none."""
        try:
            return "" if self._awake is None else f"{self._awake.name()} (thread {self._awake.tid})"
        except OSError:
            return ""

    def asleep(self) -> bool:
        """Whether there was a moment since the question at which every thread was asleep.

        A thread that was seen asleep may be woken by one that is seen later, and that one may sleep then. So each has
        to be asleep without having run since an earlier look: then all were asleep when the look began.
        """
        for _ in range(_LOOKS):
            is_steady = self._look()
            if is_steady is None:
                self._note_awake()
                return False
            if is_steady:
                self._threads.settle()
                self._awake, self._ran = None, None
                return True
        return False

    def activity(self) -> Hashable:
        """Equal to what it was if no thread has run in between, and none was born or has ended.

        A thread that is in the wait that it repeats when the application is idle has not run in that sense.
        """
        activity: dict[int, Hashable] = {}
        for thread in list(self._threads.threads()):
            if thread.tid in self._restless:
                continue
            repeated = self._idle.repeated.get(thread.tid)
            if repeated and (wait := self._wait(thread)) is not None and wait.place in repeated:
                activity[thread.tid] = wait.place
            elif line := self._line(thread):
                activity[thread.tid] = line
        return frozenset(activity.items())

    def note_idle(self) -> None:
        """Note that no session has work in the processes: a wait that threads repeat now is nothing of a session's.

        A wait counts when it was noted a second time and its thread has run in between: runtimes have threads that wake
        up every few milliseconds (the Java VM's every 50), and applications too.
        """
        for thread in list(self._threads.threads()):
            wait, line = self._wait(thread), self._line(thread)
            if wait is not None and wait.place is not None and line:
                self._idle.note(thread.tid, wait.place, line)

    def timer_s(self) -> float | None:
        """The shortest time-out with which a thread sleeps, in seconds; None if none has one.

        A duration is given whole, also when a part of it has passed. Waits that are repeated when the application is
        idle are not counted. `shows_timers` is False if the kernel does not show them all.
        """
        shortest = None
        for thread in list(self._threads.threads()):
            wait = None if thread.tid in self._restless else self._wait(thread)
            if wait is None or wait.place in self._idle.repeated.get(thread.tid, ()):
                continue
            shortest = wait.timeout_s if shortest is None else min(shortest, wait.timeout_s)
        return shortest

    def close(self) -> None:
        """Close the files of the threads."""
        self._awake = None
        self._threads.close()

    def _look(self) -> bool | None:
        """Look at every thread: None if one is awake, False if one has run since the look before."""
        threads = list(self._threads.threads())  # also if one is awake: what it has started is found while it lives
        if self._awake is not None:
            try:
                if not self._awake.at_rest():
                    return None
            except OSError:
                pass  # it has ended; the look will find that
            self._awake = None
        is_steady = True
        for thread in threads:
            try:
                is_asleep, line = thread.at_rest(), thread.activity()
            except OSError:
                self._forget(thread)
                is_steady = False  # it may have woken one that was already looked at
                continue
            has_run = self._seen.get(thread.tid) != line
            self._seen[thread.tid] = line
            if thread.tid in self._restless:
                self._look_again(thread, rests=is_asleep and not has_run)
            elif not is_asleep:
                self._awake = thread
                return None
            else:
                is_steady = is_steady and not has_run
        return is_steady

    def _line(self, thread: KernelThread) -> bytes:
        try:
            return thread.activity()
        except OSError:
            self._forget(thread)
            return b""

    def _wait(self, thread: KernelThread) -> Wait | None:
        try:
            return timers.wait_of(thread.process, thread.tid)
        except PermissionError:
            self.shows_timers = False
        except OSError:
            pass  # it has ended
        return None

    def _forget(self, thread: KernelThread) -> None:
        self._threads.forget(thread)
        self._seen.pop(thread.tid, None)
        self._restless.pop(thread.tid, None)
        self._idle.forget(thread.tid)

    def _note_awake(self) -> None:
        """Note for how long threads have been awake, and which of them never sleep."""
        now = time.monotonic()
        if self._ran is None:
            self._awake_since = self._asked = now
            self._ran = self._busy_ns()
        elif now - self._asked > _PAUSE_S:
            self._asked = now
            if (passed := now - self._awake_since) > self._limit_s:
                for tid, ran in self._busy_ns().items():
                    if ran - self._ran.get(tid, 0) > passed * _SHARE * 1e9:
                        self._restless[tid] = None
                self._awake, self._ran = None, None

    def _busy_ns(self) -> dict[int, int]:
        """How long each thread has run, or waited for a processor, in nanoseconds."""
        busy = {}
        for thread in list(self._threads.threads()):
            with suppress(OSError):  # it has ended; the next look will find that
                name, (running, waiting, _) = thread.name(), thread.activity().split()
                busy[thread.tid] = int(running) + int(waiting)
                self._names[thread.tid] = name
        return busy

    def _look_again(self, thread: KernelThread, *, rests: bool) -> None:
        """Await a thread again that has come to rest: it was only busy for long."""
        since, now = self._restless[thread.tid], time.monotonic()
        if not rests:
            self._restless[thread.tid] = None
        elif since is None:
            self._restless[thread.tid] = now
        elif now - since > _ASLEEP_S:
            del self._restless[thread.tid]


class Processes(ApplicationRest):
    """The processes of an application, with all that descend from them.

    `roots`: the ids of the processes that racebench has started, asked at each question.
    """

    def __init__(self, roots: Callable[[], Collection[int]], *, limit_s: float = 10.0) -> None:
        super().__init__(ProcessTrees(roots), limit_s=limit_s)
