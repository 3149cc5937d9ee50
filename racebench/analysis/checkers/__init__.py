"""The checkers, one file for each kind of anomaly: each reads a whole History, piece by piece, and returns a Finding.

The module with the name of a kind in core.anomalies counts this kind; only the explorer counts a kind without a module.
A kind that needs a consumer is checked for each consumer's log. A kind that needs numbers is checked only if the
scenario numbers rows. Nothing here formats. Memory does not grow with the history: what is kept is in scratch space.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from racebench.analysis.checkers.checker import Checker, ConsumerChecker, Pass
from racebench.analysis.checkers.witnesses import WitnessRequests, fetch
from racebench.analysis.index import Index
from racebench.core.anomalies import ANOMALIES, Evidence
from racebench.core.results import Finding
from racebench.history import History
from racebench.history.spill import Scratch

__all__ = ["CHECKERS", "Checked", "Pass", "check"]


def _checkers() -> Iterator[type[Checker]]:
    """The checker in the module of each kind's name, in the order of the kinds."""
    modules = {module.name for module in pkgutil.iter_modules(__path__)}
    for kind in ANOMALIES:
        name = kind.replace("-", "_")
        if name in modules:
            values = vars(import_module(f"{__name__}.{name}")).values()
            yield next(value for value in values if getattr(value, "kind", None) == kind)


CHECKERS: Mapping[str, type[Checker]] = {checker.kind: checker for checker in _checkers()}
_OF_CONSUMERS = [checker for checker in CHECKERS.values() if issubclass(checker, ConsumerChecker)]
_OF_HISTORIES = [checker for checker in CHECKERS.values() if not issubclass(checker, ConsumerChecker)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The findings by kind; a kind that the history cannot show has none (count 0, no chances).

    `logs` are the findings of each consumer, `delivered` is the number of rows delivered to each.
    """

    findings: Mapping[str, Finding]
    logs: tuple[Mapping[str, Finding], ...]
    delivered: tuple[int, ...]

    def counts(self) -> dict[str, int]:
        """The count of every kind that has a checker; of all consumers together."""
        per_log = [checker.kind for checker in _OF_CONSUMERS]
        return {
            kind: sum(log[kind].count for log in self.logs) if kind in per_log else self.findings[kind].count
            for kind in CHECKERS
        }

    @property
    def undecided(self) -> dict[str, int]:
        """How many more of a kind there may be, within the bounds of the machines' clocks; only what is above 0."""
        counts: dict[str, int] = {}
        for findings in (self.findings, *self.logs):
            for kind, finding in findings.items():
                if finding.undecided:
                    counts[kind] = counts.get(kind, 0) + finding.undecided
        return counts


def check(history: History, scratch: Scratch | None = None, also: Sequence[Pass] = ()) -> Checked:
    """Check everything: one pass over each log, two over the rows, one over the operations, one for the witnesses.

    The passes in `also` get the rows and the operations at the same time. Without `scratch`, one is made and deleted.
    """
    if scratch is None:
        with Scratch() as temporary:
            return check(history, temporary, also)
    index = Index(history, scratch)
    numbered = history.rows is not None
    checkers = [
        checker(index) for checker in _OF_HISTORIES if numbered or Evidence.NUMBERS not in ANOMALIES[checker.kind].needs
    ]
    per_log = [[checker(index, number) for checker in _OF_CONSUMERS] for number in range(len(history.logs))]
    every: list[Checker] = [*checkers, *(checker for of_log in per_log for checker in of_log)]
    passes: list[Pass] = [*every, *also]
    for rows in index.chunks():
        for one in passes:
            one.rows(rows)
    for operations in history.operations.chunks(scratch.piece):
        for one in passes:
            one.operations(operations)
    wanted = WitnessRequests()
    for checker in every:
        checker.wants(wanted)
    data = fetch(wanted, index)
    none = {checker.kind: Finding(kind=checker.kind, count=0, chances=0) for checker in _OF_HISTORIES}
    return Checked(
        findings=none | {checker.kind: checker.finding(data) for checker in checkers},
        logs=tuple({checker.kind: checker.finding(data) for checker in of_log} for of_log in per_log),
        delivered=tuple(delivered.rows for delivered in index.delivered),
    )
