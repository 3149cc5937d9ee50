"""Stops an application at every round trip of psycopg 3, SQLAlchemy's and Django's included.

Each round trip passes through `psycopg.Connection.wait`, or `psycopg.AsyncConnection.wait`. While an interception is
installed, a thread or a task that works for a session's call (ownership.py) stops there and hands the round trip to the
thread that schedules, which carries it out when it is the session's turn (threads.py). Connecting and closing are not
scheduled, nor is what a pool does with connections in threads or tasks of its own; the backend of a closed connection
is kept (backends.py). Threads that work for no session are let through.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import psycopg
from psycopg import generators, pq

from racebench.core.model import first_word
from racebench.exploration.sessions.backends import Backends
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.sessions.execution import Execution
from racebench.exploration.sessions.patches import Function, Patch
from racebench.exploration.sessions.round_trips import CLEANING, AnyConnection, is_a_pools, line, said, text_of
from racebench.exploration.sessions.threads import SessionThread


class Interception:
    """The threads of one exploration that stop at round trips. Made and installed by the thread that schedules.

    `backends`: closed when this is removed, unless they are given.
    """

    def __init__(self, backends: Backends | None = None) -> None:
        self._execution = Execution()
        self._ownership = self._execution.ownership
        self._backends = Backends() if backends is None else backends
        self._owns_backends = backends is None
        self._pids: set[int] = set()
        self._unscheduled: list[str] = []
        self._scheduling = threading.get_ident()

    @contextlib.contextmanager
    def installed(self, more: Iterable[Patch] = ()) -> Iterator[None]:
        """Stop what works for the sessions at round trips; meanwhile it does not sleep. `more`: further patches."""
        with contextlib.ExitStack() as stack:
            if self._owns_backends:
                stack.callback(self._backends.close)
            stack.enter_context(self._execution.installed((*self._patches(), *more)))
            yield

    def _patches(self) -> Iterator[Patch]:
        yield Patch(psycopg.Connection, "wait", self._wait(psycopg.Connection.wait))
        yield Patch(psycopg.Connection, "close", self._close(psycopg.Connection.close))
        yield Patch(psycopg.AsyncConnection, "wait", self._wait_async(psycopg.AsyncConnection.wait))
        yield Patch(psycopg.AsyncConnection, "close", self._close_async(psycopg.AsyncConnection.close))
        yield Patch(generators, "connect", self._connect(generators.connect))
        yield Patch(psycopg.Cursor, "executemany", self._executemany(psycopg.Cursor.executemany))
        yield Patch(psycopg.AsyncCursor, "executemany", self._executemany_async(psycopg.AsyncCursor.executemany))

    def thread(self, number: int) -> SessionThread:
        """Start the thread of a session, which stops at its round trips, and draws random numbers of its own."""
        return self._execution.thread(number)

    def session(self) -> SessionThread | None:
        """The session that this thread or task works for; None if there is none, or its call has ended."""
        return self._ownership.session()

    def unscheduled(self) -> str:
        """The application's line that sent something from its own thread since this was last asked; "" if none."""
        where = self._unscheduled[0] if self._unscheduled else ""
        self._unscheduled.clear()
        return where

    def _session(self, connection: AnyConnection, work: Any) -> SessionThread | None:
        """The session that a round trip belongs to; None if it passes unseen. Raises what is wrong with it."""
        if self._backends.left(connection):  # a cursor of it still knows its backend, which another connection may have
            raise psycopg.OperationalError("the connection is closed")
        call = self._ownership.call()
        self._pids.add(connection.pgconn.backend_pid)
        caller = sys._getframe(2)
        if is_a_pools(caller):
            return None
        if call is not None and not call.ended:
            return call.session
        if threading.get_ident() != self._scheduling and (where := line(caller)):
            if call is None:
                self._unscheduled.append(where)
            elif (text := said(connection, work)) is not None and not text[0].startswith(CLEANING):
                raise call.session.outlived(where)
        return None

    def pids(self) -> set[int]:
        """The backends of psycopg's connections in this process, also of closed ones: a backend ends a little later."""
        return self._pids

    # What stands in place of each function, given the function

    def _wait(self, wait: Function) -> Function:
        def stopped(connection: psycopg.Connection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
            session = self._session(connection, gen)
            if session is None:
                return wait(connection, gen, *args, **kwargs)
            return session.meet(connection, gen, lambda: wait(connection, gen, *args, **kwargs))

        return stopped

    def _wait_async(self, wait: Function) -> Function:
        async def stopped(connection: psycopg.AsyncConnection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
            session = self._session(connection, gen)
            if session is None:
                return await wait(connection, gen, *args, **kwargs)
            return await session.meet_async(connection, gen, lambda: wait(connection, gen, *args, **kwargs))

        return stopped

    def _executemany(self, executemany: Function) -> Function:
        def sent(cursor: Any, query: Any, params_seq: Any, *, returning: bool = False) -> None:
            if not self._sends_rows(cursor, query):
                executemany(cursor, query, params_seq, returning=returning)
                return
            with cursor.connection.lock:
                cursor.connection.wait(cursor._executemany_gen_no_pipeline(query, params_seq, returning))

        return sent

    def _executemany_async(self, executemany: Function) -> Function:
        async def sent(cursor: Any, query: Any, params_seq: Any, *, returning: bool = False) -> None:
            if not self._sends_rows(cursor, query):
                await executemany(cursor, query, params_seq, returning=returning)
                return
            async with cursor.connection.lock:
                await cursor.connection.wait(cursor._executemany_gen_no_pipeline(query, params_seq, returning))

        return sent

    def _sends_rows(self, cursor: Any, query: Any) -> bool:
        """Whether executemany is to send its rows one by one, so that each can be a step (division.py)."""
        session = self._ownership.session()
        connection, pgconn = cursor.connection, cursor.connection.pgconn
        if session is None or session.free or pgconn.pipeline_status != pq.PipelineStatus.OFF:
            return False
        alone = connection.autocommit and pgconn.transaction_status == pq.TransactionStatus.IDLE
        # Otherwise its pipeline is one transaction.
        return not alone or first_word(text_of(query, connection)) in MAY_BE_WRAPPED

    def _connect(self, connect: Function) -> Function:
        def connected(conninfo: str, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            session = self._ownership.session()
            if session is None:
                pgconn = yield from connect(conninfo, *args, **kwargs)
                self._pids.add(pgconn.backend_pid)
                return pgconn
            pgconn = self._backends.take(conninfo)
            if pgconn is None:
                session.connecting += 1
                try:
                    pgconn = yield from connect(conninfo, *args, **kwargs)
                finally:
                    session.connecting -= 1
                self._backends.opened(pgconn, conninfo)
                self._pids.add(pgconn.backend_pid)
            return pgconn

        return connected

    def _close(self, close: Function) -> Function:
        def closed(connection: psycopg.Connection[Any]) -> None:
            if self._ownership.session() is None or not self._backends.keep(connection):
                close(connection)

        return closed

    def _close_async(self, close: Function) -> Function:
        async def closed(connection: psycopg.AsyncConnection[Any]) -> None:
            if self._ownership.session() is None or not self._backends.keep(connection):
                await close(connection)

        return closed
