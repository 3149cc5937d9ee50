"""Unexpected: operations reported failed, whose row is present.

An UNKNOWN operation with a row is not unexpected: its COMMIT may have succeeded before the reply was lost.
"""

from __future__ import annotations

import numpy as np

from racebench.history import History
from racebench.model import Anomaly, Finding, Outcome

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count failed operations that a row names."""
    failed = history.operations[history.operations["outcome"] == Outcome.FAIL]
    present = failed[np.isin(failed["id"], history.table["operation"])]
    witnesses = []
    for operation in present[:_WITNESSES]:
        rows = history.table[history.table["operation"] == operation["id"]]
        described = history.describe_operation(operation)
        witnesses.append(
            Anomaly(
                kind="unexpected",
                explanation=f"worker {described['worker']} was told that operation {described['operation']} had failed "
                f"({described['sqlstate']}), and its row {int(rows[0]['id'])} is there",
                rows=tuple(history.describe_row(row) for row in rows[:3]),
                operations=(described,),
            )
        )
    return Finding(kind="unexpected", count=len(present), chances=len(failed), witnesses=tuple(witnesses))
