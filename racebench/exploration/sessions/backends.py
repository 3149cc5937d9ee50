"""Backends that outlive the connections of calls: a backend whose connection was closed serves the next one like it.

A new backend takes milliseconds, longer than a whole schedule. Closing sends DISCARD ALL: everything that the session
holds or has set is gone at that moment, as when it ends. The backend's pid stays. Only connections that sessions'
calls opened themselves, outside a pool, and closed outside a transaction are kept; any other is closed. For the next
exploration a backend is kept if it has nothing left that DISCARD ALL does not remove.
Source: PostgreSQL manual, DISCARD ALL; it is what PgBouncer sends between two clients of a session pool.
"""

from __future__ import annotations

import select
import weakref

from psycopg import pq

from racebench.exploration.sessions.round_trips import AnyConnection

#: What of a session outlives DISCARD ALL, or would if it failed: nothing of it may be left for another exploration.
_LEFT = b"""
SELECT pg_my_temp_schema() <> 0 OR current_user <> session_user
    OR EXISTS (SELECT FROM pg_prepared_statements) OR EXISTS (SELECT FROM pg_cursors)
    OR EXISTS (SELECT FROM pg_listening_channels())
    OR EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
    OR EXISTS (SELECT FROM pg_show_all_settings() WHERE source = 'session')
"""


class Backends:
    """The kept backends of explorations, one after the other.

    Used by one thread at a time: that of the session whose turn it is.
    """

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

    def rest(self) -> None:
        """Keep the backends that no connection has for the next exploration, but end those that hold something."""
        for conninfo, idle in self._idle.items():
            self._idle[conninfo] = [pgconn for pgconn in idle if _is_clean(pgconn)]
            for pgconn in idle:
                if pgconn not in self._idle[conninfo]:
                    pgconn.finish()

    def close(self) -> None:
        """End the backends that no connection has."""
        for idle in self._idle.values():
            for pgconn in idle:
                pgconn.finish()
        self._idle.clear()


def _is_clean(pgconn: pq.abc.PGconn) -> bool:
    if pgconn.status != pq.ConnStatus.OK or pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return False
    result = pgconn.exec_(_LEFT)
    return result.status == pq.ExecStatus.TUPLES_OK and result.get_value(0, 0) == b"f"
