"""The world of a search on a server, with what is run in it besides: bursts, serial orders, one schedule step by step.

searched_world.py runs the schedules of a search.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import permutations
from random import Random
from typing import TYPE_CHECKING

from racebench.core.anomalies import SESSION_LOST
from racebench.core.errors import UsageProblem
from racebench.core.model import Statement
from racebench.exploration.choices import (
    cut_of,
    divided,
    session_of,
    text_of,
)
from racebench.exploration.oracle.effects import Effect
from racebench.exploration.outcome import ScheduleResult, failures_for_want
from racebench.exploration.preparation import Preparation
from racebench.exploration.schedules import Step
from racebench.exploration.search import left_if_unsteady
from racebench.exploration.searched_world import Aside, SearchedWorld
from racebench.exploration.sessions.session import NOT_ANSWERED, State
from racebench.exploration.steps import GOES_ON, STARTS, WAITS_FOR_POOLER, describe
from racebench.workloads import locations

if TYPE_CHECKING:
    from racebench.exploration.oracle.recorder import SearchRecorder
    from racebench.exploration.oracle.serial import Shifts
    from racebench.exploration.oracle.stored_order import StoredOrder
    from racebench.exploration.sessions.session import Session


class ServerWorld(SearchedWorld):
    """A SearchedWorld that also runs given schedules: see oracle.recorder.Recording, and `follow`."""

    def _adopt(self, preparation: Preparation) -> None:
        super()._adopt(preparation)
        self._one_by_one: dict[int, Counter[str]] = {}
        if self._comparison is not None:
            self._comparison.adopt(preparation)
        elif preparation.restored is not None:
            from racebench.exploration.comparison import Comparison  # most scenarios need none

            self._comparison = Comparison(self, preparation, self._request)

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

    # What a pooler has done

    def _judged(self, result: ScheduleResult) -> ScheduleResult:
        judged = super()._judged(result)
        pooled = self._preparation.pooled
        if pooled is None or not pooled.shares or result.burst:
            return judged
        failed = failures_for_want(result)
        if failed:  # with which errors would it have failed without a pooler?
            failed -= self._failures_apart(partial(self._follow_as_far_as_it_goes, result.schedule), one_by_one=False)
        if failed:  # a wait for a server session has changed the order, perhaps
            failed -= self._failures_one_by_one(result.draw)
        lost = result.hung + failed.total()
        return judged.counting(SESSION_LOST, lost) if lost else judged

    def _failures_one_by_one(self, draw: int) -> Counter[str]:
        """With how many errors of each kind operations fail at most if the sessions run one after the other."""
        if draw not in self._one_by_one:
            failed: Counter[str] = Counter()
            for order in permutations(session.number for session in self.strategy_sessions):
                failed |= self._failures_apart(partial(self._run_serially, order), one_by_one=True)
            self._one_by_one[draw] = failed
        return self._one_by_one[draw]

    def _failures_apart(self, run: Callable[[], None], *, one_by_one: bool) -> Counter[str]:
        """With which errors operations fail if each session has its own session of the server."""
        everyone = frozenset(session.number for session in self.scheduler.sessions)
        aside = Aside(among=everyone, shifted=False, one_by_one=one_by_one, apart=True)
        return failures_for_want(self._run_aside(run, aside))

    # The comparison with serial orders

    def difference(self, result: ScheduleResult) -> str:
        """How the result differs from the serial order that is most like it, as a sentence; "" if it does not."""
        return "" if self._comparison is None else self._comparison.difference(result)

    def name(self, result: ScheduleResult, searched: SearchRecorder | None) -> str:
        """The classical name of what goes wrong in a result; "" if it has none. Its schedule is run again.

        `searched`: has recorded the run that had this result.
        """
        return "" if self._comparison is None else self._comparison.name(result, searched)

    @contextlib.contextmanager
    def recorded(self) -> Iterator[SearchRecorder | None]:
        """Record what sessions search for in the schedule that is followed meanwhile, if its result can be named."""
        if self._comparison is None:
            yield None
            return
        self.recorder = searching = self._comparison.searching()
        try:
            yield searching
        finally:
            self.recorder = None

    def run_serially(
        self, order: Sequence[int], *, shifted: bool, anew: bool = False, stored: StoredOrder | None = None
    ) -> tuple[Effect, Shifts]:
        """See oracle.serial.Runner; so for `run_again`."""
        aside = Aside(among=frozenset(order), shifted=shifted, one_by_one=True, anew=anew, apart=True)
        return self._compare(partial(self._run_serially, order, stored), aside)

    def run_again(
        self, schedule: Sequence[int], *, shifted: bool, anew: bool = False, stored: StoredOrder | None = None
    ) -> tuple[Effect, Shifts]:
        everyone = frozenset(session.number for session in self.scheduler.sessions)
        aside = Aside(among=everyone, shifted=shifted, one_by_one=False, anew=anew)
        if stored is None:
            return self._compare(partial(self._follow_as_far_as_it_goes, schedule), aside)
        self.recorder = _PlaceRecorder(self, stored)
        try:
            return self._compare(partial(self._follow_as_far_as_it_goes, schedule), aside)
        finally:
            self.recorder = None

    def note_places(self, stored: StoredOrder, *, writer: int) -> None:
        """Note where the committed rows are stored now, after a step of a session; of none if that is 0."""
        if self._preparation.restored is not None:
            self._preparation.restored.note_places(stored, writer=writer)

    def _rearrange(self, stored: StoredOrder, session: int) -> None:
        if self._preparation.restored is not None:
            self._preparation.restored.rearrange(stored, session=session)

    def _compare(self, run: Callable[[], None], aside: Aside) -> tuple[Effect, Shifts]:
        """Run something that is not counted, and return its effect."""
        effect = self._run_aside(run, aside).effect
        assert effect is not None  # there is a comparison
        return effect, self._shifts

    def _run_aside(self, run: Callable[[], None], aside: Aside) -> ScheduleResult:
        """Run something that is not counted, and return its result."""
        following, self._following = self._following, False
        self._aside, self._compared = aside, None
        try:
            while self._compared is None:
                with left_if_unsteady(self, ()):
                    run()
        finally:
            self._aside, self._following = None, following
        return self._compared

    def _run_serially(self, order: Sequence[int], stored: StoredOrder | None = None) -> None:
        self.begin()
        for number in order:
            if stored is not None:
                self._repeats.part(self._rearrange, stored, number)
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
            self._victims.check()
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
            self._victims.check()
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
        script = self._place_in_script(number, taker.next_step)
        if taker.state is State.RELEASED:
            sent, literal, values = GOES_ON, "", ()
        waiting = [other for other in sessions if other is not taker and other.state in NOT_ANSWERED]
        cut = cut_of(number)
        self._step(taker, cut)
        by_pid = {pid: other.name for other in reversed(sessions) for pid in other.pids}
        pooled, backend = self._preparation.pooled, None
        if pooled is not None:
            by_pid |= pooled.idle
            backend = None if taker.inside else pooled.last_of(taker.number)
        blockers = self.scheduler.waits.get(taker.pid, ()) if taker.state is State.WAITING else ()
        return Step(
            session=taker.name,
            sent=sent,
            answered=tuple(taker.answers),
            where=where,
            literal=literal,
            values=values,
            cut=cut,
            waits_for=(WAITS_FOR_POOLER,)
            if pooled is not None and taker.inside
            else tuple(by_pid.get(pid, str(pid)) for pid in blockers),
            backend=backend,
            script=script,
            went_on=tuple((other.name, tuple(other.answers)) for other in waiting if other.state not in NOT_ANSWERED),
        )

    def _place_in_script(self, number: int, step: Sequence[Statement]) -> str:
        """The line of a step in the script of its session; "" if an application sends it."""
        consumer = self._request.consumer
        reads = consumer is not None and session_of(number) > self._request.sessions
        script = consumer.script if consumer is not None and reads else self._request.strategy.script
        return locations.of_statement(script, step[0]) if step else ""

    @property
    def broken(self) -> tuple[str, ...]:
        """Which rows broke which invariant at the end of the schedule that was followed last, as text."""
        return self._broken


class _PlaceRecorder:
    """Notes where the rows of a schedule are stored, at its begin and after each step."""

    def __init__(self, world: ServerWorld, stored: StoredOrder) -> None:
        self._world, self._stored = world, stored

    def begin(self) -> None:
        self._world.note_places(self._stored, writer=0)

    def before(self, session: Session) -> None:
        """See oracle.recorder.Recorder."""

    def after(self, session: Session) -> None:
        self._world.note_places(self._stored, writer=session_of(session.number))
