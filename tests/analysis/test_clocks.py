"""Operations of several machines: their order in time is judged beyond the bounds of the clocks, and no further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import SCRATCHES, Op, Poll, Row, history
from racebench.analysis import offline
from racebench.analysis.checkers import check
from racebench.analysis.overlap import Overlap
from racebench.core.errors import UsageProblem
from racebench.core.results import Finding
from racebench.history import History, archive, jsonl
from racebench.history.clocks import MachineClock, Reading
from racebench.history.conversion import Conversion
from racebench.history.recorded import About, Recorded
from racebench.history.records import OPERATION_BITS
from racebench.history.spill import Scratch

BITS = 4


def clocks(*machines: tuple[int, Sequence[int]], consumers: Sequence[str] = ()) -> tuple[MachineClock, ...]:
    """Machines, each as its bound and its sessions; the consumers are on the first."""
    return tuple(
        MachineClock(
            machine=f"m{number}",
            sessions=tuple(sessions),
            consumers=() if number else tuple(consumers),
            offset_ns=5,
            bound_ns=bound,
        )
        for number, (bound, sessions) in enumerate(machines)
    )


def inversions(ops: Sequence[Op], known: tuple[MachineClock, ...], scratch: int = 0) -> Finding:
    rows = [Row(op.id, op.version, op.id) for op in ops]
    with SCRATCHES[scratch]() as place:
        return check(replace(history(ops, rows, bits=BITS), clocks=known), place).findings["inversions"]


@pytest.mark.parametrize(
    ("start", "count", "undecided"), [(120, 0, 0), (139, 0, 0), (140, 0, 1), (180, 0, 1), (181, 1, 0)]
)
def test_an_inversion_between_two_machines_counts_beyond_the_bounds_of_both(
    start: int, count: int, undecided: int
) -> None:
    first, second = Op(1 << BITS, 100, 160, version=2), Op(2 << BITS, start, 300, version=1)
    found = inversions([first, second], clocks((15, [1]), (5, [2])))
    assert (found.count, found.undecided) == (count, undecided if start > 140 else 0)
    assert len(found.witnesses) == count


def test_the_order_of_operations_on_one_machine_is_certain() -> None:
    ops = [Op(1 << BITS, 100, 160, version=2), Op(2 << BITS, 161, 300, version=1), Op(3 << BITS, 900, 950, version=0)]
    found = inversions(ops, clocks((10_000, [1, 2]), (10_000, [3])))
    assert (found.count, found.undecided) == (1, 1), "the third may have begun after the first had ended"
    assert [one["worker"] for one in found.witnesses[0].operations] == [1, 2]


_TIMES = st.tuples(st.integers(1, 40), st.integers(0, 8), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(
    sessions=st.lists(st.lists(_TIMES, max_size=5), min_size=2, max_size=4),
    bounds=st.lists(st.integers(0, 6), min_size=2, max_size=2),
    scratch=st.integers(0, len(SCRATCHES) - 1),
)
def test_inversions_and_what_is_undecided_are_those_that_a_comparison_of_all_pairs_finds(
    sessions: list[list[tuple[int, int, int]]], bounds: list[int], scratch: int
) -> None:
    ops = [
        Op((number << BITS) + index, start, start + length, version)
        for number, session in enumerate(sessions, start=1)
        for index, (start, length, version) in enumerate(sorted(session))
    ]
    machine = {number: number % 2 for number in range(1, len(sessions) + 1)}
    known = clocks(*((bound, [n for n, its in machine.items() if its == at]) for at, bound in enumerate(bounds)))

    def slack(one: Op, other: Op) -> int:
        mine, theirs = machine[one.id >> BITS], machine[other.id >> BITS]
        return 0 if mine == theirs else bounds[mine] + bounds[theirs]

    certain, possible = set(), set()
    for early, late in product(ops, ops):
        assert early.version is not None
        assert late.version is not None
        if early.version > late.version:
            certain |= {late.id} if early.end + slack(early, late) < late.start else set()
            possible |= {late.id} if early.end - slack(early, late) < late.start else set()
    found = inversions(ops, known, scratch)
    assert (found.count, found.undecided) == (len(certain), len(possible - certain))


@pytest.mark.parametrize(("bound", "found"), [(0, True), (4, True), (5, False)])
def test_operations_overlap_if_they_do_beyond_the_bounds(bound: int, found: bool) -> None:
    recorded = replace(
        history([Op(1, 100, 120, 1), Op(2, 111, 130, 2)], [Row(1, 1, 1), Row(2, 2, 2)]),
        clocks=clocks((bound, [1]), (bound, [2])),
    )
    overlap = Overlap(recorded.slack_ns())
    check(recorded, also=[overlap])
    assert overlap.found is found


@pytest.mark.parametrize(("bound", "late", "undecided"), [(0, 1, 0), (20, 1, 0), (25, 0, 1)])
def test_rows_are_out_of_order_beyond_the_bounds(bound: int, late: int, undecided: int) -> None:
    ops = [Op(1, 10, 50, 1), Op(2, 100, 120, 2)]
    recorded = replace(
        history(ops, [Row(1, 1, 1), Row(2, 2, 2)], [Poll((2, 1), 2)]), clocks=clocks((bound, [1]), (bound, [2]))
    )
    found = check(recorded).logs[0]["out-of-order"]
    assert (found.count, found.undecided) == (late, undecided)


def test_times_between_two_readings_are_on_a_line_and_the_bound_has_the_change() -> None:
    readings = [
        Reading(local_ns=1_000_000, offset_ns=10**18, bound_ns=40),
        Reading(local_ns=3_000_000, offset_ns=10**18 + 200, bound_ns=50),
    ]
    conversion = Conversion(readings)
    assert conversion.to_server(np.array([1_000_000, 2_000_000, 3_000_000])).tolist() == [
        10**18 + 1_000_000,
        10**18 + 2_000_100,
        10**18 + 3_000_200,
    ]
    assert conversion.bound_ns(1_000_000, 3_000_000) == 250
    assert conversion.bound_ns(1_000_000, 4_000_000) == 1250, "1 ms after the last reading, at most 1000 ppm"


def with_clocks() -> History:
    first, second = 1 << OPERATION_BITS, 2 << OPERATION_BITS
    ops = [Op(first, 100, 160, version=2), Op(second, 170, 300, version=1)]
    return replace(
        history(ops, [Row(1, 2, first), Row(2, 1, second)], [Poll((1, 2), 2)], bits=OPERATION_BITS),
        clocks=clocks((15, [1]), (5, [2]), consumers=["cursor"]),
    )


@pytest.mark.parametrize(("module", "name"), [(archive, "x.history.npz"), (jsonl, "x.jsonl")])
def test_a_history_file_keeps_the_clocks_and_is_checked_with_them(module: object, name: str, tmp_path: Path) -> None:
    recorded = Recorded(history=with_clocks(), about=About(scenario="s", strategy="t", forbidden=("inversions",)))
    path = tmp_path / name
    if module is archive:
        archive.write(path, recorded)
    else:
        with path.open("w") as file:
            jsonl.write(file, recorded)
    checked = offline.check_file(path, None)
    assert (checked.counts["inversions"], checked.undecided["inversions"]) == (0, 1)
    with Scratch() as scratch:
        assert (archive.read if module is archive else jsonl.read)(path, scratch).history.clocks == with_clocks().clocks


def test_a_history_without_the_clock_of_a_session_is_refused(tmp_path: Path) -> None:
    damaged = replace(with_clocks(), clocks=clocks((15, [1]), consumers=["cursor"]))
    path = tmp_path / "x.history.npz"
    archive.write(path, Recorded(history=damaged, about=About(scenario="s", strategy="t", forbidden=())))
    with pytest.raises(UsageProblem, match="'clocks' has no machine for session 2"):
        offline.check_file(path, None)


def test_an_export_to_edn_has_no_inversion_within_the_bounds(tmp_path: Path) -> None:
    path, exported = tmp_path / "x.history.npz", tmp_path / "x.edn"
    archive.write(path, Recorded(history=with_clocks(), about=About(scenario="s", strategy="t", forbidden=())))
    offline.export(path, "edn", exported)
    assert offline.check_file(exported, None).counts["inversions"] == 0
