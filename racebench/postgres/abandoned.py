"""What killed commands left on a user's server: schemas and publications of racebench's that no session uses.

A command that runs keeps a session for its schema (schemas.py), by whose application name the schema is known to be in
use. The schema's comment says when it was made, and whether it is kept (--keep). Nothing is dropped unasked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.two_phase import roll_back_prepared

_MADE = "made by racebench at "
_KEPT = "kept by racebench run --keep"
#: The most names in the line about what was left.
_SHOWN = 3

# The names are new_name's. A publication has its schema's name, and may outlive it.
_QUESTION = """
WITH named AS (
    SELECT 'schema' AS kind, nspname AS name, obj_description(oid, 'pg_namespace') AS note FROM pg_namespace
    UNION ALL
    SELECT 'publication', p.pubname, obj_description(n.oid, 'pg_namespace')
    FROM pg_publication p LEFT JOIN pg_namespace n ON n.nspname = p.pubname
)
SELECT kind, name, coalesce(note, ''), extract(epoch FROM now())::float8
FROM named
WHERE name ~ '^racebench_[0-9a-f]{12}$'
  AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE starts_with(application_name, named.name || ' '))
ORDER BY kind DESC, name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """A schema or a publication; `age_s`: seconds since it was made, None if it is not known."""

    kind: str
    name: str
    age_s: float | None

    def __str__(self) -> str:
        age = "age unknown" if self.age_s is None else f"{_duration(self.age_s)} old"
        return f"{self.kind} {self.name} ({age})"


def mark(connection: psycopg.Connection[Any], schema: str, *, kept: bool = False) -> None:
    """Write into a schema's comment when it was made, or that it is kept. An error changes nothing."""
    note = _KEPT if kept else _MADE + datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(psycopg.Error):
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(note)))


def find(connection: psycopg.Connection[Any]) -> tuple[Abandoned, ...]:
    """What no session uses and no command has kept, schemas first."""
    rows = connection.execute(_QUESTION).fetchall()
    return tuple(
        Abandoned(kind=kind, name=name, age_s=_age_s(note, now)) for kind, name, note, now in rows if note != _KEPT
    )


def drop(connection: psycopg.Connection[Any], item: Abandoned) -> None:
    """Drop it with all that is in it; raises DatabaseProblem."""
    command = "DROP SCHEMA IF EXISTS {} CASCADE" if item.kind == "schema" else "DROP PUBLICATION IF EXISTS {}"
    try:
        connection.execute("SET lock_timeout = '5s'")
        if item.kind == "schema":
            roll_back_prepared(connection, item.name)
        connection.execute(sql.SQL(command).format(sql.Identifier(item.name)))
    except psycopg.Error as problem:
        raise DatabaseProblem(f"{item} cannot be dropped: {one_line(str(problem))}") from None


def on(target: Target) -> tuple[Abandoned, ...]:
    """What is left on a server; nothing if it does not say."""
    with connect(target) as connection, contextlib.suppress(psycopg.Error):
        return find(connection)
    return ()


def sentence(items: Sequence[Abandoned], label: str) -> str:
    """One line about what is left on a server."""
    names = ", ".join(map(str, items[:_SHOWN]))
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"killed commands left on {label}: {names}{more}; `racebench server clean --dsn DSN` drops them"


def _age_s(note: str, now_s: float) -> float | None:
    if not note.startswith(_MADE):
        return None
    try:
        made = datetime.fromisoformat(note.removeprefix(_MADE))
    except ValueError:
        return None
    return None if made.tzinfo is None else max(0.0, now_s - made.timestamp())


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if (number := int(seconds // size)) > 0:
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{int(seconds)} s"
