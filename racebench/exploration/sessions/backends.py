"""Backends that outlive the connections of calls: what one call closed is given to the next that connects alike.

A new backend takes milliseconds, a schedule is over sooner. Closing is DISCARD ALL here: whatever a session holds or
has set is gone at that moment, as when it ends. The backend's pid stays. Only connections that sessions' threads opened
themselves, outside a pool, and closed outside a transaction are kept; any other ends as it would.
Source: PostgreSQL manual, DISCARD ALL; it is what PgBouncer sends between two clients of a session pool.
"""

from __future__ import annotations

import select
import weakref
from typing import Any

import psycopg
from psycopg import pq


class Backends:
    """Those of one exploration. Used by one thread at a time: whoever's turn it is."""

    def __init__(self) -> None:
        self._ours: weakref.WeakKeyDictionary[pq.abc.PGconn, str] = weakref.WeakKeyDictionary()
        self._idle: dict[str, list[pq.abc.PGconn]] = {}
        self._closed = pq.PGconn.connect_start(b"")
        self._closed.finish()

    def opened(self, pgconn: pq.abc.PGconn, conninfo: str) -> None:
        """Take note of what a session's thread connected, and by which words."""
        self._ours[pgconn] = conninfo

    def take(self, conninfo: str) -> pq.abc.PGconn | None:
        """A backend that was connected by the same words and has been left; None if there is none."""
        idle = self._idle.get(conninfo, [])
        while idle:
            pgconn = idle.pop()
            # What says something unasked has been ended by the server.
            if pgconn.status == pq.ConnStatus.OK and not select.select([pgconn.socket], [], [], 0)[0]:
                return pgconn
            pgconn.finish()
        return None

    def keep(self, connection: psycopg.Connection[Any]) -> bool:
        """Close a connection, keeping its backend; False if it has to end with it."""
        pgconn = connection.pgconn
        if (
            pgconn not in self._ours
            or getattr(connection, "_pool", None) is not None
            or pgconn.transaction_status != pq.TransactionStatus.IDLE
            or pgconn.pipeline_status != pq.PipelineStatus.OFF
            or pgconn.exec_(b"DISCARD ALL").status != pq.ExecStatus.COMMAND_OK
        ):
            return False
        connection._closed = True
        connection.pgconn = self._closed
        self._idle.setdefault(self._ours[pgconn], []).append(pgconn)
        return True

    def left(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether a connection was closed and its backend kept."""
        return connection.pgconn is self._closed

    def close(self) -> None:
        """End those that nobody has."""
        for pgconn in (each for idle in self._idle.values() for each in idle):
            pgconn.finish()
        self._idle.clear()
