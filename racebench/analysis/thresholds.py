"""Parses thresholds such as `p99_ms < 20`, checks that they can be measured, and judges them (docs/compare.md).

A count is exact, and so is the longest stall of all consumers and runs. A measured value of several rounds has an
interval: a threshold passes if it holds in all of the interval, and is crossed if it holds nowhere in it. Otherwise, or
without a value, it is inconclusive. No threshold passes by default.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from racebench.analysis.comparison import FAILING, Comparison, by_strategy, failing, percent, worst
from racebench.analysis.estimates import Estimate, geometric_mean
from racebench.core.anomalies import ANOMALIES, Evidence, needing
from racebench.core.errors import UsageProblem, suggest
from racebench.core.model import Consumer, Scenario, Strategy
from racebench.core.results import ConsumerResult, RunResult
from racebench.core.verdict import Verdict

_SHAPE = re.compile(
    r"\s*(?:(?P<whose>[^\s:<>=!]+)\s*:)?\s*(?P<metric>[^\s:<>=!]+)\s*(?P<operator>[<>=!]+)\s*(?P<limit>[^\s<>=!]+)\s*"
)
_EXAMPLE = "write it as 'duplicates == 0', 'p99_ms < 20' or 'advisory: throughput_per_s >= 1000'"
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COUNTS = ("attempts", "committed", "failed", "rolled_back", "unknown", "retries", "rows")
_LATENCIES = {"p50_ms": "p50", "p90_ms": "p90", "p99_ms": "p99", "p999_ms": "p999", "max_ms": "max"}
#: How long after its commit a row came to the consumer to which rows came last.
_LATENESS = {"late_p50_ms": "p50", "late_p99_ms": "p99", "late_max_ms": "max"}
_THROUGHPUT = "throughput_per_s"
_RATIO = "throughput_vs_reference"
_STALLED = "stalled_max_ms"
_MEASURED = (_THROUGHPUT, _RATIO, *_LATENCIES, *_LATENESS)
METRICS = (*_COUNTS, "errors", *ANOMALIES, *_MEASURED, _STALLED)

_OF_CONSUMERS = (*needing(Evidence.CONSUMER), _STALLED)
_OF_INVARIANTS = needing(Evidence.INVARIANTS)
_OF_ROWS = ("rows", _STALLED, *needing(Evidence.NUMBERS))


class Outcome(StrEnum):
    """The result of a threshold."""

    PASSED = "passed"
    CROSSED = "crossed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """`metric operator limit`, for one strategy or group, or for each (`whose` is None)."""

    text: str
    whose: str | None
    metric: str
    operator: str
    limit: float

    def holds(self, value: float) -> bool:
        return _OPERATORS[self.operator](value, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The result of a threshold for one strategy. `low` and `high` are the interval, None if there is none."""

    text: str
    strategy: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    reason: str


def parse(text: str) -> Threshold:
    """Parse one threshold; raises UsageProblem, with a suggestion, if it is wrong."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise UsageProblem(f"--threshold '{text}' is not a threshold; {_EXAMPLE}")
    metric, sign = match["metric"], match["operator"]
    if metric not in METRICS:
        raise UsageProblem(f"--threshold '{text}': metric '{metric}' is unknown{suggest(metric, METRICS)}")
    if sign not in _OPERATORS:
        raise UsageProblem(f"--threshold '{text}': operator '{sign}' is unknown; known: {' '.join(_OPERATORS)}")
    if metric in (*_MEASURED, _STALLED) and sign in ("==", "!="):
        raise UsageProblem(
            f"--threshold '{text}': {metric} is a measured value, which is never exactly the same; use < or >"
        )
    return Threshold(text=text, whose=match["whose"], metric=metric, operator=sign, limit=_number(text, match["limit"]))


def _number(text: str, limit: str) -> float:
    try:
        number = float(limit)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageProblem(
            f"--threshold '{text}': '{limit}' is not a number; give a number without a unit, such as 20 or 0.8"
        )
    return number


def check(
    threshold: Threshold,
    scenario: Scenario,
    strategies: Sequence[Strategy],
    consumers: Sequence[Consumer],
    *,
    groups: Mapping[str, Callable[[Strategy], bool]],
    reference: str | None,
) -> None:
    """Raise UsageProblem for a threshold that these runs cannot judge, so that it does not pass by default.

    `reference` is None where there is none, in a single run.
    """
    names = [strategy.name for strategy in strategies]
    text, metric = threshold.text, threshold.metric
    about = concerned(threshold, strategies, groups)
    if not about:
        what = "no strategy of that group is run" if threshold.whose in groups else "it is not run"
        known = suggest(str(threshold.whose), [*names, *groups])
        raise UsageProblem(f"--threshold '{text}': strategy '{threshold.whose}': {what}{known}")
    if metric in _OF_ROWS and scenario.rows is None:
        raise UsageProblem(
            f"--threshold '{text}': '{scenario.name}' numbers no rows, {metric} is always 0; see violations"
        )
    if metric in _OF_INVARIANTS and not scenario.invariants and not scenario.checks:
        raise UsageProblem(f"--threshold '{text}': '{scenario.name}' has no invariants, {metric} is always 0")
    if metric in _OF_CONSUMERS and not consumers:
        raise UsageProblem(f"--threshold '{text}': without a consumer {metric} is always 0; give --consumer")
    if metric in _LATENESS and not consumers:
        raise UsageProblem(f"--threshold '{text}': without a consumer there is no {metric}; give --consumer")
    if metric == _RATIO and reference is None:
        raise UsageProblem(f"--threshold '{text}': a run has no reference; use `racebench compare`")
    if metric == _RATIO and about == [reference]:
        raise UsageProblem(
            f"--threshold '{text}': '{reference}' is the reference, whose ratio is always 1; give another --reference"
        )


def concerned(
    threshold: Threshold, strategies: Sequence[Strategy], groups: Mapping[str, Callable[[Strategy], bool]]
) -> list[str]:
    """The strategies among those that are run to which a threshold applies."""
    if threshold.whose is None:
        return [strategy.name for strategy in strategies]
    if threshold.whose in groups:
        return [strategy.name for strategy in strategies if groups[threshold.whose](strategy)]
    return [strategy.name for strategy in strategies if strategy.name == threshold.whose]


def judge(
    thresholds: Sequence[tuple[Threshold, Collection[str]]],
    runs: Sequence[RunResult],
    comparison: Comparison | None,
) -> tuple[Held, ...]:
    """Judge each threshold for each of its strategies by their runs, or by the rounds of a comparison."""
    names = list(dict.fromkeys(run.strategy for run in runs))
    if comparison is not None:
        names = [one.strategy for one in comparison.strategies]
    runs_of, whole = by_strategy(runs, names)
    if comparison is None:
        whole = 0
    judged = []
    for threshold, strategies in thresholds:
        # Strategies of a group that this server cannot run are left out; without any the threshold is not passed.
        about = [name for name in strategies if runs_of.get(name)] or list(strategies)[:1]
        if threshold.metric == _RATIO and comparison is not None and len(about) > 1:
            about = [name for name in about if name != comparison.reference]  # its ratio is 1
        judged += [_judge(threshold, name, runs_of.get(name, []), whole, comparison) for name in about]
    return tuple(judged)


def _judge(
    threshold: Threshold, name: str, runs: Sequence[RunResult], whole: int, comparison: Comparison | None
) -> Held:
    verdict, kinds = worst(runs)
    value, reason = _value(threshold.metric, name, runs, whole, comparison)
    outcome = Outcome.INCONCLUSIVE
    if value is not None:
        reason = ""
        held = {threshold.holds(bound) for bound in (value.low, value.value, value.high)}
        if held == {True}:
            outcome = Outcome.PASSED
        elif held == {False}:
            outcome = Outcome.CROSSED
        else:
            reason = "the interval contains the limit; raise --rounds or --duration"
        if outcome is Outcome.PASSED and (unknown := _unknown(threshold.metric, runs)):
            outcome, reason = Outcome.INCONCLUSIVE, unknown
    if outcome is Outcome.PASSED and verdict is Verdict.INVALID and threshold.metric not in ANOMALIES:
        reason = f"but INVALID: {', '.join(kinds)}"
    elif outcome is Outcome.PASSED and threshold.metric in _MEASURED and (share := _failing(runs)) > FAILING:
        reason = f"but {percent(share)} of its operations failed"
    interval = value is not None and value.low != value.high
    return Held(
        text=threshold.text,
        strategy=name,
        metric=threshold.metric,
        value=None if value is None else value.value,
        low=value.low if value is not None and interval else None,
        high=value.high if value is not None and interval else None,
        outcome=outcome,
        reason=reason,
    )


def _failing(runs: Sequence[RunResult]) -> float:
    errors = sum(sum(run.errors.values()) for run in runs)
    return failing({"attempts": sum(run.counts["attempts"] for run in runs), "errors": errors})


def _value(
    metric: str, name: str, runs: Sequence[RunResult], whole: int, comparison: Comparison | None
) -> tuple[Estimate | None, str]:
    """The value with its interval, if it has one; or the reason why there is no value."""
    if not runs:
        return None, "it was not run"
    if metric == "errors":
        return _exact(sum(sum(run.errors.values()) for run in runs)), ""
    if metric == _STALLED:
        stalls = [consumer.stalled_ms for run in runs for consumer in run.consumers]
        longest = max((stall for stall in stalls if stall is not None), default=None)
        if longest is None or None in stalls:
            return None, "a consumer did not read to the end"
        return _exact(longest), ""
    if metric not in _MEASURED:
        return _exact(sum(run.counts.get(metric, 0) for run in runs)), ""
    if metric == _RATIO:
        one = None if comparison is None else comparison.of(name)
        return None if one is None else one.ratio, "there are not two whole rounds, each with a commit"
    values = [_measured(metric, run) for run in (runs[:whole] if comparison is not None else runs)]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        few = "p999 needs 1,000 commits a run; raise --duration" if metric == "p999_ms" else "nothing was committed"
        return None, "a consumer was given no row, or did not read to the end" if metric in _LATENESS else few
    if metric in _LATENESS:
        return _exact(max(known)), ""  # rounds may have a lateness of 0, which has no geometric mean
    if comparison is not None:
        return geometric_mean(known, comparison.confidence), "there are not two whole rounds, each with a commit"
    return _exact(known[0]), ""


def _measured(metric: str, run: RunResult) -> float | None:
    if metric == _THROUGHPUT:
        return run.throughput_per_s
    if metric in _LATENESS:
        late = [_late_us(consumer, _LATENESS[metric]) for consumer in run.consumers]
        known = [us for us in late if us is not None]
        return max(known) / 1e3 if known and len(known) == len(late) else None
    us = run.latency_us.get(_LATENCIES[metric])
    return None if us is None else us / 1e3


def _late_us(consumer: ConsumerResult, percentile: str) -> float | None:
    """How late rows came to a consumer; None if it did not read to the end, for later rows would have been later."""
    return None if consumer.longest_poll_us is None else consumer.late_us[percentile]


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def _unknown(metric: str, runs: Sequence[RunResult]) -> str:
    """Why a count of 0 shows nothing, because an anomaly may exist and not be counted; "" if it is reliable."""
    if any(run.counts["attempts"] == 0 for run in runs):
        return "nothing was attempted"
    if metric in ANOMALIES and any(run.counts["committed"] == 0 for run in runs):
        return "nothing was committed"
    if metric in ANOMALIES and any(run.pace is not None and run.pace.overlapped is False for run in runs):
        return "no two operations overlapped in time"
    if metric in _OF_CONSUMERS:
        if any(not run.consumers for run in runs):
            return "no consumer read what it wrote"
        every = [consumer for run in runs for consumer in run.consumers]
        if any(consumer.verdict is Verdict.UNKNOWN or consumer.longest_poll_us is None for consumer in every):
            return "a consumer did not read to the end"
    return ""
