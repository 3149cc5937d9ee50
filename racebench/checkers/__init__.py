"""One file an anomaly: pure functions from a History to a Finding. To add one, add a file and a line here.

No I/O, no formatting. Counts follow the definitions in racebench.model.ANOMALIES.
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
)
from racebench.history import History
from racebench.model import Finding

Checker = Callable[[History], Finding]

CHECKERS: Mapping[str, Checker] = {
    "duplicates": duplicates.check,
    "missed": missed.check,
    "redelivered": redelivered.check,
    "lost": lost.check,
    "unexpected": unexpected.check,
    "refused": refused.check,
    "unnumbered": unnumbered.check,
    "gaps": gaps.check,
    "inversions": inversions.check,
}


def check(history: History) -> dict[str, Finding]:
    """Run every checker; the findings by kind."""
    return {kind: checker(history) for kind, checker in CHECKERS.items()}
