"""The application of an exploration through the wire: its processes, its gate, and whose each piece is.

One session runs at a time: what is sent between the delivery of an answer and the application's rest was caused by
that. Where a session has a port of its own, its connections are known by it. Where an instance of a service is shared,
a piece is the runner's, or that of a session that waited inside the application until the runner gave something back;
which of them, attribution.py says.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol, TypeVar

from psycopg import pq

from racebench.core.errors import UsageProblem
from racebench.core.target import Target
from racebench.exploration.wire.actors import Actor
from racebench.exploration.wire.attribution import Attributed, attribute
from racebench.exploration.wire.background import Background, is_frame, short
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.gate import Gate, Restless
from racebench.exploration.wire.peers import Peers
from racebench.exploration.wire.rest import ApplicationRest, Processes
from racebench.exploration.wire.stream import Kind, Piece
from racebench.postgres.compiler.transactions import begins
from racebench.postgres.proxy.proxy import Proxy

HOST = "127.0.0.1"
_T = TypeVar("_T")
#: The time limit for an operation that runs alone, in seconds: the first one has much to initialize.
_ALONE_S = 60.0
#: How long the application is watched before its operations run, in seconds.
_OBSERVED_S = 0.4
#: How often its threads are looked at meanwhile, in seconds.
_LOOK_S = 0.02


class Operating(Attributed, Protocol):
    """A session, as the application sees it."""

    actor: Actor
    runs: str
    #: The first statements of its transactions when it ran alone, which tell them from the application's own.
    firsts: set[str]

    @property
    def under_way(self) -> bool:
        """Whether its operation has begun, and not ended."""

    @property
    def inside(self) -> bool:
        """Whether it waits inside the application."""

    @property
    def is_undecided(self) -> bool:
        """Whether it has neither come to the gate, nor to its end, nor waits for the server."""

    @property
    def can_go_on(self) -> bool:
        """Whether it is at the gate, or waits for the server."""

    @property
    def has_answer(self) -> bool:
        """Whether an answer waits to be delivered to it."""

    def holds(self, piece: Piece) -> bool:
        """Whether a piece waits for its turn by what it is."""

    def waits(self, connection: WireConnection, piece: Piece) -> bool:
        """Whether a piece must wait for its turn if it belongs to this session, or to another like it."""

    def takes(self, connection: WireConnection, piece: Piece) -> None:
        """Take a piece of its own, which is held."""

    def passes(self, connection: WireConnection, piece: Piece) -> None:
        """Note a piece of its own that passes, because it runs alone."""

    def disowns(self, connection: WireConnection) -> None:
        """Note that the BEGIN that was taken for its own may be another's."""

    def gone(self, connection: WireConnection) -> None:
        """Note that a connection has ended."""

    def decide_all(self) -> None:
        """Note where it is, now that the application is at rest."""


class Application:
    """`interwoven`: an operation had several statements under way at once.

    `rest`: whether it is at rest; None to ask about the processes of the sessions' actors. `pools`: a session's
    connections may be given to another session. `unsure`: it could not be told which session had sent a statement.
    `notes`: what was noticed, as sentences.
    """

    def __init__(
        self,
        target: Target,
        parameters: dict[str, str],
        stack: ExitStack,
        *,
        limit_s: float,
        beside: pq.abc.PGconn,
        every_row: bool,
        rest: ApplicationRest | None = None,
        pools: bool = False,
    ) -> None:
        self.sessions: list[Operating] = []
        self.interwoven = self.unsure = False
        #: A connection was cut in this schedule; and its service has ended because of that.
        self.was_cut = self.has_ended = False
        self._pools = pools
        self._limit_s = limit_s
        self._by_port: dict[int, Operating] = {}
        self._notes: dict[str, None] = {}
        #: The processes of an application that was started elsewhere.
        self._peers = Peers()
        #: The application prepares for a schedule, at racebench's request.
        self._preparing = False
        #: Several sessions have used one connection at once.
        self._mixed = False
        self._background = Background()
        #: The session that runs alone: what it sends passes.
        self._alone: Operating | None = None
        #: What is held while a session runs alone, because the application also sends it by itself.
        self._suspects: list[tuple[WireConnection, Piece]] = []
        #: The session that runs, while the application is not at rest.
        self._runner: Operating | None = None
        #: The sessions that wait inside the application, the one first that has waited longest.
        self._inside: list[Operating] = []
        #: What is held, and not attributed yet.
        self._unattributed: list[tuple[WireConnection, Piece]] = []
        self.proxy = Proxy(target, parameters)
        self._rest = rest or Processes(self._pids, limit_s=limit_s)
        stack.callback(self._rest.close)
        self.gate = Gate(self.proxy, self._rest, self._arrives, self._gone, beside=beside, every_row=every_row)
        stack.callback(self.gate.close)

    @property
    def notes(self) -> Sequence[str]:
        """What was noticed, as sentences."""
        return (*self._notes, *self._background.notes)

    def note(self, sentence: str) -> None:
        """Add something to the notes."""
        self._notes[sentence] = None

    def listen(self, port: int = 0) -> int:
        """Open another port, or this one; return its number. Raises UsageProblem."""
        try:
            return self.proxy.listen(port)
        except OSError as problem:
            raise UsageProblem(
                f"the gate cannot listen on {HOST}:{port}: {problem.strerror}; name another port"
            ) from None

    def observe(self) -> None:
        """Watch for a while what the application does and sends by itself. No operation is under way."""
        self._background.has_started()
        until = time.monotonic() + _OBSERVED_S
        looked = 0.0
        while (left := until - time.monotonic()) > 0:
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                self._rest.note_idle()
            self.gate.pump(min(left, _LOOK_S))

    def while_idle(self, function: Callable[[], _T]) -> _T:
        """Call a function that waits for the application while no operation is under way: what this sends passes.

        What the application goes on with afterwards passes too.
        """
        with self.preparing():
            try:
                result = self.gate.while_carrying(function)
                self.gate.settle(lambda: False, lambda: False, lambda: True, limit_s=self._limit_s)
                return result
            except Restless as problem:
                raise UsageProblem(self._restless(str(problem))) from None

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """In the block, the application prepares for a schedule at racebench's request: what it sends passes."""
        self._preparing = True
        try:
            yield
        finally:
            self._preparing = False

    def belongs(self, port: int, session: Operating) -> None:
        """What comes by a port belongs to a session."""
        self._by_port[port] = session

    def _pids(self) -> Collection[int]:
        pids = {pid for session in self.sessions for pid in session.actor.pids}
        return pids or self._peers.processes(connection.link for connection in self.gate.connections)

    # Pieces

    def _arrives(self, connection: WireConnection, piece: Piece) -> bool:
        """Take a piece that the application sends; whether it is held."""
        if not connection.stream.in_transaction:
            connection.by_itself = None
        if self._alone is not None:
            return self._arrives_alone(connection, piece, self._alone)
        owner = self._by_port.get(connection.link.port)
        if piece.kind is Kind.SYNC:  # it commits what a session has sent over this connection
            for session in self.sessions:
                if session is (connection.owner if owner is None else owner):
                    session.takes(connection, piece)
            return True
        if self._preparing:
            if owner is None and piece.parts and begins(piece.parts[0]) and piece.stream.block:
                self._doubt(
                    "requests to one instance of the service use one connection at once: a BEGIN came in the middle of "
                    "another's transaction, so that their statements are in one; give each request a connection of its "
                    "own (a pool)"
                )
            return False
        if self._is_background(owner, connection, piece):
            self._pass_by(piece)
            return False
        able = [owner] if owner is not None else self._able()
        if not able or not able[0].waits(connection, piece):
            return False
        if len(able) == 1:
            self._give(able[0], connection, piece)
        else:
            self._unattributed.append((connection, piece))
        return True

    def _arrives_alone(self, connection: WireConnection, piece: Piece, alone: Operating) -> bool:
        """Take a piece that arrives while a session runs alone; whether it is held."""
        if connection.by_itself is None and not is_frame(piece) and alone.holds(piece):
            if piece in self._background and alone.is_undecided:
                self._suspects.append((connection, piece))
                alone.disowns(connection)
                return True
            connection.by_itself = piece in self._background
            if not connection.by_itself:
                alone.firsts.add(piece.text)
        if connection.by_itself:
            return False
        if self._pools and self._by_port.get(connection.link.port, alone) is not alone:
            self._by_port.clear()  # a connection that one session has opened is used by another
        if self._by_port.get(connection.link.port, alone) is alone:
            alone.passes(connection, piece)
        return False

    def _let_suspects_go(self, alone: Operating | None) -> None:
        """Send what is held while a session runs alone: the session's own, or None if the session has ended without it.

        What the application sent only while it started is no doubt the session's.
        """
        suspects, self._suspects = self._suspects, []
        for connection, piece in suspects:
            connection.by_itself = alone is None
            if alone is not None and self._background.give_up(piece):
                alone.firsts.add(piece.text)
                alone.passes(connection, piece)
            elif alone is not None:
                self._doubt_background(piece)
            if connection.stream.piece is piece:
                piece.held = False  # its answer is delivered at once
                connection.stream.release(divided=False)

    def _able(self) -> list[Operating]:
        """The sessions that may have sent what arrives now: the runner, and those that wait inside the application."""
        runner = self._runner
        able = [runner] if runner is not None and runner.under_way else []
        return able + [session for session in self._inside if session is not runner and session.under_way]

    def _is_background(self, owner: Operating | None, connection: WireConnection, piece: Piece) -> bool:
        """Whether the application sends a piece by itself, for no operation: so does the rest of its transaction."""
        if connection.by_itself is not None:
            return connection.by_itself
        background = self._comes_by_itself(owner, piece)
        if not is_frame(piece):
            connection.by_itself = background
        return background

    def _comes_by_itself(self, owner: Operating | None, piece: Piece) -> bool:
        known = piece in self._background
        if owner is not None:
            # What comes while the application was at rest comes by itself, unless the session is not at its gate.
            by_itself = self._runner is None and owner.can_go_on
            return not owner.under_way or by_itself or (known and piece.text not in owner.firsts)
        able = self._able()
        return not able or (known and not any(piece.text in session.firsts for session in able))

    def _pass_by(self, piece: Piece) -> None:
        if not piece.text or is_frame(piece):
            return
        doubtful = any(piece.text in session.firsts for session in self.sessions)
        self._background.add(piece, waits=not doubtful and any(one.holds(piece) for one in self.sessions[:1]))
        if doubtful:
            self._doubt_background(piece)

    def _give(self, session: Operating, connection: WireConnection, piece: Piece) -> None:
        stream = connection.stream
        if connection.owner not in (None, session) and stream.in_transaction and stream.touched:
            names = [one.name for one in self.sessions if one in (session, connection.owner)]
            self._mixed = True
            # When BEGIN comes, which passes, decides whose statements are in which transaction.
            self._doubt(
                f"{' and '.join(names)} use one connection at once, so that their statements are in one transaction: "
                "give each request a connection of its own (a pool)"
            )
        connection.owner = session
        session.takes(connection, piece)

    def _attribute(self) -> None:
        """Give what is held to the sessions that sent it, now that the application is at rest."""
        for connection, piece in self._unattributed:
            inside = [one for one in self._able() if one is not self._runner]
            owned = connection.stream.in_transaction and connection.stream.touched and not self._mixed
            owner = connection.owner if owned else None
            found = attribute(piece.text, self._runner, inside, owner=owner)
            if not found.certain:
                self._doubt(
                    f"it could not be told which request sent '{short(piece)}'; --instances each gives each a service "
                    "of its own"
                )
            self._give(next(one for one in self.sessions if one is found.session), connection, piece)
        self._unattributed = []

    def _doubt_background(self, piece: Piece) -> None:
        self._doubt(
            f"the application sends '{short(piece)}' both in an operation and by itself: some of these were perhaps "
            "taken for the other"
        )

    def _doubt(self, why: str) -> None:
        self.unsure = True
        self._notes[why] = None

    def _gone(self, connection: WireConnection) -> None:
        owner = self._by_port.get(connection.link.port)
        for session in [owner] if owner is not None else self.sessions:
            session.gone(connection)

    # Rest

    def run(self, runner: Operating, begin: Callable[[], None]) -> None:
        """Let a session run, and carry until the application is at rest; every session notes then where it is.

        If all sessions wait inside the application, one may go on by itself after some time: until the limit. Raises
        UsageProblem.
        """
        if not any(session.under_way for session in self.sessions):
            self._rest.note_idle()
        self._runner = runner
        try:
            begin()
            self.gate.settle(self._undecided, self._is_full, self._may_stay, limit_s=self._limit_s)
            self._attribute()
        except Restless as problem:
            raise UsageProblem(self._restless(str(problem))) from None
        finally:
            self._runner = None
        for session in self.sessions:
            session.decide_all()
        self._inside = [
            *(session for session in self._inside if session.inside),
            *(session for session in self.sessions if session.inside and session not in self._inside),
        ]
        self.announce()

    def announce(self) -> None:
        """Have the scheduler look at the gate again if an answer waits to be delivered."""
        self.gate.announce(answers=any(session.has_answer for session in self.sessions))

    def _undecided(self) -> bool:
        if self._unattributed:
            # The runner may come to a gate of its own; those that wait inside may stay there.
            return self._runner is not None and self._runner.is_undecided
        return any(session.is_undecided for session in self.sessions)

    def _may_stay(self) -> bool:
        """Whether the application may be left waiting: another session can go on, and racebench has done its part."""
        if not all(session.actor.is_at_rest for session in self.sessions if session.is_undecided):
            return False
        return bool(self._unattributed) or any(
            session.can_go_on or (session.under_way and session.has_responded) for session in self.sessions
        )

    def _is_full(self) -> bool:
        """Whether all connections of the application are in use by sessions that wait for their turn."""
        used = [connection for connection in self.gate.connections if connection.link.port not in self._by_port]
        return bool(used) and all(connection.stream.in_use for connection in used)

    def run_alone(self, session: Operating, begin: Callable[[], None]) -> None:
        """Run a session's operation to its end; what it sends passes. Raises UsageProblem.

        What the application also sends by itself is held: if the operation does not end without it, it is its own.
        """

        def may_stay() -> bool:
            return session.has_responded or (bool(self._suspects) and session.actor.is_at_rest)

        self._alone = self._runner = session
        try:
            begin()
            self.gate.settle(self._undecided, lambda: False, may_stay, limit_s=_ALONE_S)
            while session.is_undecided and self._suspects:
                self._let_suspects_go(session)
                self.gate.settle(self._undecided, lambda: False, may_stay, limit_s=_ALONE_S)
        except Restless as problem:
            raise UsageProblem(self._restless(str(problem))) from None
        finally:
            self._let_suspects_go(None)
            self._alone = self._runner = None

    def _restless(self, problem: str) -> str:
        for session in self.sessions:
            session.actor.check()
        awake = self._rest.awake
        if awake:
            return f"{problem}: {awake} does not come to rest"
        waiting = [session for session in self.sessions if session.is_undecided]
        where = "".join(session.actor.stuck() for session in waiting[:1])
        names = " and ".join(f"{session.name} ({session.runs})" for session in waiting)
        return f"{names} did not come to an end: {problem}{where}" if names else problem
