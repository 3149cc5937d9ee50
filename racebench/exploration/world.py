"""The world of a search on a server: begins each schedule, takes its steps, and counts its outcome.

preparation.py makes its parts; the search chooses the order of the steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING

from racebench.core.errors import ScenarioProblem, UsageProblem
from racebench.core.faults import stops_a_schedule
from racebench.core.model import Outcome, Statement, first_word
from racebench.core.target import Target
from racebench.exploration.choices import (
    Cut,
    choice,
    cut_of,
    cuts,
    divided,
    session_of,
    start_of,
    text_of,
)
from racebench.exploration.draws import Draws, united
from racebench.exploration.endless import Endless
from racebench.exploration.faults import PROBLEMS, Fault
from racebench.exploration.independence import ANY_WRITE, NONE, WAITED, Footprint, Resources
from racebench.exploration.oracle.effects import Effect
from racebench.exploration.outcome import Deadlock, ScheduleResult
from racebench.exploration.preparation import Preparation, prepare
from racebench.exploration.repeats import MOST, Repeats, await_server
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Beginning, Unseen
from racebench.exploration.reuse import Reuse
from racebench.exploration.rw_conflicts import RwConflicts, can_be_known
from racebench.exploration.scheduler import Scheduler
from racebench.exploration.schedules import Step
from racebench.exploration.search import Choice, Unsteady, left_if_unsteady
from racebench.exploration.sessions.consumer import ConsumerSession
from racebench.exploration.sessions.drivers import OtherDriver
from racebench.exploration.sessions.script import ScriptSession
from racebench.exploration.sessions.session import NOT_ANSWERED, Session, State, StrategySession
from racebench.exploration.steps import GOES_ON, STARTS, describe, with_values
from racebench.exploration.symmetry import Pasts
from racebench.exploration.transactions import in_transactions
from racebench.postgres.compiler.transactions import begins, ends
from racebench.postgres.transport import Variables
from racebench.postgres.two_phase import roll_back_prepared

if TYPE_CHECKING:
    from racebench.exploration.comparison import Comparison
    from racebench.exploration.oracle.recorder import Recorder
    from racebench.exploration.oracle.serial import Shifts

#: The shortest deadlock_timeout of a session; sessions must come to wait for each other within it. It is doubled, at
#: most to the second number, when a busy machine was slower than that.
_DEADLOCK_MS, _LONGEST_DEADLOCK_MS = 15, 2_000


class ServerWorld:
    """A search.World of sessions on a server. `ended` is called with the result of each complete schedule.

    `left` is called before, when the tables are as the schedule left them: its result is then compared with others.

    `tenant`: whose rows the current schedule writes. `prepared`: the statements that the scenario had sent before it.
    `symmetry_failed`: sessions that counted as alike were seen not to be; from then on none count as alike.
    `draw`: the number of the choice of random numbers with which the next schedule begins. `crash`: how many
    connections are cut at most in the next schedule.
    `surprises`: the steps that were seen to lock more than was assumed, as text, with what they locked.
    When a fault has stopped a schedule, the world is made again, and the schedule is repeated, at most `repeats` times
    in a row. `reuse`: what worlds before have left open, and where this one leaves it; None to leave nothing open.
    """

    strategy_sessions: Sequence[StrategySession]
    consumer: ConsumerSession | None
    scheduler: Scheduler

    def __init__(
        self,
        target: Target,
        request: ExplorationRequest,
        ended: Callable[[ScheduleResult], None],
        *,
        repeats: int = MOST,
        reuse: Reuse | None = None,
    ) -> None:
        self.ended = ended
        self.left: Callable[[], None] = lambda: None
        self.tenant = 0
        self.prepared: tuple[str, ...] = ()
        self.symmetry_failed = False
        self.surprises: dict[str, str] = {}
        self.draw = request.draw
        self.crash = request.crash
        #: The order in which the sessions of the next schedule begin; empty: that of their numbers. `waited_at_start`:
        #: a session came to no first step in a schedule, as long as others had not gone on.
        self.order: tuple[int, ...] = ()
        self.waited_at_start = False
        self._target, self._request, self._reuse = target, request, reuse
        #: Sentences about what was made outside the schema; complete when the world is closed.
        self.made_outside: list[str] = []
        self._stack = contextlib.ExitStack()
        self._before = _Before()
        self._repeats = Repeats(repeats)
        self._runs = 0
        self._catalog_raced = False
        self._first_victim = 1
        self._deadlock_ms = _DEADLOCK_MS
        self._raced = self._waited = self._wrong_victim = self._bursting = self._two_phase = False
        self._taken: list[int] = []
        self._endless = Endless()
        self._chosen: list[int] = []
        self._deadlock: Deadlock | None = None
        self._pasts = Pasts()
        #: What each session has locked or changed so far in the schedule, whether or not it holds it still.
        self._held: dict[int, Resources] = {}
        self._conflicts: RwConflicts | None = None
        self._preparation: Preparation
        self._comparison: Comparison | None = None
        #: How a run is made that is not counted; None for a schedule of the search. `_compared`: its result.
        self._aside: _Aside | None = None
        self._compared: ScheduleResult | None = None
        self._shifts: Shifts = {}
        self._broken: tuple[str, ...] = ()
        self._following = False
        #: Records the runs that are made while it is set.
        self.recorder: Recorder | None = None
        if not self._opened():
            while self._repeats.stopped:
                with contextlib.suppress(Unsteady):
                    self._open_again()

    def __enter__(self) -> ServerWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove everything; what cannot be removed is in a note of the problem, if there is one, else it is raised."""
        self._stack.__exit__(kind, problem, traceback)

    @property
    def schema(self) -> str:
        """The schema that the tables are in."""
        return self._preparation.schema

    @property
    def callables(self) -> Mapping[str, str]:
        """What each session runs that runs code of the application's, by the session's name."""
        return self._preparation.kind.callables(self._request.strategy, len(self.strategy_sessions))

    @property
    def triggers(self) -> tuple[str, ...]:
        """The triggers of the tables."""
        return self._preparation.facts.triggers

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that run several statements inside a step."""
        seen = (session.functions for session in self.strategy_sessions)
        return tuple(sorted(self._before.functions.union(self._preparation.facts.functions, *seen)))

    @property
    def draws(self) -> Draws:
        """What the sessions were seen to draw and read."""
        return united((self._before.draws, *(session.draws for session in self.strategy_sessions)))

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
    def _batches(self) -> bool:
        """Whether a session was seen to send statements that cannot be divided into steps."""
        return self._before.batches or any(session.batches for session in self.strategy_sessions)

    @property
    def notes(self) -> list[str]:
        """What was noticed in the schedules so far, as sentences."""
        surprises = (
            f"'{step}' locked {locked}, which its text does not show; it was taken to depend on every other step"
            for step, locked in self.surprises.items()
        )
        return [
            *surprises,
            *self._repeats.notes,
            *self._preparation.kind.notes,
            *(self._comparison.notes if self._comparison is not None else ()),
        ]

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that stopped a schedule, in order."""
        return self._repeats.faults

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Why schedules so far may have begun in different states, as sentences."""
        return tuple({**self._before.leftovers, **dict.fromkeys(self._preparation.isolation.named)})

    @property
    def beginning(self) -> Beginning:
        """What the schedules so far began with."""
        return self._preparation.isolation.beginning

    def check_leftovers(self) -> None:
        """Restore what the last schedule left, and name what is left all the same. No schedule may be under way.

        Raises Unsteady if a fault prevents that: what the last schedule left is not known then.
        """
        self._repeats.part(self._check_leftovers)

    def _check_leftovers(self) -> None:
        self._mend()
        self._preparation.isolation.check()

    def _mend(self) -> None:
        for session in self.scheduler.sessions:
            session.mend()

    def _opened(self) -> bool:
        """Make the world; False if a fault prevents it, and it may be tried again."""
        try:
            self._open()
        except PROBLEMS as problem:
            self._repeats.stop(problem)
            return False
        return True

    def _open_again(self) -> None:
        """Make the world again after a fault, when the server can be reached. Raises Unsteady at another fault."""
        last = self.faults[-1]
        if unreachable := await_server(self._target):
            raise Fault(f"{last}; then {unreachable}", last.sqlstate)
        self._remember()
        with contextlib.suppress(Fault):
            self._stack.__exit__(Fault, last, None)
        if getattr(last, "__notes__", False):  # something is left on the user's server
            raise last
        self._stack = contextlib.ExitStack()
        if not self._opened():
            raise Unsteady
        self._repeats.stopped = False

    def _remember(self) -> None:
        """Keep what was seen of the sessions: those of a world that is made again have seen nothing."""
        if not hasattr(self, "_preparation"):
            return
        self._before = _Before(
            draws=self.draws,
            functions=frozenset(self.functions),
            batches=self._batches,
            leftovers=dict.fromkeys(self.leftovers),
        )

    def _open(self) -> None:
        """Make the world; its calls go through the wire gate if they use another driver than psycopg 3."""
        try:
            self._make()
            return
        except OtherDriver as problem:
            otherwise = problem.otherwise
        strategy = replace(self._request.strategy, through_wire=True)
        self._request = replace(self._request, strategy=strategy)
        try:
            self._make()
        except UsageProblem:
            if otherwise is not None:
                raise otherwise from None
            raise

    def _make(self) -> None:
        """Make the world; if a part cannot be made, the other parts are removed."""
        with contextlib.ExitStack() as opening:
            self._preparation = prepare(self._target, self._request, opening, self.made_outside.append, self._reuse)
            self._adopt(self._preparation)
            if self._comparison is not None:
                self._comparison.adopt(self._preparation)
            elif self._preparation.restored is not None:
                from racebench.exploration.comparison import Comparison  # most scenarios need none

                self._comparison = Comparison(self, self._preparation, self._request)
            self.tenant = 0
            self._stack = opening.pop_all()

    def _adopt(self, preparation: Preparation) -> None:
        """Take over the parts, after the sessions have run alone if their kind needs that."""
        self.strategy_sessions, self.consumer = preparation.strategy_sessions, preparation.consumer
        self.scheduler = preparation.scheduler
        self.order_victims(self._first_victim)
        for session in self.strategy_sessions:
            session.draw = self.draw
        preparation.kind.run_alone(preparation.isolation.renew, preparation.anomalies.violations)
        preparation.anomalies.reset()
        told_apart = self.symmetry_failed or any(session.told_apart for session in self.strategy_sessions)
        if self._conflicts is None and self._has_known_conflicts(preparation):
            self._conflicts = RwConflicts()  # of the whole search, also if the world is made again
        self._symmetric = self._request.reduce and preparation.facts.alike and not told_apart

    def _has_known_conflicts(self, preparation: Preparation) -> bool:
        """Whether a schedule may tell which serializable transactions conflict."""
        strategy = self._request.strategy
        if not self._request.reduce or strategy.is_application or not preparation.facts.serializable:
            return False
        if not preparation.isolation.whole_tables or ANY_WRITE in preparation.facts.volatile:
            return False
        script = in_transactions(strategy.script, preparation.facts.volatile)
        return can_be_known(preparation.monitor, preparation.schema, script, strategy.isolation)

    def order_victims(self, first: int = 1) -> None:
        """Have the server abort one session of each deadlock: this one, or else the one with the lowest number.

        It is the one that looks for a deadlock soonest. Only a superuser may choose; for others the server decides,
        after its own deadlock_timeout. A session looks for a deadlock once, its own timeout after it began to wait.
        """
        self._first_victim = first
        sessions = sorted(self.strategy_sessions, key=lambda session: (session.number != first, session.number))
        self.scheduler.victims = [session.number for session in sessions]
        if not self._preparation.chooses_victims:
            return
        for place, session in enumerate(sessions, 1):
            # Stopped sessions do not look for a deadlock; only the victim does.
            times = place if self.scheduler.freezer is None else 1
            session.configure("deadlock_timeout", f"{self._deadlock_ms * times}ms")

    def _is_wrong_victim(self, victims: Set[int], deadlock: Set[int]) -> bool:
        """Whether a step had the server abort other sessions of a deadlock than the one that order_victims chose.

        It does so if the deadlock began after the chosen session had looked for it.
        """
        if not victims or not self._preparation.chooses_victims or self._deadlock_ms >= _LONGEST_DEADLOCK_MS:
            return False
        among = {session.number for session in self.strategy_sessions} & deadlock
        return bool(among) and min(among, key=self.scheduler.victims.index) not in victims

    def _check_victim(self) -> None:
        """Raise Unsteady if the last step aborted the wrong session; from then on sessions look for deadlocks later."""
        if self._wrong_victim:
            self._deadlock_ms *= 2
            raise Unsteady

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
            self._remember()
            self._stack.close()
            self._open()
            self._preparation.isolation.renew()
        self._preparation.kind.renew()
        if self._preparation.isolation.whole_tables:
            self._preparation.anomalies.reset()
        if self._wrong_victim:
            self.order_victims(self._first_victim)
        if self._preparation.isolation.whole_tables:
            self._runs = self.tenant = 1  # what a schedule writes must not depend on how many were run before
        else:
            self._runs += 1
            self.tenant += 1
        shifted = self._aside is not None and self._aside.shifted
        if self._preparation.restored is not None:
            self._shifts = self._preparation.restored.shift() if shifted else {}
        self._raced = self._waited = self._wrong_victim = self._bursting = self.scheduler.deadlocked = False
        if self._preparation.observer is not None:
            self._preparation.observer.reset()
        self._taken, self._chosen, self._deadlock = [], [], None
        self._endless.begin()
        self._pasts, self._held = Pasts(), {}
        if self._conflicts is not None:
            self._conflicts.begin()
        self._run_prologue()
        if cached := self._preparation.facts.cached_sequences:
            # Otherwise a schedule would depend on the schedules before it. The first session has the lowest numbers.
            for holder in self.strategy_sessions:
                holder.take_numbers(cached)
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
            choices.append(Choice(session.number, self._footprint(session), likeness, session.step_identity))
            if more_cuts:
                choices += self._cuts(session, likeness)
        return choices

    def _cuts(self, session: Session, likeness: Hashable) -> Iterator[Choice]:
        """The next step of a session as one at which its connection is cut."""
        untouched = all(session_of(number) != session_of(session.number) for number in self._taken)
        for cut in session.cuts(reduce=self._request.reduce and not self.surprises):
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
        past = self._pasts.of(session.number)
        if past is None:
            return None
        return session.likeness, past, session.memory, session.step_identity

    def _footprint(self, session: Session) -> Footprint:
        """What the next step of a session may touch, as far as that is known before."""
        return session.footprint.closing(self._held.get(session_of(session.number), NONE))

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
        self._check_victim()
        return touched

    def _step(self, session: Session, cut: Cut | None = None) -> Footprint:
        """Have a session take its step; return what it has touched: what the step has set going belongs to it."""
        self._endless.note(session)
        self._taken.append(choice(session.number, cut=cut))
        # What a session does after its wait began with the step that had to wait.
        ready = session.state is State.READY and cut is None
        touches = self._footprint(session) if ready else Footprint.ANYTHING
        answered, pids = len(session.answers), session.pids
        if cut is not None:
            session.cut(cut)
        before = [(other.tries, other.deadlocks) for other in self.strategy_sessions]
        suspects = {other.number for other in self.scheduler.sessions if other.state is State.WAITING}
        statements = session.next_step
        self._two_phase = self._two_phase or any(_is_prepare(statement.sql) for statement in statements)
        sent = None if self._conflicts is None else _sent(session, alike=self._preparation.facts.alike)
        if self.recorder is not None:
            self.recorder.before(session)
        self.scheduler.step(session)
        if self.recorder is not None:
            self.recorder.after(session)
        self._raced |= self.scheduler.raced
        self._waited |= bool(self.scheduler.waits)
        surprise = self._surprise(session, touches, statements)
        if surprise:
            touches = Footprint.ANYTHING
        compared = list(zip(self.strategy_sessions, before, strict=True))
        again = {other.number for other, (tries, _) in compared if other.tries > tries}
        victims = {other.number for other, (_, deadlocks) in compared if other.deadlocks > deadlocks}
        # A deadlock may be over before it was seen: then all that waited are suspects.
        deadlock = self.scheduler.deadlock or frozenset(suspects | {session.number} if victims else ())
        if deadlock and self._deadlock is None:
            self.scheduler.deadlocked = True
            self._deadlock = Deadlock(after=tuple(self._chosen), sessions=deadlock, draw=self.draw, order=self.order)
        self._wrong_victim |= self._is_wrong_victim(victims, deadlock)
        waits = session.state is State.WAITING
        self._pasts.took(session.number, touches, undone=session.number in again, waits=waits)
        owner = session_of(session.number)
        held = self._held[owner] = self._held.get(owner, NONE) | touches.holds
        answers, anything = session.answers[answered:], self.scheduler.woken or deadlock or pids - session.pids
        touched = touches
        if self._conflicts is not None and sent is not None and isinstance(session, ScriptSession):
            if anything or self.scheduler.waits:
                self._conflicts.give_up()
            ended = session.number in again or session.state is State.DONE or not session.in_transaction
            touched = self._conflicts.sent(session.number, sent, touches, answers, ended=ended)
        if anything:  # a woken session may have committed, and one without a connection has rolled back
            touched = Footprint.ANYTHING
        elif any(answer.startswith("ERROR") for answer in answers):
            touched |= Footprint.ROLLBACK.closing(held)
        elif session.state is State.DONE:  # what a call leaves open is rolled back
            touched |= Footprint.END.closing(held)
        if self._preparation.facts.rollback_forgets:
            for number in again:
                self._pasts.begins_again(number)
        return touched | WAITED if waits else touched

    def _surprise(self, session: Session, assumed: Footprint, statements: Sequence[Statement]) -> bool:
        """Whether a step was seen to lock more than was assumed of it."""
        observer = self._preparation.observer
        if observer is None:
            return False
        owner = session_of(session.number)
        others = frozenset[int]().union(
            *(other.pids for other in self.scheduler.sessions if session_of(other.number) != owner)
        )
        locks = observer.new(session.pids, others)
        if not locks or assumed == Footprint.ANYTHING or all(one.keyword == "LOCK" for one in statements):
            return False
        locked = ", ".join(f"{table} in {mode} mode" for table, mode in sorted(locks))
        self.surprises[describe(statements)] = locked
        return True

    def burst(self, random: Random) -> None:
        """Run a schedule in which sessions send steps at once, so that these race inside the server.

        Which sessions send at once is drawn for each step, from one session to all. Raises Unsteady.
        """
        self.begin()
        self._bursting = True
        while able := self.scheduler.able():
            together = random.sample(able, random.choice((len(able), random.randint(1, len(able)))))
            self._taken += [session.number for session in together]
            self._repeats.part(self.scheduler.step_together, together)
        self.end((), complete=True)

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
            self.ended(result if self._comparison is None else self._comparison.judged(result))

    def _end(self, complete: bool) -> ScheduleResult | None:
        if self._symmetric and any(session.told_apart for session in self.strategy_sessions):
            self.symmetry_failed, self._symmetric = True, False
        kind = self._preparation.kind
        if not complete:
            self._leave()
            if kind.may_be_abandoned:
                self._preparation.anomalies.skip()
                return None
        if waiting := [session.name for session in self.scheduler.sessions if session.state is State.WAITING]:
            holders = {pid for pids in self.scheduler.waits.values() for pid in pids}
            held = [session.name for session in self.scheduler.sessions if session.pid in holders]
            raise kind.stuck(waiting, held)
        if complete and (kind.spoiled or not self._preparation.isolation.suffices):
            raise Unsteady
        return self._result() if complete else None

    def _leave(self) -> None:
        """Leave a schedule in its middle: stop the sessions, or run them to their ends if they may not be stopped."""
        if self._preparation.kind.may_be_abandoned:
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
        )

    # The comparison with serial orders

    def difference(self, result: ScheduleResult) -> str:
        """How the result differs from the serial order that is most like it, as a sentence; "" if it does not."""
        return "" if self._comparison is None else self._comparison.difference(result)

    def name(self, result: ScheduleResult) -> str:
        """The classical name of what goes wrong in a result; "" if it has none. Its schedule is run again."""
        return "" if self._comparison is None else self._comparison.name(result)

    def run_serially(self, order: Sequence[int], *, shifted: bool) -> tuple[Effect, Shifts]:
        """See oracle.serial.Runner; so for `run_again`."""
        aside = _Aside(among=frozenset(order), shifted=shifted, one_by_one=True)
        return self._compare(partial(self._run_serially, order), aside)

    def run_again(self, schedule: Sequence[int], *, shifted: bool) -> tuple[Effect, Shifts]:
        everyone = frozenset(session.number for session in self.scheduler.sessions)
        aside = _Aside(among=everyone, shifted=shifted, one_by_one=False)
        return self._compare(partial(self._follow_as_far_as_it_goes, schedule), aside)

    def _compare(self, run: Callable[[], None], aside: _Aside) -> tuple[Effect, Shifts]:
        """Run something that is not counted, and return its effect."""
        following, self._following = self._following, False
        self._aside, self._compared = aside, None
        try:
            while self._compared is None:
                with left_if_unsteady(self, ()):
                    run()
        finally:
            self._aside, self._following = None, following
        assert self._compared.effect is not None  # there is a comparison
        return self._compared.effect, self._shifts

    def _run_serially(self, order: Sequence[int]) -> None:
        self.begin()
        for number in order:
            session = self.scheduler.session(number)
            if session is self.consumer:
                self._repeats.part(self._step, session)
                continue
            self._repeats.part(session.start, self.tenant, self._runs)
            while ready := [one for one in self.scheduler.able() if session_of(one.number) == number]:
                self._repeats.part(self._step, ready[0])
        self.end(order, complete=True)

    # One schedule, step by step

    def follow(self, schedule: Sequence[int]) -> list[Step]:
        """Run one schedule from its start to its end and return what happened.

        Raises UsageProblem at the first step that cannot be taken.
        """
        while True:
            with left_if_unsteady(self, schedule):
                return self._follow(schedule)

    def _follow(self, schedule: Sequence[int]) -> list[Step]:
        self.order, numbers = divided(schedule)
        self.begin()
        self._broken, self._following = (), True
        steps = [Step(session=f"s{number}", sent=STARTS, answered=()) for number in self.order]
        for place, number in enumerate(numbers, 1):
            able = [choice.number for choice in self.choices()]
            if number not in able:
                self._repeats.part(self._leave)
                can = ", ".join(map(text_of, able)) or "no session"
                raise UsageProblem(
                    f"the schedule cannot be followed: at step {place} {text_of(number)} cannot go on, {can} can; "
                    "the script, the scenario or the server has changed since: explore again"
                )
            steps.append(self.watch(number))
            self._check_victim()
        if left := [text_of(choice.number) for choice in self.choices()]:
            self._repeats.part(self._leave)
            raise UsageProblem(f"the schedule ends before the sessions do: {', '.join(left)} can go on")
        self.end(schedule, complete=True)
        self._following = False
        return steps

    def follow_as_far_as_it_goes(self, schedule: Sequence[int]) -> None:
        """Run a schedule to its end; where it cannot be followed any more, the first session that can go on does."""
        while True:
            with left_if_unsteady(self, schedule):
                return self._follow_as_far_as_it_goes(schedule)

    def _follow_as_far_as_it_goes(self, schedule: Sequence[int]) -> None:
        self.order, numbers = divided(schedule)
        self.begin()
        rest = list(numbers)
        while choices := self.choices():
            able = [choice.number for choice in choices]
            number = rest.pop(0) if rest and rest[0] in able else able[0]
            if number != (numbers[len(self._taken)] if len(self._taken) < len(numbers) else None):
                rest = []
            self._repeats.part(self._step, self.scheduler.session(number), cut_of(number))
            self._check_victim()
        self.end(schedule, complete=True)

    def watch(self, number: int) -> Step:
        """Take the step of a choice that can be taken, and return what happened. Raises Unsteady."""
        return self._repeats.part(self._watch, number)

    def _watch(self, number: int) -> Step:
        sessions = self.scheduler.sessions
        for other in sessions:
            other.answers.clear()
        taker = self.scheduler.session(number)
        sent, where, literal, values = describe(taker.next_step), taker.where, taker.literal(), taker.values()
        if taker.state is State.RELEASED:
            sent, literal, values = GOES_ON, "", ()
        waiting = [other for other in sessions if other is not taker and other.state in NOT_ANSWERED]
        cut = cut_of(number)
        self._step(taker, cut)
        by_pid = {pid: other.name for other in reversed(sessions) for pid in other.pids}
        blockers = self.scheduler.waits.get(taker.pid, ()) if taker.state is State.WAITING else ()
        return Step(
            session=taker.name,
            sent=sent,
            answered=tuple(taker.answers),
            where=where,
            literal=literal,
            values=values,
            cut=cut,
            waits_for=tuple(by_pid.get(pid, str(pid)) for pid in blockers),
            went_on=tuple((other.name, tuple(other.answers)) for other in waiting if other.state not in NOT_ANSWERED),
        )

    @property
    def broken(self) -> tuple[str, ...]:
        """Which rows broke which invariant at the end of the schedule that was followed last, as text."""
        return self._broken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """What was seen of the sessions of a world before it was made again."""

    draws: Draws = field(default_factory=Draws)
    functions: frozenset[str] = frozenset()
    batches: bool = False
    leftovers: Mapping[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aside:
    """How a run is made that is not counted.

    `among`: the sessions that take part. `shifted`: sequences are moved on before. `one_by_one`: a session begins at
    its turn.
    """

    among: Set[int]
    shifted: bool
    one_by_one: bool


def _sent(session: Session, *, alike: bool) -> str | None:
    """What a session's next step sends, with its values: "" for COMMIT and ROLLBACK, None if that is not known.

    `alike`: without the values that only tell the sessions apart.
    """
    if not isinstance(session, ScriptSession) or session.state is not State.READY or begins(session.next_step[0]):
        return None
    return "" if any(map(ends, session.next_step)) else session.whole_text(own=not alike)


@lru_cache(maxsize=1024)
def _is_prepare(sql: str) -> bool:
    """Whether a statement may be PREPARE TRANSACTION; the same statements are asked in every schedule."""
    return first_word(sql) == "PREPARE"
