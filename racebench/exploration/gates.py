"""Where application code meets its database: every synchronous round trip of psycopg 3, SQLAlchemy's and Django's too.

Each passes through `psycopg.Connection.wait`. While gates are `installed`, a session's thread stops there and hands
what it was about to do to the thread that schedules, which carries it out when it is the session's turn. Connecting and
closing pass, but for the backend, which is kept (backends.py). Threads that are no sessions pass.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import psycopg
from psycopg import generators, pq

from racebench.core.errors import UsageProblem
from racebench.exploration.sessions.backends import Backends
from racebench.workloads.callables import is_application, shown

#: How long application code may take between two round trips, in seconds.
MOST_SECONDS = 10.0

_sessions: dict[int, SessionThread] = {}
#: Lines of the application that sent something from a thread that is no session.
_elsewhere: list[str] = []


def elsewhere() -> str:
    """The line that sent something past the gates since somebody asked; "" if none did."""
    found = _elsewhere[0] if _elsewhere else ""
    _elsewhere.clear()
    return found


class Abandoned(BaseException):
    """The schedule is given up: unwind. Not an Exception, so that no handler of failures swallows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A round trip that a session is about to make. `text`: "" if it only goes on with the one before.

    `work` is psycopg's generator, `cursor` what will have its result, `where` the application's line.
    """

    connection: psycopg.Connection[Any]
    work: Generator[Any, Any, Any]
    text: str
    cursor: Any
    where: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The call has ended; with an error, unless that is None."""

    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any = None
    error: BaseException | None = None


class SessionThread:
    """A thread that runs calls, one after the other, and stops at every round trip."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Pass the gates.
        self.free = False
        #: Round trips that passed since the call began.
        self.passed = 0
        #: What was sent while the gates were passed.
        self.texts: set[str] = set()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._outbox: SimpleQueue[Request | Finished] = SimpleQueue()
        self._abandoning = False
        self._thread = threading.Thread(target=self._live, name=f"racebench {name}", daemon=True)
        self._thread.start()

    # The side that schedules

    def call(self, function: Callable[[], Any]) -> None:
        """Begin a call."""
        self._abandoning = False
        self._inbox.put(function)

    def next(self) -> Request | Finished:
        """What the call comes to: its next round trip, or its end. Raises UsageProblem if it comes to neither."""
        try:
            return self._outbox.get(timeout=MOST_SECONDS)
        except Empty:
            raise UsageProblem(
                f"{self.name} did not come to its next statement in {MOST_SECONDS:g} s: it is in Python at "
                f"{self.position()}; do two sessions share a connection or a lock?"
            ) from None

    def answer(self, value: Any = None, error: BaseException | None = None) -> None:
        """Let the session go on with what came of its round trip."""
        self._inbox.put(_Answer(value, error))

    def abandon(self) -> None:
        """Unwind a call that stopped at a round trip; what it does to clean up passes. Raises UsageProblem."""
        self._abandoning = True
        self.answer(error=Abandoned())
        try:
            while not isinstance(self._outbox.get(timeout=MOST_SECONDS), Finished):
                self.answer(error=Abandoned())
        except Empty:
            raise UsageProblem(
                f"{self.name} does not let go at {self.position()}: it swallows every exception, BaseException too"
            ) from None

    def close(self) -> None:
        """End the thread, if it can be ended; what a call does to clean up passes."""
        self._abandoning = True
        self._inbox.put(None)
        self._thread.join(MOST_SECONDS)

    def position(self) -> str:
        """The application's line that the thread is in, and the function."""
        frame: FrameType | None = sys._current_frames().get(self._thread.ident or 0)
        inner = frame
        while frame is not None and not is_application(frame.f_code.co_filename):
            frame = frame.f_back
        found = frame or inner
        if found is None:
            return "an unknown place"
        return f"{shown(found.f_code.co_filename)}:{found.f_lineno}, in {found.f_code.co_name}"

    # The session's own side

    def _live(self) -> None:
        _sessions[threading.get_ident()] = self
        try:
            while (function := self._inbox.get()) is not None:
                if isinstance(function, _Answer):
                    continue  # to a call that has ended
                try:
                    function()
                except BaseException as problem:  # noqa: BLE001 - whatever the application raises is its outcome
                    self._outbox.put(Finished(problem))
                else:
                    self._outbox.put(Finished(None))
        finally:
            _sessions.pop(threading.get_ident(), None)

    def meet(self, connection: psycopg.Connection[Any], work: Generator[Any, Any, Any], wait: Callable[[], Any]) -> Any:
        """Stop at a round trip until it is this session's turn."""
        said = _said(connection, work)
        if said is None or self.free:
            self.passed += said is not None
            self.texts.update(said[:1] if said is not None else ())
            return wait()
        text, cursor = said
        if self._abandoning:
            if text.startswith(("ROLLBACK", "RELEASE", "CLOSE")):
                return wait()
            why = Abandoned()
            self._leave(work, why)
            raise why
        frame = sys._getframe(2)
        self._outbox.put(Request(connection=connection, work=work, text=text, cursor=cursor, where=_line(frame)))
        answer = self._inbox.get()
        if answer is None:
            self._inbox.put(None)
            answer = _Answer(error=Abandoned())
        if isinstance(answer.error, Abandoned):
            self._leave(work, answer.error)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _leave(self, work: Any, why: BaseException) -> None:
        """Do what psycopg keeps account of: a `with connection.transaction()` is entered, or left by rolling back."""
        frame = getattr(work, "gi_frame", None)
        owner = frame.f_locals.get("self") if frame is not None else None
        if not isinstance(owner, psycopg.Transaction):
            return
        self.free = True
        try:
            if work.gi_code.co_name == "_enter_gen":
                owner._conn.wait(work)
            else:
                owner._conn.wait(owner._exit_gen(type(why), why, None))
        finally:
            self.free = False


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Put the gates up; sessions' threads do not sleep meanwhile, and may not wait for async connections."""
    kinds: tuple[Any, ...] = (psycopg.Connection, psycopg.AsyncConnection, time, generators, os)
    exit_process, process, scheduling = os._exit, os.getpid(), threading.get_ident()
    elsewhere()
    wait, wait_async, sleep = psycopg.Connection.wait, psycopg.AsyncConnection.wait, time.sleep
    connect, close = generators.connect, psycopg.Connection.close
    backends = Backends()

    def gated(self: psycopg.Connection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
        if backends.left(self):  # a cursor of it still knows its backend, which may be somebody else's by now
            raise psycopg.OperationalError("the connection is closed")
        session = _sessions.get(threading.get_ident())
        if session is None:
            if threading.get_ident() != scheduling and (line := _strange(sys._getframe(1))):
                _elsewhere.append(line)
            return wait(self, gen, *args, **kwargs)
        return session.meet(self, gen, lambda: wait(self, gen, *args, **kwargs))

    async def refused(self: Any, gen: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() in _sessions:
            raise UsageProblem(
                "the call uses an async psycopg connection, whose round trips racebench cannot schedule; "
                "give it a synchronous one"
            )
        return await wait_async(self, gen, *args, **kwargs)

    def asleep(seconds: float) -> None:
        if threading.get_ident() not in _sessions:
            sleep(seconds)

    def connected(conninfo: str, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if threading.get_ident() not in _sessions:
            return (yield from connect(conninfo, *args, **kwargs))
        pgconn = backends.take(conninfo)
        if pgconn is None:
            pgconn = yield from connect(conninfo, *args, **kwargs)
            backends.opened(pgconn, conninfo)
        return pgconn

    def closed(self: psycopg.Connection[Any]) -> None:
        if threading.get_ident() not in _sessions or not backends.keep(self):
            close(self)

    def ending(status: int) -> None:
        if threading.get_ident() in _sessions and os.getpid() == process:
            raise UsageProblem(f"the call ends its process (os._exit({status})); a call must return, or raise")
        exit_process(status)

    kinds[0].wait, kinds[1].wait, kinds[2].sleep, kinds[4]._exit = gated, refused, asleep, ending
    kinds[3].connect, kinds[0].close = connected, closed
    try:
        yield
    finally:
        kinds[0].wait, kinds[1].wait, kinds[2].sleep, kinds[4]._exit = wait, wait_async, sleep, exit_process
        kinds[3].connect, kinds[0].close = connect, close
        backends.close()


_SILENT = frozenset(
    {"_set_autocommit_gen", "_set_isolation_level_gen", "_set_read_only_gen", "_set_deferrable_gen", "_close_gen"}
)
_QUERIES = {
    "_execute_gen": "query",
    "_executemany_gen_no_pipeline": "query",
    "_executemany_gen_pipeline": "query",
    "_start_copy_gen": "statement",
    "_stream_send_gen": "query",
    "_declare_gen": "query",
}


def _said(connection: psycopg.Connection[Any], work: Any) -> tuple[str, Any] | None:
    """What a round trip says to the server, and the cursor that will have the result; None if it says nothing.

    Read from psycopg's own generators, by their names: psycopg 3.1 to 3.3 have them all.
    """
    name = getattr(getattr(work, "gi_code", None), "co_name", "")
    frame = getattr(work, "gi_frame", None)
    known = frame.f_locals if frame is not None else {}
    owner = known.get("self")
    idle = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
    if name in _QUERIES:
        text = _text(known.get(_QUERIES[name]), connection)
        return (text, owner) if text.strip("; \t\n") else None  # empty: a pool asks whether the connection lives
    if name == "notifies":
        raise UsageProblem("the call waits for a NOTIFY, which racebench cannot schedule")
    if name in ("_commit_gen", "_rollback_gen"):
        return None if idle else (name[1:-4].upper(), None)
    if name in _SILENT:
        return None
    if isinstance(owner, psycopg.Transaction):
        return _block(owner, name, known, idle=idle), None
    if name.startswith("_tpc_"):
        return name[1:-4].upper().replace("_", " "), None
    return "", owner  # fetching, copying, a pipeline: the statement before goes on


def _block(owner: Any, name: str, known: dict[str, Any], *, idle: bool) -> str:
    """What `with connection.transaction()` says when it is entered or left."""
    outer = idle if name == "_enter_gen" else owner._outer_transaction
    if name == "_enter_gen":
        return "BEGIN" if outer else "SAVEPOINT"
    kept = known.get("exc_val") is None and not owner.force_rollback
    if outer:
        return "COMMIT" if kept else "ROLLBACK"
    return "RELEASE SAVEPOINT" if kept else "ROLLBACK TO SAVEPOINT"


def _text(query: Any, connection: psycopg.Connection[Any]) -> str:
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    if isinstance(query, psycopg.sql.Composable):
        return query.as_string(connection)
    if not isinstance(query, str) and hasattr(query, "strings"):  # a template string
        return "…".join(query.strings)
    return str(query)


def _line(frame: FrameType | None) -> str:
    """The innermost line of the application's own that led here."""
    while frame is not None:
        if is_application(frame.f_code.co_filename):
            return f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _strange(frame: FrameType | None) -> str:
    """The application's line that leads here in a thread of its own making; "" in one that a pool made."""
    line = _line(frame)
    while frame is not None and line:
        if "psycopg_pool" in frame.f_globals.get("__name__", ""):
            return ""
        frame = frame.f_back
    return line
