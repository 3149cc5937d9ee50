"""Refused: operations that failed only because another session was at work.

Their last error is of SQLSTATE class 23 (integrity constraint) or 40 (serialization failure, deadlock), or says that
another has just made what this one was making (42701, 42710, 42P07): alone, the same statement would have succeeded.
To the application each is an intermittent error, an HTTP 500. Errors of other classes (a full disk, a cancelled query)
are counted by SQLSTATE, but they are not the strategy's doing.
"""

from __future__ import annotations

import numpy as np

from racebench.history import History
from racebench.model import Anomaly, Finding, Outcome
from racebench.recording import encode_status

_CLASSES = ("23", "40")
_ALREADY_THERE = ("42701", "42710", "42P07")  # duplicate column, object, table
_WITNESSES = 3


def check(history: History) -> Finding:
    """Count refused operations; each witness has the operation and the row that holds the number it wanted."""
    status = history.operations["status"]
    refused = np.zeros(len(status), bool)
    for letters in _CLASSES:
        low, high = (encode_status(Outcome.FAIL, letters + rest) for rest in ("000", "ZZZ"))
        refused |= (status >= low) & (status <= high)
    refused |= np.isin(status, [encode_status(Outcome.FAIL, code) for code in _ALREADY_THERE])
    found = history.operations[refused]
    witnesses = tuple(_witness(history, operation) for operation in found[:_WITNESSES])
    return Finding(kind="refused", count=len(found), chances=len(history.operations), witnesses=witnesses)


def _witness(history: History, operation: np.void) -> Anomaly:
    described = history.describe_operation(operation)
    rows = history.table
    holders = rows[(rows["tenant"] == operation["tenant"]) & (rows["version"] == operation["version"])][:1]
    wanted = "" if described["version"] is None else f" wanted version {described['version']} and"
    held = f"; row {int(holders[0]['id'])} has that version" if len(holders) else ""
    return Anomaly(
        kind="refused",
        explanation=f"worker {described['worker']}{wanted} was refused with {described['sqlstate']} "
        f"after {described['tries']} {'try' if described['tries'] == 1 else 'tries'}{held}",
        rows=tuple(history.describe_row(row) for row in holders),
        operations=(*history.operations_of(list(holders)), described),
    )
