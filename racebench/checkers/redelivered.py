"""Redelivered: deliveries of a row beyond its first."""

from __future__ import annotations

import numpy as np

from racebench.history import History
from racebench.model import Anomaly, Finding

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count repeated deliveries; each witness has the row and the polls that delivered it."""
    ids, times = np.unique(history.deliveries["id"], return_counts=True)
    witnesses = []
    for identity in ids[times > 1][:_WITNESSES]:
        rows = history.rows[history.rows["id"] == identity]
        polls = history.polls_that_delivered(int(identity))
        witnesses.append(
            Anomaly(
                kind="redelivered",
                explanation=f"row {int(identity)} was delivered {len(polls)} times, by polls {polls[:5]}",
                rows=tuple(history.describe_row(row) for row in rows),
                operations=history.operations_of(list(rows)),
                polls=tuple(history.describe_poll(number) for number in polls[:3]),
            )
        )
    count = int(len(history.deliveries) - len(ids))
    return Finding(kind="redelivered", count=count, chances=len(history.deliveries), witnesses=tuple(witnesses))
