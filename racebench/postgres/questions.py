"""Asks several questions in one message, each in a transaction that only reads and does not wait long for a lock.

A question is one statement or several; where one of them is refused, the others are still answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from racebench.postgres.message import Answer, Statement, send

#: The statements of a question.
Question = Sequence[Statement]
_BEGIN = (
    b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
    b"SET LOCAL lock_timeout = '100ms'",
    b"SET LOCAL statement_timeout = '5s'",
)
_END = (b"ROLLBACK",)


def ask(connection: psycopg.Connection[Any], questions: Sequence[Question]) -> list[Sequence[Answer] | None]:
    """The answers to the statements of each question, None if the server refuses one of them.

    `connection`: in autocommit mode, and in no transaction. Raises psycopg.Error if it is lost.
    """
    try:
        answers = send(connection, [each for question in questions for each in (*_BEGIN, *question, *_END)])
    except psycopg.Error:
        if connection.broken:
            raise
        # The server carries out nothing behind a statement that it refuses.
        return [None] if len(questions) == 1 else [ask(connection, [one])[0] for one in questions]
    found: list[Sequence[Answer] | None] = []
    for question in questions:
        first, last = len(_BEGIN), len(_BEGIN) + len(question)
        found.append(answers[first:last])
        answers = answers[last + len(_END) :]
    return found
