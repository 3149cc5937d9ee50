"""What the steps of a schedule touch: assumed before each step, completed after it by what was seen.

A step's own part of the footprint is said by its session, before the step (independence.py). After the step belongs to
it what it has set going in other sessions, what the end of a transaction has made visible and released, and what is
known of the conflicts of serializable transactions (rw_conflicts.py). The order of the steps is the search's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from racebench.core.model import Statement
from racebench.core.target import Pooling
from racebench.exploration.choices import Cut, session_of
from racebench.exploration.independence import ANY_WRITE, NONE, POOLED, WAITED, Footprint, Resources
from racebench.exploration.preparation import Preparation
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.rw_conflicts import RwConflicts, addable, can_be_known
from racebench.exploration.sessions.script import ScriptSession
from racebench.exploration.sessions.session import Session, State
from racebench.exploration.steps import describe
from racebench.exploration.symmetry import Pasts
from racebench.exploration.transactions import in_transactions
from racebench.postgres.compiler.transactions import begins, ends


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeStep:
    """What is known of a step before it is taken, and of the sessions.

    `assumed`: what it may touch. `sent`: see `_sent`. `answers`: how many its session had. `pids`: its session's
    backends. `tries`: of each session that runs the strategy. `is_free`: it is a BEGIN that touches nothing. `moves`:
    how often a client of a pooler had taken a server session or given one back.
    """

    assumed: Footprint
    statements: Sequence[Statement]
    sent: str | None
    answers: int
    pids: frozenset[int]
    tries: Sequence[int]
    is_free: bool
    moves: int


class Touching:
    """Follows what the steps of the schedules of one search touch.

    `surprises`: the steps that were seen to lock more than was assumed, as text, with what they locked.
    """

    def __init__(self, request: ExplorationRequest) -> None:
        self.surprises: dict[str, str] = {}
        self._request = request
        self._parts: Preparation
        self._conflicts: RwConflicts | None = None
        self._states_are_known = False
        self._pasts = Pasts()
        #: What each session has locked or changed so far in the schedule, whether or not it holds it still.
        self._held: dict[int, Resources] = {}

    @property
    def notes(self) -> list[str]:
        """A sentence for each surprise."""
        return [
            f"'{step}' locked {locked}, which its text does not show; it was taken to depend on every other step"
            for step, locked in self.surprises.items()
        ]

    def adopt(self, preparation: Preparation) -> None:
        """Go on with the parts of a world that has been made; what is known of conflicts holds for the whole search."""
        self._parts = preparation
        if self._conflicts is None and self._has_known_conflicts(preparation):
            self._conflicts = RwConflicts(addable(preparation.monitor, preparation.schema))
        self._states_are_known = self._has_known_states(preparation)

    def _has_known_conflicts(self, preparation: Preparation) -> bool:
        """Whether a schedule may tell which serializable transactions conflict."""
        strategy = self._request.strategy
        if preparation.pooled is not None and preparation.pooled.shares:
            return False
        if not self._request.reduce or strategy.is_application or not preparation.facts.serializable:
            return False
        if not preparation.isolation.whole_tables or ANY_WRITE in preparation.facts.volatile:
            return False
        script = in_transactions(strategy.script, preparation.facts.volatile)
        return can_be_known(preparation.monitor, preparation.schema, script, strategy.isolation)

    def _has_known_states(self, preparation: Preparation) -> bool:
        """Whether the committed rows and what the sessions have learnt decide everything that follows."""
        scenario, strategy = self._request.scenario, self._request.strategy
        if self._conflicts is None or preparation.consumer is not None or preparation.restored is not None:
            return False
        if scenario.checks or preparation.facts.leaves or self._request.crash:
            return False
        script = in_transactions(strategy.script, preparation.facts.volatile)
        invariants = scenario.invariants.values()
        return can_be_known(preparation.monitor, preparation.schema, script, strategy.isolation, invariants)

    def state(self) -> Hashable:
        """Equal for two moments of schedules with the same outcomes after them; None where that is not known.

        Known where no transaction is under way. Then the server keeps nothing of the transactions before, and what
        follows depends on the committed rows, and on where each session is in its script and what it has learnt.
        """
        rows = self._conflicts.rows if self._conflicts is not None and self._states_are_known else None
        if rows is None or self._conflicts is None:
            return None
        sessions = self._parts.strategy_sessions
        if any(session.state not in (State.READY, State.DONE) for session in sessions):
            return None
        return rows, *(
            (one.state, one.step_identity, one.memory, one.sqlstate, self._conflicts.committed(one.number))
            for one in sessions
        )

    def begin(self) -> None:
        """Begin a schedule."""
        if self._parts.observer is not None:
            self._parts.observer.reset()
        self._pasts, self._held = Pasts(), {}
        if self._conflicts is not None:
            self._conflicts.begin()

    def footprint(self, session: Session) -> Footprint:
        """What the next step of a session may touch, as far as that is known before."""
        return session.footprint.closing(self._held.get(session_of(session.number), NONE))

    def past(self, session: Session) -> tuple[int, ...] | None:
        """Equal for sessions whose steps so far do not tell them apart; None for a session that is like no other."""
        return self._pasts.of(session.number)

    def before(self, session: Session, cut: Cut | None) -> BeforeStep:
        """What is known before a session takes its step, or has its connection cut at it."""
        # What a session does after its wait began with the step that had to wait.
        ready = session.state is State.READY and cut is None
        return BeforeStep(
            assumed=self.footprint(session) if ready else Footprint.ANYTHING,
            statements=session.next_step,
            sent=None if self._conflicts is None else _sent(session, alike=self._parts.facts.alike),
            answers=len(session.answers),
            pids=session.pids,
            is_free=ready and session.joins_next,
            tries=[other.tries for other in self._parts.strategy_sessions],
            moves=self._moves,
        )

    @property
    def _moves(self) -> int:
        pooled = self._parts.pooled
        return pooled.moves if pooled is not None and pooled.shares else 0

    def _pools(self, session: Session, before: BeforeStep) -> Footprint:
        """What a step touches besides because of a pooler."""
        pooled = self._parts.pooled
        if pooled is None or self._moves == before.moves:
            return Footprint.NOTHING
        # A server session that is reset releases its locks, and one that another client has waited for has it go on.
        resets = pooled.options.pooling is Pooling.SESSION and session.state is State.DONE
        return Footprint.ANYTHING if resets or pooled.options.size < len(self._parts.strategy_sessions) else POOLED

    def after(self, session: Session, before: BeforeStep, deadlock: AbstractSet[int]) -> Footprint:
        """What a session's step has touched; `deadlock`: the sessions of the deadlock that it led to."""
        scheduler = self._parts.scheduler
        touches = Footprint.ANYTHING if self._surprises(session, before) else before.assumed
        compared = zip(self._parts.strategy_sessions, before.tries, strict=True)
        again = {other.number for other, tries in compared if other.tries > tries}
        waits = session.state is State.WAITING
        owner = session_of(session.number)
        held = self._held[owner] = self._held.get(owner, NONE) | touches.holds
        answers = session.answers[before.answers :]
        pools = self._pools(session, before)
        gone = pools is Footprint.NOTHING and before.pids - session.pids
        anything = bool(scheduler.woken or deadlock or gone)
        touched = touches
        if self._conflicts is not None and before.sent is not None and isinstance(session, ScriptSession):
            if anything or scheduler.waits:
                self._conflicts.give_up()
            ended = session.number in again or session.state is State.DONE or not session.in_transaction
            touched = self._conflicts.sent(session.number, before.sent, touches, answers, ended=ended)
        past = touches if touches.adds == touched.adds else replace(touches, adds=touched.adds)
        self._pasts.took(
            session.number,
            past if pools is Footprint.NOTHING else Footprint.ANYTHING,
            undone=session.number in again,
            waits=waits,
            commutes=before.is_free
            or (self._conflicts is not None and self._conflicts.commutes(session.number, touched)),
        )
        if self._parts.facts.rollback_forgets:
            for number in again:
                self._pasts.begins_again(number)
        if anything:  # a woken session may have committed, and one without a connection has rolled back
            touched = Footprint.ANYTHING
        elif any(answer.startswith("ERROR") for answer in answers):
            touched |= Footprint.ROLLBACK.closing(held)
        elif session.state is State.DONE:  # what a call leaves open is rolled back
            touched |= Footprint.END.closing(held)
        touched |= pools
        return touched | WAITED if waits else touched

    def _surprises(self, session: Session, before: BeforeStep) -> bool:
        """Whether a step was seen to lock more than was assumed of it."""
        observer = self._parts.observer
        if observer is None:
            return False
        owner = session_of(session.number)
        others = frozenset[int]().union(
            *(other.pids for other in self._parts.scheduler.sessions if session_of(other.number) != owner)
        )
        locks = observer.new(session.pids, others)
        if not locks or before.assumed == Footprint.ANYTHING or all(one.keyword == "LOCK" for one in before.statements):
            return False
        locked = ", ".join(f"{table} in {mode} mode" for table, mode in sorted(locks))
        self.surprises[describe(before.statements)] = locked
        return True


def _sent(session: Session, *, alike: bool) -> str | None:
    """What a session's next step sends, with its values: "" for COMMIT and ROLLBACK, None if that is not known.

    `alike`: without the values that only tell the sessions apart.
    """
    if not isinstance(session, ScriptSession) or session.state is not State.READY or begins(session.next_step[0]):
        return None
    return "" if any(map(ends, session.next_step)) else session.whole_text(own=not alike)
