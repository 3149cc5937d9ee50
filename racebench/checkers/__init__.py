"""One file an anomaly: pure functions from a History to a Finding. To add one, add a file and a line here.

No I/O, no formatting. Counts follow the definitions in racebench.model.ANOMALIES. What concerns a consumer is checked
for each consumer's log; what concerns numbers or operations' rows only if the scenario has numbered rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from racebench.checkers import (
    duplicates,
    gaps,
    inversions,
    lost,
    missed,
    redelivered,
    refused,
    unexpected,
    unnumbered,
    violations,
)
from racebench.history import History, Log
from racebench.model import Finding

#: About operations and the invariants: for every scenario.
OPERATION_CHECKERS: Mapping[str, Callable[[History], Finding]] = {
    "violations": violations.check,
    "refused": refused.check,
}
#: About the numbered rows.
ROW_CHECKERS: Mapping[str, Callable[[History], Finding]] = {
    "duplicates": duplicates.check,
    "lost": lost.check,
    "unexpected": unexpected.check,
    "unnumbered": unnumbered.check,
    "gaps": gaps.check,
    "inversions": inversions.check,
}
#: About what a consumer was given.
CONSUMER_CHECKERS: Mapping[str, Callable[[History, Log], Finding]] = {
    "missed": missed.check,
    "redelivered": redelivered.check,
}


def check(history: History) -> dict[str, Finding]:
    """Check operations, invariants and rows; the findings by kind, zero for what does not apply."""
    checkers = dict(OPERATION_CHECKERS)
    if history.rows is not None:
        checkers |= ROW_CHECKERS
    findings = {kind: Finding(kind=kind, count=0, chances=0) for kind in ROW_CHECKERS}
    return findings | {kind: checker(history) for kind, checker in checkers.items()}


def check_log(history: History, log: Log) -> dict[str, Finding]:
    """Check what one consumer was given; the findings by kind."""
    return {kind: checker(history, log) for kind, checker in CONSUMER_CHECKERS.items()}
