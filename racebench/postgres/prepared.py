"""Prepares a statement, and keeps its name and the columns that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq

from racebench.core.errors import ConnectionLost, DatabaseProblem, ScenarioProblem
from racebench.core.model import Statement
from racebench.core.plain_text import one_line
from racebench.postgres.connection import ACCEPTED

_LOCK_TIMEOUT = b"55P03"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the server has seen: its name there, and the columns it returns."""

    name: bytes
    columns: tuple[str, ...]


def prepare(pgconn: pq.abc.PGconn, path: Path, statement: Statement, name: bytes) -> Prepared:
    """Prepare a statement and ask what it returns.

    Raises ScenarioProblem, with its line, if the server refuses it, and ConnectionLost.
    """
    result = pgconn.prepare(name, statement.sql.encode())
    if result.status in ACCEPTED:
        result = pgconn.describe_prepared(name)
    if result.status not in ACCEPTED:
        message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
        if pgconn.status != pq.ConnStatus.OK or not sqlstate:  # libpq's own error, of sending
            raise ConnectionLost(
                f"the connection was lost while a statement was prepared: "
                f"{one_line(message or pgconn.get_error_message())}"
            )
        if sqlstate == _LOCK_TIMEOUT:
            raise DatabaseProblem(
                f"{path}:{statement.line}: '{one_line(statement.text)}' cannot be prepared: another session has "
                "locked what it needs; see pg_locks"
            )
        raise ScenarioProblem(
            f"{path}:{statement.line}: the server refuses this statement: "
            f"{one_line(message or pgconn.get_error_message())}"
        ) from psycopg.errors.error_from_result(result)
    return Prepared(name, tuple((result.fname(column) or b"").decode() for column in range(result.nfields)))
