"""The application of an exploration through the wire: its processes, its gate, and whose each piece is.

One session runs at a time: whatever is sent between the delivery of an answer and the application's rest was caused by
it. A session has a port of its own, so that its connections are known by that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Protocol

from psycopg import pq

from racebench.core.errors import UsageProblem
from racebench.core.target import Target
from racebench.exploration.wire.actors import Actor
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.gate import Gate, Restless
from racebench.exploration.wire.rest import Processes
from racebench.exploration.wire.stream import Piece
from racebench.postgres.proxy.proxy import Proxy

HOST = "127.0.0.1"


class Operating(Protocol):
    """A session, as the application sees it. `texts`: what it sent when it ran alone."""

    name: str
    actor: Actor
    texts: set[str]

    @property
    def under_way(self) -> bool:
        """Whether its operation has begun, and not ended."""

    @property
    def is_undecided(self) -> bool:
        """Whether it has neither come to the gate, nor to its end, nor waits for the server."""

    @property
    def can_go_on(self) -> bool:
        """Whether it is at the gate, or waits for the server."""

    @property
    def has_answer(self) -> bool:
        """Whether an answer waits to be delivered to it."""

    def arrives(self, connection: WireConnection, piece: Piece) -> bool:
        """Take a piece of its own; whether it is held."""

    def passes(self, connection: WireConnection, piece: Piece) -> None:
        """Note a piece of its own that passes, because it runs alone."""

    def gone(self, connection: WireConnection) -> None:
        """Note that a connection of its own has ended."""

    def decide(self) -> None:
        """Note where it is, now that the application is at rest."""


class Application:
    """`background`: the texts of what is sent while no operation is under way."""

    def __init__(
        self,
        target: Target,
        parameters: dict[str, str],
        stack: ExitStack,
        *,
        limit_s: float,
        beside: pq.abc.PGconn,
        every_row: bool,
    ) -> None:
        self.sessions: list[Operating] = []
        self.background: dict[str, None] = {}
        self._limit_s = limit_s
        self._by_port: dict[int, Operating] = {}
        #: The session that runs alone: what it sends passes.
        self._alone: Operating | None = None
        self._settling = False
        self.proxy = Proxy(target, parameters)
        self._rest = Processes(self._pids, limit_s=limit_s)
        stack.callback(self._rest.close)
        self.gate = Gate(self.proxy, self._rest, self._arrives, self._gone, beside=beside, every_row=every_row)
        stack.callback(self.gate.close)

    def listen(self) -> int:
        """Open another port; return its number."""
        return self.proxy.listen()

    def belongs(self, port: int, session: Operating) -> None:
        """What comes by a port belongs to a session."""
        self._by_port[port] = session

    def _pids(self) -> Collection[int]:
        return {pid for session in self.sessions for pid in session.actor.pids}

    # Pieces

    def _arrives(self, connection: WireConnection, piece: Piece) -> bool:
        """Give a piece to the session that it belongs to; whether it is held."""
        session = self._by_port.get(connection.link.port)
        if session is None:
            return False
        if self._alone is not None:
            if self._alone is session:
                session.passes(connection, piece)
            else:
                self.background[piece.text] = None
            return False
        known = piece.text in self.background and piece.text not in session.texts
        # What comes while the application was at rest comes by itself; unless the session is not at its gate.
        by_itself = not self._settling and (session.can_go_on or not session.under_way)
        if not session.under_way or known or by_itself:
            self.background[piece.text] = None
            return False
        return session.arrives(connection, piece)

    def _gone(self, connection: WireConnection) -> None:
        if (session := self._by_port.get(connection.link.port)) is not None:
            session.gone(connection)

    # Rest

    def settle(self) -> None:
        """Carry until the application is at rest, and have every session note where it is then.

        If all sessions wait inside the application, one may go on by itself after some time: until the limit. Raises
        UsageProblem.
        """
        self._settling = True
        try:
            self.gate.settle(self._undecided, self._is_full, self._may_stay, limit_s=self._limit_s)
        except Restless as problem:
            raise UsageProblem(self._restless(str(problem))) from None
        finally:
            self._settling = False
        for session in self.sessions:
            session.decide()
        self.announce()

    def announce(self) -> None:
        """Have the scheduler look at the gate again if an answer waits to be delivered."""
        self.gate.announce(answers=any(session.has_answer for session in self.sessions))

    def _undecided(self) -> bool:
        return any(session.is_undecided for session in self.sessions)

    def _may_stay(self) -> bool:
        """Whether the application may be left waiting: another session can go on."""
        return any(session.can_go_on for session in self.sessions)

    def _is_full(self) -> bool:
        """Whether all connections of the application are in use by sessions that wait for their turn."""
        return False

    def run_alone(self, session: Operating, begin: Callable[[], None]) -> None:
        """Run a session's operation to its end; what it sends passes. Raises UsageProblem."""
        self._alone = session
        self._settling = True
        try:
            begin()
            self.gate.settle(self._undecided, lambda: False, lambda: False, limit_s=self._limit_s)
        except Restless as problem:
            raise UsageProblem(self._restless(str(problem))) from None
        finally:
            self._alone = None
            self._settling = False

    def _restless(self, problem: str) -> str:
        awake = self._rest.awake
        if awake:
            return f"{problem}: {awake} does not come to rest"
        waiting = [session for session in self.sessions if session.is_undecided]
        where = "".join(session.actor.stuck() for session in waiting[:1])
        names = " and ".join(session.name for session in waiting)
        return f"{names or 'the application'} did not come to an end in {self._limit_s:g} s{where}"
