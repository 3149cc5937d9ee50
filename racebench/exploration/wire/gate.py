"""The gate between an application and the server: passes its connections on, and holds each piece until it is let go.

One loop in the thread that schedules. `pump` carries what has arrived; `settle` does so until the application is at
rest. Whose a piece is, and whether it is held, is decided by who made the gate.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Protocol, TypeVar

from psycopg import pq

from racebench.core.errors import DatabaseProblem
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.stream import Piece
from racebench.postgres.proxy.link import Link, State
from racebench.postgres.proxy.proxy import Proxy

_T = TypeVar("_T")

#: How long news are awaited while the application runs, in seconds: at least, at most, and as a share of the time since
#: there were any.
_AWAKE_S, _LONG_PAUSE_S, _SHARE = 0.0001, 0.002, 0.25
#: How long after news an operation that is not at the gate is taken to be on its way there, in seconds.
_EXPECTED_S = 0.002
#: How long an application that has not come to its next statement must be asleep before it counts as waiting for
#: another session: if all connections are in use, and otherwise; in seconds.
_FULL_S, _ASLEEP_S = 0.003, 0.05
#: The longest time-out of a sleep that is waited for, and what a timer may be late, in seconds.
_SHORT_TIMER_S, _LATE_S = 1.0, 0.03
#: How long racebench's own questions on the application's connections are awaited, in seconds.
_ANSWER_S = 10.0

_now = time.monotonic  # this one: while calls are explored, that of the module is another


class Rest(Protocol):
    """Whether an application is at rest; see rest.py."""

    def asleep(self) -> bool:
        """Whether all its threads are asleep."""

    def activity(self) -> Hashable:
        """Equal if none of its threads ran in between."""

    def timer_s(self) -> float | None:
        """The shortest time-out that one of its threads sleeps for, in seconds; None if none has one."""


class Restless(DatabaseProblem):
    """The application did not come to rest within the limit."""


class Gate:
    """The connections of an application. `arrives` is given each piece as it arrives, and says whether it is held.

    `gone` is given each connection that has ended. `beside`: a connection to the same server. `every_row`: pieces keep
    all rows that were answered.
    """

    def __init__(
        self,
        proxy: Proxy,
        rest: Rest,
        arrives: Callable[[WireConnection, Piece], bool],
        gone: Callable[[WireConnection], None],
        *,
        beside: pq.abc.PGconn,
        every_row: bool,
    ) -> None:
        self.proxy, self.rest = proxy, rest
        self._arrives, self._gone = arrives, gone
        self._beside, self._every_row = beside, every_row
        self._connections: dict[Link, WireConnection] = {}
        self._news = select.epoll()
        self._news.register(proxy.fileno(), select.EPOLLIN)
        self._watched: set[int] = set()
        #: Readable as long as an answer waits to be delivered.
        self._answered = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._outer = select.epoll()
        self._outer.register(self._news.fileno(), select.EPOLLIN)
        self._outer.register(self._answered, select.EPOLLIN)
        #: The connection that was given something last: whether it has arrived there is asked of the kernel.
        self._given: WireConnection | None = None

    def close(self) -> None:
        """Close all connections."""
        self._outer.close()
        self._news.close()
        os.close(self._answered)
        self.proxy.close()

    def fileno(self) -> int:
        """What becomes readable when there is news."""
        return self._outer.fileno()

    def announce(self, *, answers: bool) -> None:
        """Have `fileno` be readable because an answer waits to be delivered, or not any more."""
        if answers:
            os.eventfd_write(self._answered, 1)
        else:
            _clear(self._answered)

    def watch(self, descriptor: int) -> None:
        """Let `fileno` become readable when this eventfd does, until it is closed; what it counts is not kept."""
        self._watched.add(descriptor)
        self._news.register(descriptor, select.EPOLLIN)

    @property
    def connections(self) -> Iterator[WireConnection]:
        """The connections that the server has accepted, and that have not ended."""
        return (connection for connection in self._connections.values() if not connection.closed)

    # Carrying

    def pump(self, timeout_s: float = 0.0) -> bool:
        """Carry what has arrived, after waiting for news at most so long; return whether there was any."""
        # Not the time-out of epoll: it is whole milliseconds.
        if timeout_s > 0:
            select.select([self._news], [], [], timeout_s)
        if self._watched:
            for descriptor, _ in self._news.poll(0):
                if descriptor in self._watched:
                    _clear(descriptor)  # also without a wait: who asks `fileno` would be told of it for ever
        moved = False
        for link in self.proxy.poll(0):
            moved = True
            self._carry(link)
        return moved

    def _carry(self, link: Link) -> None:
        connection = self._connections.get(link)
        if connection is None:
            if not link.has_session:
                return  # not yet, or the server has refused it
            connection = self._connections[link] = WireConnection(
                link, self.ask, self._arrives, beside=self._beside, every_row=self._every_row
            )
        arrived = link.client_messages()
        if arrived:
            connection.stream.from_client(arrived)
        answers = link.server_messages()
        if answers:
            connection.from_server(answers)
        self._let_go(connection)
        if connection.closed:
            connection.stream.deliver()  # also why the server has ended it
            link.close()
            del self._connections[link]
            self._gone(connection)

    def _let_go(self, connection: WireConnection) -> None:
        """End a session of the server's whose client has gone, when what it had sent is done."""
        if connection.link.client_closed and not connection.closed and connection.stream.is_done:
            connection.link.close_server()

    def deliver(self, connection: WireConnection) -> None:
        """Give the application the answer that was withheld."""
        self._given = connection
        connection.stream.deliver()
        self._let_go(connection)

    def ask(self, connection: WireConnection) -> None:
        """Carry until the question that was asked on a connection is answered. Raises DatabaseProblem."""
        deadline = _now() + _ANSWER_S
        while connection.asking and not connection.closed:
            if not self.pump(_AWAKE_S) and _now() > deadline:
                raise DatabaseProblem(f"the server does not answer racebench within {_ANSWER_S:g} s")

    def while_carrying(self, function: Callable[[], _T]) -> _T:
        """Call a function that waits for the application, in a thread, and carry meanwhile."""
        results: list[_T] = []
        problems: list[BaseException] = []

        def run() -> None:
            try:
                results.append(function())
            except BaseException as problem:  # noqa: BLE001 - raised again below
                problems.append(problem)

        thread = threading.Thread(target=run, daemon=True, name="racebench waits for an application")
        thread.start()
        while thread.is_alive():
            self.pump(0.001)
        if problems:
            raise problems[0]
        return results[0]

    # Rest

    def _is_busy(self) -> bool:
        """Whether something is on its way that the application, or racebench, waits for."""
        if any(link.state is State.STARTING for link in self.proxy.links):
            return True
        for connection in self._connections.values():
            # What the application sends by itself may wait for a lock of a session's.
            if connection.leaving or (connection.stream.awaits_server and not connection.by_itself):
                return True
        given = self._given
        return given is not None and not (given.closed or given.cut) and _unsent(given.link) > 0

    def settle(
        self,
        undecided: Callable[[], bool],
        full: Callable[[], bool],
        may_stay: Callable[[], bool],
        *,
        limit_s: float,
    ) -> None:
        """Carry until the application is at rest.

        `undecided`: an operation has neither come to the gate, nor to its end, nor waits for the server. It counts as
        waiting for another session when it has been asleep long enough, sooner if all connections are in use (`full`);
        `may_stay`: there is one that can go on. Raises Restless after the limit.
        """
        deadline = _now() + limit_s
        since = changed = 0.0
        before: Hashable = None
        timer_s = 0.0
        news = _now()
        while True:
            now = _now()
            if now > deadline:
                raise Restless(f"the application did not come to rest in {limit_s:g} s")
            # An application that has taken long so far is not asked often: it may need the processor that asks.
            pause = min(max(_AWAKE_S, _SHARE * (now - news)), _LONG_PAUSE_S)
            if self.pump():
                news, since = now, 0.0
                continue
            if self._is_busy():
                since = 0.0
                self.pump(pause)
                continue
            if now - news < _EXPECTED_S and undecided():
                self.pump(_EXPECTED_S)  # it has just begun, and what it does next will be news
                continue
            if not self.rest.asleep():
                self.pump(pause)
                continue
            if self.pump():
                news = now
                continue
            if not undecided():
                return
            activity = self.rest.activity()
            if activity != before:
                before, changed = activity, now
            if not since:
                since, changed, timer_s = now, now, 0.0
            timer = self.rest.timer_s()
            if timer is not None and timer <= _SHORT_TIMER_S:
                timer_s = max(timer_s, timer)
            if full():
                enough = now - changed >= _FULL_S
            elif timer_s:
                enough = now - since >= max(_ASLEEP_S, 2 * timer_s + _LATE_S)
            else:
                enough = now - changed >= _ASLEEP_S
            if enough and may_stay():
                return
            self.pump(0.001)


def _clear(event: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(event)


def _unsent(link: Link) -> int:
    """How many bytes that were given to the application have not arrived in its socket."""
    return struct.unpack("i", fcntl.ioctl(link.client_descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0]  # type: ignore[no-any-return]
