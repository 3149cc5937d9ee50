"""A schema's materialized views, kept as a digest of their rows, and refreshed where these have changed.

The server offers no other way to write to a materialized view. So a view that was out of date when it was noted cannot
be restored: its rows were those of a query over other tables than the present ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line

#: Views of views are made after those.
_VIEWS = """
SELECT nspname, relname, relispopulated FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'm' AND nspname = %s ORDER BY pg_class.oid
"""
#: The same for the same rows in any order.
_DIGEST = """
SELECT count(*), coalesce(sum(hashtextextended(racebench_row::text, 0)::numeric), 0) FROM {} AS racebench_row
"""


@dataclass(frozen=True, slots=True)
class _View:
    """`digest`: of its rows; None if it is not populated."""

    name: sql.Identifier
    digest: tuple[Any, ...] | None


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

    def _differing(self) -> list[_View]:
        if not self._before:
            return []
        now = {view.name.as_string(self._connection): view for view in self._read()}
        return [view for view in self._before if now.get(view.name.as_string(self._connection)) != view]

    def _read(self) -> list[_View]:
        try:
            rows = self._connection.execute(_VIEWS, (self._schema,)).fetchall()
            return [
                _View(name, self._digest(name) if row[2] else None)
                for row in rows
                for name in [sql.Identifier(row[0], row[1])]
            ]
        except psycopg.Error as problem:
            raise DatabaseProblem(f"a materialized view cannot be read: {one_line(str(problem))}") from None

    def _digest(self, name: sql.Identifier) -> tuple[Any, ...] | None:
        return self._connection.execute(sql.SQL(_DIGEST).format(name)).fetchone()
