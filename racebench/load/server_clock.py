"""Reads the database server's clock from any machine: how far it is ahead of the machine's, and within which bound.

The server says its time between the question and the answer. Of several round trips the shortest counts: its half is
the bound, with the microsecond to which `clock_timestamp()` is rounded.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.history.clocks import Reading
from racebench.postgres.connection import connect

_ROUND_TRIPS = 30
_RESOLUTION_NS = 1000
_QUERY = b"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


@dataclass(frozen=True, slots=True)
class ServerClock:
    """A target's clock: it can be sent to another machine, and is called there."""

    target: Target

    def __call__(self) -> Reading:
        """Connect and read the clock; raises DatabaseProblem."""
        with contextlib.closing(connect(self.target)) as connection:
            ask, now = connection.pgconn.exec_, time.perf_counter_ns
            best: Reading | None = None
            for _ in range(_ROUND_TRIPS):
                before = now()
                result = ask(_QUERY)
                after = now()
                if (value := result.get_value(0, 0)) is None:
                    message = connection.pgconn.get_error_message()
                    raise DatabaseProblem(f"cannot read the clock of {self.target.label}: {one_line(message)}")
                middle, half = (before + after) // 2, (after - before) // 2
                if best is None or half + _RESOLUTION_NS < best.bound_ns:
                    best = Reading(
                        local_ns=middle, offset_ns=int(value) * 1000 - middle, bound_ns=half + _RESOLUTION_NS
                    )
            assert best is not None
            return best


def reachable(target: Target) -> Target:
    """The target, and its standby, with all that this machine tells libpq by its environment and its files.

    Other machines do not have that.

    Raises DatabaseProblem if it cannot be reached from here.
    """
    if target.sealed:
        return target
    with contextlib.closing(connect(target)) as connection:
        known: psycopg.pq.abc.PGconn = connection.pgconn
        found = {
            "host": known.host, "port": known.port, "user": known.user, "dbname": known.db, "password": known.password
        }  # fmt: skip
        given = {name: value.decode() for name, value in found.items() if value}
    standby = None if target.standby is None else reachable(target.standby)
    return replace(target, parameters={**target.parameters, **given}, standby=standby)
