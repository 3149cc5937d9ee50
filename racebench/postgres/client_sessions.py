"""Whether clients have worked in a database since a moment: by its count of sessions, and by those that are open.

The server is asked, so it does not matter which driver, process or program the client is. Where another client works in
the same database at the same time the answer is yes: whose statement it was is not known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from racebench.postgres.connection import asked

#: Sessions of racebench's own that no code of the user has: those without a role, and the one that marks the schema.
_OWN = ("racebench", "{schema} command")
#: The counts of sessions that have ended are exact from version 15 on. Before, they come late, by way of a file.
_EXACT_FROM = 150000
_LATE_SECONDS = 2.0
_ENDING_SECONDS = 5.0
_PAUSE_SECONDS = 0.01
_ANSWER_SECONDS = 10.0

_ESTABLISHED = "SELECT clock_timestamp(), sessions FROM pg_stat_database WHERE datname = current_database()"
# A session of another role shows neither time.
_OPEN = """
SELECT pid, greatest(query_start, state_change) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
AND application_name <> ALL (%s)
"""
# The number of the transaction among those of its session.
_TRANSACTION = b"""
SELECT split_part(virtualtransaction, '/', 2) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'virtualxid'
"""

_SILENT = "SELECT pid FROM pg_stat_activity WHERE pid = ANY (%s) AND query = ''"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """The number of sessions that clients ever began, and when each open one last worked, None if that is not shown."""

    at: datetime
    established: int
    open: Mapping[int, datetime | None]


class ClientSessions:
    """What clients do from now on. `connection`, in autocommit mode, is used for nothing else until `worked`."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        self._own = [name.format(schema=schema) for name in _OWN]
        self._before = self._now()

    def worked(self, *, own: Sequence[int] = ()) -> bool:
        """Whether a client may have worked meanwhile, but for racebench's `own` sessions, given by their pids.

        These are to have been closed: an open one may not have been counted yet.
        """
        deadline = time.monotonic() + _ENDING_SECONDS
        while not self._now().open.keys().isdisjoint(own):
            if time.monotonic() >= deadline:
                return True
            time.sleep(_PAUSE_SECONDS)
        exact = self._connection.info.server_version >= _EXACT_FROM
        deadline = time.monotonic() + (0.0 if exact else _LATE_SECONDS)
        while not self._differs(self._now(), len(own)):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_SECONDS)
        return True

    def _differs(self, now: _Moment, own: int) -> bool:
        before = self._before
        return (
            now.established - before.established > own
            or now.established < before.established  # the statistics were reset
            or any(last is None or last > before.at for last in now.open.values())
            or not before.open.keys() <= now.open.keys()
        )

    def _now(self) -> _Moment:
        (row,) = self._connection.execute(_ESTABLISHED).fetchall()
        sessions = self._connection.execute(_OPEN, (self._own,)).fetchall()
        return _Moment(at=row[0], established=row[1], open=dict(sessions))


def silent(connection: psycopg.Connection[Any], pids: Sequence[int]) -> list[int]:
    """Those of the open sessions of this role, given by their pids, over which no statement was ever sent.

    Raises psycopg.Error.
    """
    return [pid for (pid,) in connection.execute(_SILENT, (list(pids),)).fetchall()]


def transactions(connection: psycopg.Connection[Any]) -> int:
    """The number of transactions that a session has begun, this question's included; no transaction may be open.

    Raises psycopg.Error and TimeoutError.
    """
    return int(asked(connection.pgconn, _TRANSACTION, limit_s=_ANSWER_SECONDS))
