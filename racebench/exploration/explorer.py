"""Explores a strategy: runs every schedule of the steps of some sessions, perhaps with a consumer, on fresh tenants.

The verdict is VALID only if the search finished and found no anomaly that the scenario forbids. Anomalies have the same
definitions as under load (racebench.core.anomalies); simple code is enough, because a schedule has few operations.
racebench.exploration.tally counts them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from random import Random

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.exploration import schedules
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, ExplorationProgress, Replay, Unseen
from racebench.exploration.schedules import Schedule
from racebench.exploration.search import Diverged, Progress, chance, random_search, search
from racebench.exploration.tally import Tally, replay_of, size, switches
from racebench.exploration.world import ServerWorld
from racebench.workloads import catalog

#: The share of a budget for the exhaustive search; the rest is for schedules drawn at random.
_EXHAUSTIVE_SHARE = 0.5
MOST_REPEATED = 1_000
_REPEATS = 2
#: How often a witness is replayed that depends on which of several sessions the server lets go on first.
_ATTEMPTS = 20
_SHORTENING_S = 5.0
#: A schedule, and the number of its choice of random numbers.
_Repeated = tuple[int, tuple[int, ...]]
#: The races that bursts may show, and the limits of bursts: their number, and seconds.
_INSIDE = (Unseen.STATEMENT, Unseen.BATCH)
_BURSTS = 300
_BURSTING_S = 10.0


def explore(
    target: Target,
    request: ExplorationRequest,
    *,
    progress: Callable[[ExplorationProgress], None] = lambda _: None,
    ended: Callable[[ScheduleResult], None] = lambda _: None,
    interrupted: Callable[[Exploration], None] = lambda _: None,
) -> Exploration:
    """Run all schedules within the request's limits; if the limits prevent that, also schedules drawn at random.

    `progress` is called after every schedule, `ended` with the result of each schedule that ran to its end, and
    `interrupted` with the result so far if the search ends with an exception, which is then raised again. Raises
    RacebenchError, and Diverged if a schedule behaves differently when it is repeated.
    """
    tally = Tally(request)
    try:
        _search(target, request, tally, progress, ended)
        return tally.result()
    except BaseException:
        if tally.run:
            if tally.witness is not None and tally.replay is None:
                with contextlib.suppress(RacebenchError):  # the error that ended the search may prevent the replay too
                    tally.replay = replay(target, tally.witness_request, tally.witness)
            interrupted(tally.result())
        raise


def _search(
    target: Target,
    request: ExplorationRequest,
    tally: Tally,
    progress: Callable[[ExplorationProgress], None],
    ended: Callable[[ScheduleResult], None],
) -> None:
    raced: list[_Repeated] = []
    deadlocked: list[_Repeated] = []

    def count(result: ScheduleResult) -> None:
        tally.add(result)
        ended(result)
        if result.raced and len(raced) < MOST_REPEATED:
            raced.append((result.draw, result.schedule))
        if result.deadlocked and len(deadlocked) < MOST_REPEATED:
            deadlocked.append((result.draw, result.schedule))

    with contextlib.closing(ServerWorld(target, request, count)) as world:
        tally.triggers = world.triggers
        limits = _Limits(request, tally, progress)
        tally.complete = True
        while not limits.stopped and tally.explored_draws < limits.draws(world):
            world.draw = request.draw + tally.explored_draws
            tally.explored_draws += 1
            _search_draw(world, request, tally, limits)
            tally.draws, tally.functions = world.draws, world.functions
        tally.unseen = world.unseen
        tally.notes += world.notes
        tally.repeating = True
        tally.complete &= _repeat(world, raced, deadlocked, until=limits.end)
        if tally.complete and not tally.anomalous and tally.result().unseen in _INSIDE:
            world.draw = request.draw
            limit_s = min(_BURSTING_S, request.budget_s or _BURSTING_S)
            _burst(world, tally, Random(request.seed), until=time.monotonic() + limit_s)
        if tally.witness is not None:
            world.draw = tally.witness_draw
            if not limits.stopped:
                tally.witness = _shortest(world, tally.witness, tally.forbids)
            attempts = _ATTEMPTS if tally.raced else 1
            tally.replay = _follow_witness(world, tally.witness_request, tally.witness, attempts)


def _burst(world: ServerWorld, tally: Tally, random: Random, *, until: float) -> None:
    """Look for a race inside statements, until one shows: sessions send their statements at once, many times."""
    while tally.bursts < _BURSTS and not tally.anomalous_bursts and time.monotonic() < until:
        world.burst(random)


def _follow_witness(world: ServerWorld, request: ExplorationRequest, witness: tuple[int, ...], attempts: int) -> Replay:
    """Replay a witness; several times, until it goes wrong again, if sessions may have raced inside the server."""
    for attempt in range(1, attempts + 1):
        try:
            followed = _follow(world, request, witness)
        except UsageProblem as problem:
            if attempt == attempts:
                raise Diverged(
                    f"the schedule that goes wrong takes another course when it is run again ({problem}): what is not "
                    "deterministic, and depends on more than its schedule, cannot be explored"
                ) from None
        else:
            if followed.anomalies or attempt == attempts:
                return followed
    raise AssertionError("unreachable")


class _Limits:
    """The request's limits, divided among the choices of random numbers that are left."""

    def __init__(
        self, request: ExplorationRequest, tally: Tally, progress: Callable[[ExplorationProgress], None]
    ) -> None:
        self._request, self._tally, self._progress = request, tally, progress
        self._started = time.monotonic()
        self.end = self._started + (request.budget_s or float("inf"))

    @property
    def stopped(self) -> bool:
        """Whether an anomaly was found, and the search is to stop at the first."""
        return self._request.stop_at_first and self._tally.anomalous > 0

    def draws(self, world: ServerWorld) -> int:
        """How many choices of random numbers are to be explored: one, if the sessions draw none."""
        return self._request.draws if world.draws.vary else 1

    def tell(self) -> None:
        """Note the time, and report the progress."""
        self._tally.seconds = time.monotonic() - self._started
        self._progress(self._tally.progress())

    def within(self, share: float, world: ServerWorld) -> Callable[[Progress], bool]:
        """Whether a search may go on: within a share of what the current choice of random numbers has."""
        request, tally = self._request, self._tally
        left = self.draws(world) - tally.explored_draws + 1
        before_s, before = tally.seconds, tally.run

        def go_on(_progress: Progress) -> bool:
            self.tell()
            used_s, used = tally.seconds - before_s, tally.run - before
            return not (
                (request.budget_s is not None and used_s > (request.budget_s - before_s) / left * share)
                or (request.max_schedules is not None and used >= (request.max_schedules - before) / left * share)
                or self.stopped
            )

        return go_on


def _search_draw(world: ServerWorld, request: ExplorationRequest, tally: Tally, limits: _Limits) -> None:
    """Run the schedules of one choice of random numbers: all, or else also some that are drawn at random."""
    longest, symmetry_failed = 0, world.symmetry_failed
    ended = world.ended

    def measure(result: ScheduleResult) -> None:
        nonlocal longest
        longest = max(longest, len(result.schedule))
        ended(result)

    world.ended = measure
    every = limits.within(1.0, world)
    exhaustive = limits.within(_EXHAUSTIVE_SHARE, world)
    found = search(world, reduce=request.reduce, go_on=exhaustive)
    if world.symmetry_failed and not symmetry_failed and found.complete:
        # Schedules were left out that have no other to stand for them.
        found = search(world, reduce=request.reduce, go_on=exhaustive)
    tally.pruned += found.pruned
    tally.complete &= found.complete
    if not found.complete and not limits.stopped:
        drawn = random_search(world, depth=request.depth, steps=longest, random=Random(request.seed), go_on=every)
        tally.drawn += drawn.run
        probability = chance(sessions=len(world.scheduler.sessions), steps=longest, depth=request.depth, runs=drawn.run)
        tally.chance = min(tally.chance or probability, probability)
    limits.tell()
    world.ended = ended


def _repeat(world: ServerWorld, raced: Sequence[_Repeated], deadlocked: Sequence[_Repeated], *, until: float) -> bool:
    """Repeat the schedules whose outcome can vary: several sessions raced, or a deadlock had more than one victim.

    Returns whether all of them were repeated.
    """
    everything = max(len(raced), len(deadlocked)) < MOST_REPEATED
    for draw, schedule in tuple(raced) * _REPEATS:
        if time.monotonic() > until:
            return False
        world.draw = draw
        world.follow_as_far_as_it_goes(schedule)
    world.order_victims(last_first=True)
    for draw, schedule in tuple(deadlocked):
        if time.monotonic() > until:
            return False
        world.draw = draw
        world.follow_as_far_as_it_goes(schedule)
    world.order_victims()
    return everything


def shorten(
    target: Target, request: ExplorationRequest, witness: tuple[int, ...], kinds: Sequence[str]
) -> tuple[int, ...]:
    """Look for the shortest schedule of the same sessions in which one of these anomalies occurs."""
    with contextlib.closing(ServerWorld(target, request, lambda _: None)) as world:
        return _shortest(world, witness, lambda result: any(result.counts[kind] for kind in kinds))


def _shortest(
    world: ServerWorld, witness: tuple[int, ...], wanted: Callable[[ScheduleResult], bool]
) -> tuple[int, ...]:
    """Look for a witness with fewer session switches: run all schedules without a switch, then with one, and so on."""
    deadline = time.monotonic() + _SHORTENING_S
    shorter: list[ScheduleResult] = []
    world.ended = lambda result: shorter.append(result) if wanted(result) else None
    for most in range(switches(witness)):
        search(world, reduce=True, go_on=lambda _: not shorter and time.monotonic() < deadline, most_switches=most)
        if shorter:
            return min((result.schedule for result in shorter), key=size)
    return witness


def replay(target: Target, request: ExplorationRequest, schedule: Sequence[int]) -> Replay:
    """Run one schedule, a sequence of sessions; raises UsageProblem if the sessions cannot take its steps."""
    with contextlib.closing(ServerWorld(target, request, lambda _: None)) as world:
        return _follow(world, request, schedule)


def _follow(world: ServerWorld, request: ExplorationRequest, schedule: Sequence[int]) -> Replay:
    results: list[ScheduleResult] = []
    world.ended = results.append
    try:
        steps = tuple(world.follow(schedule))
    except UsageProblem:
        if not world.scheduler.deadlocked:
            raise
        world.order_victims(last_first=True)  # the victim of the deadlock may have been the other session
        steps = tuple(world.follow(schedule))
    (result,) = results
    broken = result.counts["violations"] and "violations" in request.scenario.forbid
    return replay_of(
        request,
        schedule,
        result=result,
        steps=steps,
        broken=world.broken() if broken else (),
        prepared=world.prepared,
    )


def requested_by(schedule: Schedule, scenario: Scenario) -> ExplorationRequest:
    """The request that runs a schedule of a scenario; raises UsageProblem if the strategy has changed since."""
    strategy = catalog.find_strategy(scenario, schedule.strategy)
    consumer = catalog.find_consumers(scenario, [schedule.consumer])[0] if schedule.consumer else None
    schedules.check_same(schedule, strategy, consumer)
    sessions, polls = max(schedule.steps), 0
    if consumer is not None:
        polls, sessions = schedule.steps.count(sessions), sessions - 1
    return ExplorationRequest(
        scenario=scenario,
        strategy=strategy,
        consumer=consumer,
        sessions=sessions,
        polls=polls,
        reduce=False,
        draw=schedule.draw,
    )
