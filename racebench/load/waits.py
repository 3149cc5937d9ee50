"""Asks the server what a run's sessions wait for, in a process of its own: the server may not answer."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg

from racebench.core.errors import RacebenchError
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.load.executors import Channel, Executor
from racebench.postgres.connection import connect

_ANSWER_SECONDS = 5.0
_SHOWN = 3

_QUESTION = """
SELECT CASE WHEN a.wait_event_type = 'Client' THEN 'their client, ' || a.state
            ELSE coalesce(a.wait_event_type || '/' || a.wait_event, 'a CPU') END AS waits_for,
       coalesce(left(split_part(ltrim(a.query), E'\\n', 1), 40), '') AS statement,
       (SELECT string_agg(format('%%s (''%%s'', %%s)', b.pid, b.application_name, coalesce(b.state, 'no state')), ', ')
        FROM pg_stat_activity AS b
        WHERE b.pid = ANY(pg_blocking_pids(a.pid)) AND b.application_name <> a.application_name) AS held_by
FROM pg_stat_activity AS a
WHERE a.application_name = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose waits are asked for: the sessions with an application name."""

    target: Target
    application_name: str


def ask(question: Question, channel: Channel) -> None:
    """Send a text about what the sessions wait for."""
    try:
        with connect(question.target) as connection:
            rows = connection.execute(_QUESTION, (question.application_name,)).fetchall()
    except (RacebenchError, psycopg.Error) as problem:
        channel.send(f"the server does not answer: {one_line(str(problem))}")
        return
    channel.send(described(rows))


def described(rows: list[tuple[Any, ...]]) -> str:
    """The rows of the answer in words: those that wait for the same together, the most first."""
    if not rows:
        return "the server has no session of the workers"
    parts = []
    for (waits_for, statement, held_by), count in Counter(rows).most_common(_SHOWN):
        sessions = "1 session waits" if count == 1 else f"{count} sessions wait"
        text = f"{sessions} for {waits_for} in '{one_line(statement)}'"
        parts.append(text + (f", held by {one_line(held_by)}" if held_by else ""))
    return "; ".join(parts)


def explained(question: Question, executor: Executor) -> str:
    """What the sessions wait for; that the server does not answer, if it does not within a few seconds."""
    worker = executor.start(ask, question)
    deadline = time.monotonic() + _ANSWER_SECONDS
    try:
        while time.monotonic() < deadline:
            for _, message in executor.messages([worker], 0.1):
                return message if isinstance(message, str) else "the server cannot be asked"
    finally:
        worker.kill()
        executor.release([worker])
    return f"the server does not answer within {_ANSWER_SECONDS:.0f} s"
