"""The large objects of a database, kept in memory and restored: for a database that no other program uses.

Large objects belong to no schema, and nothing says which session made one.
"""

from __future__ import annotations

from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line

_MOST_BYTES = 100_000_000
_IDENTITIES = "SELECT oid FROM pg_largeobject_metadata"


class LargeObjects:
    """The database's large objects when this was made. Raises DatabaseProblem."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._before = self._read()
        size = sum(map(len, self._before.values()))
        if size > _MOST_BYTES:
            raise DatabaseProblem(
                f"the large objects have {size} bytes after the setup; at most {_MOST_BYTES} can be restored before "
                "each schedule: have the setup make fewer"
            )

    def restore(self, over: psycopg.Connection[Any] | None = None) -> None:
        """Remove the objects that were not there, and write those again that have changed.

        `over`: a connection to use from now on, if the first one is lost.
        """
        self._connection = over or self._connection
        now = self._read()
        try:
            with self._connection.transaction():
                for identity in now:
                    if now[identity] != self._before.get(identity):
                        self._connection.execute("SELECT lo_unlink(%s)", (identity,))
                for identity, content in self._before.items():
                    if now.get(identity) != content:
                        self._connection.execute("SELECT lo_from_bytea(%s, %s)", (identity, content))
        except psycopg.Error as problem:
            raise DatabaseProblem(f"a large object cannot be restored: {one_line(str(problem))}") from None

    def changed(self) -> tuple[int, ...]:
        """The OIDs of the objects that are not as they were, in order."""
        now = self._read()
        return tuple(sorted(oid for oid in now.keys() | self._before if now.get(oid) != self._before.get(oid)))

    def _read(self) -> dict[int, bytes]:
        try:
            identities = [int(row[0]) for row in self._connection.execute(_IDENTITIES).fetchall()]
            if not identities:
                return {}
            rows = self._connection.execute("SELECT oid, lo_get(oid) FROM unnest(%s::oid[]) AS oid", (identities,))
            return {int(identity): bytes(content) for identity, content in rows.fetchall()}
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the large objects cannot be read: {one_line(str(problem))}") from None
