"""Explores a strategy: runs every schedule of the steps of some sessions, perhaps with a consumer.

This module decides what is run, and in which order: the search, for each choice of random numbers; the repetition of
schedules in which the server chose; the other victims of deadlocks; bursts; and a shorter witness. tally.py counts the
results and gives the verdict.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from random import Random

from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.exploration import schedules
from racebench.exploration.choices import cuts, divided, session_of
from racebench.exploration.faults import PROBLEMS, Fault
from racebench.exploration.jobs.pool import Jobs
from racebench.exploration.jobs.sharing import Sharing
from racebench.exploration.limits import Limits
from racebench.exploration.outcome import Deadlock, ScheduleResult
from racebench.exploration.random_search import chance, random_search
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, ExplorationProgress, Replay, Unseen
from racebench.exploration.reuse import Reuse
from racebench.exploration.schedules import Schedule, Step
from racebench.exploration.search import Diverged, Progress, Unsteady, left_if_unsteady, search
from racebench.exploration.tally import Tally, rank, replay_of, switches
from racebench.exploration.tree import Part
from racebench.exploration.world import ServerWorld
from racebench.workloads import catalog

#: The share of a budget for the exhaustive search; the rest is for schedules drawn at random.
_EXHAUSTIVE_SHARE = 0.5
MOST_REPEATED = 1_000
_REPEATS = 2
#: How often a witness is replayed that depends on which of several sessions the server lets go on first.
_ATTEMPTS = 20
_SHORTENING_S = 5.0
#: The number of the choice of random numbers of a schedule, and its choices.
_Repeated = tuple[int, tuple[int, ...]]
#: The races that bursts may show, and the limits of bursts: their number, and seconds.
_INSIDE = (Unseen.STATEMENT, Unseen.BATCH, Unseen.CATALOG)
_BURSTS = 300
_BURSTING_S = 10.0


def explore(
    target: Target,
    request: ExplorationRequest,
    *,
    progress: Callable[[ExplorationProgress], None] = lambda _: None,
    left: Callable[[], None] = lambda: None,
    ended: Callable[[ScheduleResult], None] = lambda _: None,
    interrupted: Callable[[Exploration], None] = lambda _: None,
    reuse: Reuse | None = None,
    jobs: Jobs | None = None,
) -> Exploration:
    """Run all schedules within the request's limits; if the limits prevent that, also schedules drawn at random.

    `progress` is called after every schedule, `ended` with the result of each schedule that ran to its end (`left`
    before, when the tables are as it left them), and
    `interrupted` with the result so far if the search ends with an exception, which is then raised again. Faults that
    end the search are in the result, unless no schedule was run: then they are raised. `reuse`: what explorations
    before have left open, and where this one leaves it. `jobs`: those that search parts of it; the request must be one
    that can be divided (jobs.division). Raises RacebenchError, and Diverged if a schedule behaves differently when it
    is repeated.
    """
    tally = Tally(request)
    try:
        _search_until_a_fault(target, request, tally, progress, left, ended, reuse, jobs)
        return tally.result()
    except BaseException:
        if tally.run:
            _replay_witness(target, tally)
            interrupted(tally.result())
        raise


def _search_until_a_fault(
    target: Target,
    request: ExplorationRequest,
    tally: Tally,
    progress: Callable[[ExplorationProgress], None],
    left: Callable[[], None],
    ended: Callable[[ScheduleResult], None],
    reuse: Reuse | None,
    jobs: Jobs | None,
) -> None:
    try:
        _search(target, request, tally, progress, left, ended, reuse, jobs)
    except Fault as fault:
        if not tally.run:
            raise
        tally.fault = str(fault)
        tally.notes += getattr(fault, "__notes__", ())
        _replay_witness(target, tally)


def _replay_witness(target: Target, tally: Tally) -> None:
    """Replay the witness of a search that ended early; what ended it may prevent that too."""
    if tally.witness is not None and tally.replay is None:
        with contextlib.suppress(*PROBLEMS):
            tally.replay = replay(target, tally.witness_request, tally.witness)


def _search(
    target: Target,
    request: ExplorationRequest,
    tally: Tally,
    progress: Callable[[ExplorationProgress], None],
    left: Callable[[], None],
    ended: Callable[[ScheduleResult], None],
    reuse: Reuse | None,
    jobs: Jobs | None,
) -> None:
    raced: list[_Repeated] = []
    deadlocks: dict[Deadlock, None] = {}

    def count(result: ScheduleResult) -> None:
        tally.add(result)
        ended(result)
        if tally.repeating:
            progress(tally.progress())
        if result.raced and len(raced) < MOST_REPEATED:
            raced.append((result.draw, result.schedule))
        if result.deadlock is not None:
            deadlocks[result.deadlock] = None

    with ServerWorld(target, request, count, reuse=reuse) as world, _explained(tally, world):
        tally.triggers = world.triggers
        world.left = left
        sharing = Sharing(jobs, request, world)
        limits = Limits(request, tally, progress)
        complete = True
        while tally.explored_draws < limits.draws(world):
            if limits.reached is not None and tally.explored_draws:
                complete = False
                break
            world.draw = request.draw + tally.explored_draws
            tally.explored_draws += 1
            for order in _orders(world):
                world.order = order
                complete &= _search_draw(world, request, tally, limits, sharing)
            world.order = ()
            tally.draws, tally.functions = world.draws, world.functions
        tally.complete = complete
        tally.unseen = world.unseen or sharing.unseen
        tally.notes += world.notes
        tally.repeating = True
        tally.complete &= _repeat(world, raced, limits)
        tally.complete &= _choose_other_victims(world, tuple(deadlocks), request, limits, sharing)
        tally.limit = limits.reached
        _check_leftovers(world, tally)
        sharing.finish()
        tally.unseen = tally.unseen or sharing.unseen
        tally.notes += sharing.notes
        tally.leftovers = tuple(dict.fromkeys((*world.leftovers, *sharing.leftovers)))
        tally.jobs = sharing.processes
        tally.beginning = world.beginning
        if tally.complete and not tally.anomalous and tally.why_unseen() in _INSIDE:
            world.draw = request.draw
            limit_s = min(_BURSTING_S, request.budget_s or _BURSTING_S)
            _burst(world, tally, Random(request.seed), until=time.monotonic() + limit_s)
        if tally.witness is not None:
            world.draw = tally.witness_draw
            if not request.stop_at_first:
                tally.witness = _shortest(world, tally.witness, tally.forbids)
            attempts = _ATTEMPTS if tally.raced else 1
            with contextlib.suppress(*([Diverged] if tally.leftovers else [])):
                tally.replay = _follow_witness(world, tally.witness_request, tally.witness, attempts)
    tally.notes += world.made_outside


def _orders(world: ServerWorld) -> Iterator[tuple[int, ...]]:
    """The orders in which the sessions begin: that of their numbers, as an empty one, and others if these matter.

    They do if a session came to no first step before others had gone on, as behind a lock of the application's.
    Sessions that run the same need no other order among themselves.
    """
    yield ()
    if not world.waited_at_start:
        return
    numbers = range(1, len(world.strategy_sessions) + 1)
    runs = world.callables
    seen = {tuple(runs.get(f"s{number}", "") for number in numbers)}
    for order in permutations(numbers):
        names = tuple(runs.get(f"s{number}", "") for number in order)
        if names not in seen:
            seen.add(names)
            yield order


def _check_leftovers(world: ServerWorld, tally: Tally) -> None:
    """Look for what the last schedule left; if a fault prevents that, after the schedule was run again."""
    while True:
        with contextlib.suppress(Unsteady):
            return world.check_leftovers()
        if tally.last is not None:
            world.draw = tally.last.draw
            world.follow_as_far_as_it_goes(tally.last.schedule)


@contextlib.contextmanager
def _explained(tally: Tally, world: ServerWorld) -> Iterator[None]:
    """Where a schedule took another course than before, say what the schedules before left behind, or which fault."""
    try:
        yield
    except Diverged as problem:
        if world.faults:  # an application may behave in another way after one
            last = world.faults[-1]
            raise Fault(f"after a fault ({last}) {problem}", last.sqlstate) from None
        if not tally.leftovers:
            raise
        why = f"the schedules did not begin in the same state: {tally.leftovers[0]}"
        raise Diverged(f"{problem}; {why}") from None


def _burst(world: ServerWorld, tally: Tally, random: Random, *, until: float) -> None:
    """Look for a race inside statements, until one shows: sessions send their statements at once, many times."""
    while tally.bursts < _BURSTS and not tally.anomalous_bursts and time.monotonic() < until:
        with left_if_unsteady(world, ()):
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


def _search_draw(
    world: ServerWorld, request: ExplorationRequest, tally: Tally, limits: Limits, sharing: Sharing
) -> bool:
    """Run the schedules of one choice of random numbers: all, or else also some that are drawn at random.

    Returns whether all were run.
    """
    longest, symmetry_failed = 0, world.symmetry_failed
    ended = world.ended

    def measure(result: ScheduleResult) -> None:
        nonlocal longest
        longest = max(longest, len(result.schedule))
        ended(result)

    world.ended = measure
    every = limits.within(1.0, world)
    exhaustive = limits.within(_EXHAUSTIVE_SHARE, world)
    found = sharing.search(go_on=exhaustive)
    if world.symmetry_failed and not symmetry_failed and found.complete:
        # Schedules were left out that have no other to stand for them.
        found = sharing.search(go_on=exhaustive)
    tally.pruned += found.pruned
    if not found.complete and not limits.satisfied:
        tally.drawing = True
        drawn = random_search(
            world, depth=request.depth, steps=longest, random=Random(request.seed), go_on=every, cuts=request.crash
        )
        tally.drawing = False
        tally.drawn += drawn.run
        probability = chance(
            sessions=len(world.scheduler.sessions),
            steps=longest,
            depth=request.depth,
            runs=drawn.run,
            cuts=request.crash,
        )
        tally.chance = min(tally.chance or probability, probability)
    limits.tell()
    world.ended = ended
    return found.complete


def _repeat(world: ServerWorld, raced: Sequence[_Repeated], limits: Limits) -> bool:
    """Repeat the schedules in which several sessions raced; returns whether all of them were repeated."""
    for draw, schedule in tuple(raced) * _REPEATS:
        if limits.expired:
            return False
        world.draw = draw
        world.follow_as_far_as_it_goes(schedule)
    return len(raced) < MOST_REPEATED


def _choose_other_victims(
    world: ServerWorld,
    deadlocks: Sequence[Deadlock],
    request: ExplorationRequest,
    limits: Limits,
    sharing: Sharing,
) -> bool:
    """Run every schedule that goes on after a deadlock with another victim; returns whether all of them were run."""
    complete, run = True, 0

    def go_on(_progress: Progress) -> bool:
        nonlocal run
        run += 1
        return not limits.expired and run <= (request.max_schedules or run)

    for victim in range(2, len(world.strategy_sessions) + 1):
        world.order_victims(victim)
        for deadlock in deadlocks:
            if victim in deadlock.sessions - {min(deadlock.sessions)}:
                world.draw = deadlock.draw
                world.order = deadlock.order
                complete &= sharing.search(go_on=go_on, part=Part(after=deadlock.after), victim=victim).complete
    world.order_victims()
    world.order = ()
    return complete


def shorten(
    target: Target, request: ExplorationRequest, witness: tuple[int, ...], kinds: Sequence[str]
) -> tuple[int, ...]:
    """Look for the shortest schedule of the same sessions in which one of these anomalies occurs."""
    with ServerWorld(target, request, lambda _: None) as world:
        return _shortest(world, witness, lambda result: any(result.counts[kind] for kind in kinds))


def _shortest(
    world: ServerWorld, witness: tuple[int, ...], wanted: Callable[[ScheduleResult], bool]
) -> tuple[int, ...]:
    """Look for a witness with fewer session switches: run all schedules without a switch, then with one, and so on."""
    deadline = time.monotonic() + _SHORTENING_S
    world.order, _ = divided(witness)
    found: list[ScheduleResult] = []
    world.crash = cuts(witness)
    world.ended = lambda result: found.append(result) if wanted(result) else None
    for most in range(switches(witness)):
        search(world, reduce=True, go_on=lambda _: not found and time.monotonic() < deadline, most_switches=most)
        if found:
            break
    return min((witness, *(result.schedule for result in found)), key=rank)


def replay(
    target: Target, request: ExplorationRequest, schedule: Sequence[int], *, reuse: Reuse | None = None
) -> Replay:
    """Run one schedule, a sequence of sessions; raises UsageProblem if the sessions cannot take its steps."""
    with ServerWorld(target, request, lambda _: None, reuse=reuse) as world:
        return _follow(world, request, schedule)


def _follow(world: ServerWorld, request: ExplorationRequest, schedule: Sequence[int]) -> Replay:
    with world.recorded() as searched:
        steps, result, broken = _follow_with_a_victim(world, request, schedule)
    return replay_of(
        request,
        schedule,
        result=result,
        steps=steps,
        broken=broken if "violations" in request.scenario.forbid else (),
        difference=world.difference(result),
        named=world.name(result, searched),
        prepared=world.prepared,
    )


def _follow_with_a_victim(
    world: ServerWorld, request: ExplorationRequest, schedule: Sequence[int]
) -> tuple[tuple[Step, ...], ScheduleResult, tuple[str, ...]]:
    """Follow a schedule with each victim of its deadlocks in turn, until it goes wrong.

    If it never does, this is how it went with the first victim with which it could be followed. Returns its steps, its
    result, and what broke which invariant.
    """
    results: list[ScheduleResult] = []
    world.ended = results.append
    followed: list[tuple[tuple[Step, ...], ScheduleResult, tuple[str, ...]]] = []
    refusal: UsageProblem | None = None
    for victim in range(1, len(world.strategy_sessions) + 1):
        world.order_victims(victim)
        try:
            steps = tuple(world.follow(schedule))
        except UsageProblem as problem:
            refusal = refusal or problem
            deadlocked = world.scheduler.deadlocked
        else:
            deadlocked = results[-1].deadlocked
            followed.append((steps, results[-1], world.broken))
            if any(results[-1].counts[kind] for kind in request.scenario.forbid):
                return followed[-1]
        if not deadlocked:
            break
    if not followed and refusal is not None:
        raise refusal
    return followed[0]


def requested_by(schedule: Schedule, scenario: Scenario) -> ExplorationRequest:
    """The request that runs a schedule of a scenario.

    Raises UsageProblem if the strategy has changed since, or if a session has no step: then a number is mistyped.
    """
    strategy = catalog.find_strategy(scenario, schedule.strategy)
    consumer = catalog.find_consumers(scenario, [schedule.consumer])[0] if schedule.consumer else None
    schedules.check_same(schedule, strategy, consumer)
    takers = [session_of(number) for number in schedule.steps]
    sessions, polls = schedule.sessions, 0
    if idle := sorted({*range(1, sessions)} - {*takers}):
        raise UsageProblem(
            f"the schedule has a step of s{sessions} and none of s{idle[0]}: give it as explore has printed it"
        )
    if consumer is not None:
        polls, sessions = takers.count(sessions), sessions - 1
    return ExplorationRequest(
        scenario=scenario,
        strategy=strategy,
        consumer=consumer,
        sessions=sessions,
        polls=polls,
        crash=cuts(schedule.steps),
        reduce=False,
        draw=schedule.draw,
    )
