"""Histories written by hand or drawn by Hypothesis, and a checker of a few lines each to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from racebench.checkers import check, check_log
from racebench.history import HISTORY_OPERATION, ROW, History, Log
from racebench.model import Finding, Numbering, Outcome
from racebench.recording import DELIVERY, NO_VERSION, POLL, encode_status


@dataclass(frozen=True)
class Op:
    """An operation: ids count from 1, times are nanoseconds."""

    id: int
    start: int
    end: int
    version: int | None = None
    tenant: int = 1
    outcome: Outcome = Outcome.OK
    sqlstate: str = ""
    tries: int = 1


@dataclass(frozen=True)
class Row:
    id: int
    version: int | None
    operation: int = 0
    tenant: int = 1


@dataclass(frozen=True)
class Poll:
    """A poll: the ids it delivered, and the cursor after it."""

    delivered: tuple[int, ...]
    after: int
    tenant: int = 1


def history(
    ops: Sequence[Op] = (),
    rows: Sequence[Row] = (),
    polls: Sequence[Poll] = (),
    *,
    numbering: Numbering = Numbering.TENANT,
    drained: bool = True,
) -> History:
    """Build a History from readable parts."""
    operations = np.zeros(len(ops), HISTORY_OPERATION)
    for at, op in enumerate(sorted(ops, key=lambda op: op.id)):
        status = encode_status(op.outcome, op.sqlstate)
        version = NO_VERSION if op.version is None else op.version
        operations[at] = (op.id, op.id, op.tenant, op.start, op.end, version, op.tries, op.outcome, status, False)
    table = np.array(
        [
            (r.id, r.tenant, NO_VERSION if r.version is None else r.version, r.operation)
            for r in sorted(rows, key=lambda r: r.id)
        ],
        ROW,
    )
    deliveries = [
        (number + 1, identity, number, poll.tenant) for number, poll in enumerate(polls) for identity in poll.delivered
    ]
    records = [(n, n + 1, 0, max(1, len(poll.delivered)), poll.tenant) for n, poll in enumerate(polls)]
    return History(
        start=0,
        operations=operations,
        rows=table,
        logs=(
            Log(
                name="cursor",
                deliveries=np.array(deliveries, DELIVERY),
                polls=np.array(records, POLL),
                after=np.array([poll.after for poll in polls], np.int64),
                drained=drained,
            ),
        ),
        numbering=numbering,
    )


def all_findings(history: History) -> dict[str, Finding]:
    """What every checker finds, the consumer's included."""
    return check(history) | check_log(history, history.logs[0])


def naive_counts(history: History) -> Counter[str]:
    """What the definitions say, read as slowly and plainly as they are written."""
    (log,) = history.logs
    rows = [tuple(int(part) for part in row) for row in history.table]
    numbered = [(tenant, version) for _, tenant, version, _ in rows if version != NO_VERSION]
    delivered = Counter(int(identity) for identity in log.deliveries["id"])
    ops = {int(op["id"]): op for op in history.operations}
    present = {operation for *_, operation in rows}
    cursor: dict[int, int] = {}
    for poll, after in zip(log.polls, log.after, strict=True):
        tenant = int(poll["tenant"])
        cursor[tenant] = max(cursor.get(tenant, NO_VERSION), int(after))
    counts: Counter[str] = Counter()
    counts["duplicates"] = len(numbered) - len(set(numbered))
    counts["missed"] = sum(
        version != NO_VERSION
        and identity not in delivered
        and (log.drained or (tenant in cursor and version <= cursor[tenant]))
        for identity, tenant, version, _ in rows
    )
    counts["redelivered"] = sum(times - 1 for times in delivered.values())
    counts["lost"] = sum(op["outcome"] == Outcome.OK and identity not in present for identity, op in ops.items())
    counts["unexpected"] = sum(op["outcome"] == Outcome.FAIL and i in present for i, op in ops.items())
    counts["unnumbered"] = len(rows) - len(numbered)
    for scope in {None} if history.numbering is Numbering.TABLE else {tenant for tenant, _ in numbered}:
        used = {version for tenant, version in numbered if scope in (None, tenant)}
        counts["gaps"] += max(used) - min(used) + 1 - len(used) if used else 0
    written = {operation: (tenant, version) for _, tenant, version, operation in rows if version != NO_VERSION}
    done = [(op, *written[i]) for i, op in ops.items() if op["outcome"] == Outcome.OK and i in written]
    for op, tenant, version in done:
        counts["inversions"] += any(
            int(other["end"]) < int(op["start"]) and their_tenant == tenant and their_version > version
            for other, their_tenant, their_version in done
        )
    return counts


@st.composite
def any_history(draw: st.DrawFn) -> History:
    """Anything at all, small enough to collide: anomalies of every kind, alone and together."""
    versions = st.one_of(st.none(), st.integers(1, 6))
    tenants = st.integers(1, 3)
    outcomes = st.sampled_from([Outcome.OK, Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN])
    ops = []
    for identity in range(1, draw(st.integers(0, 8)) + 1):
        start = draw(st.integers(0, 20))
        ops.append(Op(identity, start, start + draw(st.integers(0, 10)), outcome=draw(outcomes), tenant=draw(tenants)))
    writers = draw(st.lists(st.integers(1, 9), max_size=8, unique=True))
    rows = [Row(n, draw(versions), operation, draw(tenants)) for n, operation in enumerate(writers, 1)]
    ids = st.lists(st.integers(1, 9), max_size=4)
    polls = [Poll(tuple(draw(ids)), draw(st.integers(0, 7)), draw(tenants)) for _ in range(draw(st.integers(0, 4)))]
    return history(
        ops,
        rows,
        polls,
        numbering=draw(st.sampled_from([Numbering.TENANT, Numbering.TABLE])),
        drained=draw(st.booleans()),
    )


@st.composite
def good_parts(draw: st.DrawFn) -> tuple[list[Op], list[Row], list[Poll]]:
    """A run in which nothing is wrong: one after the other, numbered without a hole, each delivered once in order."""
    count = draw(st.integers(3, 12))
    ops = [Op(n, 10 * n, 10 * n + 5, n) for n in range(1, count + 1)]
    rows = [Row(n, n, n) for n in range(1, count + 1)]
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), max_size=3)) | {count})
    polls, before = [], 0
    for cut in cuts:
        polls.append(Poll(tuple(range(before + 1, cut + 1)), cut))
        before = cut
    return ops, rows, polls
