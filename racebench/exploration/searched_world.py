"""A world of sessions on a server that a search runs schedules in: begins each, takes its steps, counts its outcome.

made_world.py makes its parts; touching.py knows what steps touch; the search chooses the order of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from racebench.core.errors import ScenarioProblem
from racebench.core.faults import stops_a_schedule
from racebench.core.model import Outcome, first_word
from racebench.core.target import Target
from racebench.exploration.choices import (
    Cut,
    choice,
    cut_of,
    cuts,
    session_of,
    start_of,
)
from racebench.exploration.endless import Endless
from racebench.exploration.faults import Fault
from racebench.exploration.independence import Footprint
from racebench.exploration.made_world import MadeWorld
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.outcome import Deadlock, ScheduleResult
from racebench.exploration.preparation import Preparation
from racebench.exploration.repeats import MOST
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Unseen
from racebench.exploration.reuse import Reuse
from racebench.exploration.search import Unsteady
from racebench.exploration.sessions.session import Session, State
from racebench.exploration.steps import with_values
from racebench.exploration.touching import Touching
from racebench.exploration.tree import Choice
from racebench.exploration.victims import Victims
from racebench.postgres.transport import Variables
from racebench.postgres.two_phase import roll_back_prepared

if TYPE_CHECKING:
    from racebench.exploration.comparison import Comparison
    from racebench.exploration.oracle.recorder import Recorder
    from racebench.exploration.oracle.serial import Shifts


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """How a run is made that is not counted.

    `among`: the sessions that take part. `shifted`: sequences are moved on before. `one_by_one`: a session begins at
    its turn. `anew`: it begins with tables that are made anew, and sessions keep what they are told.
    `apart`: without the pooler, each session has its own session of the server.
    """

    among: Set[int]
    shifted: bool
    one_by_one: bool
    anew: bool = False
    apart: bool = False


class SearchedWorld(MadeWorld):
    """A search.World of sessions on a server. `ended` is called with the result of each complete schedule.

    `left` is called before, when the tables are as the schedule left them: its result is then compared with others.

    `tenant`: whose rows the current schedule writes. `prepared`: the statements that the scenario had sent before it.
    `symmetry_failed`: sessions that counted as alike were seen not to be; from then on none count as alike.
    `draw`: the number of the choice of random numbers with which the next schedule begins. `crash`: how many
    connections are cut at most in the next schedule. `order`: in which the sessions of the next schedule begin; empty:
    that of their numbers. `waited_at_start`: a session came to no first step in a schedule, as long as others had not
    gone on. `recorder` records the runs that are made while it is set. `repeats`, `reuse`: see MadeWorld.
    """

    def __init__(
        self,
        target: Target,
        request: ExplorationRequest,
        ended: Callable[[ScheduleResult], None],
        *,
        repeats: int = MOST,
        reuse: Reuse | None = None,
    ) -> None:
        super().__init__(target, request, repeats=repeats, reuse=reuse)
        self.ended = ended
        self.left: Callable[[], None] = lambda: None
        self.tenant = 0
        self.prepared: tuple[str, ...] = ()
        self.symmetry_failed = False
        self.draw = request.draw
        self.crash = request.crash
        self.order: tuple[int, ...] = ()
        self.waited_at_start = False
        self._runs = 0
        self._catalog_raced = False
        self._raced = self._waited = self._bursting = self._two_phase = False
        self._taken: list[int] = []
        self._endless = Endless()
        self._chosen: list[int] = []
        self._deadlock: Deadlock | None = None
        self._victims, self._touching = Victims(), Touching(request)
        self._comparison: Comparison | None = None
        #: How a run is made that is not counted; None for a schedule of the search. `_compared`: its result.
        self._aside: Aside | None = None
        self._compared: ScheduleResult | None = None
        self._shifts: Shifts = {}
        self._broken: tuple[str, ...] = ()
        self._following = False
        self.recorder: Recorder | None = None
        self._make_first()

    @property
    def unseen(self) -> Unseen | None:
        """Why the schedules so far prove nothing, even if no other is left; None if they do."""
        if self._batches:
            return Unseen.BATCH
        if self.beginning.doubtful:
            return Unseen.PHYSICAL
        if self._preparation.kind.unseen is not None:
            return self._preparation.kind.unseen
        return Unseen.CATALOG if self._catalog_raced else None

    @property
    def notes(self) -> list[str]:
        """What was noticed in the schedules so far, as sentences."""
        return [
            *self._touching.notes,
            *self._repeats.notes,
            *self._preparation.kind.notes,
            *(self._comparison.notes if self._comparison is not None else ()),
        ]

    def _adopt(self, preparation: Preparation) -> None:
        """Take over the parts, after the sessions have run alone if their kind needs that."""
        super()._adopt(preparation)
        self._victims.adopt(preparation)
        for session in self.strategy_sessions:
            session.draw = self.draw
        preparation.kind.run_alone(preparation.isolation.renew, preparation.anomalies.violations)
        preparation.anomalies.reset()
        told_apart = self.symmetry_failed or any(session.told_apart for session in self.strategy_sessions)
        self._touching.adopt(preparation)
        self._symmetric = self._request.reduce and preparation.facts.alike and not told_apart
        self.tenant = 0

    def order_victims(self, first: int = 1) -> None:
        """Have the server abort one session of each deadlock: this one, or else the one with the lowest number."""
        self._victims.order(first)

    # The world that a search searches

    def begin(self) -> None:
        """See World.begin. Raises Unsteady if a fault stops the schedule; also the other methods of a schedule do."""
        if self._repeats.stopped:
            self._open_again()
        self._repeats.part(self._begin)

    def _begin(self) -> None:
        self._mend()
        if self._two_phase:  # an abandoned schedule may have left a prepared transaction
            roll_back_prepared(self._preparation.monitor, self._preparation.schema)
        if not self._preparation.isolation.renew():
            self._replace()
            self._preparation.isolation.renew()
        self._preparation.kind.renew()
        if self._preparation.isolation.whole_tables:
            self._preparation.anomalies.reset()
        self._victims.begin()
        if self._preparation.isolation.whole_tables:
            self._runs = self.tenant = 1  # what a schedule writes must not depend on how many were run before
        else:
            self._runs += 1
            self.tenant += 1
        if self._preparation.pooled is not None:
            self._preparation.pooled.begin(apart=self._aside is not None and self._aside.apart)
        shifted = self._aside is not None and self._aside.shifted
        anew = self._aside is not None and self._aside.anew
        if self._preparation.restored is not None:
            if anew:
                self._preparation.restored.make_anew()
            self._shifts = self._preparation.restored.shift() if shifted else {}
        self._raced = self._waited = self._bursting = self.scheduler.deadlocked = False
        self._taken, self._chosen, self._deadlock = [], [], None
        self._endless.begin()
        self._touching.begin()
        self._run_prologue()
        if cached := self._preparation.facts.cached_sequences:
            # Otherwise a schedule would depend on the schedules before it. The first session has the lowest numbers.
            for holder in self.strategy_sessions:
                holder.take_numbers(cached)
        for asked in self.strategy_sessions:
            asked.told.wanted = anew or self._request.oracle is Oracle.ANSWERS
        for drawer in self.strategy_sessions:
            # Other identifiers than in the run that it is compared with, so that they are known to be made up.
            drawer.draw = -1 - self.draw if shifted and drawer.draws.only_names else self.draw
        if self.recorder is not None:
            self.recorder.begin()
        sessions = self.scheduler.sessions
        if self.order:
            sessions = sorted(sessions, key=lambda session: self._place(session.number))
        for session in sessions:
            if self._aside is None or not self._aside.one_by_one or session is self.consumer:
                session.start(self.tenant, self._runs)
        self.waited_at_start |= any(session.inside for session in self.strategy_sessions)

    def _place(self, number: int) -> int:
        """The place of a session in the order of the starts; the consumer's is the last."""
        return self.order.index(number) if number in self.order else len(self.order)

    def _run_prologue(self) -> None:
        prologue = self._preparation.prologue
        if prologue is None:
            return
        variables: Variables = {"tenant": b"%d" % self.tenant, "operation": b"%d" % self._runs}
        if prologue.run(variables) is not Outcome.OK:
            if not prologue.alive or stops_a_schedule(prologue.sqlstate):
                raise Fault(f"the connection that prepares schedules: {prologue.message}", prologue.sqlstate)
            raise ScenarioProblem(f"{prologue.script.path}: the server refuses this: {prologue.message}")
        self.prepared = tuple(with_values([statement], variables) for statement in prologue.script.statements)

    def choices(self) -> Sequence[Choice]:
        return self._repeats.part(self._choices)

    def _choices(self) -> Sequence[Choice]:
        able = self.scheduler.able()
        if self._preparation.facts.ddl or self._request.strategy.is_application:
            self._catalog_raced |= sum(session.changes_catalog for session in able) > 1
        more_cuts = cuts(self._taken) < self.crash
        choices = []
        for session in able:
            if session.state is not State.READY:
                choices.append(Choice(session.number, Footprint.ANYTHING, step=session.step_identity))
                continue
            likeness = self._likeness(session)
            choices.append(Choice(session.number, self._touching.footprint(session), likeness, session.step_identity))
            if more_cuts:
                choices += self._cuts(session, likeness)
        return choices

    def state(self) -> Hashable:
        return self._touching.state()

    def _cuts(self, session: Session, likeness: Hashable) -> Iterator[Choice]:
        """The next step of a session as one at which its connection is cut."""
        untouched = all(session_of(number) != session_of(session.number) for number in self._taken)
        for cut in session.cuts(reduce=self._request.reduce and not self._touching.surprises):
            yield Choice(
                choice(session.number, cut=cut),
                Footprint.NOTHING if untouched and cut is Cut.BEFORE else Footprint.ANYTHING,
                None if likeness is None else (likeness, cut),
                session.step_identity,
            )

    def _likeness(self, session: Session) -> Hashable:
        """Equal for sessions that only their names tell apart; None for a session that is like no other."""
        if not self._symmetric or not session.likeness:
            return None
        past = self._touching.past(session)
        if past is None:
            return None
        return session.likeness, past, session.memory, session.step_identity

    def take(self, number: int) -> Footprint:
        return self._repeats.part(self._take, number)

    def _take(self, number: int) -> Footprint:
        taker = self.scheduler.session(number)
        self._chosen.append(number)
        cut = cut_of(number)
        joined = self._request.reduce and taker.state is State.READY and taker.joins_next and cut is None
        touched = self._step(taker, cut)
        if joined and taker.state is State.READY:
            touched |= self._step(taker)
        self._victims.check()
        return touched

    def _step(self, session: Session, cut: Cut | None = None) -> Footprint:
        """Have a session take its step; return what it has touched: what the step has set going belongs to it."""
        self._endless.note(session)
        self._taken.append(choice(session.number, cut=cut))
        before, victims = self._touching.before(session, cut), self._victims.before()
        if cut is not None:
            session.cut(cut)
        self._two_phase = self._two_phase or any(_is_prepare(statement.sql) for statement in before.statements)
        if self.recorder is not None:
            self.recorder.before(session)
        self.scheduler.step(session)
        if self.recorder is not None:
            self.recorder.after(session)
        self._raced |= self.scheduler.raced
        self._waited |= bool(self.scheduler.waits)
        deadlock = self._victims.after(session, victims)
        if deadlock and self._deadlock is None:
            self.scheduler.deadlocked = True
            self._deadlock = Deadlock(after=tuple(self._chosen), sessions=deadlock, draw=self.draw, order=self.order)
        return self._touching.after(session, before, deadlock)

    def end(self, schedule: Sequence[int], *, complete: bool) -> None:  # noqa: ARG002 - a joined BEGIN is a step too
        if self._repeats.stopped:
            return  # its sessions are closed before the next one begins
        result = self._repeats.part(self._end, complete)
        self._repeats.passed()
        if result is None:
            return
        if self._aside is not None:
            self._compared = result
        else:
            self.left()
            self.ended(self._judged(result))

    def _judged(self, result: ScheduleResult) -> ScheduleResult:
        """A result of the search with what is found out by other runs."""
        return result if self._comparison is None else self._comparison.judged(result)

    def _end(self, complete: bool) -> ScheduleResult | None:
        if self._symmetric and any(session.told_apart for session in self.strategy_sessions):
            self.symmetry_failed, self._symmetric = True, False
        kind = self._preparation.kind
        if not complete:
            self._leave()
            if kind.may_be_abandoned:
                self._preparation.anomalies.skip()
                return None
        waiting = [session.name for session in self.scheduler.sessions if session.state is State.WAITING]
        pooled = self._preparation.pooled
        if waiting and pooled is not None and pooled.shares:  # no client is left that could release the lock
            self.scheduler.end_waits(pooled.hang)
        elif waiting:
            holders = {pid for pids in self.scheduler.waits.values() for pid in pids}
            held = [session.name for session in self.scheduler.sessions if session.pid in holders]
            raise kind.stuck(waiting, held)
        if complete and (kind.spoiled or not self._preparation.isolation.suffices):
            raise Unsteady
        return self._result() if complete else None

    def _leave(self) -> None:
        """Leave a schedule in its middle: stop the sessions, or run them to their ends if they may not be stopped."""
        if self._preparation.kind.may_be_abandoned:
            if self._preparation.pooled is not None:
                self._preparation.pooled.unlock_idle()  # a session may wait for that
            self.scheduler.abandon()
        else:
            self.scheduler.run_out()

    def _result(self) -> ScheduleResult:
        sessions = self.strategy_sessions
        counts, signature = self._preparation.anomalies.count(sessions, self.consumer, self.tenant, self.scheduler.wait)
        comparison, aside = self._comparison, self._aside
        if self._following and counts["violations"]:
            self._broken = self._preparation.anomalies.broken(self.tenant)
        return ScheduleResult(
            schedule=(*map(start_of, self.order), *self._taken),
            counts=counts,
            signature=signature,
            raced=self._raced,
            waited=self._waited,
            deadlocked=self.scheduler.deadlocked,
            deadlock=self._deadlock,
            victims=tuple(session.number for session in sessions if session.deadlocks),
            swallowed=tuple(session.swallowed for session in sessions if session.swallowed),
            draw=self.draw,
            burst=self._bursting,
            effect=None if comparison is None else comparison.effect(None if aside is None else aside.among),
            hung=0 if self._preparation.pooled is None else self._preparation.pooled.hung,
        )


@lru_cache(maxsize=1024)
def _is_prepare(sql: str) -> bool:
    """Whether a statement may be PREPARE TRANSACTION; the same statements are asked in every schedule."""
    return first_word(sql) == "PREPARE"
