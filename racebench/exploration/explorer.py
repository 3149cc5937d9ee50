"""An exploration: one strategy, some sessions, perhaps a consumer; every order of their steps, each on a fresh tenant.

VALID only if the search came to its end and nothing forbidden was found. What goes wrong is counted as `run` counts it
(racebench.core.anomalies), by definitions read plainly: a schedule has a handful of operations.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from racebench.core.errors import UsageProblem
from racebench.core.results import Verdict
from racebench.core.target import Target
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.schedules import Schedule, Step
from racebench.exploration.search import Diverged, Progress, chance, random_search, search
from racebench.exploration.world import ServerWorld
from racebench.workloads.digests import digest

#: The share of a budget that goes to the exhaustive search, before schedules are drawn.
_EXHAUSTIVE_SHARE = 0.5
_MOST_REPEATED = 1_000
_REPEATS = 2
_SHORTENING_S = 5.0
_TIMEOUT = re.compile(r"\b(lock|statement|transaction|idle_in_transaction_session)_timeout\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A schedule run once more, step by step.

    `prepared` is what the scenario had sent before it, `broken` which rows broke which invariant after it, in words.
    """

    steps: tuple[Step, ...]
    ended: ScheduleResult
    wrong: Mapping[str, int]
    prepared: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Explored:
    """What an exploration found. `anomalous`: schedules in which something forbidden went wrong; `counts` of what.

    `run` are schedules run to their end, `drawn` of them at random, which meet a bug of the asked depth with a
    probability of at least `chance`; `pruned` those that a reduction broke off; `raced` those in which a step woke up
    two sessions. `seconds` are the search's: without connecting, and without looking for a shorter witness.
    """

    asked: ExplorationRequest
    run: int = 0
    pruned: int = 0
    drawn: int = 0
    chance: float | None = None
    anomalous: int = 0
    raced: int = 0
    complete: bool = False
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    witness: tuple[int, ...] | None = None
    #: The witness run once more, unless the search was interrupted.
    shown: Replayed | None = None
    #: Set while schedules are run again: they have been counted.
    again: bool = False
    #: Schedules in which a call returned although its last statement had been refused, by SQLSTATE.
    swallowed: Counter[str] = field(default_factory=Counter)
    #: Triggers of the scenario's tables: what they do is inside a step, and not interleaved.
    triggers: tuple[str, ...] = ()

    def forbids(self, each: ScheduleResult) -> bool:
        """Whether a schedule broke what the scenario forbids."""
        return any(each.counts[kind] for kind in self.asked.scenario.forbid)

    def add(self, each: ScheduleResult) -> None:
        """Count a schedule that is at its end."""
        self.run += not self.again
        self.outcomes[each.signature] += not self.again or not self.outcomes[each.signature]
        self.raced += each.raced
        self.swallowed.update(() if self.again else set(each.swallowed))
        self.counts.update({kind: count for kind, count in each.counts.items() if count})
        if self.forbids(each):
            self.anomalous += not self.again or not self.anomalous
            size = (switches(each.schedule), len(each.schedule))
            if self.witness is None or size < (switches(self.witness), len(self.witness)):
                self.witness = each.schedule

    @property
    def verdict(self) -> Verdict:
        if self.anomalous:
            return Verdict.INVALID
        return Verdict.VALID if self.complete and not self.blind else Verdict.UNKNOWN

    @property
    def held(self) -> bool:
        """Whether a consumer goes by the clock."""
        consumer = self.asked.consumer
        return consumer is not None and consumer.settle_ms > 0 and consumer.misses == "maybe"

    @property
    def timed(self) -> bool:
        """Whether the script has a time-out of its own: sessions wait in an exploration for as long as it takes."""
        return _TIMEOUT.search(self.asked.strategy.script.text) is not None

    @property
    def blind(self) -> bool:
        """Whether there is a race that no order of steps shows: inside a statement, or where something goes by time."""
        return self.asked.strategy.inside or self.held or self.timed

    @property
    def schedule(self) -> Schedule | None:
        """The shortest witness: fewest context switches, then fewest steps."""
        if self.witness is None:
            return None
        asked = self.asked
        return Schedule(
            scenario=asked.scenario.name,
            strategy=asked.strategy.name,
            consumer=asked.consumer.name if asked.consumer else None,
            digest=digest(asked.strategy, asked.consumer),
            steps=self.witness,
        )


def switches(schedule: Sequence[int]) -> int:
    """How often another session goes on than before."""
    return sum(one != other for one, other in pairwise(schedule))


def explore(
    target: Target,
    asked: ExplorationRequest,
    tell: Callable[[Explored], None] = lambda _: None,
    found: Explored | None = None,
) -> Explored:
    """Search every schedule, or as far as was asked for; what is left then is drawn at random, with a stated chance.

    `tell` is called after every schedule. `found` is filled in as the search goes on, so that an interruption loses
    nothing of it.
    """
    found = Explored(asked=asked) if found is None else found
    started = time.monotonic()
    raced: list[tuple[int, ...]] = []
    deadlocked: list[tuple[int, ...]] = []
    longest = 0

    def ended(each: ScheduleResult) -> None:
        nonlocal longest
        longest = max(longest, len(each.schedule))
        found.add(each)
        if each.raced and len(raced) < _MOST_REPEATED:
            raced.append(each.schedule)
        if each.deadlocked and len(deadlocked) < _MOST_REPEATED:
            deadlocked.append(each.schedule)

    def within(share: float) -> Callable[[Progress], bool]:
        def go_on(_progress: Progress) -> bool:
            found.seconds = time.monotonic() - started
            tell(found)
            return not (
                (asked.budget_s is not None and found.seconds > asked.budget_s * share)
                or (asked.max_schedules is not None and found.run >= asked.max_schedules * share)
                or (asked.stop_at_first and found.anomalous > 0)
            )

        return go_on

    with contextlib.closing(ServerWorld(target, asked, ended)) as world:
        found.triggers = world.triggers
        started = time.monotonic()
        progress = search(world, reduce=asked.reduce, go_on=within(_EXHAUSTIVE_SHARE))
        found.pruned, found.complete = progress.pruned, progress.complete
        stopped = asked.stop_at_first and found.anomalous > 0
        if not found.complete and not stopped:
            drawn = random_search(world, depth=asked.depth, steps=longest, random=Random(asked.seed), go_on=within(1.0))
            found.drawn = drawn.run
            found.chance = chance(
                sessions=len(world.scheduler.sessions), steps=longest, depth=asked.depth, runs=drawn.run
            )
        found.seconds = time.monotonic() - started
        found.again = True
        found.complete &= _repeat(world, raced, deadlocked, until=started + (asked.budget_s or float("inf")))
        if found.witness is not None and not stopped:
            found.witness = _shortest(world, found.witness, found.forbids)
        if found.witness is not None:
            try:
                found.shown = _follow(world, asked, found.witness)
            except UsageProblem as problem:
                raise Diverged(
                    f"the order that went wrong takes another course when it is run again ({problem}): what is not "
                    "deterministic, and depends on more than its order, cannot be explored"
                ) from None
    return found


def _repeat(
    world: ServerWorld, raced: Sequence[tuple[int, ...]], deadlocked: Sequence[tuple[int, ...]], *, until: float
) -> bool:
    """Run again what might have come otherwise: whoever of two woken sessions was first, whoever a deadlock ended.

    Returns whether that was all of them.
    """
    everything = max(len(raced), len(deadlocked)) < _MOST_REPEATED
    for schedule in tuple(raced) * _REPEATS:
        if time.monotonic() > until:
            return False
        world.follow_as_far_as_it_goes(schedule)
    world.order_victims(last_first=True)  # the server ended the first of them; now the other
    for schedule in tuple(deadlocked):
        if time.monotonic() > until:
            return False
        world.follow_as_far_as_it_goes(schedule)
    world.order_victims()
    return everything


def shorten(
    target: Target, asked: ExplorationRequest, witness: tuple[int, ...], kinds: Sequence[str]
) -> tuple[int, ...]:
    """Look for the shortest schedule of the same sessions in which one of these anomalies occurs."""
    with contextlib.closing(ServerWorld(target, asked, lambda _: None)) as world:
        return _shortest(world, witness, lambda each: any(each.counts[kind] for kind in kinds))


def _shortest(
    world: ServerWorld, witness: tuple[int, ...], wanted: Callable[[ScheduleResult], bool]
) -> tuple[int, ...]:
    """Look for a witness with fewer switches of session: all schedules with none, with one, and so on."""
    deadline = time.monotonic() + _SHORTENING_S
    shorter: list[ScheduleResult] = []
    world.ended = lambda each: shorter.append(each) if wanted(each) else None
    for most in range(switches(witness)):
        search(world, reduce=True, go_on=lambda _: not shorter and time.monotonic() < deadline, most_switches=most)
        if shorter:
            return min((each.schedule for each in shorter), key=lambda s: (switches(s), len(s)))
    return witness


def replay(target: Target, asked: ExplorationRequest, schedule: Sequence[int]) -> Replayed:
    """Run one schedule; raises UsageProblem at the first step that cannot be taken any more."""
    with contextlib.closing(ServerWorld(target, asked, lambda _: None)) as world:
        return _follow(world, asked, schedule)


def _follow(world: ServerWorld, asked: ExplorationRequest, schedule: Sequence[int]) -> Replayed:
    ends: list[ScheduleResult] = []
    world.ended = ends.append
    try:
        steps = tuple(world.follow(schedule))
    except UsageProblem:
        if not world.scheduler.deadlocked:
            raise
        world.order_victims(last_first=True)  # the server may have ended the other one of a deadlock
        steps = tuple(world.follow(schedule))
    (ended,) = ends
    wrong = {kind: count for kind, count in ended.counts.items() if count and kind in asked.scenario.forbid}
    broken = world.broken() if "violations" in wrong else ()
    return Replayed(steps=steps, ended=ended, wrong=wrong, prepared=world.prepared, broken=broken)
