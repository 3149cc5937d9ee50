"""How long a consumer held rows back, and behind whom: of histories written by hand, and as the definition says it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import Op, Poll, Row, history
from judged import result_of
from racebench.analysis.checkers import check
from racebench.analysis.liveness import Stall, Stretches, limit_ms
from racebench.core.liveness import Holder, Sighting, listed
from racebench.core.model import Consumer, Load, Scenario
from racebench.history import History
from racebench.history.records import DELIVERY, QUIET
from racebench.history.spill import Scratch
from racebench.reports import sentences

MS = 1_000_000
LOAD = Load(workers=2, duration_s=1.0, operations=None)
#: A row that is acknowledged after 100 ms and delivered after 900 ms.
LATE = history([Op(1, 50 * MS, 100 * MS)], [Row(1, 1, 1)], [Poll((1,), 1)])


def holder(**changes: object) -> Holder:
    known = Holder(
        pid=7,
        name="psql",
        database="shop",
        state="idle in transaction",
        xid=700,
        open_ms=900.0,
        state_ms=800.0,
        statement="UPDATE t",
        oldest=True,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def with_log(
    past: History, quiet: Sequence[tuple[int, int, int, int]] | None, delivered_ms: int = 900, **changes: object
) -> History:
    """A history whose deliveries came at one time; `quiet`: first start, last start and end in ms, and the tenant."""
    (log,) = past.logs
    deliveries = log.deliveries.copy()
    deliveries["at"] = delivered_ms * MS
    stretches = [(start * MS, last * MS, end * MS, 9, tenant) for start, last, end, tenant in quiet or ()]
    known = None if quiet is None else np.array(stretches, QUIET)
    return replace(past, logs=(replace(log, deliveries=deliveries, quiet=known, **changes),))  # type: ignore[arg-type]


def stall(
    past: History,
    scenario: Scenario,
    sightings: Sequence[Sighting] = (),
    consumer: str = "cursor",
    slack_ns: int = 0,
) -> Stall:
    with Scratch(piece=1) as scratch:
        stretches = Stretches(past.logs[0], 0, scratch, slack_ns)
        check(past, scratch, also=[stretches])
        found = stretches.longest(scenario.consumers[consumer], LOAD, sightings)
    assert found is not None
    return found


def test_a_consumer_that_polls_and_gets_nothing_while_a_committed_row_waits_is_stalled(
    version_counter: Scenario,
) -> None:
    found = stall(with_log(LATE, [(0, 890, 891, 1)]), version_counter)
    assert (found.ms, found.start_ns, found.behind, found.long) == (791.0, 100 * MS, None, True)


@pytest.mark.parametrize("drained", [True, False])
@pytest.mark.parametrize(("slack_ms", "ms"), [(0, 791.0), (1, 790.0), (789, 2.0), (791, 0.0), (2000, 0.0)])
def test_between_two_machines_a_row_waits_from_the_latest_time_at_which_it_may_have_been_acknowledged(
    slack_ms: int, ms: float, drained: bool, version_counter: Scenario
) -> None:
    # The last poll of the stretch begins after 890 ms: with a bound of 791 ms the row may not have been there.
    past = LATE if drained else replace(LATE, logs=(replace(LATE.logs[0], deliveries=LATE.logs[0].deliveries[:0]),))
    found = stall(with_log(past, [(0, 890, 891, 1)], drained=drained), version_counter, slack_ns=slack_ms * MS)
    assert found.ms == ms
    assert found.long is (ms > 250)


@pytest.mark.parametrize(
    "quiet",
    [
        [],  # it did not poll at all: the machine was busy
        [(0, 99, 101, 1)],  # no poll began after the row was there
        [(0, 890, 891, 2)],  # it was another tenant that it got nothing of
        [(905, 1400, 1405, 1)],  # the row had come
    ],
)
def test_a_late_row_is_no_stall_if_no_poll_held_it_back(
    quiet: list[tuple[int, int, int, int]], version_counter: Scenario
) -> None:
    found = stall(with_log(LATE, quiet), version_counter)
    assert (found.ms, found.behind, found.long) == (0.0, None, False)


def test_a_row_that_the_cursor_passed_waits_for_nothing(version_counter: Scenario) -> None:
    missed = history([Op(1, 0, 5), Op(2, 0, 5)], [Row(1, 1, 1), Row(2, 2, 2)], [Poll((2,), 2)])
    quiet = [(0, 890, 891, 1)]
    assert stall(with_log(missed, quiet, 1), version_counter).ms == 0.0
    assert stall(with_log(missed, quiet, 1, drained=False), version_counter).ms == 0.0, (
        "its version is below the cursor"
    )
    unordered = with_log(missed, quiet, 1, drained=False, ordered=False)
    assert stall(unordered, version_counter).ms == 891.0 - 5e-6, "nothing says that it was passed"


def test_a_consumer_that_did_not_come_to_its_end_is_not_judged() -> None:
    with Scratch() as scratch:
        assert Stretches(with_log(LATE, None).logs[0], 0, scratch).longest(Consumer.__new__(Consumer), LOAD, ()) is None


def test_what_a_consumer_may_hold_back_and_long_transactions_are_no_stall(version_counter: Scenario) -> None:
    cursor, gap_wait = version_counter.consumers["cursor"], version_counter.consumers["gap-wait"]
    assert limit_ms(gap_wait, LOAD) == limit_ms(cursor, LOAD) + gap_wait.settle_ms
    assert limit_ms(cursor, replace(LOAD, hold_us=1_000_000)) >= limit_ms(cursor, LOAD) + 1000
    quiet = [(0, 690, 691, 1)]
    assert stall(with_log(LATE, quiet), version_counter).long
    assert not stall(with_log(LATE, quiet), version_counter, consumer="gap-wait").long


def test_only_a_transaction_that_was_open_from_the_beginning_is_named(version_counter: Scenario) -> None:
    old, young = holder(pid=7, open_ms=800.0), holder(pid=8, xid=701, open_ms=600.0, oldest=False)
    hidden, first = holder(pid=9, xid=702, open_ms=None, oldest=False), holder(pid=10, xid=699, open_ms=None)
    seen = Sighting(first_ns=300 * MS, last_ns=850 * MS, holders=(first, old, young, hidden))
    past = with_log(LATE, [(0, 890, 891, 1)])
    assert stall(past, version_counter, [seen]).behind == (first, old)
    elsewhen = replace(seen, first_ns=892 * MS, last_ns=950 * MS)
    assert stall(past, version_counter, [elsewhen]).behind is None, "nobody was asked in time"
    later = replace(seen, holders=(young,))
    assert stall(past, version_counter, [later]).behind == ()


def test_a_holder_is_described_with_all_that_is_known_of_it() -> None:
    assert listed([holder()]) == (
        "session 7 ('psql', database shop, idle in transaction for 0.8 s, open for 0.9 s, xid 700, "
        "last statement 'UPDATE t')"
    )
    prepared = holder(pid=None, name="tx", state="prepared", state_ms=None, statement="")
    hidden = holder(state="", open_ms=None, state_ms=None, statement="")
    assert listed([prepared, hidden]) == (
        "prepared transaction 'tx' (database shop, prepared 0.9 s before, xid 700) and "
        "session 7 ('psql', database shop, xid 700)"
    )


def test_a_gap_waiter_stalls_behind_a_number_and_no_transaction_is_accused(version_counter: Scenario) -> None:
    whole = result_of(version_counter, "naive")
    reader = replace(whole.consumers[0], stalled_ms=1500.0, stalled_from_us=2000.0, stalled=True, behind=(holder(),))
    (said,) = sentences.stalls(replace(whole, consumers=(reader,)))
    assert said.startswith(
        "consumer 'cursor' was stalled for 1.50 s from 2 ms on: it polled and held committed rows back"
    )
    assert said.endswith(f", behind {holder()}")
    waiting = replace(reader, waits_for_numbers=True)
    (said,) = sentences.stalls(replace(whole, consumers=(waiting,)))
    assert f"behind a missing number, which one of these open transactions may have, or none: {holder()}" in said
    for behind, words in (((), "no transaction with an xid was open"), (None, "were open is not known")):
        (said,) = sentences.stalls(replace(whole, consumers=(replace(reader, behind=behind),)))
        assert words in said
    assert sentences.stalls(whole) == []


def _longest(past: History) -> float:
    """The definition read plainly: of each stretch, from the first row that waits on, if a poll began after it."""
    (log,) = past.logs
    assert log.quiet is not None
    arrived: dict[int, int] = {}
    for delivery in log.deliveries:
        arrived.setdefault(int(delivery["id"]), int(delivery["at"]))
    ends = {number << 0: int(records["end"][0]) for number, records in past.operations.sessions.items()}
    longest = 0
    for stretch in log.quiet:
        waits = [
            ends[int(operation)]
            for identity, tenant, _, operation in past.table.tolist()
            if int(stretch["tenant"]) in (0, tenant)
            and ends[int(operation)] < stretch["last"]
            and arrived.get(identity, -1) > stretch["end"]
        ]
        if waits:
            longest = max(longest, int(stretch["end"]) - max(int(stretch["start"]), min(waits)))
    return longest / MS


@given(data=st.data(), together=st.booleans())
def test_the_longest_stretch_is_as_the_definition_says(
    data: st.DataObject, together: bool, version_counter: Scenario
) -> None:
    """Rows of two tenants and stretches between their deliveries, at times that are drawn."""
    times = data.draw(st.lists(st.integers(1, 60), min_size=2, max_size=10, unique=True).map(sorted))
    quiet, deliveries, ops, rows = [], [], [], []
    for n, (begin, end) in enumerate(itertools.pairwise(times)):
        tenant = 0 if together else data.draw(st.integers(1, 2))
        if data.draw(st.booleans()):
            quiet.append((begin * MS, data.draw(st.integers(begin, end)) * MS, end * MS - 1, 5, tenant))
        else:
            owner = data.draw(st.integers(1, 2)) if together else tenant
            ops.append(Op(n + 1, 0, data.draw(st.integers(1, end)) * MS, tenant=owner))
            rows.append(Row(n + 1, n + 1, n + 1, tenant=owner))
            deliveries.append((end * MS, n + 1, len(deliveries), owner))
    past = history(ops, rows, [Poll((), 0)])
    log = replace(past.logs[0], deliveries=np.array(deliveries, DELIVERY), quiet=np.array(quiet, QUIET))
    past = replace(past, logs=(log,))
    assert stall(past, version_counter).ms == pytest.approx(_longest(past))
