"""From a History to a RunResult: counts, rates, verdict, witnesses.

The verdict: INVALID if an anomaly the scenario forbids was found; UNKNOWN if what was needed to find one is not
known (nothing was committed, the consumer did not read to the end); else VALID, an upper bound under load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from racebench.checkers import check
from racebench.history import Array, History, committed
from racebench.model import ANOMALIES, Consumer, Finding, Load, Outcome, RunResult, Scenario, Strategy, Verdict
from racebench.recording import decode_status
from racebench.statistics import percentile, upper_bound_of_zero

_PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}


def judge(
    *,
    scenario: Scenario,
    strategy: Strategy,
    consumer: Consumer,
    load: Load,
    history: History,
    retried: Mapping[str, int],
    messages: Mapping[str, str],
    notes: Sequence[str],
    schema: str | None,
) -> RunResult:
    """Check a history and put everything measured into a RunResult."""
    findings = check(history)
    counts = _counts(history, findings)
    verdict = _verdict(scenario, history, counts)
    found = {kind for kind in scenario.forbid if counts[kind]}
    acknowledged = committed(history.operations)
    latencies = np.sort((acknowledged["end"] - acknowledged["start"]) / 1e3)
    seconds = _seconds(history)
    return RunResult(
        scenario=scenario.name,
        strategy=strategy.name,
        summary=strategy.summary,
        consumer=consumer.name,
        load=load,
        seconds=seconds,
        verdict=verdict,
        expected=tuple(kind for kind in ANOMALIES if kind in strategy.expect),
        forbidden=scenario.forbid,
        advice=scenario.advise,
        as_expected=verdict is not Verdict.UNKNOWN and found == strategy.expect,
        source=strategy.source,
        counts=counts,
        errors=_errors(history.operations),
        retried=dict(sorted(retried.items())),
        upper_bound=upper_bound_of_zero(counts["rows"]) if verdict is Verdict.VALID else None,
        throughput_per_s=len(acknowledged) / seconds if seconds > 0 else 0.0,
        latency_us={name: percentile(latencies, q) for name, q in _PERCENTILES.items()},
        witnesses=tuple(witness for kind in ANOMALIES for witness in findings[kind].witnesses),
        notes=tuple(notes),
        schema=schema,
        messages=dict(sorted(messages.items())),
    )


def _counts(history: History, findings: Mapping[str, Finding]) -> dict[str, int]:
    operations = history.operations
    outcome = operations["outcome"]
    return {
        "attempts": len(operations),
        "committed": int((outcome == Outcome.OK).sum()),
        "failed": int((outcome == Outcome.FAIL).sum()),
        "unknown": int((outcome == Outcome.UNKNOWN).sum()),
        "retries": int((operations["tries"] - 1).sum()) if len(operations) else 0,
        "rows": len(history.rows),
        "delivered": len(np.unique(history.deliveries["id"])),
        **{kind: finding.count for kind, finding in findings.items()},
    }


def _verdict(scenario: Scenario, history: History, counts: Mapping[str, int]) -> Verdict:
    if any(counts[kind] for kind in scenario.forbid):
        return Verdict.INVALID
    if counts["committed"] == 0 or not history.drained:
        return Verdict.UNKNOWN
    return Verdict.VALID


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
