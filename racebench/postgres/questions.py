"""Asks several questions in one message, each in a transaction that only reads and does not wait long for a lock.

A question is one statement or several; where one of them is refused, the others are still answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import pq

from racebench.postgres.connection import ACCEPTED

#: The statements of a question, each of which has one result.
Question = Sequence[bytes]
_BEGIN = (
    b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
    b"SET LOCAL lock_timeout = '100ms'",
    b"SET LOCAL statement_timeout = '5s'",
)
#: Not ROLLBACK, after which psycopg prepares all its statements anew.
_END = (b"COMMIT",)


def ask(connection: psycopg.Connection[Any], questions: Sequence[Question]) -> list[Sequence[pq.abc.PGresult] | None]:
    """The results of the statements of each question, None if the server refuses one of them.

    `connection`: in autocommit mode, and in no transaction. Raises psycopg.Error if it is lost.
    """
    if not questions:
        return []
    try:
        results = _sent(connection, questions)
    except psycopg.Error:
        if connection.broken:
            raise
        connection.pgconn.exec_(b"ROLLBACK")
        # The server carries out nothing behind a statement that it refuses.
        return [None] if len(questions) == 1 else [ask(connection, [one])[0] for one in questions]
    answers: list[Sequence[pq.abc.PGresult] | None] = []
    for question in questions:
        first, last = len(_BEGIN), len(_BEGIN) + len(question)
        answers.append(results[first:last])
        results = results[last + len(_END) :]
    return answers


def _sent(connection: psycopg.Connection[Any], questions: Sequence[Question]) -> Sequence[pq.abc.PGresult]:
    # A line may end in a comment.
    text = b"\n;".join(statement for question in questions for statement in (*_BEGIN, *question, *_END))
    cursor = connection.execute(text)
    results = [result] if (result := cursor.pgresult) is not None else []
    while cursor.nextset():
        assert cursor.pgresult is not None  # there is another set
        results.append(cursor.pgresult)
    if len(results) != sum(len(question) + len(_BEGIN) + len(_END) for question in questions):
        raise psycopg.ProgrammingError("a statement of a question is not one statement")
    assert all(result.status in ACCEPTED for result in results)
    return results
