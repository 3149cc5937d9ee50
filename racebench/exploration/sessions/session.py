"""What an exploration asks of a session, and of a kind of session; nothing of how a kind does it.

A session takes one step at a time. A step begins when a statement is sent and ends when its answer is here. What lies
between two steps (variables, retries, a ROLLBACK after a refusal) belongs to the step before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol

import psycopg

from racebench.core.errors import UsageProblem
from racebench.core.model import Outcome, Statement, Strategy
from racebench.core.target import Target
from racebench.exploration.choices import Cut
from racebench.exploration.draws import Draws
from racebench.exploration.independence import Footprint
from racebench.exploration.inspection import Facts
from racebench.exploration.known import Known
from racebench.exploration.leftovers import Leftover
from racebench.exploration.resources import Reached
from racebench.exploration.result import Unseen
from racebench.exploration.sessions.backends import Backends
from racebench.exploration.sessions.cutting import Cutter
from racebench.exploration.sessions.pooled import PooledConnections
from racebench.exploration.steps import describe
from racebench.exploration.told import Answers

#: Yields a step to be taken, None to wait for an answer, or seconds of a pause, which is not made.
Steps = Generator[Any, None, Any]


class State(Enum):
    """READY: about to send its next step. WAITING: sent, not answered. DONE: nothing more to send.

    RELEASED: sent, not answered, and no longer blocked; other sessions were released by the same step, and which of
    them goes on first is a choice (freezing.py).
    """

    READY = "ready"
    WAITING = "waiting"
    RELEASED = "released"
    DONE = "done"


#: The states of a session whose statement was sent and not answered.
NOT_ANSWERED = (State.WAITING, State.RELEASED)


class Session(Protocol):
    """One session of an exploration.

    `number`: from 1; that of a strand is its choice's (choices.py). `next_step`: what it would send next. `answers`:
    the server's answers since the list was last cleared, as text. `where`: the application's line that leads to the
    next step; "" for a script. `inside`: it waits for another session inside the application, where the server does
    not see it.
    """

    number: int
    name: str
    state: State
    next_step: tuple[Statement, ...]
    answers: list[str]
    where: str
    inside: bool

    @property
    def likeness(self) -> str:
        """Equal for sessions that run the same code; "" for a session that is like no other."""

    @property
    def memory(self) -> Hashable:
        """What the session has learnt so far, on which its next steps may depend."""

    @property
    def step_identity(self) -> tuple[Statement, ...]:
        """The next step without what may differ when the same schedule is run again."""

    @property
    def footprint(self) -> Footprint:
        """What the next step may touch."""

    @property
    def changes_catalog(self) -> bool:
        """Whether the next step may be DDL: it looks at the catalogs, and changes them, inside one statement."""

    def cuts(self, *, reduce: bool) -> Sequence[Cut]:
        """How its connection may be cut at the next step; none for a session that is not to lose its connection.

        `reduce`: without the cuts whose effect another one has.
        """

    def cut(self, cut: Cut) -> None:
        """Have the connection cut at the next step: what `advance` does next."""

    def mend(self) -> None:
        """Connect again after a cut. No session is in a transaction."""

    @property
    def joins_next(self) -> bool:
        """Whether the next step touches nothing, so that the step after it may be taken together with it."""

    @property
    def pid(self) -> int:
        """The backend that it uses now; 0 if none."""

    @property
    def pids(self) -> frozenset[int]:
        """All its backends: an application may have several."""

    @property
    def socket(self) -> int:
        """The socket on which the answer arrives; negative if there is none."""

    def literal(self) -> str:
        """The next step with the values in it; as it stands, if they are not known."""

    def sql(self) -> str:
        """The next step, if it is one statement, with its values in it; "" if they are not known."""

    def values(self) -> tuple[str, ...]:
        """The values that travel with the next step, as short texts: "1", or "version=1" if they have names."""

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the session, or, of connections that an application makes, before their next use."""

    def take_numbers(self, sequences: Sequence[str]) -> None:
        """Hold numbers of these sequences, as a session does that has used them; nothing if it cannot."""

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        """What it may have left behind since it was last cleaned, each with the statement that may have left it."""

    @property
    def serializable(self) -> bool:
        """Whether a transaction of it may be serializable, as far as is known by now."""

    def clean(self) -> None:
        """Remove what it has left in its connections. Raises DatabaseProblem."""

    def prepare_again(self) -> None:
        """Prepare its statements again, after the tables were made again."""

    def kept(self) -> Sequence[str]:
        """What its connections hold, although it was cleaned, as texts. Raises DatabaseProblem."""

    def start(self, tenant: int, run: int) -> None:
        """Begin again, in another tenant and as the operation of another run."""

    def advance(self) -> None:
        """Send the next step, or read what has arrived, and go on until the next step, wait or end."""

    def abandon(self) -> None:
        """End whatever it is in the middle of, if it is READY."""

    def close(self) -> None:
        """Close its connections."""


class StrategySession(Session, Protocol):
    """A session that runs the strategy: one operation in each schedule.

    `statements`: those of the script that it runs; none for a callable. `operation`: the operation's number.
    `sqlstate`: of the last refusal; "" if there was none. `deadlocks`: how often the server ended a transaction of it
    to break a deadlock. `swallowed`: the SQLSTATE of the last statement, if it was refused and the code reported
    success all the same. `draw`: the number of the choice of random numbers with which it begins. `told`: the answers
    to its statements in this schedule, but for those that it rolled back; none unless they are compared. `returned`:
    what its call returned; None for a script.
    """

    statements: tuple[Statement, ...]
    operation: int
    sqlstate: str
    deadlocks: int
    swallowed: str
    draw: int
    told: Answers
    returned: Any

    @property
    def drawn(self) -> int:
        """Equal for two schedules in which it has drawn the same numbers, of those that may decide what it does."""

    @property
    def functions(self) -> AbstractSet[str]:
        """The functions that run several statements inside its steps, as far as the facts do not have them."""

    @property
    def draws(self) -> Draws:
        """What its code was seen to draw and read."""

    @property
    def told_apart(self) -> bool:
        """Whether its code was seen to ask which session it is, after the facts had been found."""

    @property
    def batches(self) -> AbstractSet[str]:
        """The texts of steps that sent several statements at once."""

    @property
    def tries(self) -> int:
        """How often the operation has been begun."""

    @property
    def outcome(self) -> Outcome:
        """The operation's outcome, at its end."""

    @property
    def refused(self) -> bool:
        """Whether the operation failed only because another session was at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a search has prepared when its sessions are opened.

    `strategy`: with its script as it is explored (transactions.py); `implicit`: the identities of the statements that
    its own does not have. `monitor`: a connection that no session uses. `reached`: finds what statements reach; None
    where nothing depends on it. `known`: what was asked of the catalogs.
    `step_limit`: the time limit for a step, as a setting's value. `own_code`: the strategy is the user's own code.
    `compares_answers`: sessions are to keep what they are told. `backends`: kept for the next exploration, if nothing
    of this one is left in them; None if none are. `cutter`: cuts their connections, at most `crash` in a
    schedule. `pooled`: the server sessions of a pooler that is simulated; None without one.
    """

    target: Target
    schema: str
    application_name: str
    strategy: Strategy
    implicit: frozenset[int]
    sessions: int
    monitor: psycopg.Connection[Any]
    known: Known
    facts: Facts
    reached: Reached | None
    step_limit: str
    own_code: bool
    compares_answers: bool
    backends: Backends | None
    cutter: Cutter | None
    crash: int
    pooled: PooledConnections | None = None


class SessionKind(Protocol):
    """How the sessions of one kind of strategy are opened and run alone. One for each search.

    `may_be_abandoned`: a session may be stopped between two steps; if not, it is run to its end.
    """

    may_be_abandoned: ClassVar[bool]

    def environment(self, target: Target, schema: str) -> AbstractContextManager[None]:
        """What the sessions' code needs in this process, from before the schema is set up until it is gone."""

    def open(self, surroundings: Surroundings, stack: ExitStack) -> Sequence[StrategySession]:
        """Open all sessions; `stack` closes them, also if this fails halfway. Raises RacebenchError."""

    def renew(self) -> None:
        """Prepare the application for another schedule, whose tables are prepared."""

    def run_alone(self, renew: Callable[[], object], violations: Callable[[], int]) -> None:
        """Run the sessions one after the other, if that tells more about what they do concurrently.

        `renew` prepares the tables for another run, `violations` counts the rows that break an invariant. Raises
        UsageProblem if something goes wrong that is no race.
        """

    def callables(self, strategy: Strategy, sessions: int) -> Mapping[str, str]:
        """The callable that each session runs, by the session's name; empty for a kind without callables."""

    @property
    def strands(self) -> Sequence[Session]:
        """What else its sessions may have under way at once, besides their first strands (choices.py)."""

    @property
    def notes(self) -> Sequence[str]:
        """What was noticed of the application, as sentences."""

    @property
    def spoiled(self) -> bool:
        """Whether the schedule that has ended is to be run again: it suffered from a cut in a schedule before it."""

    @property
    def unseen(self) -> Unseen | None:
        """Why the schedules so far prove nothing; None if they do."""

    def stuck(self, waiting: Sequence[str], holders: Sequence[str]) -> UsageProblem:
        """Why sessions still wait though the others have come to their end."""


class GeneratorSession:
    """A session whose operation is a generator of steps and waits, driven to the next step or wait.

    `cutter`: None for a session whose connection is not cut. `cut_now`: how it is cut at the step under way; `is_cut`:
    it has been.
    """

    cutter: Cutter | None = None

    def __init__(self, number: int) -> None:
        self.number = number
        self.cut_now: Cut | None = None
        self.is_cut = False
        self.name = f"s{number}"
        self.state = State.DONE
        self.next_step: tuple[Statement, ...] = ()
        self.answers: list[str] = []
        self.where = ""
        self.inside = False
        self.result: Any = None
        self._steps: Steps | None = None

    @property
    def pid(self) -> int:
        raise NotImplementedError

    @property
    def socket(self) -> int:
        raise NotImplementedError

    @property
    def pids(self) -> frozenset[int]:
        return frozenset({self.pid})

    @property
    def step_identity(self) -> tuple[Statement, ...]:
        return self.next_step

    @property
    def changes_catalog(self) -> bool:
        return False

    def cuts(self, *, reduce: bool) -> Sequence[Cut]:  # noqa: ARG002 - all of them
        return () if self.cutter is None else (Cut.BEFORE, Cut.AFTER)

    def cut(self, cut: Cut) -> None:
        self.cut_now, self.is_cut = cut, False

    def mend(self) -> None:
        """A session that has not lost its connection."""

    @property
    def joins_next(self) -> bool:
        return False

    def literal(self) -> str:
        return describe(self.next_step)

    def sql(self) -> str:
        return self.literal() if len(self.next_step) == 1 else ""

    def values(self) -> tuple[str, ...]:
        return ()

    def take_numbers(self, sequences: Sequence[str]) -> None:
        """A session that is not told which connection to use holds no numbers."""

    @property
    def leaves(self) -> Mapping[Leftover, str]:
        return {}

    @property
    def serializable(self) -> bool:
        return False

    def clean(self) -> None:
        """A session that leaves nothing."""

    def prepare_again(self) -> None:
        """A session that has prepared nothing."""

    def kept(self) -> Sequence[str]:
        return ()

    def begin(self, steps: Steps) -> None:
        """Begin an operation and go on to its first step."""
        self._steps = steps
        self.result = None
        self.state = State.READY
        self.advance()

    def advance(self) -> None:
        assert self._steps is not None
        if self.cut_now is not None and not self._cut_off():
            return
        try:
            while True:
                met = next(self._steps)
                if met is None:
                    self.state = State.WAITING
                    return
                if isinstance(met, tuple):
                    self.state, self.next_step, self.cut_now = State.READY, met, None
                    return
        except StopIteration as done:
            self.state, self.result, self.cut_now = State.DONE, done.value, None

    def _cut_off(self) -> bool:
        """Cut the connection, if it is time; False if the step waits for another session first."""
        assert self.cutter is not None
        if self.state is State.READY:
            if self.cut_now is Cut.BEFORE:
                self.cutter.cut(self.socket, self.pid)
                self.is_cut = True
            return True
        self.is_cut = self.is_cut or self.cutter.lose_answer(self.socket, self.pid)
        return self.is_cut

    def abandon(self) -> None:
        if self.state is State.READY and self._steps is not None:
            self._steps.close()
            self.release()
        self.state = State.DONE

    def release(self) -> None:
        """Let go of what an abandoned operation holds on the server."""
