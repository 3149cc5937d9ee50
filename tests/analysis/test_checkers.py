"""Each checker: a good history, a bad one with its witness, a broken good one, and the definition read plainly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import SCRATCHES, Op, Poll, Row, all_findings, any_history, good_parts, history, naive_counts
from racebench.analysis.checkers import CHECKERS
from racebench.core.anomalies import ANOMALIES, Evidence, needing
from racebench.core.model import Numbering, Outcome
from racebench.core.results import Finding
from racebench.history import History, Violation
from racebench.history.rows import labels
from racebench.history.spill import Scratch

Parts = tuple[list[Op], list[Row], list[Poll]]

TWO_OPS = [Op(1, 0, 10, 1), Op(2, 5, 15, 1)]

GOOD: dict[str, History] = {
    "duplicates": history(rows=[Row(1, 1), Row(2, 2), Row(3, 1, tenant=2), Row(4, None), Row(5, None)]),
    "missed": history(
        rows=[Row(1, 1), Row(2, 2), Row(3, 9), Row(4, None)], polls=[Poll((1,), 1), Poll((2,), 2)], drained=False
    ),
    "violations": replace(history(), violations=(Violation(invariant="sum-kept", count=0, rows=()),)),
    "redelivered": history(rows=[Row(1, 1), Row(2, 1)], polls=[Poll((1, 2), 1)]),
    "lost": history([Op(1, 0, 1), Op(2, 0, 1, outcome=Outcome.UNKNOWN)], [Row(1, 1, 1)]),
    "unexpected": history([Op(1, 0, 1, outcome=Outcome.UNKNOWN), Op(2, 0, 1, outcome=Outcome.FAIL)], [Row(1, 1, 1)]),
    "refused": history(
        [
            Op(1, 0, 1, outcome=Outcome.FAIL, sqlstate="53100"),
            Op(2, 0, 1, outcome=Outcome.FAIL, sqlstate="57014"),
            Op(3, 0, 1, outcome=Outcome.UNKNOWN, sqlstate="08006"),
            Op(4, 0, 1, tries=5),
            Op(5, 0, 1, outcome=Outcome.FAIL),
        ]
    ),
    "unnumbered": history(rows=[Row(1, 0), Row(2, -3)]),
    "gaps": history(rows=[Row(1, 5), Row(2, 6), Row(3, 6), Row(4, 9, tenant=2)]),
    "inversions": history(
        [Op(1, 0, 10, 2), Op(2, 5, 15, 1), Op(3, 11, 20, 2)], [Row(1, 2, 1), Row(2, 1, 2), Row(3, 2, 3)]
    ),
    # Rows 1 and 2 overlapped, row 4 is another tenant's, and row 5's operation is UNKNOWN.
    "out-of-order": history(
        [Op(1, 0, 10), Op(2, 10, 20), Op(3, 30, 40), Op(4, 0, 5, tenant=2), Op(5, 0, 5, outcome=Outcome.UNKNOWN)],
        [Row(1, 2, 1), Row(2, 1, 2), Row(3, 3, 3), Row(4, 1, 4, tenant=2), Row(5, 4, 5)],
        [Poll((2, 1, 3), 3), Poll((4,), 1, tenant=2), Poll((1, 5), 4)],
    ),
}

BAD: dict[str, tuple[History, int, str]] = {
    "duplicates": (
        history(TWO_OPS, [Row(7, 1, 1), Row(8, 1, 2)], [Poll((7,), 1)]),
        1,
        "worker 1 and worker 2 both wrote version 1 of tenant 1: rows 7 and 8",
    ),
    "missed": (
        history(TWO_OPS, [Row(7, 1, 1), Row(8, 1, 2)], [Poll((7,), 1)]),
        1,
        "row 8 (tenant 1, version 1) is committed, but poll 0 of 'cursor' moved the cursor to 1 without it",
    ),
    "violations": (
        replace(history(), violations=(Violation(invariant="sum-kept", count=2, rows=({"balance": 3},)),)),
        2,
        "invariant 'sum-kept' is broken by 2 rows, for example balance = 3",
    ),
    "redelivered": (
        history(rows=[Row(1, 1)], polls=[Poll((1,), 1), Poll((1,), 1)]),
        1,
        "row 1 was delivered 2 times to 'cursor'",
    ),
    "lost": (history([Op(1, 0, 1)]), 1, "operation 1 had succeeded, and there is no row of it"),
    "unexpected": (
        history([Op(1, 0, 1, outcome=Outcome.FAIL, sqlstate="40001")], [Row(3, 1, 1)]),
        1,
        "operation 1 had failed (40001), and its row 3 is there",
    ),
    "refused": (
        history([Op(1, 0, 1, 4, outcome=Outcome.FAIL, sqlstate="23505", tries=2)], [Row(3, 4, 9)]),
        1,
        "worker 1 wanted version 4 and was refused with 23505 after 2 tries; row 3 has that version",
    ),
    "unnumbered": (history(rows=[Row(1, 1), Row(2, None)]), 1, "row 2 (tenant 1) has no version"),
    "gaps": (history(rows=[Row(1, 1), Row(2, 4)]), 2, "versions 2 to 3 were never used"),
    "inversions": (
        history([Op(1, 0, 10, 5), Op(2, 11, 20, 4)], [Row(1, 5, 1), Row(2, 4, 2)]),
        1,
        "worker 2 began after worker 1 had ended, and got version 4, below 5",
    ),
    "out-of-order": (
        history(
            [Op(1, 0, 2_000_000), Op(2, 3_000_000, 4_000_000), Op(3, 1_000_000, 9_000_000)],
            [Row(7, 2, 1), Row(8, 1, 2), Row(9, 3, 3)],
            [Poll((8, 9), 1), Poll((7,), 2)],
        ),
        1,
        "'cursor' was given row 8 by poll 0 and row 7 by poll 1, though the operation of row 7 had ended 1.000 ms "
        "before that of row 8 began",
    ),
}


def test_an_operation_acknowledged_at_time_zero_has_ended_all_the_same() -> None:
    past = history([Op(1, 0, 0), Op(2, 5, 6)], [Row(1, 2, 1), Row(2, 1, 2)])
    assert all_findings(past)["inversions"].count == naive_counts(past)["inversions"] == 1


def test_every_kind_has_a_checker_a_good_and_a_bad_history() -> None:
    of_histories = {*ANOMALIES} - {*needing(Evidence.SERIAL_ORDERS), *needing(Evidence.SCHEDULES)}
    assert set(CHECKERS) == of_histories == set(GOOD) == set(BAD)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_history_has_no_finding(kind: str) -> None:
    finding = all_findings(GOOD[kind])[kind]
    assert finding == Finding(kind=kind, count=0, chances=finding.chances)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_history_has_a_finding_with_a_witness(kind: str) -> None:
    bad, count, explanation = BAD[kind]
    finding = all_findings(bad)[kind]
    assert finding.count == count
    assert explanation in finding.witnesses[0].explanation
    assert finding.witnesses[0].kind == kind


def test_an_empty_history_has_no_anomalies() -> None:
    assert all(finding.count == 0 and not finding.witnesses for finding in all_findings(history()).values())


def test_a_duplicate_of_which_the_consumer_saw_one_is_the_first_witness() -> None:
    rows = [Row(1, 1), Row(2, 1), Row(3, 2), Row(4, 2)]
    first = all_findings(history(rows=rows, polls=[Poll((1, 2), 1), Poll((3,), 2)]))["duplicates"].witnesses[0]
    assert [row["id"] for row in first.rows] == [3, 4]
    assert [poll["poll"] for poll in first.polls] == [1]


def test_a_table_wide_numbering_has_its_gaps_over_all_tenants() -> None:
    rows = [Row(1, 1), Row(2, 2, tenant=2), Row(3, 4)]
    assert all_findings(history(rows=rows))["gaps"].count == 2
    assert all_findings(history(rows=rows, numbering=Numbering.TABLE))["gaps"].count == 1


def test_of_a_consumer_that_did_not_finish_only_rows_its_cursor_passed_are_missed() -> None:
    above = history(rows=[Row(1, 5)], polls=[Poll((), 4)], drained=False)
    of_another_tenant = history(rows=[Row(1, 1, tenant=2)], polls=[Poll((), 9, tenant=1)], drained=False)
    passed = history(rows=[Row(1, 4)], polls=[Poll((), 4)], drained=False)
    counts = [all_findings(each)["missed"].count for each in (above, of_another_tenant, passed)]
    assert counts == [0, 0, 1]


def test_a_consumer_that_finished_missed_whatever_it_did_not_deliver() -> None:
    assert all_findings(history(rows=[Row(1, 5)], polls=[]))["missed"].count == 1


def test_versions_that_are_no_integers_are_shown_as_what_they_are() -> None:
    ranked = replace(history(rows=[Row(1, 1), Row(2, 1)]), labels=labels(["0191-aa"]))
    assert all_findings(ranked)["duplicates"].witnesses[0].rows[0]["version"] == "0191-aa"
    assert all_findings(replace(ranked, rows=history(rows=[Row(1, 1), Row(2, 4)]).rows))["gaps"].count == 0


@settings(max_examples=250, deadline=None)
@given(any_history(), st.sampled_from(SCRATCHES))
def test_the_checkers_agree_with_the_definitions(drawn: History, scratch: Callable[[], Scratch]) -> None:
    expected = naive_counts(drawn)
    with scratch() as made:
        findings = all_findings(drawn, made)
    assert {kind: findings[kind].count for kind in expected} == dict(expected)
    for kind, finding in findings.items():
        assert bool(finding.count) == bool(finding.witnesses), kind


@settings(max_examples=60, deadline=None)
@given(any_history())
def test_findings_do_not_depend_on_how_a_history_is_divided(drawn: History) -> None:
    found = []
    for scratch in SCRATCHES:
        with scratch() as made:
            findings = all_findings(drawn, made)
        del findings["inversions"]  # of several earlier operations, any may be the witness
        found.append(findings)
    assert all(each == found[0] for each in found)


@given(good_parts())
def test_a_run_in_which_nothing_is_wrong_has_no_anomaly(parts: Parts) -> None:
    assert {kind: f.count for kind, f in all_findings(history(*parts)).items() if f.count} == {}


def _repeat_version(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    extra = Row(len(rows) + 1, rows[at].version, len(ops) + 1)
    op = Op(len(ops) + 1, ops[at].start, ops[at].end, rows[at].version)
    twins = {rows[at].id: (rows[at].id, extra.id)}
    also = [replace(p, delivered=tuple(i for one in p.delivered for i in twins.get(one, (one,)))) for p in polls]
    return [*ops, op], [*rows, extra], also


def _drop_delivery(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    return ops, rows, [replace(p, delivered=tuple(i for i in p.delivered if i != rows[at].id)) for p in polls]


def _repeat_delivery(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    return ops, rows, [*polls, Poll((rows[at].id,), polls[-1].after)]


def _drop_row(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    # The version goes to a row that no operation acknowledged, so that only the loss is left to find.
    return ops, [replace(r, operation=0) if r is rows[at] else r for r in rows], polls


def _deny(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    denied = replace(ops[at], outcome=Outcome.FAIL, sqlstate="XX000")
    return [denied if op is ops[at] else op for op in ops], rows, polls


def _refuse(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    extra = Op(len(ops) + 1, ops[at].start, ops[at].end, ops[at].version, outcome=Outcome.FAIL, sqlstate="23505")
    return [*ops, extra], rows, polls


def _unnumber(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    return [*ops, Op(len(ops) + 1, 0, 1)], [*rows, Row(len(rows) + 1, None, len(ops) + 1)], polls


def _skip_number(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    last = rows[-1]
    return (
        ops,
        [*rows[:-1], replace(last, version=(last.version or 0) + 1)],
        [
            *polls[:-1],
            replace(polls[-1], after=polls[-1].after + 1),
        ],
    )


def _swap(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    at = min(at, len(rows) - 2)
    one, two = rows[at], rows[at + 1]
    swapped = {one.id: replace(one, version=two.version), two.id: replace(two, version=one.version)}
    return ops, [swapped.get(row.id, row) for row in rows], polls


def _deliver_early(ops: list[Op], rows: list[Row], polls: list[Poll], at: int) -> Parts:
    at = min(at, len(rows) - 2)
    moved = {rows[at].id: rows[at + 1].id, rows[at + 1].id: rows[at].id}
    return ops, rows, [replace(p, delivered=tuple(moved.get(i, i) for i in p.delivered)) for p in polls]


@pytest.mark.parametrize(
    ("kind", "break_it"),
    [
        ("duplicates", _repeat_version),
        ("missed", _drop_delivery),
        ("redelivered", _repeat_delivery),
        ("lost", _drop_row),
        ("unexpected", _deny),
        ("refused", _refuse),
        ("unnumbered", _unnumber),
        ("gaps", _skip_number),
        ("inversions", _swap),
        ("out-of-order", _deliver_early),
    ],
)
@given(parts=good_parts(), data=st.data())
def test_breaking_a_good_run_in_one_way_is_found_as_exactly_that(
    kind: str, break_it: Callable[..., Parts], parts: Parts, data: st.DataObject
) -> None:
    broken = break_it(*parts, data.draw(st.integers(0, len(parts[1]) - 1)))
    assert {k: f.count for k, f in all_findings(history(*broken)).items() if f.count} == {kind: 1}
