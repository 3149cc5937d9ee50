"""Lost: operations whose success was acknowledged and whose row is absent.

An UNKNOWN operation without a row is not lost: nobody was told that it had succeeded.
"""

from __future__ import annotations

import numpy as np

from racebench.history import History, committed
from racebench.model import Anomaly, Finding

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count acknowledged operations that no row names."""
    acknowledged = committed(history.operations)
    lost = acknowledged[~np.isin(acknowledged["id"], history.table["operation"])]
    witnesses = tuple(
        Anomaly(
            kind="lost",
            explanation=f"worker {int(operation['worker'])} was told that operation {int(operation['id'])} had "
            "succeeded, and there is no row of it",
            operations=(history.describe_operation(operation),),
        )
        for operation in lost[:_WITNESSES]
    )
    return Finding(kind="lost", count=len(lost), chances=len(acknowledged), witnesses=witnesses)
