"""What a run does while it goes on, for a live view: follows what the workers record, and counts duplicates.

An operation records the version that its script *says* it used, so the count is of what operations say. It is told
only as far as the table confirms it: of the numbers that are new since the last question, the server is asked for a
sample. One that the table does not have several times ends the count; then the checkers count at the end, as they do in
any run. So no duplicate is told of a script that says another number than it stores.

What a look costs, and what showing it costs, is CPU time that the workers do not have on the same machine. The looks
become rarer with it, and so do the questions with the server's time.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import psycopg

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.analysis.streaming.pace import Figures, RecentPace
from racebench.core.errors import DatabaseProblem
from racebench.history.records import OPERATION
from racebench.history.tail import Tail
from racebench.load.detector import Asked, Number

#: The shortest pause between two looks: four a second.
PAUSE_NS = 250_000_000
#: The looks, and what is shown after each, use 1 in so many of the time; so do the questions, of the server's.
_REST = 100
#: How many numbers are asked for together.
_SAMPLE = 16
_ASKED = 4

#: Called with what is known after each look.
Tell = Callable[[Figures], None]


class Meter:
    """Looks at one run between `begin` and `end`, when `pause_s` is over, and calls `tell` with the figures.

    `paths`: the files of the sessions' operations; none to look at nothing. `table`: what is asked for suspected
    numbers; None where operations say none.
    """

    def __init__(
        self, paths: Iterable[Path] = (), table: Asked | None = None, tell: Tell = lambda _figures: None
    ) -> None:
        self._table, self._tell = table, tell
        self._tails = [Tail(path) for path in paths]
        self._suspected = SuspectedDuplicates()
        self._pace = RecentPace(0, 0)
        self._next_ns = self._next_question_ns = 0
        #: Suspected numbers of which a sample is to be asked, and how many duplicates were told.
        self._numbers: list[Number] = []
        self._confirmed = 0
        #: How long the last questions took. The shortest is what one costs; on a full machine others waited for a CPU.
        self._asked_ns: deque[int] = deque(maxlen=_ASKED)

    def begin(self, start_ns: int, measured_ns: int) -> None:
        """The sessions begin at `start_ns` of `perf_counter_ns`, and what is measured at `measured_ns`."""
        self._pace = RecentPace(start_ns, measured_ns)
        self._next_ns = start_ns + PAUSE_NS

    @property
    def pause_s(self) -> float:
        """How long until the next look, in seconds; infinite if there is none."""
        return max(0.0, (self._next_ns - time.perf_counter_ns()) / 1e9) if self._tails else float("inf")

    def look(self) -> None:
        """Take what has ended, and tell; nothing before a look is due."""
        if self.pause_s > 0:
            return
        cpu_ns = time.process_time_ns()
        self._look()
        cost_ns = time.process_time_ns() - cpu_ns
        self._next_ns = time.perf_counter_ns() + max(PAUSE_NS, _REST * cost_ns)

    def end(self) -> None:
        """Take and tell what the last looks have not seen, once the sessions have ended. Look no more."""
        if self._tails:
            self._next_question_ns = 0
            self._look()
        self._tails.clear()

    def _look(self) -> None:
        ended = b"".join([tail.read() for tail in self._tails])
        records = np.frombuffer(ended, OPERATION)
        self._pace.take(records, time.perf_counter_ns())
        if self._table is not None and len(records):
            again = self._suspected.take(records)
            sample = again[_evenly(len(again))]
            numbers = [*self._numbers, *zip(sample["tenant"].tolist(), sample["version"].tolist(), strict=True)]
            self._numbers = [numbers[place] for place in _evenly(len(numbers))]
        if self._table is not None and self._numbers and time.perf_counter_ns() >= self._next_question_ns:
            self._ask(self._table)
        self._tell(self._pace.figures(self._duplicates))

    @property
    def _duplicates(self) -> int | None:
        """The duplicates that are told; None where operations say no numbers, or the table has others."""
        return self._confirmed if self._table is not None and self._suspected.numbered else None

    def _ask(self, table: Asked) -> None:
        """Ask for a sample of the suspected numbers; without an answer the count stays as it is."""
        began_ns = time.perf_counter_ns()
        with contextlib.suppress(DatabaseProblem, psycopg.Error):
            if table.repeated(self._numbers) >= {*self._numbers}:
                self._confirmed = self._suspected.suspected
            else:
                self._table = None
            self._numbers = []
        now_ns = time.perf_counter_ns()
        self._asked_ns.append(now_ns - began_ns)
        self._next_question_ns = now_ns + _REST * min(self._asked_ns)


def _evenly(count: int) -> list[int]:
    """At most _SAMPLE places from 0 on, evenly among so many."""
    chosen = min(count, _SAMPLE)
    return [place * count // chosen for place in range(chosen)]
