"""A migration is guarded by an advisory lock of the session, behind a pooler in transaction mode.

As in authentik, Rails and many more behind PgBouncer: each transaction may have another server connection. The one
that took the lock is reset, so the lock is gone, and the migration runs on one that never had it. `_transaction` is
such a pooler. The fix is a lock of the transaction that does the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from . import Connection, Program, value

SCHEMA = "CREATE TABLE migrations (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);"


@contextmanager
def _transaction() -> Iterator[Connection]:
    """A transaction on a server connection that serves this transaction alone."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        yield connection


def migrate() -> bool:
    with _transaction() as connection:
        connection.execute("SELECT pg_advisory_lock(7)")  # until the session ends, the application believes
    with _transaction() as connection:
        return _migrate(connection)


def migrate_behind_a_lock_of_the_transaction() -> bool:
    with _transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(7)")
        return _migrate(connection)


def _migrate(connection: Connection) -> bool:
    if value(connection, "SELECT 1 FROM migrations WHERE name = 'theme'"):
        return False
    connection.execute("INSERT INTO migrations (name) VALUES ('theme')")
    return True


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(migrate,),
    fixed=(migrate_behind_a_lock_of_the_transaction,),
    invariant="SELECT name FROM migrations GROUP BY name HAVING count(*) > 1",
)
