"""Stops an application at every round trip of psycopg 3, SQLAlchemy's and Django's included.

Each round trip passes through `psycopg.Connection.wait`, or `psycopg.AsyncConnection.wait`. While an interception is
installed, a thread or a task that works for a session's call (ownership.py) stops there and hands the round trip to the
thread that schedules, which carries it out when it is the session's turn (threads.py). Connecting and closing are not
scheduled, nor is what a pool does with connections in threads or tasks of its own; the backend of a closed connection
is kept (backends.py). Threads that work for no session are let through.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import generators, pq

from racebench.core.errors import UsageProblem
from racebench.core.model import first_word
from racebench.exploration.sessions.backends import Backends
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.sessions.ownership import Ownership
from racebench.exploration.sessions.randomness import Generators, Randomness, replacements
from racebench.exploration.sessions.rest import Rest
from racebench.exploration.sessions.round_trips import CLEANING, AnyConnection, is_a_pools, line, said, text_of
from racebench.exploration.sessions.threads import SessionThread

_Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Patch:
    """A function of a library, and what stands in its place while the interception is installed."""

    owner: Any
    name: str
    replacement: _Function

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        original = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.replacement)
        try:
            yield
        finally:
            setattr(self.owner, self.name, original)


class Interception:
    """The threads of one exploration that stop at round trips. Made and installed by the thread that schedules."""

    def __init__(self) -> None:
        self._ownership, self._rest = Ownership[SessionThread](), Rest()
        self._generators = Generators()
        self._backends = Backends()
        self._pids: set[int] = set()
        self._unscheduled: list[str] = []
        self._scheduling, self._process = threading.get_ident(), os.getpid()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Stop what works for the sessions at round trips; meanwhile it does not sleep."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._backends.close)
            stack.callback(self._ownership.end)
            stack.enter_context(self._generators.kept())
            for patch in (
                _Patch(psycopg.Connection, "wait", self._wait(psycopg.Connection.wait)),
                _Patch(psycopg.Connection, "close", self._close(psycopg.Connection.close)),
                _Patch(psycopg.AsyncConnection, "wait", self._wait_async(psycopg.AsyncConnection.wait)),
                _Patch(psycopg.AsyncConnection, "close", self._close_async(psycopg.AsyncConnection.close)),
                _Patch(generators, "connect", self._connect(generators.connect)),
                _Patch(psycopg.Cursor, "executemany", self._executemany(psycopg.Cursor.executemany)),
                _Patch(psycopg.AsyncCursor, "executemany", self._executemany_async(psycopg.AsyncCursor.executemany)),
                _Patch(ThreadPoolExecutor, "submit", self._ownership.submit(ThreadPoolExecutor.submit)),
                # The time limits and the sleep of an event loop are real; its clock must be as well.
                _Patch(asyncio.BaseEventLoop, "time", _real_clock(time.monotonic)),
                _Patch(time, "sleep", self._sleep(time.sleep)),
                _Patch(os, "_exit", self._exit(os._exit)),
                *(_Patch(*replacement) for replacement in replacements(self._randomness)),
            ):
                stack.enter_context(patch.applied())
            yield

    def thread(self, number: int) -> SessionThread:
        """Start the thread of a session, which stops at its round trips, and draws random numbers of its own."""
        return SessionThread(number, self._ownership, self._generators, self._rest)

    def _randomness(self) -> Randomness | None:
        """That of the session that this thread or task works for."""
        session = self._ownership.session()
        return None if session is None else session.randomness

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

    def _wait(self, wait: _Function) -> _Function:
        def stopped(connection: psycopg.Connection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
            session = self._session(connection, gen)
            if session is None:
                return wait(connection, gen, *args, **kwargs)
            return session.meet(connection, gen, lambda: wait(connection, gen, *args, **kwargs))

        return stopped

    def _wait_async(self, wait: _Function) -> _Function:
        async def stopped(connection: psycopg.AsyncConnection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
            session = self._session(connection, gen)
            if session is None:
                return await wait(connection, gen, *args, **kwargs)
            return await session.meet_async(connection, gen, lambda: wait(connection, gen, *args, **kwargs))

        return stopped

    def _executemany(self, executemany: _Function) -> _Function:
        def sent(cursor: Any, query: Any, params_seq: Any, *, returning: bool = False) -> None:
            if not self._sends_rows(cursor, query):
                executemany(cursor, query, params_seq, returning=returning)
                return
            with cursor.connection.lock:
                cursor.connection.wait(cursor._executemany_gen_no_pipeline(query, params_seq, returning))

        return sent

    def _executemany_async(self, executemany: _Function) -> _Function:
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

    def _connect(self, connect: _Function) -> _Function:
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

    def _close(self, close: _Function) -> _Function:
        def closed(connection: psycopg.Connection[Any]) -> None:
            if self._ownership.session() is None or not self._backends.keep(connection):
                close(connection)

        return closed

    def _close_async(self, close: _Function) -> _Function:
        async def closed(connection: psycopg.AsyncConnection[Any]) -> None:
            if self._ownership.session() is None or not self._backends.keep(connection):
                await close(connection)

        return closed

    def _sleep(self, sleep: _Function) -> _Function:
        def slept(seconds: float) -> None:
            own = self._randomness()
            if own is None:
                sleep(seconds)
            else:
                own.sleep(seconds)

        return slept

    def _exit(self, exit_process: _Function) -> _Function:
        def refused(status: int) -> None:
            if self._ownership.session() is not None and os.getpid() == self._process:
                raise UsageProblem(f"the call ends its process (os._exit({status})); a call must return, or raise")
            exit_process(status)

        return refused


def _real_clock(monotonic: _Function) -> _Function:
    """The clock of an event loop, with the function that is time.monotonic while nothing is explored."""

    def read(loop: asyncio.BaseEventLoop) -> Any:  # noqa: ARG001 - all loops have the same
        return monotonic()

    return read
