"""A command's own session on a server, kept for its next question: it makes, reads and drops schemas, one at a time.

Behind each use DISCARD ALL makes it as it was when it was opened. What runs the user's own code has a connection of its
own (connection.py): code may leave more behind than DISCARD ALL removes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.target import Target
from racebench.postgres.connection import connect, settle
from racebench.postgres.removal import Inventory

#: How long a session that is not used is trusted: what is between may forget an idle connection without a word.
_TRUSTED_SECONDS = 30.0


class Control:
    """The session, by which a schema on a user's server is known to be in use (abandoned.py); a context manager.

    It is opened when it is first used, and again when it was lost or the schema has another name. Behind a pooler each
    use has a connection of its own, because DISCARD ALL would take away what racebench has set there.
    `resting`: the pids of workers' backends that wait for the next run, in no transaction. `inventory`: what is outside
    the schemas, if that is known from the last one, which has left nothing there.
    """

    def __init__(self, target: Target) -> None:
        self.resting: frozenset[int] = frozenset()
        self.inventory: Inventory | None = None
        self._target = target
        self._connection: psycopg.Connection[Any] | None = None
        self._schema = ""
        self._used_s = 0.0
        self._doubted = False

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the session; another is opened if it is used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def dropped(self) -> None:
        """Note that a schema was dropped: a session that only carried its name was terminated with the workers'."""
        if not self._keeps:
            self.close()

    def distrust(self) -> None:
        """Have the next use open another session: the network or the server may have failed."""
        self._doubted = True

    @contextlib.contextmanager
    def session(
        self, schema: str, *, inside: bool = True, settings: Mapping[str, str] | None = None
    ) -> Iterator[psycopg.Connection[Any]]:
        """The session, in autocommit mode, for one use: named for a schema, and with its `search_path` if `inside`.

        It is closed if the use fails. Raises DatabaseProblem as `connect`; ConnectionLost if it was lost meanwhile.
        """
        options = {**(settings or {}), **({"search_path": schema} if inside else {})}
        connection = self._opened(schema)
        if not self._keeps:
            with connect(self._target, schema=schema if inside else None, settings=settings) as another:
                yield another
            return
        try:
            if options:
                settle(connection, self._target, schema if inside else None, options)
            yield connection
            self._restore(connection)
        except BaseException:
            self.close()
            raise

    def _restore(self, connection: psycopg.Connection[Any]) -> None:
        """Make the session as it was when it was opened; close it if that cannot be done."""
        self._used_s = time.monotonic()
        with contextlib.suppress(psycopg.Error):
            if connection.info.transaction_status == pq.TransactionStatus.IDLE:
                connection.execute("DISCARD ALL")
                return
        self.close()

    @property
    def _keeps(self) -> bool:
        return not self._target.pooled and self._target.keeps_search_path

    def _opened(self, schema: str) -> psycopg.Connection[Any]:
        known = self._connection
        if known is not None and self._schema == schema and self._is_trusted(known):
            return known
        named = f"{schema} command"
        self._connection = connect(self._target, application_name=named, settings={"idle_session_timeout": "0"})
        self._schema, self._used_s, self._doubted = schema, time.monotonic(), False
        if known is not None:
            known.close()  # the old one last: a session of the schema's name is there all the time
        return self._connection

    def _is_trusted(self, connection: psycopg.Connection[Any]) -> bool:
        if connection.closed or self._doubted:
            return False
        near = self._target.kind != "external" or not self._keeps
        return near or time.monotonic() - self._used_s < _TRUSTED_SECONDS
