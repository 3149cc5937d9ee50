"""One query that is run again and again with other parameters, waiting for its answer or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import ConnectionLost, DatabaseProblem
from racebench.core.libpq import send_all
from racebench.core.model import Script
from racebench.core.plain_text import one_line
from racebench.postgres.connection import ACCEPTED
from racebench.postgres.prepared import prepare

_NAME = b"racebench_query"


class Query:
    """One query of a script, run again and again with other parameters; prepared, unless some errors are tolerated.

    A statement that cannot be prepared yet (its column is still to be added) cannot be prepared at all.
    """

    def __init__(
        self, connection: psycopg.Connection[tuple[Any, ...]], script: Script, tolerate: frozenset[str] = frozenset()
    ) -> None:
        self._pgconn = connection.pgconn
        self._step = self.statement = script.statements[0]
        self._results: list[pq.abc.PGresult] = []
        self._path = script.path
        self._tolerate = tolerate
        if not tolerate:
            prepare(connection.pgconn, script.path, [(_NAME, self._step)])

    def run(self, parameters: Sequence[bytes]) -> pq.abc.PGresult | None:
        """Return the rows, None for a tolerated error; raises ScenarioProblem or DatabaseProblem for another."""
        if self._tolerate:
            return self._usable(self._pgconn.exec_params(self._step.sql.encode(), list(parameters)))
        return self._usable(self._pgconn.exec_prepared(_NAME, list(parameters)))

    def send(self, parameters: Sequence[bytes]) -> None:
        """Ask without waiting; `fetch` has the answer."""
        self._results = []
        if self._tolerate:
            self._pgconn.send_query_params(self._step.sql.encode(), list(parameters))
        else:
            self._pgconn.send_query_prepared(_NAME, list(parameters))
        send_all(self._pgconn)

    def fetch(self) -> list[pq.abc.PGresult] | None:
        """Take what has arrived: None if that is not all yet, no result for a tolerated error; raises as `run`."""
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                return [usable for received in self._results if (usable := self._usable(received)) is not None]
            self._results.append(result)
        return None

    def _usable(self, result: pq.abc.PGresult) -> pq.abc.PGresult | None:
        if result.status in ACCEPTED:
            return result
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if sqlstate in self._tolerate:
            return None
        message = one_line((result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
        # An error without an SQLSTATE is libpq's own. One of sending ends the connection, though its status stays OK.
        lost = self._pgconn.status != pq.ConnStatus.OK or not sqlstate
        kind = ConnectionLost if lost else DatabaseProblem
        said = f"{self._path}:{self._step.line}: {message or one_line(self._pgconn.get_error_message())}"
        raise kind(said) from psycopg.errors.error_from_result(result)
