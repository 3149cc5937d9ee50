"""How tables are stored besides their rows: indexes, statistics, and what must be truncated together.

Rows that are put back by DELETE and COPY leave the storage as it was: dead rows stay, and so do an index's pages and
keys. snapshot.py makes storage anew; this module says what there is to make, and how the setup had made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.postgres.message import Answer, Statement, send

#: Indexes that are younger than every row of the table: they were built over the rows.
_BUILT_LATER = sql.SQL("""
SELECT ns.nspname, c.relname FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
JOIN pg_namespace AS ns ON ns.oid = c.relnamespace
JOIN (SELECT age(xmin) AS age, max(cmin::text::bigint) AS command FROM ONLY {table}
    GROUP BY 1 ORDER BY 1 LIMIT 1) AS newest
    ON (age(c.xmin), -c.cmin::text::bigint) < (newest.age, -newest.command)
WHERE indrelid = {oid}::oid ORDER BY 1, 2
""")
_STATISTICS = sql.SQL("SELECT reltuples >= 0, relallvisible > 0 FROM pg_class WHERE oid = {oid}::oid")
#: TRUNCATE wants the tables that refer to a table, and takes the partitions of a partitioned one.
_TIED = sql.SQL("""
WITH RECURSIVE tie (one, other) AS (
    SELECT NULL::oid, unnest({}::oid[])
    UNION
    SELECT step.one, step.other FROM tie CROSS JOIN LATERAL (
        SELECT confrelid, conrelid FROM pg_constraint WHERE contype = 'f' AND confrelid = tie.other
        UNION ALL
        SELECT inhparent, inhrelid FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
        WHERE inhparent = tie.other AND relkind = 'p') AS step (one, other)
)
SELECT one, other, relkind::text, nspname, relname FROM tie
JOIN pg_class ON pg_class.oid = other JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE one IS NOT NULL AND one <> other
""")
_PARTITIONED = "p"
_SIZES = "SELECT oid, pg_relation_size(oid) FROM unnest(%(tables)s::oid[]) AS oid"
#: In pages. The first page of rows counts even before it is there, as does the root of a B-tree, beside its first page.
_PAGES = """
SELECT oid, greatest(1, pg_relation_size(oid) / current_setting('block_size')::int)
FROM unnest(%(tables)s::oid[]) AS oid
UNION ALL
SELECT indexrelid, greatest(2, pg_relation_size(indexrelid) / current_setting('block_size')::int)
FROM pg_index WHERE indrelid = ANY(%(tables)s)
ORDER BY 1
"""
_NOT_BY_ITSELF = sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = false)")
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'm')"
_METHODS = """
SELECT DISTINCT amname FROM pg_class JOIN pg_am ON pg_am.oid = relam
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('i', 'I')
    AND (nspname = %(schema)s OR (%(everywhere)s AND nspname !~ '^(pg|racebench)_' AND nspname <> 'information_schema'))
ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a setup left a table's storage.

    `built`: the indexes that were built over the rows; the rows were inserted into the others. `analyzed`: the server
    knew how many rows there are; `vacuumed`: and that all transactions may see those of some pages.
    """

    built: tuple[sql.Identifier, ...]
    analyzed: bool
    vacuumed: bool


class Care(Enum):
    """How much of the storage is to be as it was when the tables were made anew."""

    #: The rows alone.
    ROWS = "rows"
    #: The pages: which entries share one. That changes when a table or an index grows, in a B-tree by a split.
    PAGES = "pages"
    #: Everything: a page may keep the keys of entries that are gone.
    ALL = "all"


def questions(name: sql.Identifier, oid: int) -> tuple[Statement, Statement]:
    """What to ask the server about the storage of a table; `answered` reads the answers."""
    number = sql.Literal(oid)
    return _BUILT_LATER.format(table=name, oid=number), _STATISTICS.format(oid=number)


def answered(built: Answer, statistics: Answer) -> Storage:
    """The storage of a table, from the answers to its questions."""
    analyzed, vacuumed = known(statistics)
    return Storage(
        built=tuple(sql.Identifier(str(schema), str(index)) for schema, index in built.rows),
        analyzed=analyzed,
        vacuumed=vacuumed,
    )


def known(statistics: Answer) -> tuple[bool, bool]:
    """Whether a table is analyzed and vacuumed, from the answer to the second question."""
    analyzed, vacuumed = statistics.rows[0]
    return analyzed == "t", vacuumed == "t"


def access_methods(connection: psycopg.Connection[Any], schema: str, *, everywhere: bool) -> tuple[str, ...]:
    """The access methods of the indexes in a schema, in order; `everywhere`: in all others of users too.

    Raises DatabaseProblem.
    """
    asked = {"schema": schema, "everywhere": everywhere}
    try:
        return tuple(str(row[0]) for row in connection.execute(_METHODS, asked).fetchall())
    except psycopg.Error as problem:
        raise DatabaseProblem(f"the indexes cannot be read: {one_line(str(problem))}") from None


def keep_from_autovacuum(connection: psycopg.Connection[Any], schema: str) -> None:
    """Have the server neither vacuum nor analyze the tables of a schema by itself, where the role may say so.

    It would do so in the middle of a search, and plan in another way from then on. Raises DatabaseProblem.
    """
    try:
        names = [name for (name,) in connection.execute(_TABLES, (schema,)).fetchall()]
        commands = [_NOT_BY_ITSELF.format(sql.Identifier(schema, name)) for name in names]
        try:
            send(connection, [b"BEGIN", b"SET LOCAL synchronous_commit = off", *commands, b"COMMIT"])
        except psycopg.errors.InsufficientPrivilege:  # on one of them: the others are changed one by one
            for command in commands:
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    send(connection, [command])
    except psycopg.Error as problem:
        raise DatabaseProblem(f"autovacuum cannot be kept from schema {schema}: {one_line(str(problem))}") from None


class Ties:
    """Which relations TRUNCATE must name, or empties too, with some tables. OIDs, as they were when this was made."""

    @staticmethod
    def question(tables: Collection[int]) -> Statement:
        """What to ask the server about tables; the rows of the answer are for `Ties`."""
        return _TIED.format(sql.Literal([*tables]))

    def __init__(self, rows: Iterable[Sequence[str | None]], tables: Mapping[int, tuple[str, str]]) -> None:
        self._others: dict[int, set[int]] = {}
        #: The names of relations that are no partitioned tables, and not among those tables.
        self._outside: dict[int, str] = {}
        self._texts: dict[int, sql.Composable]
        self._texts = {oid: sql.SQL("ONLY {}").format(sql.Identifier(*key)) for oid, key in tables.items()}
        for referred, referring, kind, schema, name in rows:
            one, other = int(referred or 0), int(referring or 0)
            self._others.setdefault(one, set()).add(other)
            identifier = sql.Identifier(str(schema), str(name))
            if kind == _PARTITIONED:
                self._texts[other] = identifier
            elif other not in tables:
                self._outside[other] = identifier.as_string(None)

    def with_others(self, tables: Collection[int]) -> list[int]:
        """The tables, and all that are tied to them."""
        reached = dict.fromkeys(tables)
        ahead = list(tables)
        while ahead:
            new = self._others.get(ahead.pop(), set()) - reached.keys()
            reached |= dict.fromkeys(new)
            ahead += new
        return list(reached)

    def outside(self, tables: Iterable[int]) -> str:
        """The name of one of these that is not among the tables this was made for; "" if none is."""
        return next((self._outside[oid] for oid in tables if oid in self._outside), "")

    def truncate(self, tables: Collection[int]) -> sql.Composed:
        """The command that empties tables, to which those that are tied to them belong."""
        return sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(self._texts[oid] for oid in tables))


def with_pages(connection: psycopg.Connection[Any], tables: Sequence[int]) -> set[int] | None:
    """The tables into which something was inserted since they were truncated, even if it is gone.

    None if one of the tables does not exist any more.
    """
    rows = connection.execute(_SIZES, {"tables": list(tables)}, prepare=True).fetchall()
    return None if any(size is None for _, size in rows) else {int(oid) for oid, size in rows if size}


def pages(connection: psycopg.Connection[Any], tables: Sequence[int]) -> Sequence[tuple[Any, ...]]:
    """The sizes of tables and of their indexes, to be compared: equal if no page with entries was added."""
    return connection.execute(_PAGES, {"tables": list(tables)}, prepare=True).fetchall()
