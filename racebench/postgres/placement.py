"""Where the rows of a snapshot's tables are stored, and the same rows stored in another order.

A table has no order: the server may store a row wherever there is room, and returns rows without ORDER BY mostly as
they are stored. Room between rows is made by inserting a row and taking that back; VACUUM then frees its place, and the
next row that is inserted gets the first free place of a page.
Source: PostgreSQL manual 7.5 (Sorting Rows), 66.6 (Database Page Layout); PageAddItemExtended in bufpage.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import psycopg
from psycopg import pq, sql

from racebench.postgres.message import Statement, send
from racebench.postgres.saved_table import SavedTable
from racebench.postgres.storage import Ties

#: The page of a row, and its number there.
Place = tuple[int, int]
#: What a table is to be filled with: the place of a row among the present ones, or the line of a row that leaves room.
Layout = Sequence[int | bytes]
#: The layout of a table, by its schema and name, the names of its columns, and its rows as lines of COPY as they are
#: stored.
Arranging = Callable[[tuple[str, str], tuple[str, ...], Sequence[bytes]], Layout]

#: A session may have a lock on a table. A reading is left out then, and so is another order.
_READING = b"SET LOCAL lock_timeout = '20ms'"
_WRITING = b"SET LOCAL lock_timeout = '1s'"


class Placement:
    """The places of rows. `alone`: makes a transaction of statements in which the triggers of tables do not fire."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        tables: Sequence[SavedTable],
        ties: Ties,
        alone: Callable[[Sequence[SavedTable], Sequence[Statement]], Sequence[Statement]],
    ) -> None:
        self._connection, self._tables, self._ties, self._alone = connection, tables, ties, alone

    def read(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], bytes]]:
        """The columns of each table, and its committed rows: for `placed`; nothing if a lock prevents it.

        Raises psycopg.Error.
        """
        tables = [table for table in self._tables if table.columns]
        copying = [
            sql.SQL("COPY (SELECT ctid, {} FROM ONLY {}) TO STDOUT").format(
                sql.SQL(", ").join(map(sql.Identifier, table.columns)), table.name
            )
            for table in tables
        ]
        try:
            answers = send(self._connection, [b"BEGIN", _READING, *copying, b"COMMIT"])
        except psycopg.errors.LockNotAvailable:
            return {}
        return {table.key: (table.columns, answer.copied) for table, answer in zip(tables, answers[2:-1], strict=True)}

    def rearrange(self, arranging: Arranging, concerned: Callable[[tuple[str, str]], bool]) -> None:
        """Store the rows of tables in another order, unless that cannot be done. Sequences stay as they are.

        `concerned`: whether this is asked for a table, by its schema and name. No session may be in a transaction.
        Raises psycopg.Error if the connection is lost.
        """
        try:
            self._rearrange(arranging, concerned)
        except psycopg.Error:
            if self._connection.pgconn.status != pq.ConnStatus.OK:
                raise

    def _rearrange(self, arranging: Arranging, concerned: Callable[[tuple[str, str]], bool]) -> None:
        reached = set(self._ties.with_others([table.oid for table in self._tables if concerned(table.key)]))
        tables = [table for table in self._tables if table.oid in reached]
        copied = send(self._connection, [table.reading for table in tables])
        lines = {table.oid: answer.copied.splitlines() for table, answer in zip(tables, copied, strict=True)}
        layouts = {table.oid: arranging(table.key, table.columns, lines[table.oid]) for table in tables}
        moved = [oid for oid, layout in layouts.items() if [*layout] != [*range(len(lines[oid]))]]
        if not moved:
            return
        emptied = self._ties.with_others(moved)
        if outside := self._ties.outside(emptied):
            raise psycopg.errors.FeatureNotSupported(f"{outside}, which is in another schema, depends on the tables")
        tables = [table for table in tables if table.oid in emptied]
        parts = {table.oid: _parts(layouts[table.oid], lines[table.oid]) for table in tables}
        statements: list[Statement] = [_WRITING, self._ties.truncate(emptied)]
        for table in tables:
            for part in parts[table.oid]:
                statements += (
                    [b"SAVEPOINT room", table.filling, b"ROLLBACK TO room"] if part.is_room else [table.filling]
                )
        firing = [table for table in tables if table.triggers]
        send(
            self._connection,
            self._alone(firing, statements),
            [part.lines for table in tables for part in parts[table.oid]],
        )
        for table in tables:
            if any(part.is_room for part in parts[table.oid]):
                send(self._connection, [sql.SQL("VACUUM (INDEX_CLEANUP ON) {}").format(table.name)])


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that stand one after the other, or that leave room."""

    lines: bytes
    is_room: bool


def _parts(layout: Layout, lines: Sequence[bytes]) -> list[_Part]:
    return [
        _Part(b"".join(b"%b\n" % (lines[one] if isinstance(one, int) else one) for one in group), is_room)
        for is_room, group in groupby(layout, key=lambda one: isinstance(one, bytes))
    ]


def placed(copied: bytes) -> list[tuple[Place, bytes]]:
    """The place and the line of each row that `read` has read."""
    found = []
    for line in copied.splitlines():
        ctid, _, rest = line.partition(b"\t")
        page, _, number = ctid[1:-1].partition(b",")
        found.append(((int(page), int(number)), rest))
    return found
