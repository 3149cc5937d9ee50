"""Stops an application at every synchronous round trip of psycopg 3, SQLAlchemy's and Django's included.

Each round trip passes through `psycopg.Connection.wait`. While an interception is installed, a session's thread
(threads.py) stops there and hands the round trip to the thread that schedules, which carries it out when it is the
session's turn. Connecting and closing are not scheduled; the backend of a closed connection is kept (backends.py).
Threads that run no session are let through.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import generators, pq

from racebench.core.errors import UsageProblem
from racebench.core.model import first_word
from racebench.exploration.sessions.backends import Backends
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.sessions.randomness import Generators, Randomness, replacements
from racebench.exploration.sessions.round_trips import foreign_line, text_of
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
        self._threads: dict[int, SessionThread] = {}
        self._generators = Generators()
        self._backends = Backends()
        self._unscheduled: list[str] = []
        self._scheduling, self._process = threading.get_ident(), os.getpid()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Stop the sessions' threads at round trips; meanwhile they do not sleep, and may not await connections."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._backends.close)
            stack.enter_context(self._generators.kept())
            for patch in (
                _Patch(psycopg.Connection, "wait", self._wait(psycopg.Connection.wait)),
                _Patch(psycopg.Connection, "close", self._close(psycopg.Connection.close)),
                _Patch(psycopg.AsyncConnection, "wait", self._wait_async(psycopg.AsyncConnection.wait)),
                _Patch(generators, "connect", self._connect(generators.connect)),
                _Patch(psycopg.Cursor, "executemany", self._executemany(psycopg.Cursor.executemany)),
                _Patch(time, "sleep", self._sleep(time.sleep)),
                _Patch(os, "_exit", self._exit(os._exit)),
                *(_Patch(*replacement) for replacement in replacements(self._randomness)),
            ):
                stack.enter_context(patch.applied())
            yield

    def thread(self, number: int) -> SessionThread:
        """Start the thread of a session, which stops at its round trips, and draws random numbers of its own."""
        return SessionThread(number, self._threads, self._generators)

    def _randomness(self) -> Randomness | None:
        """That of the session whose thread this is."""
        session = self._threads.get(threading.get_ident())
        return None if session is None else session.randomness

    def unscheduled(self) -> str:
        """The application's line that sent something from its own thread since this was last asked; "" if none."""
        line = self._unscheduled[0] if self._unscheduled else ""
        self._unscheduled.clear()
        return line

    # What stands in place of each function, given the function

    def _wait(self, wait: _Function) -> _Function:
        threads, backends = self._threads, self._backends

        def stopped(connection: psycopg.Connection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
            if backends.left(connection):  # a cursor of it still knows its backend, which another connection may have
                raise psycopg.OperationalError("the connection is closed")
            session = threads.get(threading.get_ident())
            if session is None:
                if threading.get_ident() != self._scheduling and (line := foreign_line(sys._getframe(1))):
                    self._unscheduled.append(line)
                return wait(connection, gen, *args, **kwargs)
            return session.meet(connection, gen, lambda: wait(connection, gen, *args, **kwargs))

        return stopped

    def _executemany(self, executemany: _Function) -> _Function:
        def sent(cursor: Any, query: Any, params_seq: Any, *, returning: bool = False) -> None:
            session = self._threads.get(threading.get_ident())
            connection, pgconn = cursor.connection, cursor.connection.pgconn
            if session is None or session.free or pgconn.pipeline_status != pq.PipelineStatus.OFF:
                executemany(cursor, query, params_seq, returning=returning)
                return
            alone = connection.autocommit and pgconn.transaction_status == pq.TransactionStatus.IDLE
            if alone and first_word(text_of(query, connection)) not in MAY_BE_WRAPPED:
                executemany(cursor, query, params_seq, returning=returning)  # its pipeline is one transaction
                return
            # Row by row, not in a pipeline, so that each row can be a step (division.py).
            with connection.lock:
                connection.wait(cursor._executemany_gen_no_pipeline(query, params_seq, returning))

        return sent

    def _wait_async(self, wait: _Function) -> _Function:
        async def refused(connection: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() in self._threads:
                raise UsageProblem(
                    "the call uses an async psycopg connection, whose round trips racebench cannot schedule; "
                    "give it a synchronous one"
                )
            return await wait(connection, gen, *args, **kwargs)

        return refused

    def _connect(self, connect: _Function) -> _Function:
        def connected(conninfo: str, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            if threading.get_ident() not in self._threads:
                return (yield from connect(conninfo, *args, **kwargs))
            pgconn = self._backends.take(conninfo)
            if pgconn is None:
                pgconn = yield from connect(conninfo, *args, **kwargs)
                self._backends.opened(pgconn, conninfo)
            return pgconn

        return connected

    def _close(self, close: _Function) -> _Function:
        def closed(connection: psycopg.Connection[Any]) -> None:
            if threading.get_ident() not in self._threads or not self._backends.keep(connection):
                close(connection)

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
            if threading.get_ident() in self._threads and os.getpid() == self._process:
                raise UsageProblem(f"the call ends its process (os._exit({status})); a call must return, or raise")
            exit_process(status)

        return refused
