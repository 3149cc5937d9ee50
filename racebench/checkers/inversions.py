"""Inversions: operations that began after another of their tenant had ended and got a smaller version.

Real-time order against number order: a later, acknowledged write that sorts before an earlier one.
The version is the table's, by the operation that wrote the row.
"""

from __future__ import annotations

import numpy as np

from racebench.history import Array, History, committed
from racebench.model import Anomaly, Finding
from racebench.recording import NO_VERSION

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count inverted operations; each witness has the later operation and an earlier one with a larger version."""
    operations = _with_versions(history)
    inverted: list[tuple[Array, Array]] = []
    count = 0
    for tenant in np.unique(operations["tenant"]):
        mine = operations[operations["tenant"] == tenant]
        by_end = mine[np.argsort(mine["end"], kind="stable")]
        highest = np.maximum.accumulate(by_end["version"])
        # How many had ended before each began; the largest version among those is the one to beat.
        before = np.searchsorted(by_end["end"], mine["start"], side="left")
        late = np.flatnonzero((before > 0) & (highest[np.maximum(before - 1, 0)] > mine["version"]))
        count += len(late)
        for at in late[: _WITNESSES - len(inverted)]:
            earlier = by_end[int(np.argmax(by_end["version"][: before[at]]))]
            inverted.append((earlier, mine[at]))
    return Finding(
        kind="inversions",
        count=count,
        chances=len(operations),
        witnesses=tuple(_witness(history, earlier, later) for earlier, later in inverted),
    )


def _with_versions(history: History) -> Array:
    """The acknowledged operations with one numbered row, their version taken from it."""
    operations = committed(history.operations)
    rows = history.table[history.table["version"] != NO_VERSION]
    rows = rows[np.argsort(rows["operation"], kind="stable")]
    at = np.searchsorted(rows["operation"], operations["id"])
    inside = at < len(rows)
    found = np.zeros(len(operations), bool)
    found[inside] = rows["operation"][at[inside]] == operations["id"][inside]
    operations = operations[found].copy()
    operations["version"] = rows["version"][at[found]]
    operations["tenant"] = rows["tenant"][at[found]]
    return operations


def _witness(history: History, earlier: Array, later: Array) -> Anomaly:
    # The versions here are the rows' own already.
    first, second = (history.describe_operation(operation, operation) for operation in (earlier, later))
    return Anomaly(
        kind="inversions",
        explanation=f"worker {second['worker']} began after worker {first['worker']} had ended, and got version "
        f"{second['version']}, below {first['version']}",
        operations=(first, second),
    )
