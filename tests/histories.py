"""Histories written by hand or drawn by Hypothesis, and a checker of a few lines each to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from racebench.analysis.checkers import check
from racebench.core.model import Numbering, Outcome
from racebench.core.results import Finding
from racebench.history import ROW, History, Log, Operations
from racebench.history.records import DELIVERY, NO_VERSION, OPERATION, POLL, decode_status, encode_status
from racebench.history.spill import Scratch


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
    bits: int = 0,
) -> History:
    """Build a History from readable parts; an operation's session is its id >> bits, each its own without them."""
    sessions: dict[int, list[Op]] = {}
    for op in ops:
        sessions.setdefault(op.id >> bits, []).append(op)
    table = np.array(
        [(r.id, r.tenant, NO_VERSION if r.version is None else r.version, r.operation) for r in rows],
        ROW,
    )
    deliveries = [
        (number + 1, identity, number, poll.tenant) for number, poll in enumerate(polls) for identity in poll.delivered
    ]
    records = [(n, n + 1, 0, max(1, len(poll.delivered)), poll.tenant) for n, poll in enumerate(polls)]
    return History(
        start=0,
        operations=Operations({number: _records(mine) for number, mine in sessions.items()}, bits),
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


def _records(ops: Sequence[Op]) -> np.ndarray:
    return np.array(
        [
            (
                op.start,
                op.end,
                NO_VERSION if op.version is None else op.version,
                op.tenant,
                op.tries,
                encode_status(op.outcome, op.sqlstate),
            )
            for op in sorted(ops, key=lambda op: op.id)
        ],
        OPERATION,
    )


#: As a run is checked; a record or two at a time; and all of that with everything in files and sorted, not tabled.
SCRATCHES = (
    lambda: Scratch(),
    lambda: Scratch(piece=1),
    lambda: Scratch(piece=2),
    lambda: Scratch(piece=3, small=0),
    lambda: Scratch(piece=2, small=0, keys=0),
    lambda: Scratch(piece=5, keys=0),
)


def all_findings(history: History, scratch: Scratch | None = None) -> dict[str, Finding]:
    """What every checker finds, the consumer's included."""
    checked = check(history, scratch)
    return {**checked.findings, **checked.logs[0]}


def naive_counts(history: History) -> Counter[str]:
    """What the definitions say, read as slowly and plainly as they are written."""
    (log,) = history.logs
    rows = [tuple(int(part) for part in row) for row in history.table]
    numbered = [(tenant, version) for _, tenant, version, _ in rows if version != NO_VERSION]
    delivered = Counter(int(identity) for identity in log.deliveries["id"])
    ops = {
        (number << history.operations.bits) + index: (*op.tolist()[:2], decode_status(int(op["status"]))[0])
        for number, records in history.operations.sessions.items()
        for index, op in enumerate(records)
    }
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
    row_of = {identity: (tenant, operation) for identity, tenant, _, operation in rows}
    earlier: list[tuple[int, int]] = []
    for identity in dict.fromkeys(int(identity) for identity in log.deliveries["id"]):
        tenant, operation = row_of.get(identity, (0, -1))
        start, end, outcome = ops.get(operation, (0, 0, Outcome.UNKNOWN))
        if outcome is Outcome.OK:
            counts["out-of-order"] += any(theirs == tenant and end < began for theirs, began in earlier)
            earlier.append((tenant, start))
    counts["lost"] = sum(outcome is Outcome.OK and i not in present for i, (*_, outcome) in ops.items())
    counts["unexpected"] = sum(outcome is Outcome.FAIL and i in present for i, (*_, outcome) in ops.items())
    counts["unnumbered"] = len(rows) - len(numbered)
    for scope in {None} if history.numbering is Numbering.TABLE else {tenant for tenant, _ in numbered}:
        used = {version for tenant, version in numbered if scope in (None, tenant)}
        counts["gaps"] += max(used) - min(used) + 1 - len(used) if used else 0
    by_id = sorted(rows, reverse=True)  # of an operation's rows, the one with the lowest id counts
    written = {operation: (tenant, version) for _, tenant, version, operation in by_id if version != NO_VERSION}
    done = [(op, *written[i]) for i, op in ops.items() if op[2] is Outcome.OK and i in written]
    for (start, *_), tenant, version in done:
        counts["inversions"] += any(
            end < start and their_tenant == tenant and their_version > version
            for (_, end, _), their_tenant, their_version in done
        )
    return counts


@st.composite
def any_history(draw: st.DrawFn) -> History:
    """Anything at all, small enough to collide: anomalies of every kind, alone and together."""
    versions = st.one_of(st.none(), st.integers(1, 6))
    tenants = st.integers(1, 3)
    outcomes = st.sampled_from([Outcome.OK, Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN])
    ops = []
    bits = draw(st.sampled_from([0, 0, 2, 4]))  # each operation a session of its own, several together, or all in one
    clock = dict.fromkeys(range(10), 0)
    for identity in range(1, draw(st.integers(0, 8)) + 1) if bits == 0 else range(draw(st.integers(0, 8))):
        session = identity >> bits
        start = clock[session] + draw(st.integers(0, 8 if bits else 20))
        end = start + draw(st.integers(0, 10))
        clock[session] = draw(st.sampled_from([start, end])) if bits else 0
        ops.append(Op(identity, start, end, outcome=draw(outcomes), tenant=draw(tenants)))
    writers = draw(st.lists(st.integers(-1, 9), max_size=8, unique=draw(st.booleans())))
    known = [number * draw(st.sampled_from([1, 1, 1000])) for number in range(1, 10)]  # few, or far between
    if len(set(known)) < len(known):
        known = list(range(1, 10))
    order = draw(st.permutations(range(len(writers))))
    rows = [Row(known[n], draw(versions), writers[n], draw(tenants)) for n in order]
    ids = st.lists(st.sampled_from(known), max_size=4)
    polls = [Poll(tuple(draw(ids)), draw(st.integers(0, 7)), draw(tenants)) for _ in range(draw(st.integers(0, 4)))]
    return history(
        ops,
        rows,
        polls,
        numbering=draw(st.sampled_from([Numbering.TENANT, Numbering.TABLE])),
        drained=draw(st.booleans()),
        bits=bits,
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


def long_history(operations: int, *, twins: tuple[int, ...], workers: int = 4) -> History:
    """Workers in turn, 1 ms each; of the operations in `twins` the number is that of the one before."""
    ops = [
        Op(((n % workers + 1) << 32) + n // workers, n * 1_000_000, (n + 2) * 1_000_000, n - (n in twins))
        for n in range(operations)
    ]
    rows = [Row(n + 1, n - (n in twins), ops[n].id) for n in range(operations)]
    return history(ops, rows, [Poll(tuple(range(1, operations + 1)), operations)], bits=32)
