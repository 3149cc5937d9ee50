"""Sends several statements in one message, COPY included, and returns what each of them answers.

Past psycopg's cursors, which take as long as a short answer does. A transaction in a message is begun and ended by
statements of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq, sql

from racebench.core.libpq import next_result, receive
from racebench.postgres.connection import ACCEPTED

_Row = tuple[str | None, ...]
#: A statement as it is sent, or as psycopg.sql has composed it.
Statement = bytes | sql.Composable


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement answers. `copied`: the data of COPY … TO STDOUT."""

    result: pq.abc.PGresult
    copied: bytes = b""

    @property
    def rows(self) -> list[_Row]:
        """The rows: each value as text, None for NULL."""
        result = self.result
        columns = range(result.nfields)
        return [
            tuple(
                None if (value := result.get_value(row, column)) is None else value.decode(errors="replace")
                for column in columns
            )
            for row in range(result.ntuples)
        ]


def send(
    connection: psycopg.Connection[Any], statements: Sequence[Statement], copied: Iterable[bytes] = ()
) -> list[Answer]:
    """Send statements as one message and wait for their answers, one for each statement.

    `connection`: in autocommit mode, and in no transaction. `copied`: the data of each COPY … FROM STDIN, in order.
    Raises psycopg.Error if the server refuses a statement, or if one is in fact several: what was not committed before
    that is rolled back, and nothing behind it was carried out.
    """
    if not statements:
        return []
    pgconn, data = connection.pgconn, iter(copied)
    # A line may end in a comment.
    texts = (each if isinstance(each, bytes) else each.as_bytes(connection) for each in statements)
    pgconn.send_query(b"\n;".join(texts))
    answers: list[Answer] = []
    refused: pq.abc.PGresult | None = None
    while (result := next_result(pgconn)) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_data(next(data, b""))
            pgconn.put_copy_end()
        elif result.status == pq.ExecStatus.COPY_OUT:
            answers.append(Answer(result, _received(pgconn)))
        elif result.status not in ACCEPTED:
            refused = refused or result
        # The end of a COPY … TO STDOUT has a result of its own.
        elif not (answers and answers[-1].result.status == pq.ExecStatus.COPY_OUT and _ends_a_copy(result)):
            answers.append(Answer(result))
    if pgconn.transaction_status in (pq.TransactionStatus.INERROR, pq.TransactionStatus.INTRANS):
        pgconn.exec_(b"ROLLBACK")
    if refused is not None:
        raise psycopg.errors.error_from_result(refused)
    if len(answers) != len(statements):
        raise psycopg.ProgrammingError("a statement of a message is not one statement")
    return answers


def _ends_a_copy(result: pq.abc.PGresult) -> bool:
    return (result.command_status or b"").startswith(b"COPY")


def _received(pgconn: pq.abc.PGconn) -> bytes:
    """The data of a COPY … TO STDOUT."""
    parts: list[bytes] = []
    while (part := pgconn.get_copy_data(1))[0] >= 0:
        if part[0]:
            parts.append(bytes(part[1]))
        else:
            receive(pgconn)
    return b"".join(parts)
