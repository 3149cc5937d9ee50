"""Violations: rows that break an invariant, as the scenario's own queries found them."""

from __future__ import annotations

import json

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import WitnessData
from racebench.core.results import Anomaly, Finding


class Violations(Checker):
    """The rows that the invariants' queries returned; one witness an invariant, with its first rows."""

    kind = "violations"

    def finding(self, data: WitnessData) -> Finding:  # noqa: ARG002 - its rows are known
        witnesses = tuple(
            Anomaly(
                kind=self.kind,
                explanation=f"invariant '{violation.invariant}' is broken by {violation.count} "
                f"{'row' if violation.count == 1 else 'rows'}: {json.dumps(violation.rows[0], ensure_ascii=False)}",
                rows=violation.rows,
            )
            for violation in self.history.violations
            if violation.count
        )
        count = sum(violation.count for violation in self.history.violations)
        return Finding(kind=self.kind, count=count, chances=len(self.history.operations), witnesses=witnesses)
