"""Read the committed rows by a separate connection: the table of numbered rows, or every table of a scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.model import NumberedRows, Scenario
from racebench.core.plain_text import one_line
from racebench.demo.frames import Mark, Row, Table, clean

#: The newest rows of a table that are shown.
_MOST_ROWS = 8
#: A session that is stopped inside its transaction may lock a table until the next key press.
SETTINGS = {"lock_timeout": "100ms"}

Author = Callable[[int], str]


class _Locked(Exception):  # noqa: N818 - a state of a table, caught here
    """A session holds a lock that blocks readers."""


class Observer:
    """Reads the rows that a schedule has committed so far."""

    def __init__(self, connection: psycopg.Connection[Any], scenario: Scenario, schema: str) -> None:
        self._connection = connection
        self._rows = scenario.rows
        self._tables = () if scenario.rows is not None else self._find(schema)

    def close(self) -> None:
        self._connection.close()

    def _ask(self, query: sql.Composed, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except psycopg.errors.UndefinedColumn:
            return []  # the scenario's script adds the column later
        except psycopg.errors.LockNotAvailable:
            raise _Locked from None
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the server did not return the committed rows: {one_line(str(problem))}") from None

    def _find(self, schema: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The tables of the schema and their columns."""
        rows = self._ask(
            sql.SQL(
                "SELECT relname::text, array_agg(attname::text ORDER BY attnum) FROM pg_class JOIN pg_attribute ON"
                " attrelid = pg_class.oid WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p') AND"
                " attnum > 0 AND NOT attisdropped GROUP BY relname ORDER BY relname"
            ).format(),
            (schema,),
        )
        return tuple((name, tuple(columns)) for name, columns in rows)

    def read(
        self, tenant: int, author: Author, delivered: Collection[int], *, ended: bool, polled: bool
    ) -> list[Table]:
        """The tables now. `author` names the session that wrote an operation; `delivered` are ids of delivered rows."""
        if self._rows is not None:
            return [self._numbered(self._rows, tenant, author, delivered, ended=ended, polled=polled)]
        tables = (self._any(name, columns, tenant, author) for name, columns in self._tables)
        return [table for table in tables if table.rows or table.locked]

    def numbered(self, tenant: int) -> list[tuple[int, Any, int]]:
        """(id, version, operation) of every committed row, by id; an empty list while the table is locked."""
        try:
            return self._read_numbered(tenant)
        except _Locked:
            return []

    def _read_numbered(self, tenant: int) -> list[tuple[int, Any, int]]:
        rows = self._rows
        if rows is None:
            return []
        columns = map(sql.Identifier, (rows.id, rows.version, rows.operation))
        return self._ask(
            sql.SQL("SELECT {} FROM {} WHERE {} = %s AND {} <> 0 ORDER BY 1").format(
                sql.SQL(", ").join(columns),
                sql.Identifier(rows.table),
                sql.Identifier(rows.tenant),
                sql.Identifier(rows.operation),
            ),
            (tenant,),
        )

    def broken(self, invariants: Mapping[str, str]) -> list[str]:
        """The invariants that do not hold, each with the first row that its query returned."""
        broken = []
        for name, query in invariants.items():
            try:
                cursor = self._connection.execute(query.encode())
                row, columns = cursor.fetchone(), [column.name for column in cursor.description or ()]
            except psycopg.Error as problem:
                raise DatabaseProblem(f"the query of invariant {name} failed: {one_line(str(problem))}") from None
            if row is not None:
                pairs = (f"{column} {_text(value)}" for column, value in zip(columns, row, strict=True))
                broken.append(f"{name} is broken: {', '.join(pairs)}")
        return broken

    def _numbered(
        self,
        rows: NumberedRows,
        tenant: int,
        author: Author,
        delivered: Collection[int],
        *,
        ended: bool,
        polled: bool,
    ) -> Table:
        columns = (rows.id, rows.version, "written by")
        try:
            numbered = self._read_numbered(tenant)
        except _Locked:
            return Table(name=rows.table, columns=columns, rows=(), locked=True)
        occurrences = Counter(version for _, version, _ in numbered if version is not None)
        shown = []
        for identity, version, operation in numbered[-_MOST_ROWS:]:
            marks = [Mark.DUPLICATE] if occurrences[version] > 1 else []
            if identity in delivered:
                marks.append(Mark.DELIVERED)
            elif polled:
                marks.append(Mark.MISSED if ended else Mark.PENDING)
            cells = (str(identity), "NULL" if version is None else clean(str(version)), author(operation))
            shown.append(Row(cells=cells, marks=tuple(marks)))
        return Table(name=rows.table, columns=columns, rows=tuple(shown), more=max(0, len(numbered) - _MOST_ROWS))

    def _any(self, name: str, columns: Sequence[str], tenant: int, author: Author) -> Table:
        names = [column for column in columns if column != "tenant"]
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names or columns)), sql.Identifier(name)
        )
        if "tenant" in columns:
            query += sql.SQL(" WHERE tenant = {}").format(sql.Literal(tenant))
        try:
            rows = self._ask(query + sql.SQL(" LIMIT {}").format(sql.Literal(_MOST_ROWS + 1)), ())
        except _Locked:
            return Table(name=name, columns=(), rows=(), locked=True)
        shown = []
        for row in rows[:_MOST_ROWS]:
            cells = zip(names or columns, row, strict=True)
            shown.append(
                Row(
                    cells=tuple(
                        author(value) if column == "operation" and isinstance(value, int) else _text(value)
                        for column, value in cells
                    )
                )
            )
        titles = tuple("written by" if column == "operation" else column for column in names or columns)
        return Table(name=name, columns=titles, rows=tuple(shown), more=max(0, len(rows) - _MOST_ROWS))


def _text(value: object) -> str:
    return "NULL" if value is None else clean(str(value))
