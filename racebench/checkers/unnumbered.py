"""Unnumbered: rows whose version is NULL; `NULL > :cursor` is not true, so no cursor ever reaches them."""

from __future__ import annotations

from racebench.history import History
from racebench.model import Anomaly, Finding
from racebench.recording import NO_VERSION

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count rows without a version; the witnesses are the first of them."""
    rows = history.table[history.table["version"] == NO_VERSION]
    witnesses = tuple(
        Anomaly(
            kind="unnumbered",
            explanation=f"row {int(row['id'])} (tenant {int(row['tenant'])}) has no version",
            rows=(history.describe_row(row),),
            operations=history.operations_of([row]),
        )
        for row in rows[:_WITNESSES]
    )
    return Finding(kind="unnumbered", count=len(rows), chances=len(history.table), witnesses=witnesses)
