"""The values that travel with a statement of psycopg, as text for a reader of a schedule.

They are read from psycopg's own generators before these begin. Only types whose text is known are shown: the text of
another may be code of the application's, which could send statements of its own (a lazy object of Django's does).
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import psycopg
from psycopg.types.json import Json, Jsonb
from psycopg.types.range import Range

from racebench.core.plain_text import shortened
from racebench.exploration.sessions.round_trips import AnyConnection, text_of

_MOST = 12
_MOST_INSIDE = 5
_LONGEST = 60
_PLAIN = frozenset(
    {
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }
)


def sent_by(work: Any) -> tuple[str, ...]:
    """The values of the parameters of a round trip that has not begun, in their order; empty if it has none."""
    frame = getattr(work, "gi_frame", None)
    known = frame.f_locals if frame is not None else {}
    if "params_seq" in known:
        rows = known["params_seq"]
        if not isinstance(rows, list | tuple):
            return ()  # an iterator: to read it would be to use it up
        return as_texts(rows[0]) if len(rows) == 1 else (f"{len(rows)} rows",)
    return as_texts(known.get("params"))


def in_sql(work: Any, connection: AnyConnection) -> str:
    """The statement of a round trip that has not begun, with its values in it.

    "" if it has none, or values of other types than PostgreSQL's plain ones: to convert them may run code of the
    application's.
    """
    frame = getattr(work, "gi_frame", None)
    known = frame.f_locals if frame is not None else {}
    query, values = known.get("query"), known.get("params")
    rows = known.get("params_seq")
    if rows is not None:
        if not isinstance(rows, list | tuple) or len(rows) != 1:
            return ""
        values = rows[0]
    if not isinstance(query, str | bytes | psycopg.sql.Composable):
        return ""
    if values is None:
        return text_of(query, connection)
    plain = values.values() if isinstance(values, Mapping) else values
    if not isinstance(values, Mapping | list | tuple) or not all(map(_is_plain, plain)):
        return ""
    cursor = (
        psycopg.ClientCursor(connection)
        if isinstance(connection, psycopg.Connection)
        else psycopg.AsyncClientCursor(connection)
    )
    try:
        return cursor.mogrify(
            text_of(query, connection) if isinstance(query, psycopg.sql.Composable) else query, values
        )
    except psycopg.Error:
        return ""


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN or type(value) in (type(None), bool, int, float, str, bytes)


def as_texts(values: Any) -> tuple[str, ...]:
    """Parameters as psycopg takes them, a sequence or a mapping, each as a short text."""
    if isinstance(values, Mapping):
        texts = [f"{name}={_text(value)}" for name, value in list(values.items())[:_MOST]]
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        texts = [_text(value) for value in values[:_MOST]]
    else:
        return ()
    return (*texts, *([f"{len(values) - _MOST} more"] if len(values) > _MOST else []))


def _text(value: Any, depth: int = 0) -> str:
    return shortened(_whole(value, depth), _LONGEST)


def _whole(value: Any, depth: int) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return repr(str.__str__(value)[: 2 * _LONGEST])
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if type(value) in _PLAIN:
        return str(value)
    if isinstance(value, Json | Jsonb):
        return _whole(value.obj, depth)
    if isinstance(value, Range) and not value.isempty:
        lower, upper = (_text(bound, depth + 1) for bound in (value.lower, value.upper))
        return f"{'[' if value.lower_inc else '('}{lower}, {upper}{']' if value.upper_inc else ')'}"
    if type(value) in (list, tuple, dict) and depth < 2:
        return _container(value, depth + 1)
    return f"<{type(value).__name__}>"


def _container(values: Any, depth: int) -> str:
    more = ["…"] if len(values) > _MOST_INSIDE else []
    if isinstance(values, dict):
        pairs = [f"{_text(key, depth)}: {_text(value, depth)}" for key, value in list(values.items())[:_MOST_INSIDE]]
        return f"{{{', '.join([*pairs, *more])}}}"
    return f"[{', '.join([*(_text(value, depth) for value in values[:_MOST_INSIDE]), *more])}]"
