"""Excerpts: what is marked in them is what the checkers count, what is left out is said, and no history is no error."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import run

from histories import Op, Poll, Row, history, long_history, naive_counts
from judged import REFERENCE, TWINS, excerpt_of, kept, result_of
from racebench.core.model import Outcome, Scenario
from racebench.history import History
from racebench.reports.excerpts import lookup, witnesses
from racebench.reports.results.document import Document, in_folder, to_json
from racebench.reports.results.reading import read

MS = 1_000_000


@st.composite
def flawed(draw: st.DrawFn) -> History:
    """Each operation writes one row; any numbers, any deliveries."""
    count = draw(st.integers(2, 9))
    ops = [Op(n, 10 * n, 10 * n + draw(st.integers(1, 40)), n) for n in range(1, count + 1)]
    rows = [
        Row(n, draw(st.one_of(st.none(), st.integers(1, 5))), n, draw(st.integers(1, 2))) for n in range(1, count + 1)
    ]
    polls = [
        Poll(tuple(draw(st.lists(st.integers(1, count), max_size=4))), draw(st.integers(0, 5)), draw(st.integers(1, 2)))
        for _ in range(draw(st.integers(0, 4)))
    ]
    return history(ops, rows, polls, drained=draw(st.booleans()))


@given(past=flawed())
def test_of_a_whole_history_as_much_is_marked_as_the_definitions_count(past: History) -> None:
    from racebench.workloads import catalog

    found = excerpt_of(catalog.find_scenario("version-counter"), past)
    counts = naive_counts(past)
    marked: Counter[str] = Counter()
    for mark in found.marks:
        marked[mark.kind] += len(mark.bars) - 1 if mark.kind == "duplicates" else 1
    assert len(found.bars) == len(past.operations)
    assert marked["duplicates"] == counts["duplicates"]
    assert marked["missed"] == counts["missed"]
    again = Counter(past.logs[0].deliveries["id"].tolist())
    assert marked["redelivered"] == sum(times > 1 for times in again.values())


def test_the_windows_are_around_the_witnesses_and_what_is_left_out_is_counted(version_counter: Scenario) -> None:
    past = long_history(4000, twins=(1000, 3000))
    found = excerpt_of(version_counter, past, most=200)
    assert len(found.bars) <= 200
    assert found.operations == 4000
    assert [window.total for window in found.windows] == [window.shown for window in found.windows]
    assert sum(window.shown for window in found.windows) == len(found.bars) > 150
    assert len(found.windows) == 3  # the poll that delivered them was long before
    starts = [found.bars[mark.bars[0]].start_us for mark in found.marks if mark.kind == "duplicates"]
    assert starts == [999_000.0, 2_999_000.0]


def test_without_room_within_a_witness_what_is_nearest_to_its_ends_is_shown(version_counter: Scenario) -> None:
    ops = [Op(1 << 32, 0, 5000 * MS, 7), *[Op((2 << 32) + n, n * MS, (n + 1) * MS, n + 8) for n in range(4000)]]
    rows = [Row(n + 1, op.version, op.id) for n, op in enumerate(ops)]
    past = history(ops, rows, [Poll(tuple(range(2, 4002)), 5000)], bits=32)
    found = excerpt_of(version_counter, past, most=100)
    assert max(window.total - window.shown for window in found.windows) > 3800
    assert 100 <= sum(window.shown for window in found.windows) <= 200
    missed = next(mark for mark in found.marks if mark.kind == "missed")
    assert [found.bars[at].row for at in missed.bars] == [1]


def test_many_sessions_get_as_many_lanes_as_can_be_read_those_of_the_witness_too(version_counter: Scenario) -> None:
    past = long_history(600, twins=(299,), workers=100)
    found = excerpt_of(version_counter, past)
    assert len(found.workers) == 40
    assert found.sessions == 100
    assert {299 % 100 + 1, 298 % 100 + 1} <= set(found.workers)
    assert len(set(found.workers) & set(range(80, 101))) == 21, "and those that were at work then"


def test_a_clean_history_is_shown_from_its_beginning_without_a_mark(version_counter: Scenario) -> None:
    found = excerpt_of(version_counter, long_history(4000, twins=()), most=100)
    assert found.marks == ()
    assert found.bars[0].start_us == 0.0
    assert 50 < len(found.bars) <= 100


def test_refused_and_pending_operations_are_told_apart(version_counter: Scenario) -> None:
    past = history(
        [
            Op(1, 0, 5, 1),
            Op(2, 1, 6, 1, outcome=Outcome.FAIL, sqlstate="23505"),
            Op(3, 2, 7, 1, outcome=Outcome.FAIL, sqlstate="53100"),
            Op(4, 3, 0, outcome=Outcome.PENDING),
        ],
        [Row(1, 1, 1)],
        [Poll((1,), 1)],
    )
    found = excerpt_of(version_counter, past)
    assert [(mark.kind, found.bars[mark.bars[0]].operation) for mark in found.marks] == [("refused", 2)]
    assert [bar.end_us is None for bar in found.bars] == [False, False, False, True]


def test_without_a_history_the_witnesses_are_all_there_is(version_counter: Scenario) -> None:
    found = witnesses.of_result(result_of(version_counter, "naive"))
    assert found is not None
    assert not found.whole
    assert [(bar.worker, bar.version, bar.row) for bar in found.bars] == [(1, 17, 40), (2, 17, 41)]
    assert {mark.kind: [found.bars[at].row for at in mark.bars] for mark in found.marks} == {
        "duplicates": [40, 41],
        "missed": [41],
    }
    clean = history([Op(1, 0, 5, 1)], [Row(1, 1, 1)], [Poll((1,), 1)])
    assert witnesses.of_result(result_of(version_counter, "naive", clean)) is None


def test_the_history_beside_the_document_is_used(version_counter: Scenario, tmp_path: Path) -> None:
    result = result_of(version_counter, "naive", history="x.history.npz")
    found = lookup.find(kept(tmp_path, result, TWINS), result, most=100)
    assert found.without is None
    assert found.excerpt is not None
    assert found.excerpt.whole


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "its history, x.history.npz, is neither where the result says nor beside it"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "its history cannot be read"),
        (lambda path: path.write_bytes(b""), "its history cannot be read"),
        (lambda path: np.savez(path, meta=np.array("{}")), "its history cannot be read"),
    ],
)
def test_a_history_that_is_no_good_leaves_the_witnesses_and_says_why(
    version_counter: Scenario, tmp_path: Path, spoil: object, why: str
) -> None:
    result = result_of(version_counter, "naive", history="x.history.npz")
    document = kept(tmp_path, result, TWINS)
    spoil(tmp_path / "x.history.npz")  # type: ignore[operator]
    found = lookup.find(document, result, most=100)
    assert found.without is not None
    assert why in found.without
    assert found.excerpt is not None
    assert not found.excerpt.whole


def test_another_runs_history_is_not_taken_for_this_ones(version_counter: Scenario, tmp_path: Path) -> None:
    result = result_of(version_counter, "naive", history="x.history.npz")
    assert lookup.find(kept(tmp_path, result, TWINS, "unique"), result, most=9).without is not None
    longer = long_history(30, twins=())
    found = lookup.find(kept(tmp_path, result, longer), result, most=9)
    assert found.without == "x.history.npz is the history of another run"


def test_a_history_elsewhere_is_found_also_after_its_folder_and_the_document_s_were_moved_together(
    version_counter: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "results").mkdir(parents=True)
    (before / "out").mkdir()
    measured = result_of(version_counter, "naive", history=str(before / "results" / "x.history.npz"))
    kept(before / "results", result_of(version_counter, "naive", history="x.history.npz"), TWINS)
    document = Document(environment={}, created="", runs=(measured,))
    monkeypatch.chdir(before)  # --json out/run.json
    (written,) = in_folder(document, Path("out")).runs
    assert written.history == "../results/x.history.npz"
    monkeypatch.chdir(tmp_path)
    assert lookup.find(before / "out" / "run.json", written, most=9).without is None
    before.rename(after)
    assert lookup.find(Path("after/out/run.json"), written, most=9).without is None
    (after / "out" / "x.history.npz").hardlink_to(after / "results" / "x.history.npz")  # copied beside the document
    (after / "results" / "x.history.npz").unlink()
    assert lookup.find(after / "out" / "run.json", written, most=9).without is None


def test_what_is_printed_names_the_histories_of_all_folders_so_that_any_folder_will_do(
    version_counter: Scenario, tmp_path: Path
) -> None:
    result = result_of(version_counter, "naive", history="x.history.npz")
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        kept(folder, result, TWINS)
        (folder / "run.json").write_text(to_json(replace(read(REFERENCE / "run.json"), runs=(result,))))
    done = run("report", "a/run.json", "b/run.json", "--format", "json", cwd=tmp_path)
    assert done.code == 0, done.errors
    (tmp_path / "merged.json").write_text(done.output)
    runs = read(tmp_path / "merged.json").runs
    assert [one.history for one in runs] == [str(tmp_path / name / "x.history.npz") for name in ("a", "b")]
    assert [lookup.find(tmp_path / "merged.json", one, most=9).without for one in runs] == [None, None]


def test_a_document_cannot_have_a_file_read_that_is_no_history(version_counter: Scenario, tmp_path: Path) -> None:
    result = result_of(version_counter, "naive", history="x.history.npz")
    kept(tmp_path, result, TWINS)
    (tmp_path / "x.history.npz").rename(tmp_path / "x.npz")
    (tmp_path / "y.history.npz").mkdir()
    for name in ("x.npz", "../../../dev/zero", "/dev/zero", "y.history.npz", "none.history.npz"):
        found = lookup.find(tmp_path / "result.json", replace(result, history=name), most=9)
        assert found.without == f"its history, {Path(name).name}, is neither where the result says nor beside it"
