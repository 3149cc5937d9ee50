"""Makes sure that a connection pooler before the user's server gives each client a session of its own.

external.py recognizes the pooler; connection.py sends over it what the start-up packet would otherwise have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.target import Target
from racebench.postgres.connection import asked, connect

#: How long a pooler may take to give a session to a client.
_ANSWER_SECONDS = 10.0
#: A setting without a meaning: whether the next client finds it says whether the pooler resets sessions.
_MARK = "racebench.session"


def check(target: Target, connections: int) -> None:
    """Raise DatabaseProblem unless the pooler keeps a session for each of so many clients, and resets it after them.

    So many clients connect. In session pooling each has a process of the server for itself; in transaction and
    statement pooling, idle clients share processes. A pooler that has more idle processes than that, and gives each
    client in turn the same one, would not be recognized. `target` must be known to be pooled.
    """
    question = "SELECT pg_backend_pid()"
    with contextlib.ExitStack() as stack:
        clients: list[psycopg.Connection[Any]] = []
        pids: list[str] = []
        for number in range(max(2, connections)):
            clients.append(stack.enter_context(contextlib.closing(connect(target))))
            answer = _ask(clients[-1:], question)
            if not answer:
                raise DatabaseProblem(
                    f"the pooler at {target.label} has {quantity(number, 'session')} to give, "
                    f"{connections} are needed; use fewer --workers, raise its limit (PgBouncer's default_pool_size), "
                    "or give a DSN of the server itself"
                )
            pids += answer
        if len(set(pids)) < len(clients) or _ask(clients[::-1], question) != pids[::-1]:
            _ask(clients, "SELECT set_config('application_name', '', false)")  # it would stay
            raise DatabaseProblem(
                f"the pooler at {target.label} shares the server's sessions among its clients (transaction or "
                "statement pooling), so that settings and locks of a session do not hold; "
                "use session pooling (PgBouncer's pool_mode = session), or give a DSN of the server itself: with it "
                "--pooler transaction has workers pass a PgBouncer of racebench's own"
            )
        _ask(clients, f"SELECT set_config('{_MARK}', '1', false)")
    with contextlib.closing(connect(target)) as client:
        if _ask([client], f"SELECT current_setting('{_MARK}', true)") == ["1"]:
            raise DatabaseProblem(
                f"the pooler at {target.label} does not reset a session after a client, so that racebench's settings "
                "would stay for the next; set PgBouncer's server_reset_query = DISCARD ALL, "
                "or give a DSN of the server itself"
            )


def _ask(clients: Sequence[psycopg.Connection[Any]], query: str) -> list[str]:
    """Each client's answer, in turn; none at all if one does not come in time. Raises DatabaseProblem."""
    answers = []
    for client in clients:
        try:
            answers.append(asked(client.pgconn, query.encode(), limit_s=_ANSWER_SECONDS))
        except TimeoutError:
            return []
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the pooler refuses a question: {one_line(str(problem))}") from None
    return answers
