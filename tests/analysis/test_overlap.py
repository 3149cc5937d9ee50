"""Operations that did not overlap show nothing of a race: the verdict is UNKNOWN, and the report says what to do."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import SCRATCHES, Op, Poll, Row, history
from judged import LOAD, result_of
from measured import compared, run_of
from racebench.analysis import offline, thresholds
from racebench.analysis.checkers import check
from racebench.analysis.overlap import Overlap
from racebench.analysis.remedies import remedy
from racebench.core.model import Load, Outcome, Scenario
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.history import archive
from racebench.history.recorded import About, Recorded
from racebench.reports import sentences

ONE_AFTER_THE_OTHER = history([Op(1, 1, 5, 1), Op(2, 5, 9, 2)], [Row(1, 1, 1), Row(2, 2, 2)], [Poll((1, 2), 2)])
TOGETHER = history([Op(1, 1, 6, 1), Op(2, 5, 9, 2)], [Row(1, 1, 1), Row(2, 2, 2)], [Poll((1, 2), 2)])
ONE = history([Op(1, 1, 5, 1)], [Row(1, 1, 1)], [Poll((1,), 1)])

BITS = 4
_TIMES = st.integers(1, 12)
#: Sessions whose own operations may overlap too, as in a history of another program; some never end.
_SESSIONS = st.lists(st.lists(st.tuples(_TIMES, st.integers(1, 6), st.booleans()), max_size=5), min_size=1, max_size=4)


def overlapped(ops: list[Op], scratch: int = 0) -> bool:
    overlap = Overlap()
    with SCRATCHES[scratch]() as place:
        check(history(ops, bits=BITS), place, also=[overlap])
    return overlap.found


@given(sessions=_SESSIONS, scratch=st.integers(0, len(SCRATCHES) - 1))
def test_an_overlap_is_found_exactly_if_a_comparison_of_all_pairs_finds_one(
    sessions: list[list[tuple[int, int, bool]]], scratch: int
) -> None:
    ops, spans = [], []
    for number, session in enumerate(sessions, start=1):
        for index, (start, length, ends) in enumerate(sorted(session)):
            outcome = Outcome.OK if ends else Outcome.UNKNOWN
            ops.append(Op((number << BITS) + index, start, start + length if ends else 0, outcome=outcome))
            spans.append((number, start, start + length if ends else start + 1))
    expected = any(
        one[0] != other[0] and one[1] < other[2] and other[1] < one[2] for one, other in combinations(spans, 2)
    )
    assert overlapped(ops, scratch) == expected


def test_operations_without_a_duration_do_not_overlap() -> None:
    assert not overlapped([Op(1 << BITS, 5, 5), Op(2 << BITS, 5, 5)])
    assert overlapped([Op(1 << BITS, 4, 6), Op(2 << BITS, 5, 5)])


@pytest.mark.parametrize(
    ("past", "verdict"),
    [(ONE_AFTER_THE_OTHER, Verdict.UNKNOWN), (ONE, Verdict.UNKNOWN), (TOGETHER, Verdict.VALID)],
    ids=["apart", "one", "together"],
)
def test_only_operations_that_overlapped_are_valid(
    tmp_path: Path, version_counter: Scenario, past: object, verdict: Verdict
) -> None:
    result = result_of(version_counter, "advisory", past)
    assert result.verdict is verdict
    assert [consumer.verdict for consumer in result.consumers] == [verdict]
    assert (result.upper_bound is None) == (verdict is Verdict.UNKNOWN)
    about = About(scenario="version-counter", strategy="advisory", forbidden=("duplicates",))
    archive.write(tmp_path / "x.npz", Recorded(history=past, about=about))  # type: ignore[arg-type]
    checked = offline.check_file(tmp_path / "x.npz", None)
    assert (checked.verdict, checked.overlapped) == (verdict, verdict is Verdict.VALID)


def test_an_anomaly_of_operations_that_did_not_overlap_is_invalid(version_counter: Scenario) -> None:
    past = history([Op(1, 1, 5, 1), Op(2, 5, 9, 1)], [Row(1, 1, 1), Row(2, 1, 2)], [Poll((1, 2), 1)])
    assert result_of(version_counter, "advisory", past).verdict is Verdict.INVALID


def test_the_report_says_why_and_what_to_do(version_counter: Scenario) -> None:
    apart = result_of(version_counter, "advisory", ONE_AFTER_THE_OTHER)
    assert sentences.happened(apart) == "No two of 2 operations overlapped in time, so no race could occur."
    assert sentences.advice(apart) == "Give more --workers, a longer --duration or a --hold."
    one = result_of(version_counter, "advisory", ONE)
    assert sentences.happened(one) == "There was one operation, so no race could occur."


def test_of_one_session_nothing_is_said_of_a_common_start(version_counter: Scenario) -> None:
    result = result_of(version_counter, "advisory", ONE)
    assert sentences.conditions([replace(result, load=replace(result.load, workers=1))]) is None
    assert sentences.conditions([replace(result, load=replace(result.load, workers=2))]) is not None


@pytest.mark.parametrize(
    ("load", "expected", "longer"),
    [
        (Load(workers=1, duration_s=2.0, operations=None), "give --workers 2 or more", "--duration"),
        (Load(workers=2, duration_s=None, operations=8), "give more --workers or more --operations", "--operations"),
        (Load(workers=2, duration_s=None, operations=2), "give more --workers", "--workers"),
        (Load(workers=4, duration_s=None, operations=1), "give more --operations", "--operations"),
    ],
)
def test_the_remedy_names_options_that_the_load_has(load: Load, expected: str, longer: str) -> None:
    assert remedy(load) == expected
    assert sentences.advice(run_of("advisory", load=load)).endswith(f"; more {longer} lowers the bound.")


def test_a_comparison_and_a_threshold_do_not_count_what_did_not_overlap(version_counter: Scenario) -> None:
    apart = replace(result_of(version_counter, "advisory", ONE_AFTER_THE_OTHER), load=replace(LOAD, workers=1))
    runs: list[RunResult] = [apart, run_of("upsert")]
    warnings = compared(runs, rounds=1).warnings
    assert (
        "no two operations of advisory overlapped in time in 1 of 1 runs, so no race could occur in them: "
        "give --workers 2 or more"
    ) in warnings
    (held,) = thresholds.judge([(thresholds.parse("duplicates == 0"), ("advisory",))], [apart], None)
    assert (held.outcome, held.reason) == (thresholds.Outcome.INCONCLUSIVE, "no two operations overlapped in time")
