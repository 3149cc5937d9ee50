"""Prepares statements, together in one round trip, and keeps their names and the columns that they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq

from racebench.core.errors import ConnectionLost, DatabaseProblem, ScenarioProblem
from racebench.core.libpq import next_result
from racebench.core.model import Statement
from racebench.core.plain_text import one_line
from racebench.postgres.connection import ACCEPTED

_LOCK_TIMEOUT = b"55P03"
_SYNTAX_ERROR = b"42601"
#: The first words of statements that have a plan.
_PLANNED = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that the server has seen: its name there, and the columns it returns."""

    name: bytes
    columns: tuple[str, ...]


def prepare(
    pgconn: pq.abc.PGconn,
    path: Path,
    wanted: Sequence[tuple[bytes, Statement]],
    *,
    planned: bool = False,
    later: bool = False,
) -> list[Prepared]:
    """Prepare statements under their names and ask what they return, in one round trip; in the same order.

    `planned`: plan them too. A statement that cannot be explained is planned when it is run; the error here has no
    effect. `later`: a statement may be refused now, because what it names is made when the script runs; then nothing is
    known of what it returns. Without a name a statement is only asked about. Raises ScenarioProblem, with the line of
    the first statement that the server refuses, and ConnectionLost.
    """
    try:
        pgconn.enter_pipeline_mode()
        for name, statement in wanted:
            pgconn.send_prepare(name, statement.sql.encode())
            pgconn.send_describe_prepared(name)
            if planned and statement.keyword in _PLANNED:
                nothing = b", ".join([b"NULL"] * len(statement.parameters))
                pgconn.send_query_params(b"EXPLAIN EXECUTE " + name + (b"(" + nothing + b")" if nothing else b""), None)
            pgconn.pipeline_sync()  # behind each, so that a refusal concerns no other
        answers = [_answers(pgconn) for _ in wanted]
        pgconn.exit_pipeline_mode()
    except psycopg.OperationalError as problem:
        raise _lost(str(problem)) from None
    return [
        _prepared(path, name, statement, results, later=later)
        for (name, statement), results in zip(wanted, answers, strict=True)
    ]


def _answers(pgconn: pq.abc.PGconn) -> list[pq.abc.PGresult]:
    """The results of a statement's commands. Raises ConnectionLost."""
    results: list[pq.abc.PGresult] = []
    ended = False
    while (result := next_result(pgconn)) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
        if result is None:  # each command's result has one behind it
            if ended:
                raise _lost(pgconn.get_error_message())
            ended = True
            continue
        ended = False
        if result.status == pq.ExecStatus.FATAL_ERROR and (
            pgconn.status != pq.ConnStatus.OK or not result.error_field(pq.DiagnosticField.SQLSTATE)
        ):
            raise _lost(pgconn.get_error_message())  # without an SQLSTATE it is libpq's own error, of sending
        results.append(result)
    return results


def _lost(said: str) -> ConnectionLost:
    return ConnectionLost(f"the connection was lost while a statement was prepared: {one_line(said)}")


def _prepared(
    path: Path, name: bytes, statement: Statement, results: Sequence[pq.abc.PGresult], *, later: bool
) -> Prepared:
    """What the server says of a statement; raises as `prepare`."""
    refused = next((result for result in results[:2] if result.status not in ACCEPTED), None)
    if refused is None:
        described = results[1]
        return Prepared(name, tuple((described.fname(at) or b"").decode() for at in range(described.nfields)))
    if later and refused.error_field(pq.DiagnosticField.SQLSTATE) != _SYNTAX_ERROR:
        return Prepared(name, ())
    message = (refused.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    if refused.error_field(pq.DiagnosticField.SQLSTATE) == _LOCK_TIMEOUT:
        raise DatabaseProblem(
            f"{path}:{statement.line}: '{one_line(statement.text)}' cannot be prepared: another session has "
            "locked what it needs; see pg_locks"
        )
    raise ScenarioProblem(
        f"{path}:{statement.line}: the server refuses this statement: {one_line(message)}"
    ) from psycopg.errors.error_from_result(refused)
