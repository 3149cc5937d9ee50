"""Finds the first duplicate of a run while the run goes on: observes what the workers record, and asks the table.

Operations that say the same version are a suspicion (analysis.streaming). The table is asked for the suspected numbers
over the command's own session; only its answer makes a duplicate known. A run whose operations say no version, or
another one than they store, ends without an answer: the checkers find its duplicates at the end.

The looks become rarer as the run goes on, so that they cost little, and a duplicate is known soon after it is there in
relation to how long it took. They end with the first duplicate.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt
import psycopg

from racebench.analysis.streaming.confirmation import KnownDuplicate
from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.core.errors import DatabaseProblem
from racebench.core.model import NumberedRows
from racebench.history.table import ask_repeated
from racebench.postgres.control import Control

Array = npt.NDArray[Any]

#: A tenant and a version.
Number = tuple[int, int]

_FIRST_PAUSE_NS = 5_000_000
_LONGEST_PAUSE_NS = 500_000_000
#: A pause is this part of the time since the start.
_PART = 8
#: The looks may use this CPU time, and 1 in _REST of the time since the start: with many sessions a look takes long.
_FREE_NS = 5_000_000
_REST = 50
#: How many numbers are asked for together, and how many questions may be answered with no.
_NUMBERS = 16
_QUESTIONS = 8
#: After so many acknowledged operations none of which said a version, none will.
_SILENT = 1000
#: A question waits for no lock of the sessions that are measured, and for no crowded server.
_PATIENCE = {"lock_timeout": "50ms", "statement_timeout": "250ms"}


class Asked(Protocol):
    """Says which of some suspected numbers are duplicates."""

    def repeated(self, numbers: Sequence[Number]) -> set[Number]:
        """Those of the numbers that several committed rows have.

        Raises DatabaseProblem or psycopg.Error if the server does not say.
        """


class Table:
    """An Asked: the numbered table of a run, over the command's own session, which is idle while the workers work."""

    def __init__(self, control: Control, schema: str, rows: NumberedRows) -> None:
        self._control, self._schema, self._rows = control, schema, rows

    def repeated(self, numbers: Sequence[Number]) -> set[Number]:
        with self._control.session(self._schema, settings=_PATIENCE) as connection:
            try:
                return ask_repeated(connection, self._rows, numbers)
            except psycopg.Error as refusal:
                problem = refusal  # raised behind the session, which is good for the next question
        raise problem


class Detector:
    """An Observer that looks for the first duplicate of one run; `known` is that, None while there is none.

    `table`: what is asked for suspected numbers. `suspected`: that of the observation.
    """

    looks_at_end = False
    needs_suspects = True

    def __init__(self, table: Asked, suspected: SuspectedDuplicates) -> None:
        self.known: KnownDuplicate | None = None
        self._table, self._suspected = table, suspected
        self._waiting: dict[Number, None] = {}
        self._questions = 0
        self._start_ns = self._used_ns = self._offset_ns = 0

    def begin(self, start_ns: int, _measured_ns: int, offset_ns: int) -> int:
        self._start_ns, self._offset_ns = start_ns, offset_ns
        return start_ns + _FIRST_PAUSE_NS

    def take(self, _records: Array, suspects: Array) -> None:
        for tenant, version in zip(suspects["tenant"].tolist(), suspects["version"].tolist(), strict=True):
            if len(self._waiting) == _NUMBERS:
                break
            self._waiting[tenant, version] = None

    def look(self) -> None:
        """Ask for what is suspected; what the table does not answer is asked again at the next look."""
        if not self._waiting:
            return
        self._questions += 1
        with contextlib.suppress(DatabaseProblem, psycopg.Error):
            found = self._table.repeated([*self._waiting])
            known_ns = time.perf_counter_ns()
            first = next((number for number in self._waiting if number in found), None)
            if first is not None:
                self.known = KnownDuplicate(tenant=first[0], version=first[1], known_ns=known_ns + self._offset_ns)
            self._waiting.clear()

    def next_ns(self, now_ns: int, cost_ns: int) -> int | None:
        silent = self._suspected.acknowledged >= _SILENT and not self._suspected.numbered
        if self.known is not None or self._questions >= _QUESTIONS or silent:
            return None
        pause_ns = min(max((now_ns - self._start_ns) // _PART, _FIRST_PAUSE_NS), _LONGEST_PAUSE_NS)
        self._used_ns += cost_ns
        return max(now_ns + pause_ns, self._start_ns + _REST * (self._used_ns - _FREE_NS))

    def finish(self) -> None:
        """Do nothing: the checkers count at the end."""
