"""Redelivered: deliveries of a row beyond its first, by one consumer."""

from __future__ import annotations

import numpy as np

from racebench.history import History, Log
from racebench.model import Anomaly, Finding

_WITNESSES = 3


def check(history: History, log: Log) -> Finding:
    """Count repeated deliveries; each witness has the row and the polls that delivered it."""
    ids, times = np.unique(log.deliveries["id"], return_counts=True)
    witnesses = []
    for identity in ids[times > 1][:_WITNESSES]:
        rows = history.table[history.table["id"] == identity]
        polls = log.polls_that_delivered(int(identity))
        witnesses.append(
            Anomaly(
                kind="redelivered",
                explanation=f"row {int(identity)} was delivered {len(polls)} times to '{log.name}', "
                f"by polls {polls[:5]}",
                rows=tuple(history.describe_row(row) for row in rows),
                operations=history.operations_of(list(rows)),
                polls=tuple(history.describe_poll(log, number) for number in polls[:3]),
                consumer=log.name,
            )
        )
    count = int(len(log.deliveries) - len(ids))
    return Finding(kind="redelivered", count=count, chances=len(log.deliveries), witnesses=tuple(witnesses))
