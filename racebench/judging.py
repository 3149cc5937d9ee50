"""From a History to a RunResult: counts, rates, verdicts, witnesses.

A verdict is INVALID if an anomaly the scenario forbids was found; UNKNOWN if what was needed to find one is not known
(nothing was committed, a consumer did not read to the end); else VALID, an upper bound under load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from racebench.checkers import CONSUMER_CHECKERS, check, check_log
from racebench.history import Array, History, Log, committed
from racebench.model import (
    ANOMALIES,
    Anomaly,
    Consumer,
    ConsumerResult,
    Finding,
    Load,
    Outcome,
    RunResult,
    Scenario,
    Strategy,
    Verdict,
)
from racebench.recording import decode_status, encode_status
from racebench.statistics import percentile, upper_bound_of_zero

_LATENCY = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
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
) -> RunResult:
    """Check a history and put everything measured into a RunResult. `history.logs` are the consumers', in order."""
    findings = check(history)
    read = {log.name: check_log(history, log) for log in history.logs}
    counts = _counts(history, findings, list(read.values()))
    results = tuple(
        _consumer_result(
            scenario=scenario,
            strategy=strategy,
            consumer=consumer,
            history=history,
            log=log,
            findings=read[log.name],
        )
        for consumer, log in zip(consumers, history.logs, strict=True)
    )
    verdict = _verdict(scenario, counts, complete=counts["committed"] > 0 and all(log.drained for log in history.logs))
    certain, possible = _expected(strategy, results)
    found = {kind for kind in scenario.forbid if counts[kind]}
    acknowledged = committed(history.operations)
    latencies = np.sort((acknowledged["end"] - acknowledged["start"]) / 1e3)
    seconds = _seconds(history)
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
        advice=scenario.advise,
        as_expected=verdict is not Verdict.UNKNOWN and certain <= found <= certain | possible,
        source=strategy.source,
        counts=counts,
        measures=history.measures,
        errors=_errors(history.operations),
        retried=dict(sorted(retried.items())),
        upper_bound=upper_bound_of_zero(chances) if verdict is Verdict.VALID else None,
        throughput_per_s=len(acknowledged) / seconds if seconds > 0 else 0.0,
        latency_us={name: percentile(latencies, q) for name, q in _LATENCY.items()},
        witnesses=_witnesses(findings, read),
        notes=tuple(notes),
        schema=schema,
        messages=dict(sorted(messages.items())),
    )


def expected_misses(strategy: Strategy, consumer: Consumer) -> str:
    """What is known of a writer and a consumer together: they miss rows "always", "maybe" or "never".

    A consumer that never misses never does; one that follows the order of the numbers misses the rows of writers that
    do not commit in that order; one that hedges may miss some of those. Rows of writers that keep order are missed only
    by a consumer that holds rows back by their insertion when they are numbered after it: two rights, one wrong.
    Example: row A is inserted, then row B; B commits first and is numbered 1, A 2. When A is old enough to be read and
    B is not, the cursor passes B.
    """
    if consumer.misses != "never" and consumer.by_insertion and strategy.stamped:
        return "maybe"
    if consumer.misses == "never" or "missed" not in strategy.expect | strategy.may:
        return "never"
    return "always" if consumer.misses == "unordered" and "missed" in strategy.expect else "maybe"


def _expected(strategy: Strategy, consumers: Sequence[ConsumerResult]) -> tuple[frozenset[str], frozenset[str]]:
    """The anomalies that this run should show, and those it may: the strategy's, misses as its consumers have them."""
    certain, possible = strategy.expect - {"missed"}, strategy.may - {"missed"}
    misses = {result.expected for result in consumers}
    if "always" in misses:
        certain |= {"missed"}
    if "maybe" in misses:
        possible |= {"missed"}
    return certain, possible


def _consumer_result(
    *,
    scenario: Scenario,
    strategy: Strategy,
    consumer: Consumer,
    history: History,
    log: Log,
    findings: Mapping[str, Finding],
) -> ConsumerResult:
    counts = {kind: finding.count for kind, finding in findings.items()}
    expected = expected_misses(strategy, consumer)
    missed = counts["missed"] > 0
    late = np.sort(_lateness(history, log)) / 1e3
    return ConsumerResult(
        name=consumer.name,
        verdict=_verdict(scenario, counts, complete=log.drained),
        expected=expected,
        as_expected=log.drained and (expected == "maybe" or missed == (expected == "always")),
        counts={"delivered": len(np.unique(log.deliveries["id"])), **counts},
        late_us={name: percentile(late, q) for name, q in _LATENESS.items()},
        longest_poll_us=None if log.longest_poll_ns is None else log.longest_poll_ns / 1e3,
    )


def _lateness(history: History, log: Log) -> Array:
    """For each row's first delivery: ns from its operation's acknowledgement to its arrival, at least 0."""
    ids, first = np.unique(log.deliveries["id"], return_index=True)
    rows, operations = history.table, committed(history.operations)
    if not len(rows) or not len(operations):
        return np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(rows["id"], ids), len(rows) - 1)
    known = rows["id"][at] == ids
    wrote = rows["operation"][at[known]]
    by = np.minimum(np.searchsorted(operations["id"], wrote), len(operations) - 1)
    acknowledged = operations["id"][by] == wrote
    arrived = log.deliveries["at"][first[known]][acknowledged]
    late: Array = np.maximum(arrived - operations["end"][by[acknowledged]], 0)
    return late


def _counts(history: History, findings: Mapping[str, Finding], read: Sequence[Mapping[str, Finding]]) -> dict[str, int]:
    operations = history.operations
    outcome, status = operations["outcome"], operations["status"]
    rolled_back = (outcome == Outcome.FAIL) & (status == encode_status(Outcome.FAIL, ""))
    return {
        "attempts": len(operations),
        "committed": int((outcome == Outcome.OK).sum()),
        "failed": int((outcome == Outcome.FAIL).sum()),
        "rolled_back": int(rolled_back.sum()),
        "unknown": int((outcome == Outcome.UNKNOWN).sum()),
        "retries": int((operations["tries"] - 1).sum()) if len(operations) else 0,
        "rows": len(history.table),
        **{kind: finding.count for kind, finding in findings.items()},
        **{kind: sum(log[kind].count for log in read) for kind in CONSUMER_CHECKERS},
    }


def _verdict(scenario: Scenario, counts: Mapping[str, int], *, complete: bool) -> Verdict:
    if any(counts.get(kind) for kind in scenario.forbid):
        return Verdict.INVALID
    return Verdict.VALID if complete else Verdict.UNKNOWN


def _witnesses(findings: Mapping[str, Finding], read: Mapping[str, Mapping[str, Finding]]) -> tuple[Anomaly, ...]:
    found: list[Anomaly] = []
    for kind in ANOMALIES:
        sources = [findings] if kind in findings else list(read.values())
        found += [witness for source in sources for witness in source[kind].witnesses]
    return tuple(found)


def _errors(operations: Array) -> dict[str, int]:
    """Errors the application saw, by SQLSTATE: of operations that failed or are unknown, after their last try."""
    statuses, counts = np.unique(operations["status"], return_counts=True)
    errors: dict[str, int] = {}
    for status, count in zip(statuses, counts, strict=True):
        outcome, sqlstate = decode_status(int(status))
        if outcome is not Outcome.OK and sqlstate:
            errors[sqlstate] = errors.get(sqlstate, 0) + int(count)
    return dict(sorted(errors.items()))


def _seconds(history: History) -> float:
    """From the common start to the last end of an operation that ended."""
    ended = history.operations[~history.operations["pending"]]
    return float(ended["end"].max() - history.start) / 1e9 if len(ended) else 0.0
