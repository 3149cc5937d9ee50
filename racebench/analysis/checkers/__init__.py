"""One file an anomaly: each is shown a whole History, piece by piece, and reports a Finding.

To add one, add a file and a line here. No formatting. Counts follow the definitions in core.anomalies. What
concerns a consumer is checked for each consumer's log; what concerns numbers or operations' rows only if the scenario
has numbered rows. Memory does not grow with the history: what must be kept of it is in scratch space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from racebench.analysis.checkers.checker import Checker, ConsumerChecker, Pass
from racebench.analysis.checkers.duplicates import Duplicates
from racebench.analysis.checkers.gaps import Gaps
from racebench.analysis.checkers.inversions import Inversions
from racebench.analysis.checkers.lost import Lost
from racebench.analysis.checkers.missed import Missed
from racebench.analysis.checkers.redelivered import Redelivered
from racebench.analysis.checkers.refused import Refused
from racebench.analysis.checkers.unexpected import Unexpected
from racebench.analysis.checkers.unnumbered import Unnumbered
from racebench.analysis.checkers.violations import Violations
from racebench.analysis.checkers.witnesses import Wanted, fetch
from racebench.analysis.index import Evidence
from racebench.core.results import Finding
from racebench.history import History
from racebench.history.spill import Scratch

__all__ = ["CONSUMER_CHECKERS", "OPERATION_CHECKERS", "ROW_CHECKERS", "Checked", "Pass", "check"]

#: About operations and the invariants: for every scenario.
OPERATION_CHECKERS: Mapping[str, type[Checker]] = {"violations": Violations, "refused": Refused}
#: About the numbered rows.
ROW_CHECKERS: Mapping[str, type[Checker]] = {
    "duplicates": Duplicates,
    "lost": Lost,
    "unexpected": Unexpected,
    "unnumbered": Unnumbered,
    "gaps": Gaps,
    "inversions": Inversions,
}
#: About what a consumer was given.
CONSUMER_CHECKERS: Mapping[str, type[ConsumerChecker]] = {"missed": Missed, "redelivered": Redelivered}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The findings by kind, zero for what does not apply; `logs` those of each consumer, `delivered` its rows."""

    findings: Mapping[str, Finding]
    logs: tuple[Mapping[str, Finding], ...]
    delivered: tuple[int, ...]


def check(history: History, scratch: Scratch | None = None, also: Sequence[Pass] = ()) -> Checked:
    """Check everything: one pass over each log, two over the rows, one over the operations, one for the witnesses.

    `also` is shown the rows and the operations in the same passes. Without `scratch`, one is made and deleted.
    """
    if scratch is None:
        with Scratch() as made:
            return check(history, made, also)
    evidence = Evidence(history, scratch)
    kinds = dict(OPERATION_CHECKERS)
    if history.rows is not None:
        kinds |= ROW_CHECKERS
    checkers = [checker(evidence) for checker in kinds.values()]
    consumers = [
        [checker(evidence, number) for checker in CONSUMER_CHECKERS.values()] for number in range(len(history.logs))
    ]
    everyone: list[Checker] = [*checkers, *(checker for each in consumers for checker in each)]
    passes: list[Pass] = [*everyone, *also]
    for rows in evidence.chunks():
        for each in passes:
            each.rows(rows)
    for operations in history.operations.chunks(scratch.piece):
        for each in passes:
            each.operations(operations)
    wanted = Wanted()
    for checker in everyone:
        checker.wants(wanted)
    found = fetch(wanted, evidence)
    findings = {kind: Finding(kind=kind, count=0, chances=0) for kind in ROW_CHECKERS}
    return Checked(
        findings=findings | {checker.kind: checker.finding(found) for checker in checkers},
        logs=tuple({checker.kind: checker.finding(found) for checker in each} for each in consumers),
        delivered=tuple(delivered.rows for delivered in evidence.delivered),
    )
