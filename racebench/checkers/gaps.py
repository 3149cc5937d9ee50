"""Gaps: numbers never used between the first and the last, in each tenant or, for a table-wide numbering, in all.

Versions that are not meant to be dense (a clock, a uuid) have none.

Every rolled-back nextval() leaves one; they harm nobody unless the scenario forbids them.
"""

from __future__ import annotations

import numpy as np

from racebench.history import History
from racebench.model import Anomaly, Finding, Numbering
from racebench.recording import NO_VERSION

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count unused numbers; each witness has the rows on either side of a gap."""
    if history.numbering is Numbering.NONE or history.labels is not None:
        return Finding(kind="gaps", count=0, chances=0)
    rows = history.table[history.table["version"] != NO_VERSION]
    tenant = np.zeros_like(rows["tenant"]) if history.numbering is Numbering.TABLE else rows["tenant"]
    order = np.lexsort((rows["id"], rows["version"], tenant))
    rows, tenant = rows[order], tenant[order]
    step = np.diff(rows["version"])
    unused = np.where(np.diff(tenant) == 0, np.maximum(step - 1, 0), 0)
    witnesses = []
    for at in np.flatnonzero(unused)[:_WITNESSES]:
        sides = [rows[at], rows[at + 1]]
        low, high = int(sides[0]["version"]), int(sides[1]["version"])
        missing = f"version {low + 1} was" if high - low == 2 else f"versions {low + 1} to {high - 1} were"
        witnesses.append(
            Anomaly(
                kind="gaps",
                explanation=f"{missing} never used (beside it: rows {int(sides[0]['id'])}, {int(sides[1]['id'])})",
                rows=tuple(history.describe_row(row) for row in sides),
                operations=history.operations_of(sides),
            )
        )
    return Finding(kind="gaps", count=int(unused.sum()), chances=len(rows), witnesses=tuple(witnesses))
