"""Counts schedules during a search, and makes the frozen result from the counts.

racebench.exploration.outcome finds the anomalies of a schedule; the search chooses the schedules.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from racebench.analysis.remedies import expected_kinds
from racebench.core.anomalies import ANOMALIES, NON_SERIALIZABLE, SESSION_LOST
from racebench.core.quantity import quantity
from racebench.core.verdict import Verdict
from racebench.exploration.choices import cut_of, cuts, divided, session_of
from racebench.exploration.draws import Draws, remarks
from racebench.exploration.faults import sets_timeout
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import (
    Beginning,
    Exploration,
    ExplorationProgress,
    Limit,
    Replay,
    ScheduleOutcome,
    SessionOutcome,
    Unseen,
)
from racebench.exploration.schedules import Schedule, Step
from racebench.exploration.sessions import kind_of
from racebench.workloads import ad_hoc, locations
from racebench.workloads.digests import digest

_BY_SERIAL_ORDERS = "no --invariant was given, so the outcome of each schedule was compared with the serial orders'"


class Tally:
    """The counts of a search so far, and the shortest witness."""

    def __init__(self, request: ExplorationRequest) -> None:
        self._request = request
        self.run = self.pruned = self.drawn = self.anomalous = self.raced = self.bursts = self.anomalous_bursts = 0
        #: Schedules of which it is not known whether a serial order has their effect.
        self.unjudged = 0
        #: Schedules that were counted, and run once more.
        self.repeated = 0
        self.chance: float | None = None
        self.complete = False
        self.limit: Limit | None = None
        self.seconds = 0.0
        self.triggers: tuple[str, ...] = ()
        self.functions: tuple[str, ...] = ()
        #: Why a finished search proves nothing, found during the search; the request may have reasons of its own.
        self.unseen: Unseen | None = None
        #: What schedules left behind that was not restored, as sentences.
        self.leftovers: tuple[str, ...] = ()
        #: What the schedules began with; None before the first search.
        self.beginning: Beginning | None = None
        #: The schedule that ended last.
        self.last: ScheduleResult | None = None
        #: What ended the search early, "" if no fault did.
        self.fault = ""
        #: What the reader should know of the search, as sentences.
        self.notes: list[str] = []
        #: The steps of the shortest witness, and the replay of the same schedule.
        self.witness: tuple[int, ...] | None = None
        #: The number of the witness's choice of random numbers, and how many choices were explored.
        self.witness_draw = request.draw
        self.explored_draws = 0
        self.draws = Draws()
        self.replay: Replay | None = None
        #: True while schedules are repeated: they have been counted already, and only new outcomes count.
        self.repeating = False
        #: True while schedules are drawn at random.
        self.drawing = False
        #: How many processes have run schedules.
        self.jobs = 1
        self._counts: Counter[str] = Counter()
        self._outcomes: Counter[tuple[Any, ...]] = Counter()
        self._swallowed: Counter[str] = Counter()

    def add(self, result: ScheduleResult) -> None:
        """Count a schedule that ran to its end."""
        if result.burst:
            self._add_burst(result)
            return
        self.last = result
        self.run += not self.repeating
        self.repeated += self.repeating
        self.unjudged += result.unjudged
        self._outcomes[result.signature] += not self.repeating or not self._outcomes[result.signature]
        self.raced += result.raced
        self._swallowed.update(() if self.repeating else set(result.swallowed))
        self._counts.update({kind: count for kind, count in result.counts.items() if count})
        if self.forbids(result):
            self.anomalous += not self.repeating or not self.anomalous
            if self.witness is None or self._comes_before(result, self.witness):
                self.witness, self.witness_draw = result.schedule, result.draw

    def _comes_before(self, result: ScheduleResult, witness: tuple[int, ...]) -> bool:
        """Whether a schedule is a shorter witness, or as short and earlier in the order of the search."""
        if (one := size(result.schedule)) != (other := size(witness)):
            return one < other
        return (result.draw, rank(result.schedule)) < (self.witness_draw, rank(witness))

    def _add_burst(self, result: ScheduleResult) -> None:
        self.bursts += 1
        self.anomalous_bursts += self.forbids(result)
        self._outcomes[result.signature] += not self._outcomes[result.signature]
        self._counts.update({kind: count for kind, count in result.counts.items() if count})

    def forbids(self, result: ScheduleResult) -> bool:
        """Whether a schedule has an anomaly that the scenario forbids."""
        return any(result.counts[kind] for kind in self._request.scenario.forbid)

    def progress(self) -> ExplorationProgress:
        """The progress of the search."""
        counts = {kind: self._counts[kind] for kind in self._request.scenario.forbid if self._counts[kind]}
        return ExplorationProgress(
            run=self.run, anomalous=self.anomalous, seconds=self.seconds, drawing=self.drawing, counts=counts
        )

    def result(self) -> Exploration:
        """The result so far."""
        request = self._request
        scenario, strategy, consumer = request.scenario, request.strategy, request.consumer
        verdict = self._verdict()
        certain, possible = expected_kinds(strategy, [consumer] if consumer else [])
        # Nothing is known of what an oracle says beside the scenario's own definitions, nor of what a cut leads to, nor
        # of what an operation misses behind a pooler.
        occurred = {kind for kind in scenario.forbid if self._counts[kind] and kind != NON_SERIALIZABLE}
        complete = self.complete and not self.fault
        # A search that ended early may not have met every kind.
        missing = certain - occurred if complete or not occurred else frozenset[str]()
        return Exploration(
            scenario=scenario.name,
            strategy=strategy.name,
            summary=strategy.summary,
            consumer=consumer.name if consumer else None,
            sessions=request.sessions,
            polls=request.polls if consumer else 0,
            crash=request.crash,
            reduced=request.reduce,
            seed=request.seed,
            depth=request.depth,
            verdict=verdict,
            expected=tuple(sorted(certain)),
            as_expected=None
            if not scenario.has_expectations or request.crash or self._counts[SESSION_LOST]
            else verdict is not Verdict.UNKNOWN and not missing and occurred <= certain | possible,
            forbidden=tuple(scenario.forbid),
            counts={kind: self._counts[kind] for kind in ANOMALIES},
            outcomes={_outcome(signature): times for signature, times in self._outcomes.most_common()},
            run=self.run,
            pruned=self.pruned,
            drawn=self.drawn,
            chance=self.chance,
            anomalous=self.anomalous,
            raced=self.raced,
            bursts=self.bursts,
            anomalous_bursts=self.anomalous_bursts,
            complete=complete,
            limit=None if complete or self.fault else self.limit,
            seconds=self.seconds,
            witness=self.replay
            if self.witness is None or self.replay
            else replay_of(self.witness_request, self.witness),
            unseen=self.why_unseen(),
            leftovers=self.leftovers,
            fault=self.fault,
            calls=_callables(request),
            triggers=tuple(self.triggers),
            functions=self.functions,
            swallowed=dict(sorted(self._swallowed.items())),
            notes=(
                *self._compared(),
                *dict.fromkeys(self.notes),
                *remarks(self.draws, self.explored_draws),
            ),
            draws=self.explored_draws if self.draws.vary else 0,
            beginning=self.beginning,
            jobs=self.jobs,
            pooler=request.pooler,
            code=locations.of_strategy(strategy),
        )

    def _compared(self) -> list[str]:
        """What an outcome was compared with, where no invariant decides, or though one does."""
        scenario, count = self._request.scenario, self._counts[NON_SERIALIZABLE]
        if NON_SERIALIZABLE in scenario.forbid:
            return [_BY_SERIAL_ORDERS] if ad_hoc.lacks_invariant(scenario) else []
        if ad_hoc.lacks_invariant(scenario):
            return [ad_hoc.NO_INVARIANT]
        if not count:
            return []
        schedules = quantity(count, "schedule ends", "schedules end")
        return [f"{schedules} as no serial order does; --oracle returns makes that an anomaly, whatever invariants say"]

    @property
    def witness_request(self) -> ExplorationRequest:
        """The request with the random numbers of the witness."""
        return replace(self._request, draw=self.witness_draw, draws=1)

    def why_unseen(self) -> Unseen | None:
        """Why a finished search proves nothing; None if it does."""
        only_one = self.draws.decide and self.explored_draws < 2
        if self.leftovers:
            return Unseen.LEFTOVER
        if self.unjudged and NON_SERIALIZABLE in self._request.scenario.forbid:
            return Unseen.ORDERS
        return _unseen(self._request) or self.unseen or (Unseen.RANDOM if only_one else None)

    def _verdict(self) -> Verdict:
        if self.leftovers:
            return Verdict.UNKNOWN
        if self.anomalous or self.anomalous_bursts:
            return Verdict.INVALID
        proved = self.complete and not self.fault and self.why_unseen() is None
        return Verdict.VALID if proved else Verdict.UNKNOWN


def replay_of(
    request: ExplorationRequest,
    schedule: Sequence[int],
    *,
    result: ScheduleResult | None = None,
    steps: Sequence[Step] = (),
    broken: Sequence[str] = (),
    difference: str = "",
    named: str = "",
    prepared: Sequence[str] = (),
) -> Replay:
    """The replay of a schedule; without an outcome and steps if the schedule could not be repeated."""
    followed = Schedule(
        scenario=request.scenario.name,
        strategy=request.strategy.name,
        consumer=request.consumer.name if request.consumer else None,
        digest=digest(request.strategy, request.consumer),
        draw=request.draw,
        steps=tuple(schedule),
    )
    return Replay(
        schedule=followed,
        sessions=request.sessions,
        forbidden=tuple(request.scenario.forbid),
        outcome=None if result is None else _outcome(result.signature),
        steps=tuple(steps),
        broken=tuple(broken),
        difference=difference,
        named=named,
        prepared=tuple(prepared),
        calls=_callables(request),
        command=_command(request, followed),
    )


def switches(schedule: Sequence[int]) -> int:
    """The number of steps that another session takes than the step before."""
    return sum(one != other for one, other in pairwise(map(session_of, divided(schedule)[1])))


def size(schedule: Sequence[int]) -> tuple[int, int, int]:
    """The sort key of witnesses: the numbers of connections cut, of session switches, and of steps."""
    return cuts(schedule), switches(schedule), len(schedule)


def rank(schedule: Sequence[int]) -> tuple[Any, ...]:
    """The sort key of witnesses: their size, then the place in a depth-first search.

    That takes cuts last, and goes on with the session that went last first (tree.Bound.candidates).
    """
    order, numbers = divided(schedule)
    places, last = [], 0
    for number in numbers:
        session = session_of(number)
        places.append((cut_of(number) is not None, session != last, number))
        last = session
    return size(schedule), order, tuple(places)


def _outcome(signature: tuple[Any, ...]) -> ScheduleOutcome:
    sessions, anomalies = signature
    return ScheduleOutcome(
        sessions=tuple(
            SessionOutcome(outcome=outcome, sqlstate=sqlstate, rank=rank, tries=tries)
            for outcome, sqlstate, rank, tries in sessions
        ),
        anomalies=tuple(anomalies),
    )


def _unseen(request: ExplorationRequest) -> Unseen | None:
    consumer = request.consumer
    if consumer is not None and consumer.settle_ms > 0 and consumer.misses == "maybe":
        return Unseen.DELAY
    if sets_timeout(request.strategy.script):
        return Unseen.TIMEOUT  # sessions wait without a time limit here, so it has no effect
    return Unseen.STATEMENT if request.strategy.inside else None


def _callables(request: ExplorationRequest) -> Mapping[str, str]:
    """The name of the callable that each session runs."""
    return kind_of(request.strategy).callables(request.strategy, request.sessions)


def _command(request: ExplorationRequest, schedule: Schedule) -> str | None:
    """The command that replays a schedule; None for code that no command line can name."""
    if request.scenario.options is None:
        return None
    return " ".join(
        ["racebench replay", f"'{schedule}'", *map(shlex.quote, request.scenario.options), *_judges(request)]
    )


def _judges(request: ExplorationRequest) -> list[str]:
    """The options by which a replay is judged as the request is."""
    words = [f"--allow {','.join(request.allowed)}"] if request.allowed else []
    if request.pooler is not None:
        words.append(f"--pooler {request.pooler.pooling}")
        words += [f"--pool-size {request.pooler.size}"] if request.pooler.size < request.sessions else []
    if request.oracle is None:
        return words
    decides, by_default = NON_SERIALIZABLE in request.scenario.forbid, ad_hoc.lacks_invariant(request.scenario)
    named = decides and (not by_default or request.oracle is not Oracle.RETURNS)
    return [*words, f"--oracle {request.oracle}"] if named else words
