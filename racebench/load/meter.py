"""What a run does while it goes on, for a live view: its pace from what the workers record, and its duplicates.

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
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.analysis.streaming.pace import Figures, RecentPace
from racebench.core.errors import DatabaseProblem
from racebench.history.records import OPERATION
from racebench.load.detector import Asked, Number

Array = npt.NDArray[Any]

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
    """An Observer that calls `tell` with the figures of one run after each of its looks.

    `table`: what is asked for suspected numbers; None where operations say none. `suspected`: that of the observation.
    """

    looks_at_end = True

    def __init__(self, table: Asked | None, suspected: SuspectedDuplicates, tell: Tell) -> None:
        self._table, self._suspected, self._tell = table, suspected, tell
        self._pace = RecentPace(0, 0)
        self._records: list[Array] = []
        self._next_question_ns = 0
        #: Suspected numbers of which a sample is to be asked, and how many duplicates were told.
        self._numbers: list[Number] = []
        self._confirmed = 0
        #: How long the last questions took. The shortest is what one costs; on a full machine others waited for a CPU.
        self._asked_ns: deque[int] = deque(maxlen=_ASKED)

    @property
    def needs_suspects(self) -> bool:
        return self._table is not None

    def begin(self, start_ns: int, measured_ns: int, _offset_ns: int) -> int:
        self._pace = RecentPace(start_ns, measured_ns)
        return start_ns + PAUSE_NS

    def take(self, records: Array, suspects: Array) -> None:
        self._records.append(records)
        if self._table is not None and len(suspects):
            sample = suspects[_evenly(len(suspects))]
            numbers = [*self._numbers, *zip(sample["tenant"].tolist(), sample["version"].tolist(), strict=True)]
            self._numbers = [numbers[place] for place in _evenly(len(numbers))]

    def look(self) -> None:
        records, self._records = self._records, []
        self._pace.take(np.concatenate(records) if records else np.empty(0, OPERATION), time.perf_counter_ns())
        if self._table is not None and self._numbers and time.perf_counter_ns() >= self._next_question_ns:
            self._ask(self._table)
        self._tell(self._pace.figures(self._duplicates))

    def next_ns(self, now_ns: int, cost_ns: int) -> int | None:
        return now_ns + max(PAUSE_NS, _REST * cost_ns)

    def finish(self) -> None:
        self._next_question_ns = 0
        self.look()

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
