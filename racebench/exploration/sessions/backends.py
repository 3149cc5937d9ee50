"""Backends that outlive the connections of calls: a backend whose connection was closed serves the next one like it.

A new backend takes milliseconds, longer than a whole schedule. Closing sends DISCARD ALL: everything that the session
holds or has set is gone at that moment, as when it ends. The backend's pid stays. Only connections that sessions'
calls opened themselves, outside a pool, and closed outside a transaction are kept; any other is closed.
Source: PostgreSQL manual, DISCARD ALL; it is what PgBouncer sends between two clients of a session pool.
"""

from __future__ import annotations

import select
import weakref

from psycopg import pq

from racebench.exploration.sessions.round_trips import AnyConnection


class Backends:
    """The kept backends of one exploration. Used by one thread at a time: that of the session whose turn it is."""

    def __init__(self) -> None:
        self._ours: weakref.WeakKeyDictionary[pq.abc.PGconn, str] = weakref.WeakKeyDictionary()
        self._idle: dict[str, list[pq.abc.PGconn]] = {}
        self._closed = pq.PGconn.connect_start(b"")
        self._closed.finish()

    def opened(self, pgconn: pq.abc.PGconn, conninfo: str) -> None:
        """Note that a session's thread connected, and with which connection string."""
        self._ours[pgconn] = conninfo

    def take(self, conninfo: str) -> pq.abc.PGconn | None:
        """A kept backend that was connected with the same connection string; None if there is none."""
        idle = self._idle.get(conninfo, [])
        while idle:
            pgconn = idle.pop()
            # A backend that sends something unasked has been ended by the server.
            if pgconn.status == pq.ConnStatus.OK and not select.select([pgconn.socket], [], [], 0)[0]:
                return pgconn
            pgconn.finish()
        return None

    def keep(self, connection: AnyConnection) -> bool:
        """Close a connection and keep its backend; False, and nothing is done, if the backend cannot be kept."""
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

    def left(self, connection: AnyConnection) -> bool:
        """Whether a connection was closed and its backend kept."""
        return connection.pgconn is self._closed

    def close(self) -> None:
        """End the backends that no connection has."""
        for idle in self._idle.values():
            for pgconn in idle:
                pgconn.finish()
        self._idle.clear()
