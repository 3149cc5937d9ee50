"""Asks the server what sessions wait for, and says it in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg

from racebench.core.errors import RacebenchError
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.postgres.connection import connect

_SHOWN = 3

_QUESTION = """
SELECT CASE WHEN a.wait_event_type = 'Client' THEN 'their client, ' || a.state
            ELSE coalesce(a.wait_event_type || '/' || a.wait_event, 'a CPU') END AS waits_for,
       coalesce(left(split_part(ltrim(a.query), E'\\n', 1), 40), '') AS statement,
       (SELECT string_agg(format('%%s (''%%s'', %%s)', b.pid, b.application_name, coalesce(b.state, 'no state')), ', ')
        FROM pg_stat_activity AS b
        WHERE b.pid = ANY(pg_blocking_pids(a.pid))
        AND (b.application_name <> a.application_name OR b.state = 'idle')) AS held_by
FROM pg_stat_activity AS a
WHERE {condition}
"""


def of_application(target: Target, application_name: str) -> str:
    """What the sessions with an application name wait for; that the server does not answer, if it does not."""
    return _asked(target, "a.application_name = %s", application_name, none="the server has no session of the workers")


def of_sessions(target: Target, pids: Sequence[int]) -> str:
    """What the sessions with these pids wait for; that the server does not answer, if it does not."""
    return _asked(target, "a.pid = ANY(%s)", [*pids], none="the server has these sessions no longer")


def _asked(target: Target, condition: LiteralString, value: object, *, none: str) -> str:
    try:
        with connect(target) as connection:
            rows = connection.execute(_QUESTION.replace("{condition}", condition), (value,)).fetchall()
            return described(rows) if rows else none
    except (RacebenchError, psycopg.Error) as problem:
        return f"the server does not answer: {one_line(str(problem))}"


def described(rows: list[tuple[Any, ...]]) -> str:
    """The rows of the answer in words: those that wait for the same together, the most first."""
    parts = []
    for (waits_for, statement, held_by), count in Counter(rows).most_common(_SHOWN):
        sessions = "1 session waits" if count == 1 else f"{count} sessions wait"
        text = f"{sessions} for {waits_for} in '{one_line(statement)}'"
        parts.append(text + (f", held by {one_line(held_by)}" if held_by else ""))
    return "; ".join(parts)
