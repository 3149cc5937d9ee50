"""Prepared transactions (PREPARE TRANSACTION) that were not ended: they outlive their session, with their locks."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

#: pg_locks has no pid for a prepared transaction. It holds the lock on its own xid.
_LEFT = """
SELECT DISTINCT x.gid FROM pg_prepared_xacts AS x
JOIN pg_locks AS own ON own.transactionid = x.transaction AND own.granted AND own.pid IS NULL
JOIN pg_locks AS l ON l.virtualtransaction = own.virtualtransaction AND l.pid IS NULL
JOIN pg_class AS c ON c.oid = l.relation
WHERE x.database = current_database() AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)
"""


def roll_back_prepared(connection: psycopg.Connection[Any], schema: str) -> None:
    """Roll back the prepared transactions that hold a lock on a relation of the schema. Raises psycopg.Error."""
    for (gid,) in connection.execute(_LEFT, (schema,)).fetchall():
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
