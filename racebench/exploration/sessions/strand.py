"""One of the statements that a session at the wire gate may have under way at once.

The scheduler takes it for a session. What its statements are, and what follows from their answers, is the operation's
(wire_session.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from racebench.core.model import Statement
from racebench.exploration import choices
from racebench.exploration.choices import Cut
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint
from racebench.exploration.leftovers import Leftover
from racebench.exploration.sessions.session import State
from racebench.exploration.steps import CUT_ANSWERS, as_sent, describe, identity
from racebench.exploration.wire import answers
from racebench.exploration.wire.application import Application
from racebench.exploration.wire.connection import WireConnection
from racebench.exploration.wire.stream import Kind, Piece


@dataclass(slots=True, eq=False)
class Waiting:
    """A piece at the gate, with what it may touch. `divided`: its commit is to be a step of its own."""

    connection: WireConnection
    piece: Piece
    touches: Footprint
    changes_catalog: bool
    divided: bool = False


class Operation(Protocol):
    """What a strand needs of the operation whose statement it is.

    `operator`: the number of its session. `lost`: what happened to a connection of it, None if nothing.
    """

    operator: int
    application: Application
    may_be_cut: bool
    lost: Fault | None

    @property
    def backends(self) -> frozenset[int]: ...

    @property
    def history(self) -> bytes: ...

    @property
    def may_be_serializable(self) -> bool: ...

    def note_sent(self, piece: Piece) -> None:
        """Note a piece of it that is let go."""

    def take_answer(self, strand: Strand, waiting: Waiting) -> None:
        """Give the application the answer to what was sent, and let it run until it is at rest again."""

    def lose(self, waiting: Waiting) -> None:
        """Cut the connection of a piece, at both ends, and let the application run until it is at rest again."""


class Strand:
    """One of the statements that an operation may have under way at once, over one of its connections.

    `inside`: it waits for another session inside the application, where the server does not see it.
    """

    joins_next = False
    where = ""

    def __init__(self, session: Operation, strand: int) -> None:
        self.number = choices.choice(session.operator, strand=strand)
        self.name = choices.text_of(self.number)
        self.state = State.DONE
        self.inside = False
        self.next_step: tuple[Statement, ...] = ()
        self.answers: list[str] = []
        self.session = session
        self.at_gate: Waiting | None = None
        self.sent: Waiting | None = None
        self._cut: Cut | None = None

    @property
    def is_free(self) -> bool:
        """Whether it has nothing under way."""
        return self.at_gate is None and self.sent is None

    @property
    def pid(self) -> int:
        current = self.sent or self.at_gate
        return 0 if current is None or current.connection.closed else current.connection.link.pid

    @property
    def pids(self) -> frozenset[int]:
        return self.session.backends

    @property
    def socket(self) -> int:
        return self.session.application.gate.fileno()

    @property
    def likeness(self) -> str:
        return ""

    @property
    def memory(self) -> Hashable:
        return self.session.history

    @property
    def step_identity(self) -> tuple[Statement, ...]:
        return identity(self.next_step)

    @property
    def footprint(self) -> Footprint:
        return self.at_gate.touches if self.at_gate is not None else Footprint.ANYTHING

    @property
    def changes_catalog(self) -> bool:
        return self.at_gate is not None and self.at_gate.changes_catalog

    @property
    def serializable(self) -> bool:
        return self.session.may_be_serializable

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return {}

    def literal(self) -> str:
        return describe(self.next_step) if self.at_gate is None else answers.literal(self.at_gate.piece)

    def sql(self) -> str:
        return "" if self.at_gate is None or len(self.at_gate.piece.parts) != 1 else self.literal()

    def values(self) -> tuple[str, ...]:
        return () if self.at_gate is None else answers.short_parameters(self.at_gate.piece)

    def cuts(self, *, reduce: bool) -> Sequence[Cut]:  # noqa: ARG002 - what the application makes of each is its own
        if self.at_gate is None or not self.session.may_be_cut:
            return ()
        if self.at_gate.piece.kind is Kind.SYNC:  # the server does not wait for its client before it commits by itself
            return (Cut.AFTER,)
        return (Cut.BEFORE,) if self.at_gate.divided else (*Cut,)

    def cut(self, cut: Cut) -> None:
        self._cut = cut

    def mend(self) -> None:
        """An application connects by itself."""

    def configure(self, name: str, value: str) -> None:
        """The settings of the application's connections are the session's."""

    def take_numbers(self, sequences: Sequence[str]) -> None:
        """A session whose connections are the application's holds no numbers."""

    def clean(self) -> None:
        """What is left is the session's."""

    def prepare_again(self) -> None:
        """What its application has prepared is the application's."""

    def kept(self) -> Sequence[str]:
        return ()

    def start(self, tenant: int, run: int) -> None:
        """The session begins its operation."""

    def abandon(self) -> None:
        """An application is run to its end instead (`may_be_abandoned`)."""

    def close(self) -> None:
        """The session closes what is to be closed."""

    def advance(self) -> None:
        if self.state is State.READY:
            if self._cut is Cut.BEFORE and self.at_gate is not None:
                waiting, self.at_gate = self.at_gate, None
                self._cut_off(waiting, Cut.BEFORE)
            else:
                self._release()
            return
        self.session.application.gate.pump()
        self.session.application.announce()
        sent = self.sent
        if sent is not None and sent.piece.answered:
            self.sent = None
            if self._cut is not None:
                self._cut_off(sent, self._cut)
            else:
                self.session.take_answer(self, sent)
        elif self.session.lost is not None:
            raise self.session.lost

    def _cut_off(self, waiting: Waiting, cut: Cut) -> None:
        self._cut = None
        self.answers.append(CUT_ANSWERS[cut])
        self.session.lose(waiting)

    def _release(self) -> None:
        waiting = self.sent = self.at_gate
        assert waiting is not None  # it is ready
        self.at_gate = None
        self.state = State.WAITING
        self.session.note_sent(waiting.piece)
        waiting.connection.stream.release(divided=waiting.divided)

    def decide(self) -> None:
        """Note where it is, now that the application is at rest."""
        self.inside = False
        if self.sent is not None:
            self.state = State.WAITING
        elif self.at_gate is not None:
            self.state = State.READY
            self.next_step = (as_sent(self.at_gate.piece.text),)
        else:
            self.state = State.DONE
