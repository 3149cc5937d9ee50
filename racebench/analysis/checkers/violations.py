"""Violations: rows that break an invariant, as the scenario's own queries found them."""

from __future__ import annotations

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import WitnessData
from racebench.core.plain_text import row
from racebench.core.quantity import quantity
from racebench.core.results import Anomaly, Finding
from racebench.history import Violation


class Violations(Checker):
    """The rows that the invariants' queries returned; one witness an invariant, with its first rows."""

    kind = "violations"

    def finding(self, data: WitnessData) -> Finding:  # noqa: ARG002 - its rows are known
        witnesses = tuple(
            Anomaly(
                kind=self.kind,
                explanation=_explanation(violation),
                rows=violation.rows,
            )
            for violation in self.history.violations
            if violation.count
        )
        count = sum(violation.count for violation in self.history.violations)
        return Finding(kind=self.kind, count=count, chances=len(self.history.operations), witnesses=witnesses)


def _explanation(violation: Violation) -> str:
    """By how many rows, and one of them; an invariant in Python gives sentences, and one of them is said."""
    name, first, count = violation.invariant, violation.rows[0], violation.count
    # An invariant of the command line has no name of its own: "invariant", or "invariant 2" of several.
    what = "the invariant" if name == "invariant" else name if name.startswith("invariant ") else f"invariant '{name}'"
    if first.keys() == {"said"}:
        return f"{what} is broken: {first['said']}{f' (and {count - 1:,} more)' if count > 1 else ''}"
    said = f"{what} is broken by {quantity(count, 'row')}"
    return f"{said}{', for example' if count > 1 else ':'} {row(first.items())}" if first else said
