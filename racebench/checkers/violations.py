"""Violations: rows that break an invariant, as the scenario's own queries found them."""

from __future__ import annotations

import json

from racebench.history import History
from racebench.model import Anomaly, Finding


def check(history: History) -> Finding:
    """Count the rows that the invariants' queries returned; one witness an invariant, with its first rows."""
    witnesses = tuple(
        Anomaly(
            kind="violations",
            explanation=f"invariant '{violation.invariant}' is broken by {violation.count} "
            f"{'row' if violation.count == 1 else 'rows'}: {json.dumps(violation.rows[0], ensure_ascii=False)}",
            rows=violation.rows,
        )
        for violation in history.violations
        if violation.count
    )
    count = sum(violation.count for violation in history.violations)
    return Finding(kind="violations", count=count, chances=len(history.operations), witnesses=witnesses)
