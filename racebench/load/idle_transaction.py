"""A session beside a run that is idle in a transaction, as of --idle-in-transaction.

It has an xid, as after a write, and a snapshot. It holds no lock that a strategy waits for, and takes no number. The
session belongs to the process of the command: if that is killed, the server rolls the transaction back.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.schemas import application_name

#: The session's role in its application name.
ROLE = "idle transaction"
_NO_TIMEOUTS = (
    "SELECT set_config(name, '0', false) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout', 'idle_session_timeout')"
)
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"
_WRITE = "SELECT pg_current_xact_id()"


class IdleTransaction:
    """The session of one run; none for 0 seconds. It rolls back after so many seconds, or with the end of the load."""

    def __init__(self, target: Target, schema: str, seconds: float) -> None:
        self._target, self._schema, self._seconds = target, schema, seconds
        self._connection: psycopg.Connection[Any] | None = None
        self._until_s = 0.0

    def begin(self, start_ns: int) -> None:
        """Begin the transaction; its time counts from the common start, in perf_counter_ns. Raises DatabaseProblem."""
        if not self._seconds:
            return
        self._until_s = start_ns / 1e9 + self._seconds
        self._connection = connect(self._target, application_name=application_name(self._schema, ROLE))
        try:
            for statement in (_NO_TIMEOUTS, _BEGIN, _WRITE):
                self._connection.execute(statement)
        except psycopg.Error as problem:
            raise DatabaseProblem(f"--idle-in-transaction: {one_line(str(problem))}") from None

    @property
    def pause_s(self) -> float:
        """How long until its end, in seconds; infinite if it has none."""
        return float("inf") if self._connection is None else max(0.0, self._until_s - time.perf_counter_ns() / 1e9)

    def look(self) -> str:
        """End the transaction if its time is over. The reason, if it had ended before; else ""."""
        return self.end() if self.pause_s == 0 else ""

    def end(self) -> str:
        """Roll the transaction back, if it is still there. The reason, if it had ended before; else ""."""
        connection, self._connection = self._connection, None
        if connection is None:
            return ""
        with contextlib.closing(connection):
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error as problem:
                return f"the idle transaction ended before its time: {one_line(str(problem))}"
        return ""
