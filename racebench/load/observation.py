"""Reads what the sessions of a run record while the run goes on: once, for all that observe it.

The observers are the detector of the first duplicate, and the meter of a live view. Each looks at times of its own and
says how rarely, so that it costs little. What is read at the look of one is given to all. Operations that say a number
that another said are searched for once (analysis.streaming), and no more when no observer needs them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.history.records import OPERATION
from racebench.history.tail import Tail

Array = npt.NDArray[Any]


class Observer(Protocol):
    """Takes the operations of one run as they end, and looks at what it took at times of its own.

    `looks_at_end`: it looks a last time once the sessions have ended. `needs_suspects`: it uses the suspected
    operations, or the counts of them.
    """

    looks_at_end: bool

    @property
    def needs_suspects(self) -> bool: ...

    def begin(self, start_ns: int, measured_ns: int, offset_ns: int) -> int:
        """The sessions begin at `start_ns`, what is measured at `measured_ns`; return the time of the first look.

        All are times of `perf_counter_ns`; the records' clock is `offset_ns` ahead of that.
        """

    def take(self, records: Array, suspects: Array) -> None:
        """Take the OPERATION records that have ended since the last call, and the suspected ones among them.

        `suspects` is empty unless an observer needs them.
        """

    def look(self) -> None:
        """Do what is due with what was taken."""

    def next_ns(self, now_ns: int, cost_ns: int) -> int | None:
        """The time of the next look, after one that ended now and used so much CPU time; None to look no more."""

    def finish(self) -> None:
        """Look a last time; called only if `looks_at_end`."""


class Observation:
    """The observation of one run. Call `look` when `pause_s` is over, between `begin` and `finish`.

    `paths`: the files of the sessions' operations. `suspected`: that of the observers.
    """

    def __init__(
        self,
        paths: Iterable[Path] = (),
        observers: Sequence[Observer] = (),
        suspected: SuspectedDuplicates | None = None,
    ) -> None:
        self._tails = [Tail(path) for path in paths]
        self._suspected = suspected or SuspectedDuplicates()
        #: Those that still look, and when each looks next.
        self._next_ns: dict[Observer, int] = dict.fromkeys(observers, 0)

    def begin(self, start_ns: int, measured_ns: int | None = None, offset_ns: int = 0) -> None:
        """The sessions begin at `start_ns` of `perf_counter_ns`; see `Observer.begin`."""
        for observer in self._next_ns:
            self._next_ns[observer] = observer.begin(
                start_ns, start_ns if measured_ns is None else measured_ns, offset_ns
            )

    @property
    def pause_s(self) -> float:
        """How long until the next look of an observer, in seconds; infinite if there is none."""
        if not self._next_ns:
            return float("inf")
        return max(0.0, (min(self._next_ns.values()) - time.perf_counter_ns()) / 1e9)

    def look(self) -> None:
        """Have those look whose time has come; read nothing before that."""
        now_ns = time.perf_counter_ns()
        due = [observer for observer, next_ns in self._next_ns.items() if next_ns <= now_ns]
        if not due:
            return
        began_ns = time.process_time_ns()
        self._read()
        looked_ns = time.process_time_ns()
        read_ns = looked_ns - began_ns
        for observer in due:
            observer.look()
            before_ns, looked_ns = looked_ns, time.process_time_ns()
            next_ns = observer.next_ns(time.perf_counter_ns(), read_ns + looked_ns - before_ns)
            if next_ns is None:
                del self._next_ns[observer]
            else:
                self._next_ns[observer] = next_ns

    def finish(self) -> None:
        """Have those look a last time that do so once the sessions have ended. Look no more."""
        last = [observer for observer in self._next_ns if observer.looks_at_end]
        if last:
            self._read()
        for observer in last:
            observer.finish()
        self.stop()

    def stop(self) -> None:
        """Look no more."""
        self._next_ns.clear()

    def _read(self) -> None:
        """Read what has ended since the last time, and give it to those that still look."""
        records = np.frombuffer(b"".join([tail.read() for tail in self._tails]), OPERATION)
        if not len(records):
            return
        needed = any(observer.needs_suspects for observer in self._next_ns)
        suspects = self._suspected.take(records) if needed else records[:0]
        for observer in self._next_ns:
            observer.take(records, suspects)
