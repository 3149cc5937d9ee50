"""Duplicates: rows whose (tenant, version) another row already has; rows − distinct (tenant, version).

NULL versions are not numbers and are left to unnumbered.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from racebench.history import History
from racebench.model import Anomaly, Finding
from racebench.recording import NO_VERSION

_WITNESSES = 3
_POLLS = 4


def check(history: History) -> Finding:
    """Count duplicates; the witnesses are the first pairs, those first of which the consumer saw only a part."""
    rows = history.table[history.table["version"] != NO_VERSION]
    rows = rows[np.lexsort((rows["id"], rows["version"], rows["tenant"]))]
    again = (
        np.flatnonzero((rows["tenant"][1:] == rows["tenant"][:-1]) & (rows["version"][1:] == rows["version"][:-1])) + 1
    )
    log = history.logs[0] if history.logs else None
    seen = np.isin(rows["id"], log.deliveries["id"]) if log else np.zeros(len(rows), bool)
    halved = again[seen[again] != seen[again - 1]]
    chosen = np.concatenate([halved[:_WITNESSES], again[:_WITNESSES]])[:_WITNESSES]
    witnesses = tuple(_witness(history, rows, int(at)) for at in dict.fromkeys(chosen.tolist()))
    return Finding(kind="duplicates", count=len(again), chances=len(rows), witnesses=witnesses)


def _witness(history: History, rows: Any, at: int) -> Anomaly:
    """Of more than two rows, the two at hand: of a halved pair, one that the consumer saw and one that it did not."""
    shown = [rows[at - 1], rows[at]]
    copies = int(((rows["tenant"] == rows["tenant"][at]) & (rows["version"] == rows["version"][at])).sum())
    operations = history.operations_of(shown)
    log = history.logs[0] if history.logs else None
    polls = sorted({n for row in shown for n in log.polls_that_delivered(int(row["id"]))}) if log else []
    version, tenant = history.version(rows["version"][at]), int(rows["tenant"][at])
    workers = " and ".join(f"worker {operation['worker']}" for operation in operations)
    both = f"{workers} both wrote" if len(operations) > 1 else "rows share"
    more = f" ({copies} rows have that version)" if copies > len(shown) else ""
    return Anomaly(
        kind="duplicates",
        explanation=f"{both} version {version} of tenant {tenant}: rows {int(shown[0]['id'])} and {int(shown[1]['id'])}"
        + more,
        rows=tuple(history.describe_row(row) for row in shown),
        operations=operations,
        polls=tuple(history.describe_poll(log, number) for number in polls[:_POLLS]) if log else (),
        consumer=log.name if log else None,
    )
