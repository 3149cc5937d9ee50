"""Missed: committed rows that the consumer's cursor passed and never delivered.

Example: rows 40 and 41 both have version 17. A poll sees only row 40 committed, delivers it and moves the cursor
to 17. Row 41 commits; `version > 17` never asks for it.
A row whose version is above the last cursor was not passed and is not counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from racebench.history import History
from racebench.model import Anomaly, Finding
from racebench.recording import NO_VERSION

_WITNESSES = 3


def check(history: History) -> Finding:
    """Count missed rows; each witness has the row, the poll that passed it, and what that poll delivered instead."""
    rows = history.rows[history.rows["version"] != NO_VERSION]
    tenants, cursors = _last_cursors(history)
    if not len(tenants):
        return Finding(kind="missed", count=0, chances=len(rows))
    at = np.minimum(np.searchsorted(tenants, rows["tenant"]), len(tenants) - 1)
    polled = tenants[at] == rows["tenant"]
    passed = polled & (rows["version"] <= cursors[at])
    missed = rows[passed & ~np.isin(rows["id"], history.deliveries["id"])]
    return Finding(
        kind="missed",
        count=len(missed),
        chances=len(rows),
        witnesses=tuple(_witness(history, row) for row in missed[:_WITNESSES]),
    )


def _last_cursors(history: History) -> tuple[Any, Any]:
    """Each polled tenant, and the highest its cursor came to."""
    tenants, where = np.unique(history.polls["tenant"].astype(np.int64), return_inverse=True)
    cursors = np.full(len(tenants), NO_VERSION)
    np.maximum.at(cursors, where, history.polls["after"])
    return tenants, cursors


def _witness(history: History, row: Any) -> Anomaly:
    tenant, version = int(row["tenant"]), int(row["version"])
    polls = history.polls
    passing = int(np.flatnonzero((polls["tenant"] == tenant) & (polls["after"] >= version))[0])
    described = history.describe_poll(passing)
    instead = [row]
    delivered = history.rows[
        np.isin(history.rows["id"], history.deliveries["id"][history.deliveries["poll"] == passing])
    ]
    if len(delivered):
        nearest = delivered[np.argmin(np.abs(delivered["version"] - version))]
        instead.append(nearest)
    return Anomaly(
        kind="missed",
        explanation=f"row {int(row['id'])} (tenant {tenant}, version {version}) was not yet visible when "
        f"poll {passing} moved the cursor from {described['cursor_before']} to {described['cursor_after']}; "
        "no later poll asks for it",
        rows=tuple(history.describe_row(each) for each in instead),
        operations=history.operations_of(instead),
        polls=(described,),
    )
