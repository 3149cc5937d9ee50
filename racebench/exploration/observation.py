"""Whether a step locked more than its footprint says, as the server's table of locks has it.

The footprint of a step is assumed before the step, from its text and the catalogs (independence.py, hidden_effects.py).
What the step has locked is observed after it. A plain write locks the tables that it writes in ROW EXCLUSIVE mode, and
rows; every stronger lock of a table, and every write to a system catalog, makes the step one that may touch anything.
A lock that is released before the step ends is not observed.
Source: PostgreSQL manual 13.3.1 (table-level locks), 53.12 (pg_locks).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import psycopg

_LOCKS = """
SELECT pid, CASE WHEN relation < 16384 THEN 'a system catalog' ELSE relation::regclass::text END,
    regexp_replace(mode, 'Lock$', '')
FROM pg_locks
WHERE pid = ANY(%s) AND locktype = 'relation'
  AND database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND CASE WHEN relation < 16384 THEN mode NOT IN ('AccessShareLock', 'RowShareLock')
      ELSE mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock', 'SIReadLock') END
"""
#: Only code of a user can lock more in a write than the write itself.
_USERS_CODE = """
SELECT FROM pg_proc WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) LIMIT 1
"""

#: The strong locks of a backend: the table and the mode of each.
Locks = frozenset[tuple[str, str]]


class Observer:
    """Compares the strong locks of backends before and after a step, over a connection that no session uses."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._held: Mapping[int, Locks] = {}

    def reset(self) -> None:
        """Remember that no backend is in a transaction."""
        self._held = {}

    def new(self, taker: Collection[int], others: Collection[int]) -> Locks:
        """The strong locks that the backends of a step's session hold, or wait for, since the last step."""
        rows = self._connection.execute(_LOCKS, ([*taker, *others],), prepare=True).fetchall()
        held: dict[int, set[tuple[str, str]]] = {}
        for pid, table, mode in rows:
            held.setdefault(int(pid), set()).add((str(table), str(mode)))
        now = {pid: frozenset(locks) for pid, locks in held.items()}
        before, self._held = self._held, now
        return frozenset().union(*(now.get(pid, frozenset()) - before.get(pid, frozenset()) for pid in taker))


def may_surprise(connection: psycopg.Connection[Any]) -> bool:
    """Whether a write may lock more than its text says: the database has functions that are not PostgreSQL's own."""
    return connection.execute(_USERS_CODE).fetchone() is not None
