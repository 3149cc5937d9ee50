"""A schema's materialized views: their rows and a digest of them, noted, compared, and refreshed after a change.

The server offers no other way to write to a materialized view. So a view that was out of date when it was noted cannot
be restored: its rows were those of a query over other tables than the present ones.
Other sessions can read a view. So its rows belong to the outcome of a schedule, as the rows of a table do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.postgres.copied_rows import Row, TableChange, change_of, rows_of
from racebench.postgres.message import send
from racebench.postgres.snapshot import MOST_ROWS

#: Views of views are made after those.
_VIEWS = """
SELECT nspname, relname, relispopulated, ARRAY(
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'm' AND nspname = %s ORDER BY pg_class.oid
"""
#: The same for the same rows in any order.
_DIGEST = """
SELECT count(*), coalesce(sum(hashtextextended(racebench_row::text, 0)::numeric), 0) FROM {} AS racebench_row
"""
#: The columns of what stands for a view's rows.
_SUMMARY = ("number of rows", "digest")


@dataclass(frozen=True, slots=True)
class _View:
    """`key`: its schema and name. `digest`: the number of its rows, and a sum of hashes; None if it is not populated.

    `rows`: in COPY's text format; None where only the digest is kept of them, because they are many.
    """

    name: sql.Identifier
    key: tuple[str, str]
    columns: tuple[str, ...]
    digest: tuple[Any, ...] | None
    rows: bytes | None = field(compare=False)

    @property
    def is_large(self) -> bool:
        """Whether its rows are too many to be kept in memory."""
        return self.digest is not None and int(self.digest[0]) > MOST_ROWS


class MaterializedViews:
    """What a schema's materialized views held when this was made. Raises DatabaseProblem."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection, self._schema = connection, schema
        self._before = self._read()

    @property
    def are_there(self) -> bool:
        """Whether there were any."""
        return bool(self._before)

    def restore(self) -> tuple[str, ...]:
        """Refresh the views that have changed, after the tables were restored; the names of those that still differ."""
        try:
            for view in self._differing():
                data = sql.SQL("WITH NO DATA" if view.digest is None else "WITH DATA")
                self._connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {} {}").format(view.name, data))
        except psycopg.Error as problem:
            raise DatabaseProblem(f"a materialized view cannot be restored: {one_line(str(problem))}") from None
        return self.changed()

    def changed(self) -> tuple[str, ...]:
        """The names of the views whose rows are not those that they had."""
        return tuple(view.name.as_string(self._connection) for view in self._differing())

    def rows(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]:
        """The names of the columns and the rows of each view; without those that have too many."""
        return {
            view.key: (view.columns, rows_of(view.columns, view.rows.splitlines()))
            for view in self._before
            if view.rows is not None
        }

    def changes(self) -> tuple[TableChange, ...]:
        """The changes of the views' rows. Where a view has too many, its digest stands for them."""
        now = {view.key: view for view in self._read()} if self._before else {}
        found = [_change(view, now[view.key]) for view in self._before if view.key in now]
        return tuple(change for change in found if change is not None)

    def _differing(self) -> list[_View]:
        if not self._before:
            return []
        now = {view.key: view for view in self._read()}
        return [view for view in self._before if now.get(view.key) != view]

    def _read(self) -> list[_View]:
        try:
            found = self._connection.execute(_VIEWS, (self._schema,)).fetchall()
            return [self._view((row[0], row[1]), tuple(row[3]), populated=row[2]) for row in found]
        except psycopg.Error as problem:
            raise DatabaseProblem(f"a materialized view cannot be read: {one_line(str(problem))}") from None

    def _view(self, key: tuple[str, str], columns: tuple[str, ...], *, populated: bool) -> _View:
        name = sql.Identifier(*key)
        digest = self._connection.execute(sql.SQL(_DIGEST).format(name)).fetchone() if populated else None
        view = _View(name, key, columns, digest, b"")
        if view.is_large:
            return replace(view, rows=None)
        copying = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(name)
        return replace(view, rows=send(self._connection, [copying])[0].copied) if populated else view


def _change(before: _View, now: _View) -> TableChange | None:
    if before == now:
        return None
    # A view that is not populated cannot be read, and so is another one than a view without rows.
    if before.rows is None or now.rows is None or before.rows == now.rows:
        return change_of(before.key, _SUMMARY, _summary(before), _summary(now))
    return change_of(before.key, before.columns, before.rows, now.rows)


def _summary(view: _View) -> bytes:
    return b"" if view.digest is None else "\t".join(map(str, view.digest)).encode() + b"\n"
