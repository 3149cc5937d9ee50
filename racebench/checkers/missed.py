"""Missed: committed rows that a consumer's cursor passed and never delivered.

Example: rows 40 and 41 both have version 17. A poll sees only row 40 committed, delivers it and moves the cursor
to 17. Row 41 commits; `version > 17` never asks for it.
A consumer that has read to the end will never deliver what it has not delivered. One that has not may still, so then
only rows at or below its last cursor count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from racebench.history import Array, History, Log
from racebench.model import Anomaly, Finding
from racebench.recording import NO_VERSION

_WITNESSES = 3


def check(history: History, log: Log) -> Finding:
    """Count missed rows; each witness has the row, the poll that passed it, and what that poll delivered instead."""
    rows = history.table[history.table["version"] != NO_VERSION]
    missed = rows[~np.isin(rows["id"], log.deliveries["id"]) & (log.drained | _passed(rows, log))]
    return Finding(
        kind="missed",
        count=len(missed),
        chances=len(rows),
        witnesses=tuple(_witness(history, log, row) for row in missed[:_WITNESSES]),
    )


def _passed(rows: Array, log: Log) -> Array:
    """Whether the highest cursor of its tenant stands at or above each row's version."""
    if not log.ordered or not len(log.polls):
        return np.zeros(len(rows), bool)
    tenants, where = np.unique(log.polls["tenant"].astype(np.int64), return_inverse=True)
    cursors = np.full(len(tenants), NO_VERSION)
    np.maximum.at(cursors, where, log.after)
    at = np.minimum(np.searchsorted(tenants, rows["tenant"]), len(tenants) - 1)
    passed: Array = (tenants[at] == rows["tenant"]) & (rows["version"] <= cursors[at])
    return passed


def _witness(history: History, log: Log, row: Any) -> Anomaly:
    tenant, version = int(row["tenant"]), history.version(row["version"])
    polls = log.polls
    same = (polls["tenant"] == tenant) | (polls["tenant"] == 0)
    passing = np.flatnonzero(same & (log.after >= row["version"])) if log.ordered else np.empty(0, np.intp)
    shown = [row]
    described: tuple[Mapping[str, Any], ...] = ()
    how = f"'{log.name}' read to the end without it"
    if len(passing):
        number = int(passing[0])
        poll = history.describe_poll(log, number)
        described = (poll,)
        before = "" if poll["cursor_before"] is None else f"from {poll['cursor_before']} "
        how = f"poll {number} of '{log.name}' moved the cursor {before}to {poll['cursor_after']} without it"
        instead = history.table[np.isin(history.table["id"], log.delivered_by(number))]
        instead = instead[instead["version"] != NO_VERSION]
        if len(instead):
            shown.append(instead[np.argmin(np.abs(instead["version"] - row["version"]))])
    return Anomaly(
        kind="missed",
        explanation=f"row {int(row['id'])} (tenant {tenant}, version {version}) is committed, but {how}",
        rows=tuple(history.describe_row(each) for each in shown),
        operations=history.operations_of(shown),
        polls=described,
        consumer=log.name,
    )
