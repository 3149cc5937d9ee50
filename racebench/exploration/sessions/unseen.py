"""What a call sends to the server past racebench: over a connection that was opened before, or from another program.

Such statements cannot be scheduled. They are noticed when the calls run alone: by the transactions that the server has
begun meanwhile, and by the backends with the application's name that have worked and that racebench does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Set
from typing import Any

import psycopg

from racebench.core.errors import UsageProblem
from racebench.core.model import Call
from racebench.workloads.ad_hoc import own_application_name
from racebench.workloads.callables import unreached

_DRIVERS = ("psycopg2", "asyncpg", "pg8000", "aiopg", "py_postgresql")
_BEFORE = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, clock_timestamp()"
_SINCE = (
    "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, array(SELECT pid FROM pg_stat_activity"
    " WHERE application_name = %s AND datname = current_database() AND state_change > %s)"
)


class Unseen:
    """Watches the server while one call runs alone. `monitor`: a connection that no call uses; `server`: its label."""

    def __init__(self, monitor: psycopg.Connection[Any], server: str) -> None:
        self._monitor, self._server = monitor, server
        self._before = self._ask(_BEFORE)

    def _ask(self, query: str, *parameters: object) -> tuple[Any, ...]:
        row = self._monitor.execute(query.encode(), parameters or None).fetchone()
        assert row is not None  # there is no table in it
        return tuple(row)

    def refuse(self, call: Call, *, seen: bool, seen_before: bool, known: Set[int]) -> None:
        """Raise UsageProblem if a call that has ended without an error sent statements past racebench, or none at all.

        `seen`: it made round trips that racebench saw; `seen_before`: it made some when it was called before. `known`:
        the backends over which it may have made them.
        """
        xmax, since = self._before
        now, pids = self._ask(_SINCE, own_application_name(), since)
        beside = set(pids) - known
        if seen and not beside:
            return
        if seen_before and not beside:
            raise UsageProblem(
                f"{call} sends statements when it is called first, and none when it is called again: it keeps "
                "something in this process (a cache?), which racebench does not restore; clear it where the call begins"
            )
        loaded = any(name in sys.modules for name in _DRIVERS)
        if not beside and xmax == now:
            reads = "; what it only reads over a connection that was opened before is not seen" if loaded else ""
            raise UsageProblem(unreached((call,), self._server) + reads)
        sends = "sends statements also" if seen else "sends its statements"
        # Whose transaction it was is not known.
        hedge = "" if beside else f" (or sends none, if another client wrote to {self._server} meanwhile)"
        raise UsageProblem(
            f"{call} {sends} over a connection that racebench does not see{hedge}: one that was opened before, of "
            "another program, or of an unknown driver; have the call open it, or explore the program (--exec) or the "
            f"service (--serve); `racebench run --call {call}` with the same --setup and --invariant measures it"
        )
