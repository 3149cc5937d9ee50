"""Makes a RunResult from a History: counts, rates, verdicts, witnesses.

A verdict is INVALID if an anomaly that the scenario forbids was found. It is UNKNOWN if an anomaly could not have been
found (nothing was committed, no two operations overlapped, or a consumer did not read to the end). Otherwise it is
VALID, which under load is only an upper bound.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers import Checked, Pass, check
from racebench.analysis.estimates import upper_bound_of_zero
from racebench.analysis.index import RowChunk
from racebench.analysis.liveness import Stall, Stretches
from racebench.analysis.overlap import Overlap
from racebench.analysis.performance import Course, open_loop, remarks, start_spread_us
from racebench.analysis.remedies import (
    expected_kinds,
    expected_misses,
    is_at_fault,
    other_consumer,
    other_strategy,
)
from racebench.analysis.standby import MissedOnlyThere, on_standby
from racebench.analysis.statistics import percentiles
from racebench.analysis.streaming.confirmation import Confirmation, KnownDuplicate
from racebench.core.anomalies import ANOMALIES, with_every_kind
from racebench.core.liveness import Sighting
from racebench.core.model import Consumer, Load, Outcome, Scenario, Strategy
from racebench.core.results import Anomaly, ConsumerResult, Finding, MachineResult, Pace, RunResult, Usage
from racebench.core.verdict import Verdict
from racebench.history import Chunk, History, Log
from racebench.history.operations import NEVER
from racebench.history.records import decode_status, encode_status, outcomes
from racebench.history.spill import Scratch, pieces
from racebench.workloads import locations

Array = npt.NDArray[Any]

_LATENCY = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
_RARE = {"p999": 0.999}
_RARE_FROM = 1000  # with fewer samples, none lies above the 99.9th percentile
_LATENESS = {"p50": 0.50, "p99": 0.99, "max": 1.0}


def judge(
    *,
    scenario: Scenario,
    strategy: Strategy,
    consumers: Sequence[Consumer],
    load: Load,
    history: History,
    retried: Mapping[str, int],
    messages: Mapping[str, str],
    notes: Sequence[str],
    schema: str | None,
    usage: Usage,
    unfinished: bool = False,
    known: KnownDuplicate | None = None,
    sightings: Mapping[str, Sequence[Sighting]] = MappingProxyType({}),
) -> RunResult:
    """Check a history and put everything measured into a RunResult. `history.logs` are the consumers', in order.

    `unfinished`: the run did not come to its end, so that it shows nothing by what it lacks. `known`: a duplicate that
    was known while the run went on; it decides nothing. `sightings`: by consumer, which transactions were open while it
    got nothing.
    """
    with Scratch() as scratch:
        tally = Tally(history.start + round(load.warmup_s * 1e9))
        late = [Lateness(scratch, number, history.slack_ns(log.name)) for number, log in enumerate(history.logs)]
        stretches = [
            Stretches(log, number, scratch, history.slack_ns(log.name)) for number, log in enumerate(history.logs)
        ]
        # Measured in the same passes as the checkers; add a Pass here.
        course, overlap, confirmation = Course(history), Overlap(history.slack_ns()), Confirmation(history, known)
        apart = on_standby(consumers, history.logs)
        passes = [tally, course, overlap, confirmation, *late, *stretches, *apart.values()]
        checked = check(history, scratch, also=passes)
        latency_us = tally.latency_us(history, scratch)
        results = tuple(
            _with_liveness(
                _consumer_result(
                    scenario=scenario,
                    strategy=strategy,
                    consumer=consumer,
                    log=log,
                    counts={"delivered": checked.delivered[number], **_found(checked.logs[number])},
                    late_us=late[number].late_us(),
                    overlapped=overlap.found,
                    apart=apart.get(number),
                ),
                stretches[number].longest(consumer, load, sightings.get(consumer.name, ())),
                history,
                waits_for_numbers=consumer.needs == "dense",
                held_back=0 if log.drained or log.quiet is None else _held_back(checked, number),
            )
            for number, (consumer, log) in enumerate(zip(consumers, history.logs, strict=True))
        )
    counts = count(history, checked, tally)
    verdict = decide(scenario.forbid, counts, complete=complete(history, counts, overlap) and not unfinished)
    certain, possible = expected_kinds(strategy, consumers)
    occurred = {kind for kind in scenario.forbid if counts[kind]}
    losing = [one for one, result in zip(consumers, results, strict=True) if result.counts["missed"]]
    seconds = tally.seconds
    pace = Pace(
        start_spread_us=start_spread_us(history),
        timeline=course.timeline(),
        cpu=usage,
        open_loop=open_loop(history, load),
        overlapped=overlap.found,
    )
    chances = counts["rows"] or counts["committed"]
    return RunResult(
        scenario=scenario.name,
        strategy=strategy.name,
        summary=strategy.summary,
        consumers=results,
        load=load,
        seconds=seconds,
        verdict=verdict,
        expected=tuple(kind for kind in ANOMALIES if kind in certain),
        possible=tuple(kind for kind in ANOMALIES if kind in possible),
        forbidden=scenario.forbid,
        advice=other_strategy(scenario, strategy, losing, occurred),
        as_expected=None
        if not scenario.has_expectations
        else verdict is not Verdict.UNKNOWN and certain <= occurred <= certain | possible,
        source=strategy.source,
        counts=counts,
        measures=history.measures,
        errors=tally.errors,
        retried=dict(sorted(retried.items())),
        upper_bound=upper_bound_of_zero(chances) if verdict is Verdict.VALID else None,
        throughput_per_s=tally.measured / seconds if seconds > 0 else 0.0,
        latency_us=latency_us,
        pace=pace,
        witnesses=witnesses(checked),
        notes=(*notes, *remarks(pace, load, counts["attempts"], seconds + load.warmup_s, os.cpu_count() or 1)),
        schema=schema,
        messages=dict(sorted(messages.items())),
        first_duplicate=confirmation.first_duplicate(),
        machines=tuple(
            MachineResult(
                machine=clock.machine,
                sessions=clock.sessions,
                consumers=clock.consumers,
                offset_us=clock.offset_ns / 1e3,
                bound_us=clock.bound_ns / 1e3,
            )
            for clock in history.clocks
        ),
        undecided=undecided(checked, late),
        code=locations.of_strategy(strategy),
    )


def undecided(checked: Checked, late: Sequence[Lateness]) -> dict[str, int]:
    """What the bounds of the machines' clocks leave undecided, as published."""
    within = sum(one.within for one in late)
    return {**checked.undecided, **({"late": within} if within else {})}


class Tally(Pass):
    """Counts operations by outcome and SQLSTATE, and measures those that began at `since` or later."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._last_end = since
        self.outcomes = np.zeros(len(Outcome), np.int64)
        self.rolled_back = 0
        self.tries = 0
        self.measured = 0
        self._statuses: Counter[int] = Counter()

    def rows(self, chunk: RowChunk) -> None:
        """Do nothing: only operations count."""

    def operations(self, chunk: Chunk) -> None:
        outcome, status = chunk.outcome, chunk.status
        acknowledged = outcome == Outcome.OK
        self.outcomes += np.bincount(outcome, minlength=len(Outcome))
        self.tries += int(chunk.tries.sum(dtype=np.int64))
        self.measured += int((acknowledged & (chunk.start >= self._since)).sum())
        if not acknowledged.all():
            statuses, times = np.unique(status[~acknowledged], return_counts=True)
            self._statuses.update(dict(zip(statuses.tolist(), times.tolist(), strict=True)))
        ended = chunk.end[chunk.end != NEVER]
        if len(ended):
            self._last_end = max(self._last_end, int(ended.max()))

    @property
    def seconds(self) -> float:
        """The time from the start of the measurement to the last end of an operation, in seconds."""
        return (self._last_end - self._since) / 1e9

    @property
    def counts(self) -> dict[str, int]:
        """Operations as published."""
        attempts = int(self.outcomes.sum())
        return {
            "attempts": attempts,
            "committed": int(self.outcomes[Outcome.OK]),
            "failed": int(self.outcomes[Outcome.FAIL]),
            "rolled_back": self._statuses[encode_status(Outcome.FAIL, "")],
            "unknown": int(self.outcomes[Outcome.UNKNOWN]),
            "retries": self.tries - attempts,
        }

    @property
    def errors(self) -> dict[str, int]:
        """Errors that the application received, by SQLSTATE: of failed or unknown operations, after their last try."""
        errors: Counter[str] = Counter()
        for status, times in self._statuses.items():
            if sqlstate := decode_status(status)[1]:
                errors[sqlstate] += times
        return dict(sorted(errors.items()))

    def latency_us(self, history: History, scratch: Scratch) -> dict[str, float | None]:
        """Exact percentiles of the acknowledged operations; p99.9 only if there are samples for it."""

        def latencies() -> Iterator[Array]:
            for records in history.operations.pieces(scratch.piece):
                which = outcomes(records["status"]) == Outcome.OK
                which &= records["start"] >= self._since
                yield (records["end"] - records["start"])[which]

        rare = _RARE if self.measured >= _RARE_FROM else {}
        return _microseconds(percentiles(latencies, _LATENCY | rare)) | dict.fromkeys(_RARE.keys() - rare.keys())


class Lateness(Pass):
    """For each row's first delivery to one consumer: ns from its acknowledgement to its arrival, at least 0.

    `slack_ns`: how wrong that can be. It is subtracted, so that what is reported is late by that much at least;
    `within`: how many came after their acknowledgement by no more than that.
    """

    def __init__(self, scratch: Scratch, log: int, slack_ns: int = 0) -> None:
        self._slack_ns = slack_ns
        self.within = 0
        self._scratch = scratch
        self._log = log
        self._late = scratch.column(np.int64)

    def rows(self, chunk: RowChunk) -> None:
        arrived, acknowledged = chunk.first(self._log), chunk.acknowledged
        both = (arrived != 0) & (acknowledged != NEVER)
        late = arrived[both] - acknowledged[both]
        self.within += int((np.abs(late) < self._slack_ns).sum())
        self._late.append(np.maximum(late - self._slack_ns, 0))

    def operations(self, chunk: Chunk) -> None:
        """Do nothing: rows are enough."""

    def late_us(self) -> dict[str, float | None]:
        """Exact percentiles."""
        late = self._late.array()
        return _microseconds(percentiles(lambda: pieces(late, self._scratch.piece), _LATENESS))


def count(history: History, checked: Checked, tally: Tally) -> dict[str, int]:
    """All counts of a run as published; of consumers, all together."""
    return with_every_kind({**tally.counts, "rows": len(history.table), **checked.counts()})


def decide(forbidden: Sequence[str], counts: Mapping[str, int], *, complete: bool) -> Verdict:
    """INVALID if a forbidden anomaly was found; else VALID if the history is `complete`, else UNKNOWN."""
    if any(counts.get(kind) for kind in forbidden):
        return Verdict.INVALID
    return Verdict.VALID if complete else Verdict.UNKNOWN


def complete(history: History, counts: Mapping[str, int], overlap: Overlap) -> bool:
    """Whether a race could have occurred in a history, and would have been seen."""
    return counts["committed"] > 0 and overlap.found and all(log.drained for log in history.logs)


def witnesses(checked: Checked) -> tuple[Anomaly, ...]:
    """The witnesses of all kinds, in the order of ANOMALIES."""
    sources = (checked.findings, *checked.logs)
    return tuple(
        witness
        for kind in ANOMALIES
        for findings in sources
        if kind in findings
        for witness in findings[kind].witnesses
    )


def _consumer_result(
    *,
    scenario: Scenario,
    strategy: Strategy,
    consumer: Consumer,
    log: Log,
    counts: Mapping[str, int],
    late_us: Mapping[str, float | None],
    overlapped: bool,
    apart: MissedOnlyThere | None,
) -> ConsumerResult:
    expected = expected_misses(strategy, consumer)
    missed = counts["missed"] > 0
    at_fault = missed and is_at_fault(consumer, strategy)
    return ConsumerResult(
        name=consumer.name,
        verdict=decide(scenario.forbid, counts, complete=log.drained and overlapped),
        expected=expected,
        as_expected=log.drained and (expected == "maybe" or missed == (expected == "always")),
        counts=counts,
        late_us=late_us,
        longest_poll_us=None if log.longest_poll_ns is None else log.longest_poll_ns / 1e3,
        at_fault=at_fault,
        instead=other_consumer(scenario, strategy, consumer) if at_fault else None,
        server="standby" if consumer.on_standby else "primary",
        missed_only_here=None if apart is None else apart.count,
    )


def _with_liveness(
    result: ConsumerResult, stall: Stall | None, history: History, *, held_back: int, waits_for_numbers: bool
) -> ConsumerResult:
    if stall is None:
        return result
    return replace(
        result,
        stalled_ms=stall.ms,
        stalled_from_us=history.microseconds(stall.start_ns) if stall.ms else None,
        stalled=stall.long,
        behind=stall.behind,
        waits_for_numbers=waits_for_numbers,
        held_back=held_back,
    )


def _held_back(checked: Checked, number: int) -> int:
    """The rows that a consumer neither delivered nor missed."""
    missed = checked.logs[number]["missed"]
    return max(0, missed.chances - checked.delivered[number] - missed.count)


def _found(findings: Mapping[str, Finding]) -> dict[str, int]:
    return {kind: finding.count for kind, finding in findings.items()}


def _microseconds(ns: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else value / 1e3 for name, value in ns.items()}
