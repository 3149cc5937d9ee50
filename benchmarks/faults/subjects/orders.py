"""The functions that `--call` and the pytest fixture run: one that keeps its rule, one that does not."""

from __future__ import annotations

import time
from typing import Any

import psycopg

#: What breaks the rule that both should keep.
DUPLICATES = "SELECT version FROM events GROUP BY version HAVING count(*) > 1"

_NEXT = "SELECT coalesce(max(version), 0) + 1 FROM events"


def innocent(connection: psycopg.Connection[Any]) -> None:
    """Number a row under a lock."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock('events'::regclass::int)")
        _insert(connection)


def guilty(connection: psycopg.Connection[Any]) -> None:
    """Number a row without a lock."""
    with connection.transaction():
        _insert(connection)


def _insert(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute(_NEXT).fetchone()
    assert row is not None
    time.sleep(0.001)
    connection.execute("INSERT INTO events (version) VALUES (%s)", row)
