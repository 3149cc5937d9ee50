"""A schema's rows and sequence values, kept in memory and restored between schedules.

A table is restored only if it has changed, which shows in its number of rows or in the last transaction that wrote one.
The physical state is not restored: dead rows and widened index keys stay until a vacuum. Who needs a restore, and when,
is the caller's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem, one_line

#: The most rows of a table that are kept in memory.
MOST_ROWS = 100_000
#: Restores between two vacuums: every scan reads the rows that were deleted since the last one.
_VACUUM_EVERY = 500

_TABLES = """
SELECT c.relname, c.oid FROM pg_class c
WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
_SEQUENCES = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'S' ORDER BY 1"
_TRIGGERS = "SELECT FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal LIMIT 1"
_REFERENCES = """
SELECT DISTINCT conrelid, confrelid FROM pg_constraint
WHERE contype = 'f' AND conrelid <> confrelid AND connamespace = %s::regnamespace
"""


@dataclass(slots=True)
class _Table:
    name: sql.Identifier
    rows: bytes
    mark: tuple[Any, ...]
    triggers: bool


class Snapshot:
    """What a schema's tables and sequences held when it was taken. Raises DatabaseProblem."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        self._restores = 0
        try:
            self._superuser = _may_replicate(connection)
            self._tables = [self._read(name) for name in _in_order(connection, schema)]
            names = [str(row[0]) for row in connection.execute(_SEQUENCES, (schema,)).fetchall()]
            self._sequences = [sql.Identifier(schema, name) for name in names]
            self._values = self._sequence_values()
        except psycopg.Error as problem:
            raise DatabaseProblem(
                f"the tables cannot be read, so they could not be restored: {one_line(str(problem))}"
            ) from None

    def restore(self) -> None:
        """Restore every table and sequence that has changed; no other session may be in a transaction."""
        try:
            self._restore()
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the tables cannot be restored: {one_line(str(problem))}") from None

    def _restore(self) -> None:
        connection = self._connection
        marks = self._marks()
        changed = [table for table, mark in zip(self._tables, marks, strict=True) if mark != table.mark]
        if changed and not self._superuser:
            changed = self._tables  # foreign keys are checked: the tables that refer to a changed one go with it
        if changed:
            with connection.transaction():
                self._triggers("DISABLE", changed)
                for table in reversed(changed):
                    connection.execute(sql.SQL("DELETE FROM {}").format(table.name))
                for table in changed:
                    if table.rows:
                        self._write(table)
                self._triggers("ENABLE", changed)
            for table in changed:
                table.mark = self._mark(table.name) if table.rows else (0, None)
        values = self._sequence_values()
        for name, before, now in zip(self._sequences, self._values, values, strict=True):
            if before != now:
                last, called = before
                connection.execute("SELECT setval(%s::regclass, %s, %s)", (name.as_string(connection), last, called))
        self._restores += bool(changed)
        if changed and self._restores % _VACUUM_EVERY == 0:
            for table in changed:
                connection.execute(sql.SQL("VACUUM {}").format(table.name))

    def _triggers(self, word: str, tables: list[_Table]) -> None:
        """Disable or enable the triggers of tables for the rest of the transaction."""
        if self._superuser and word == "DISABLE":
            self._connection.execute("SET LOCAL session_replication_role = replica")
        for table in tables if not self._superuser else ():
            if table.triggers:
                command = sql.SQL("ALTER TABLE {} {} TRIGGER USER")
                self._connection.execute(command.format(table.name, sql.SQL(word)))

    def _read(self, name: sql.Identifier) -> _Table:
        row = self._connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone()
        if row is not None and row[0] > MOST_ROWS:
            raise DatabaseProblem(
                f"table {name.as_string(self._connection)} has {row[0]} rows after the setup; "
                f"at most {MOST_ROWS} can be restored before each schedule: have the setup insert fewer"
            )
        with self._connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} TO STDOUT").format(name)) as copy:
            rows = b"".join(bytes(part) for part in copy)
        triggers = self._connection.execute(_TRIGGERS, (name.as_string(self._connection),)).fetchone()
        return _Table(name, rows, self._mark(name), triggers is not None)

    def _write(self, table: _Table) -> None:
        with self._connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table.name)) as copy:
            copy.write(table.rows)

    def _marks(self) -> list[tuple[Any, ...]]:
        if not self._tables:
            return []
        query = sql.SQL(" UNION ALL ").join(_mark_query(n, table.name) for n, table in enumerate(self._tables))
        rows = self._connection.execute(sql.SQL("{} ORDER BY 1").format(query), prepare=True).fetchall()
        return [tuple(row[1:]) for row in rows]

    def _mark(self, name: sql.Identifier) -> tuple[Any, ...]:
        row = self._connection.execute(_mark_query(0, name)).fetchone()
        assert row is not None  # an aggregate
        return tuple(row[1:])

    def _sequence_values(self) -> list[tuple[int, bool]]:
        if not self._sequences:
            return []
        parts = [
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(sql.Literal(n), name)
            for n, name in enumerate(self._sequences)
        ]
        query = sql.SQL("{} ORDER BY 1").format(sql.SQL(" UNION ALL ").join(parts))
        return [(row[1], row[2]) for row in self._connection.execute(query, prepare=True).fetchall()]


def _mark_query(number: int, name: sql.Identifier) -> sql.Composed:
    return sql.SQL("SELECT {}, count(*), max(xmin::text::bigint) FROM {}").format(sql.Literal(number), name)


def _in_order(connection: psycopg.Connection[Any], schema: str) -> list[sql.Identifier]:
    """The schema's tables, referenced tables before those that refer to them."""
    names = {int(row[1]): str(row[0]) for row in connection.execute(_TABLES, (schema,)).fetchall()}
    needs: dict[int, set[int]] = {oid: set() for oid in names}
    for referring, referred in connection.execute(_REFERENCES, (schema,)).fetchall():
        if int(referring) in needs and int(referred) in needs:
            needs[int(referring)].add(int(referred))
    ordered: list[int] = []
    while needs:
        # In a circle of references, begin anywhere.
        ready = [oid for oid, others in needs.items() if not others] or list(needs)[:1]
        for oid in ready:
            ordered.append(oid)
            del needs[oid]
        for others in needs.values():
            others.difference_update(ready)
    return [sql.Identifier(schema, names[oid]) for oid in ordered]


def _may_replicate(connection: psycopg.Connection[Any]) -> bool:
    """Whether this role may disable triggers and foreign keys for a transaction; only superusers may."""
    try:
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
