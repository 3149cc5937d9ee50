"""Divides a round trip of psycopg that sends several statements at once into round trips of one statement each.

A string of several statements, and each row of `executemany`, become steps of their own where the server would do the
same with them one by one: inside one transaction. Elsewhere the round trip stays one step, and `is_batch` says so.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.model import Statement
from racebench.postgres.compiler.transactions import begins, ends, opens

_EXECUTE, _ROWS, _PIPELINED_ROWS = "_execute_gen", "_executemany_gen_no_pipeline", "_executemany_gen_pipeline"
#: Statements that may be sent between a BEGIN and a COMMIT of racebench's.
MAY_BE_WRAPPED = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "WITH", "VALUES"})
#: Statements that end a transaction, or that psycopg treats in a way of its own.
_NOT_ALONE = frozenset({"PREPARE", "COPY", ""})
#: Statements that touch nothing that other sessions see.
_SETTINGS = frozenset({"SET", "RESET", "SHOW", ""})
_Work = Generator[Any, Any, Any]


def in_one_transaction(parts: Sequence[Statement], *, open_before: bool) -> bool:
    """Whether statements are in one transaction: one that is open before them, or one that the first of them begins.

    The last may end it.
    """
    if not parts:
        return False
    begun = begins(parts[0])
    inner = list(parts[begun:])
    if inner and ends(inner[-1]) and not opens(inner[-1]):
        inner.pop()
    return (open_before or begun) and not any(
        begins(part) or ends(part) or part.keyword in _NOT_ALONE for part in inner
    )


def is_batch(work: _Work, parts: Sequence[Statement]) -> bool:
    """Whether a round trip may send more than one statement; `parts`: those of its text, none if that is uncertain."""
    if parts and all(part.keyword in _SETTINGS for part in parts):
        return False
    name, known = _known(work)
    if name in (_ROWS, _PIPELINED_ROWS):
        rows = known.get("params_seq")
        return not isinstance(rows, list | tuple) or len(rows) > 1
    return name == _EXECUTE and len(parts) != 1


def divided(work: _Work, parts: Sequence[Statement], *, open_before: bool) -> Iterator[tuple[Statement, _Work]] | None:
    """The statements of a batch, each with its round trip, in order; None if the batch must be sent as it is.

    Each is to be driven to its end before the next is asked for. When all are, the cursor has the results of all.
    """
    name, known = _known(work)
    cursor = known.get("self")
    if not isinstance(cursor, psycopg.Cursor | psycopg.AsyncCursor):
        return None
    if not in_one_transaction(parts, open_before=open_before):
        return None
    if name == _ROWS and len(parts) == 1:
        return _rows(cursor, parts[0], known)
    simple = known.get("params") is None and not known.get("binary") and not known.get("prepare")
    if name != _EXECUTE or not simple or cursor.format != pq.Format.TEXT:
        return None
    if cursor.connection.pgconn.pipeline_status != pq.PipelineStatus.OFF or any("\ufffd" in p.text for p in parts):
        return None
    return _statements(cursor, parts)


def _statements(cursor: Any, parts: Sequence[Statement]) -> Iterator[tuple[Statement, _Work]]:
    results: list[Any] = []
    for part in parts:
        yield part, cursor._execute_gen(part.text, None, prepare=False)
        results += cursor._results
    cursor._results[:] = results
    cursor._select_current_result(0)


def _rows(cursor: Any, part: Statement, known: dict[str, Any]) -> Iterator[tuple[Statement, _Work]]:
    results: list[Any] = []
    affected = 0
    sent = False
    for row in known["params_seq"]:
        sent = True
        yield part, cursor._executemany_gen_no_pipeline(known["query"], [row], known["returning"])
        results += cursor._results
        affected += cursor._rowcount
    if not sent:
        yield part, cursor._executemany_gen_no_pipeline(known["query"], [], known["returning"])
    elif not known["returning"]:
        cursor._rowcount = affected
    else:
        cursor._results[:] = results
        cursor._select_current_result(0)


def _known(work: _Work) -> tuple[str, dict[str, Any]]:
    """The name of one of psycopg's generators, and its arguments; none of something else."""
    frame = getattr(work, "gi_frame", None)
    return getattr(getattr(work, "gi_code", None), "co_name", ""), dict(frame.f_locals) if frame is not None else {}
