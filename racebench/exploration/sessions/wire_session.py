"""A session of an application whose statements are held at the wire gate: its operation, and the operation's outcome.

A step begins when a piece of what the application sends (wire/stream.py) is let go, and ends when the application is at
rest again (wire/application.py). How the application is started is its kind's (wire.py, wire_calls.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.faults import CONNECTION_LOST, EXPIRED, stops_a_schedule
from racebench.core.model import Call, HttpRequest, Outcome, Program, Statement
from racebench.exploration.draws import Draws
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint
from racebench.exploration.leftovers import Leftover
from racebench.exploration.sessions.connections import Connections
from racebench.exploration.sessions.division import MAY_BE_WRAPPED
from racebench.exploration.sessions.residue import Residue
from racebench.exploration.sessions.session import State, Surroundings
from racebench.exploration.sessions.strand import Strand, Waiting
from racebench.exploration.sessions.touches import Touches
from racebench.exploration.steps import as_sent, describe, without_values
from racebench.exploration.told import Answers
from racebench.exploration.wire import actors, answers
from racebench.exploration.wire.actors import Actor
from racebench.exploration.wire.application import Application
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.policy import Policy
from racebench.exploration.wire.stream import Kind, Piece
from racebench.postgres.compiler.transactions import begins

_DEADLOCK = "40P01"
#: What ends a transaction without keeping what was done in it.
_UNDOING = frozenset({"ROLLBACK", "ABORT"})
#: What follows a refused statement without making up for it.
_CLEANING = frozenset({"ROLLBACK", "RELEASE", "COMMIT", "ABORT", "END", ""})
#: The most statements that an operation may have under way at once.
_STRANDS = 4
_ONE_SNAPSHOT = ("repeatable read", "serializable")


class WireSession(Strand):
    """Runs its operation once in each schedule. `work`: what it runs; `runs`: equal for sessions that run the same.

    It is its own first strand; `strands`: all of them. `trace`: the statements that were held, or would have been, when
    it ran alone; `texts`: of all that it sent then. `reached`: how many of the trace it has sent in this schedule.
    """

    tries = 1
    statements: tuple[Statement, ...] = ()

    def __init__(
        self,
        number: int,
        work: Call | Program | HttpRequest,
        actor: Actor,
        application: Application,
        connections: Connections,
        policy: Policy,
        surroundings: Surroundings,
    ) -> None:
        self.operator = number
        super().__init__(self, 0)
        self.work, self.actor, self.policy = work, actor, policy
        self.runs = str(work)
        self.strands: list[Strand] = [self, *(Strand(self, strand) for strand in range(1, _STRANDS))]
        self.operation = self.deadlocks = self.draw = 0
        self.sqlstate = self.swallowed = ""
        self.told = Answers(wanted=surroundings.compares_answers)
        self.returned: Any = None
        self.outcome = Outcome.OK
        self.failures_alone: Set[Any] = frozenset()
        self.batches: set[str] = set()
        self.texts: set[str] = set()
        self.firsts: set[str] = set()
        self.trace: list[str] = []
        self.reached = 0
        self.under_way = False
        self.lost: Fault | None = None
        self.may_be_cut = surroundings.crash > 0
        #: A connection of it was cut in this schedule.
        self.was_cut = False
        self.application, self._connections = application, connections
        self._settings: dict[str, str] = {}
        self._used: dict[WireConnection, None] = {}
        self._arrived: list[Waiting] = []
        self._touches = Touches(connections)
        self._residue = Residue(connections, cached=bool(surroundings.facts.cached_sequences))
        self._leaves: dict[Leftover, str] = {}
        self._history = hashlib.blake2b(digest_size=16)

    # What the scheduler and the world ask

    @property
    def backends(self) -> frozenset[int]:
        """Those of all its connections in this schedule."""
        return frozenset(connection.link.pid for connection in self._used if not connection.closed)

    @property
    def draws(self) -> Draws:
        return self._connections.draws

    @property
    def drawn(self) -> int:
        return 0

    @property
    def likeness(self) -> str:
        return "" if self.told_apart else self.runs

    @property
    def told_apart(self) -> bool:
        return self._connections.told_apart or self._connections.draws.differ or self.application.interwoven

    @property
    def functions(self) -> Set[str]:
        return self._connections.functions

    @property
    def history(self) -> bytes:
        """What it was told and has sent, all bytes of it, as a digest."""
        return self._history.digest()

    @property
    def memory(self) -> Hashable:
        return self.history, b"" if self.at_gate is None else b"".join(self.at_gate.piece.packets)

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.FAIL and self.sqlstate not in self.failures_alone

    @property
    def may_be_serializable(self) -> bool:
        """Whether a transaction of it may be serializable, as far as is known by now."""
        return self._touches.serializable or self._connections.serializable

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return self._leaves

    def configure(self, name: str, value: str) -> None:
        self._settings[name] = value

    def clean(self) -> None:
        self._leaves = {}
        self._residue.remove(None)

    def kept(self) -> Sequence[str]:
        return self._residue.kept(None, self._settings)

    # A schedule

    def start(self, tenant: int, run: int) -> None:  # noqa: ARG002 - the application knows no tenants of ours
        self.operation = (self.number << 32) + run
        self.application.run(self, self._begin)

    def _begin(self) -> None:
        self.deadlocks, self.sqlstate, self.swallowed = 0, "", ""
        self.answers.clear()
        self.told.begin()
        self.returned = None
        self.outcome = Outcome.OK
        for strand in self.strands:
            strand.at_gate = strand.sent = strand._cut = None
        self._used, self._arrived, self.lost, self.was_cut = {}, [], None, False
        self._history = hashlib.blake2b(digest_size=16)
        self.reached = 0
        self.under_way = True
        self.actor.begin()

    def run_alone(self) -> Hashable:
        """Run the operation to its end without a stop; return what identifies its failure, something empty for none."""
        self.trace = []
        self.application.run_alone(self, self._begin)
        self.decide_all()
        return self.sqlstate

    def note_what_ran(self) -> None:
        """Note whether what it ran alone may ask which session it is."""
        for text in self.texts:
            self._connections.read(text)

    def close(self) -> None:
        self.actor.close()

    def note_sent(self, piece: Piece) -> None:
        """Note a piece of it that is let go."""
        for packet in piece.packets:
            self._history.update(packet)

    def take_answer(self, strand: Strand, waiting: Waiting) -> None:
        """Give the application the answer to what was sent, and let it run until it is at rest again."""
        piece, connection = waiting.piece, waiting.connection
        self._note_answer(strand, piece)
        if not connection.stream.in_transaction:
            self.told.settle(connection, undone=bool(piece.sqlstate) or _keyword(piece) in _UNDOING)
        self.application.run(self, lambda: self._deliver(connection))

    def lose(self, waiting: Waiting) -> None:
        """Cut the connection of a piece, at both ends, and let the application run until it is at rest again."""
        connection = waiting.connection
        self.was_cut = self.application.was_cut = True
        self.swallowed = CONNECTION_LOST
        self.deadlocks += waiting.piece.sqlstate == _DEADLOCK
        self.told.settle(connection, undone=True)
        self._history.update(b"cut")

        def cut() -> None:
            connection.cut = True
            connection.link.cut()

        self.application.run(self, cut)

    def _deliver(self, connection: WireConnection) -> None:
        if not connection.stream.withholds:  # else the commit is next, which has arrived
            self.application.gate.deliver(connection)
        connection.stream.proceed()

    def _note_answer(self, strand: Strand, piece: Piece) -> None:
        strand.answers.append(answers.summary(piece))
        if piece.sqlstate:
            self.deadlocks += piece.sqlstate == _DEADLOCK
            self.swallowed = piece.sqlstate
            if stops_a_schedule(piece.sqlstate) and piece.sqlstate not in EXPIRED:
                at = describe(strand.next_step)
                raise Fault(f"{self.name} ({self.work}) met a fault at '{at}': {piece.message}", piece.sqlstate)
            return
        if piece.kind is not Kind.SYNC and any(part.keyword not in _CLEANING for part in piece.parts):
            self.swallowed = ""
        if self.told.wanted and piece.kind is not Kind.SYNC:
            self.told.add(answers.told(piece, without_values(piece.text)), piece.stream)

    # What the application tells (wire.application.Operating)

    @property
    def has_answer(self) -> bool:
        return any(strand.sent is not None and strand.sent.piece.answered for strand in self.strands)

    @property
    def can_go_on(self) -> bool:
        return bool(self._arrived) or not all(strand.is_free for strand in self.strands)

    @property
    def is_undecided(self) -> bool:
        return self.under_way and not self.can_go_on and not self._has_ended

    @property
    def has_responded(self) -> bool:
        return self.actor.ended

    @property
    def _has_ended(self) -> bool:
        return self.actor.ended and not any(
            connection.in_use for connection in self._used if connection.owner in (None, self)
        )

    def passes(self, connection: WireConnection, piece: Piece) -> None:
        self._used[connection] = None
        if connection.is_idle:
            self._connections.level(self.work, connection)
        for text in piece.texts:
            self.texts.add(text)
            self._note_left(connection, text)
        if piece.kind in (Kind.EXECUTE, Kind.QUERY, Kind.CALL) and self.policy.holds(piece):
            self.trace.append(piece.text)
            piece.stream.touched = True

    def holds(self, piece: Piece) -> bool:
        return self.policy.holds(piece)

    def waits(self, connection: WireConnection, piece: Piece) -> bool:
        level = ""
        if connection.is_idle:
            level = self._connections.level(self.work, connection)
            self._connections.configure(connection, self._settings)
            connection.stream.snapshots = level in _ONE_SNAPSHOT
        for text in piece.texts:
            self._connections.read(text)
            connection.stream.snapshots |= any(name in text.lower() for name in _ONE_SNAPSHOT)
            self._note_left(connection, text)
        piece.touches = self._touches.of(
            as_sent(piece.text), piece.parts, connection, level, begin_is_seen=self.policy.begin_is_seen
        )
        return self.policy.holds(piece)

    def takes(self, connection: WireConnection, piece: Piece) -> None:
        self._used[connection] = None
        connection.stream.told = self._history.update
        waiting = Waiting(connection, piece, piece.touches, Leftover.CATALOG in self._leaves)
        if piece.kind in (Kind.PARSE, Kind.CALL, Kind.SYNC):
            waiting.touches = Footprint.ANYTHING
        elif piece.alone:
            self._divide(waiting)
        if piece.kind in (Kind.EXECUTE, Kind.QUERY, Kind.CALL):
            self.reached += 1
        self._arrived.append(waiting)

    def _divide(self, waiting: Waiting) -> None:
        """Decide whether the commit of a piece without a transaction is a step of its own."""
        piece = waiting.piece
        parts = piece.parts
        reads = waiting.touches in (Footprint.READ, Footprint.SERIALIZABLE_READ)
        waiting.divided = (
            not reads and all(part.keyword in MAY_BE_WRAPPED for part in parts) and piece.stream.may_be_divided(piece)
        )
        if not waiting.divided and not reads:
            waiting.touches = Footprint.ANYTHING  # its transaction is committed at its end
            sent_at_once = [part for part in parts if not begins(part)]
            if not parts or len(sent_at_once) > 1 or (len(parts) == 1 and parts[0].keyword in MAY_BE_WRAPPED):
                self.batches.add(" ".join(piece.text.split()))

    def _note_left(self, connection: WireConnection, text: str) -> None:
        left = self._connections.leaves(text)
        for leftover in left:
            self._leaves.setdefault(leftover, " ".join(text.split()))
        if Leftover.CATALOG in left:
            self.policy.forget_names()
        self._residue.note(connection, text, left)

    def disowns(self, connection: WireConnection) -> None:
        self._used.pop(connection, None)

    def gone(self, connection: WireConnection) -> None:
        if connection in self._used and not (connection.left_by_client or connection.cut) and self.under_way:
            self.lost = Fault(f"{self.name} ({self.work}) lost its connection", CONNECTION_LOST)
        self._arrived = [waiting for waiting in self._arrived if waiting.connection is not connection]
        for strand in self.strands:
            if strand.at_gate is not None and strand.at_gate.connection is connection:
                strand.at_gate = None

    def decide_all(self) -> None:
        self._share_out()
        for strand in self.strands:
            strand.decide()
        if self.state is not State.DONE:
            return
        if self.under_way and not self.can_go_on and self._has_ended:
            self._finish()
        elif self.under_way:
            if self.actor.ended and not self.can_go_on:
                raise UsageProblem(
                    f"{self.work} leaves its transaction open: commit before it ends, or before it answers"
                )
            self.state, self.inside = State.WAITING, True

    def _share_out(self) -> None:
        """Give the strands what has arrived. Of what arrived together, the text says which comes first."""
        arrived, self._arrived = self._arrived, []
        if len(arrived) > 1:
            arrived.sort(key=lambda waiting: (waiting.piece.text, b"".join(waiting.piece.packets)))
        for waiting in arrived:
            strand = next((strand for strand in self.strands if strand.is_free), None)
            if strand is None:
                raise UsageProblem(f"{self.work} sends more than {_STRANDS} statements at once: send fewer at a time")
            strand.at_gate = waiting
            self.application.interwoven |= strand is not self

    def _finish(self) -> None:
        self.under_way = False
        if self.lost is not None:
            raise self.lost
        ending = self._ending()
        self.returned = ending.returned
        self.sqlstate = ending.code
        if ending.code:
            self.outcome = Outcome.UNKNOWN if ending.unknown or self.was_cut else Outcome.FAIL
            self.answers.append(actors.shown(ending))
            self.swallowed = ""

    def _ending(self) -> actors.Ending:
        try:
            return self.actor.ending()
        except RacebenchError as problem:
            if not self.application.was_cut:
                raise
            self.application.has_ended = True
            self.application.note("the service ended when a connection of it was cut; it was started again")
            return actors.Ending(code="no answer", said=str(problem), returned=None, unknown=True)


def _keyword(piece: Piece) -> str:
    return piece.parts[0].keyword if piece.parts else ""
