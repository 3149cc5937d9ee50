"""What a round trip of psycopg says to the server, and which line of the application leads to it.

Read from psycopg's own generators and from stack frames; sends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import FrameType
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import UsageProblem
from racebench.exploration.wire.connection import WireConnection
from racebench.workloads.callables import is_application, shown

#: psycopg's connections, of either kind.
AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
#: An application's connections: those, and those that pass the gate on the wire.
Explored = AnyConnection | WireConnection

#: How what a failure leads to begins: it is never refused.
CLEANING = ("ROLLBACK", "RELEASE", "CLOSE")
_SILENT = frozenset(
    {"_set_autocommit_gen", "_set_isolation_level_gen", "_set_read_only_gen", "_set_deferrable_gen", "_close_gen"}
)
_POOL = "psycopg_pool"
#: What the threads and tasks of a pool run: its workers, and what schedules their work.
_POOLS_OWN = ("worker", "run")
_LISTENS = "notifies"
_WAITING = ("psycopg.", _POOL, "sqlalchemy.pool", "sqlalchemy.util.queue")
#: The drivers that tasks wait for, and what SQLAlchemy puts between.
_ASYNCHRONOUS = ("asyncpg", "psycopg", "sqlalchemy.util")
_QUERIES = {
    "_execute_gen": "query",
    "_executemany_gen_no_pipeline": "query",
    "_executemany_gen_pipeline": "query",
    "_start_copy_gen": "statement",
    "_stream_send_gen": "query",
    "_declare_gen": "query",
}


def said(connection: AnyConnection, work: Any) -> tuple[str, Any] | None:
    """The text of a round trip, and the cursor that will have its result; None if it sends no statement.

    Read from psycopg's own generators, by their names: psycopg 3.1 to 3.3 have them all.
    """
    name = getattr(getattr(work, "gi_code", None), "co_name", "")
    frame = getattr(work, "gi_frame", None)
    known = frame.f_locals if frame is not None else {}
    owner = known.get("self")
    idle = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    if name in _QUERIES:
        text = text_of(known.get(_QUERIES[name]), connection)
        return (text, owner) if text.strip("; \t\n") else None  # empty: a pool asks whether the connection lives
    if name == "notifies":
        raise UsageProblem("the call waits for a NOTIFY, which racebench cannot schedule")
    if name in ("_commit_gen", "_rollback_gen"):
        return None if idle else (name[1:-4].upper(), None)
    if name in _SILENT:
        return None
    if isinstance(owner, psycopg.Transaction | psycopg.AsyncTransaction):
        return _block(owner, name, known, idle=idle), None
    if name.startswith("_tpc_"):
        return name[1:-4].upper().replace("_", " "), None
    return "", owner  # fetching, copying, a pipeline: it continues the statement before


def _block(owner: Any, name: str, known: dict[str, Any], *, idle: bool) -> str:
    """The text that `with connection.transaction()` sends when it is entered or left."""
    outer = idle if name == "_enter_gen" else owner._outer_transaction
    if name == "_enter_gen":
        return "BEGIN" if outer else "SAVEPOINT"
    kept = known.get("exc_val") is None and not owner.force_rollback
    if outer:
        return "COMMIT" if kept else "ROLLBACK"
    return "RELEASE SAVEPOINT" if kept else "ROLLBACK TO SAVEPOINT"


def text_of(query: Any, connection: AnyConnection) -> str:
    """The text of a query as an application gives it to psycopg."""
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    if isinstance(query, psycopg.sql.Composable):
        return query.as_string(connection)
    if not isinstance(query, str) and hasattr(query, "strings"):  # a template string
        return "…".join(query.strings)
    return str(query)


def line(frame: FrameType | None) -> str:
    """The innermost line of the application that leads here, as `file:line`; "" if there is none."""
    while frame is not None:
        if is_application(frame.f_code.co_filename):
            return f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_a_pools(frame: FrameType | None) -> bool:
    """Whether a thread or a task that a pool of psycopg's made leads here: to what the application has it call, too.

    Read from psycopg_pool's own functions, by their names: psycopg_pool 3.1 to 3.3 have them.
    """
    while frame is not None:
        if frame.f_code.co_name in _POOLS_OWN and frame.f_globals.get("__name__", "").startswith(_POOL):
            return True
        frame = frame.f_back
    return False


def line_that_waits(frame: FrameType | None) -> str | None:
    """The line that leads a thread into a driver or a pool of connections, as `line`; None if it is in neither.

    Nor in a thread of the pool's own, nor in one that listens to a channel.
    """
    waits = False
    innermost = frame
    while frame is not None and not is_application(frame.f_code.co_filename):
        if frame.f_globals.get("__name__", "").startswith(_WAITING):
            waits = True
            if frame.f_code.co_name == _LISTENS:
                return None
        frame = frame.f_back
    return line(innermost) if waits and not is_a_pools(innermost) else None


def line_of_a_task(loops: Iterable[asyncio.AbstractEventLoop]) -> str:
    """The line of the application at which a task of these event loops waits for a driver; "" if that is not one line.

    Asked while no task runs: what each awaits is read from its coroutines.
    """
    lines = set()
    for loop in loops:
        for task in () if loop.is_closed() else asyncio.all_tasks(loop):
            where, waits = "", False
            awaited: Any = task.get_coro()
            while (frame := getattr(awaited, "cr_frame", None)) is not None:
                if is_application(frame.f_code.co_filename):
                    where = f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"
                waits = frame.f_globals.get("__name__", "").startswith(_ASYNCHRONOUS)
                awaited = awaited.cr_await
            if waits:
                lines.add(where)
    return lines.pop() if len(lines) == 1 else ""
