"""Follows a consumer's polls that bring no new row, and asks meanwhile which transactions are open.

It does not know whether a row waits: analysis.liveness finds that when all operations are known. A consumer that does
not poll, on a machine that is busy, records nothing here.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.liveness import Holder, Sighting
from racebench.core.target import Target
from racebench.history.recording import RecordFile
from racebench.postgres.connection import connect
from racebench.postgres.holders import holders, may_be_held_back

#: Shorter stretches are not recorded: a consumer that polls faster than rows come has one between any two.
SHORTEST_NS = 10_000_000
#: From when on, and how often, the server is asked while nothing comes.
_ASK_AFTER_NS = 150_000_000
_ASK_EVERY_NS = 250_000_000
_MOST_SIGHTINGS = 1000


class Asking:
    """A session that asks which transactions are open; opened at its first question, and again after it was lost."""

    def __init__(self, target: Target, application_name: str) -> None:
        self._target, self._application_name = target, application_name
        self._connection: psycopg.Connection[Any] | None = None

    def holders(self) -> tuple[Holder, ...] | None:
        """The open transactions that have an xid; None if the server does not say."""
        try:
            if self._connection is None:
                self._connection = connect(self._target, application_name=self._application_name)
            return holders(self._connection)
        except (DatabaseProblem, psycopg.Error):
            self.close()
            return None

    def may_hold_back(self, query: str) -> bool:
        """Whether an open transaction may hold back what a query returns; True if the server does not say."""
        try:
            return self._connection is None or may_be_held_back(self._connection, query)
        except psycopg.Error:
            self.close()
            return True

    def close(self) -> None:
        """End the session."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


class Quiet:
    """The stretches of polls of one consumer that brought nothing new, by tenant, and what was open meanwhile."""

    def __init__(self, file: RecordFile, asking: Asking) -> None:
        self._file, self._asking = file, asking
        self._open: dict[int, list[int]] = {}  # the first poll's start, the last one's, its end, and how many
        self._next_ns = 0
        self._sightings: deque[Sighting] = deque(maxlen=_MOST_SIGHTINGS)

    @property
    def sightings(self) -> tuple[Sighting, ...]:
        """What was open, in the order of time."""
        return tuple(self._sightings)

    def nothing(self, tenant: int, start_ns: int, end_ns: int) -> None:
        """A poll of a tenant brought no new row."""
        stretch = self._open.get(tenant)
        if stretch is None:
            self._open[tenant] = [start_ns, start_ns, end_ns, 1]
        else:
            stretch[1], stretch[2] = start_ns, end_ns
            stretch[3] += 1

    def something(self, tenant: int) -> None:
        """A poll of a tenant brought a new row."""
        stretch = self._open.pop(tenant, None)
        if stretch is not None and stretch[3] > 1 and stretch[2] - stretch[0] >= SHORTEST_NS:
            self._file.write(*stretch, tenant)

    def look(self) -> None:
        """Ask what is open if nothing has come for long enough, and the last question is old enough."""
        now_ns = time.perf_counter_ns()
        if now_ns < self._next_ns or not self._open:
            return
        first_ns = min(stretch[0] for stretch in self._open.values())
        if now_ns - first_ns < _ASK_AFTER_NS:
            self._next_ns = now_ns + _ASK_AFTER_NS // 4
            return
        self._ask()
        self._next_ns = time.perf_counter_ns() + _ASK_EVERY_NS

    def held_since(self, time_ns: int, query: str) -> tuple[Holder, ...]:
        """Ask for the transactions that have been open since a time and may hold back what a query returns.

        None if the server does not say.
        """
        found = self._sightings[-1].older_than(time_ns) if self._ask() else ()
        return found if found and self._asking.may_hold_back(query) else ()

    def end(self) -> None:
        """The consumer polls no more."""
        for tenant in list(self._open):
            self.something(tenant)
        self._asking.close()

    def _ask(self) -> bool:
        start_ns = time.perf_counter_ns()
        found = self._asking.holders()
        if found is None:
            return False
        last = self._sightings[-1] if self._sightings else None
        first_ns = start_ns
        if last is not None and [one.key for one in last.holders] == [one.key for one in found]:
            first_ns = self._sightings.pop().first_ns
        self._sightings.append(Sighting(first_ns=first_ns, last_ns=start_ns, holders=found))
        return True
