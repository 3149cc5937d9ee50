"""Finds what a setup or the code under test has made outside racebench's schema, and says what becomes of it.

An object counts if its row in the catalogs was written since a mark was taken, by whichever session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import psycopg

from racebench.core.target import Target

#: The most objects that the sentence names.
_MOST_NAMED = 3
_MARK = "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text"
#: What belongs to another object, such as the index of a table or a member of an extension, is not listed beside it.
_MADE = """
WITH written (class, object, space) AS (
    SELECT 'pg_class'::regclass, oid, relnamespace FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND age(xmin) <= age(%(mark)s::xid)
    UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc WHERE age(xmin) <= age(%(mark)s::xid)
    UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type WHERE age(xmin) <= age(%(mark)s::xid)
    UNION ALL SELECT 'pg_namespace'::regclass, oid, oid FROM pg_namespace WHERE age(xmin) <= age(%(mark)s::xid)
    UNION ALL SELECT 'pg_extension'::regclass, oid, 0 FROM pg_extension WHERE age(xmin) <= age(%(mark)s::xid)
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, 0 FROM pg_largeobject_metadata
    WHERE age(xmin) <= age(%(mark)s::xid)
    UNION ALL SELECT 'pg_publication'::regclass, oid, 0 FROM pg_publication
    WHERE pubname !~ '^racebench_' AND age(xmin) <= age(%(mark)s::xid)
)
SELECT pg_describe_object(class, object, 0) FROM written LEFT JOIN pg_namespace ON pg_namespace.oid = space
WHERE coalesce(nspname, '') !~ '^(racebench|pg)_' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = class AND objid = object AND deptype IN ('a', 'e', 'i'))
ORDER BY class::text, 1
"""


def mark(connection: psycopg.Connection[Any]) -> str | None:
    """A mark of the present moment, the number after that of the last transaction that has ended.

    None if the server does not say.
    """
    with contextlib.suppress(psycopg.Error):
        row = connection.execute(_MARK).fetchone()
        return None if row is None else str(row[0])
    return None


def made_since(connection: psycopg.Connection[Any], marked: str | None) -> tuple[str, ...]:
    """What was made or changed outside racebench's schemas since a mark, as "table public.t".

    Nothing without a mark, or if the server does not say.
    """
    with contextlib.suppress(psycopg.Error):
        if marked is None:
            return ()
        return tuple(str(row[0]) for row in connection.execute(_MADE, {"mark": marked}).fetchall())
    return ()


def sentences(removed: Sequence[str], left: Sequence[str], target: Target) -> tuple[str, ...]:
    """A line about what was made outside and removed with the schema, and one about what is left of it."""
    stays = (
        f"racebench does not drop that: it was left on {target.label}"
        if target.kind == "external"
        else "that stays until the command ends, for later strategies and rounds too"
    )
    lines = ((removed, "that was removed with the schema"), (left, stays))
    return tuple(f"made or changed outside the schema: {_named(objects)}; {end}" for objects, end in lines if objects)


def _named(objects: Sequence[str]) -> str:
    more = f" and {len(objects) - _MOST_NAMED} more" if len(objects) > _MOST_NAMED else ""
    return f"{', '.join(objects[:_MOST_NAMED])}{more}"
