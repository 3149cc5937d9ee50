"""Asks the server what sessions wait for, says it in words, and knows whether they wait without an end."""

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


#: The sessions with an application name, and whether nothing but another session may end a wait: no time limit is set,
#: and each session is as it was for so long. The server ends a deadlock of its own after deadlock_timeout.
_BLOCKED = """
SELECT a.pid, a.state = 'idle' AS idle, pg_blocking_pids(a.pid) AS blockers,
       greatest(a.state_change, a.query_start)
       < clock_timestamp() - make_interval(secs => %s) - current_setting('deadlock_timeout')::interval
       AND NOT EXISTS (
           SELECT FROM pg_settings
           WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout', 'idle_session_timeout')
           AND setting <> '0')
       AND NOT EXISTS (
           SELECT FROM pg_proc WHERE concat(prosrc, proconfig::text) ILIKE '%%timeout%%'
           AND pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)) AS long_enough
FROM pg_stat_activity AS a
WHERE a.application_name = %s
"""


def of_application(target: Target, application_name: str) -> str:
    """What the sessions with an application name wait for; that the server does not answer, if it does not."""
    return _asked(target, "a.application_name = %s", application_name, none="the server has no session of the workers")


def of_sessions(target: Target, pids: Sequence[int]) -> str:
    """What the sessions with these pids wait for; that the server does not answer, if it does not."""
    return _asked(target, "a.pid = ANY(%s)", [*pids], none="the server has these sessions no longer")


def wait_for_idle(target: Target, application_name: str, *, quiet_s: float) -> bool:
    """Whether every session with an application name is idle, or waits for a lock that an idle one of them keeps.

    None of them has begun or ended a statement for `quiet_s` seconds, and no time limit of the server ends such a wait.
    Raises DatabaseProblem or psycopg.Error if the server cannot be asked.
    """
    # As the user's own code, so that time limits of the role and the database are seen.
    with connect(target, own_code=True) as connection:
        rows = connection.execute(_BLOCKED, (quiet_s, application_name)).fetchall()
    return without_end(rows)


def without_end(rows: Sequence[tuple[int, bool, Sequence[int], bool]]) -> bool:
    """Whether every session waits, however indirectly, for an idle one, and has done so for long enough.

    Rows of pid, whether it is idle, the pids that it waits for, and whether it is as it was for long enough. One
    session in the way that never goes on is enough, whatever the others in the way do.
    """
    stuck = {pid for pid, idle, _, _ in rows if idle}
    waiting = {pid: blockers for pid, idle, blockers, _ in rows if not idle}
    while more := {pid for pid, blockers in waiting.items() if pid not in stuck and not stuck.isdisjoint(blockers)}:
        stuck |= more
    return bool(waiting) and stuck.issuperset(waiting) and all(long_enough for *_, long_enough in rows)


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
