"""Strategies and schedules without a walkthrough: which schedule is shown, and what is said of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demos import Prepare, anomalies_of, has_wait, played_parts
from racebench.demo import schedules
from racebench.demo.presentation import ScheduleEntry
from racebench.demo.selection import LIMITS
from racebench.exploration.result import Unseen
from racebench.workloads import catalog
from racebench.workloads.digests import digest as digest_of


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        (["BEGIN", "SELECT", "INSERT", "COMMIT"], ["BEGIN", "SELECT lock", "SELECT", "INSERT", "COMMIT"], [0, 2, 3, 4]),
        (["BEGIN", "SELECT", "INSERT", "COMMIT"], ["BEGIN", "LOCK", "SELECT", "INSERT", "COMMIT"], [0, 2, 3, 4]),
        (["BEGIN", "SELECT", "INSERT", "COMMIT"], ["BEGIN", "INSERT", "COMMIT"], [0, 0, 1, 2]),
        (["BEGIN", "INSERT", "COMMIT"], ["INSERT"], [0, 1, 2]),
        (["SELECT"], ["UPDATE"], [-1]),
    ],
)
def test_a_schedule_is_transferred_to_another_script(old: list[str], new: list[str], places: list[int]) -> None:
    assert schedules.matching_statements(old, new) == places


@pytest.mark.parametrize(
    ("name", "scenario", "kinds"),
    [
        ("trigger-max", None, {"duplicates", "missed"}),
        ("identity", None, {"missed"}),
        ("naive", "oversell", {"violations"}),
        ("naive", "lost-update", {"violations"}),
    ],
)
def test_a_broken_strategy_is_shown_with_an_anomaly_and_its_fix_waits(
    name: str, scenario: str | None, kinds: set[str], prepare: Prepare
) -> None:
    (_, broken), (_, fixed) = played_parts(prepare(name, scenario=scenario))
    assert set(anomalies_of(broken)) == kinds
    assert "have an anomaly; this is one" in broken[0].sentence
    assert anomalies_of(fixed) == {}
    assert has_wait(fixed)


def test_a_schedule_with_a_cut_is_shown_and_its_fix_is_cut_at_the_same_statement_once(prepare: Prepare) -> None:
    digest = digest_of(catalog.find_scenario("lost-answer").strategies["retry-lost"], None)
    schedule = f"v1:lost-answer/retry-lost[{digest}]:s1.s1.s1.s2.s2.s2+cut.s2.s2.s2"
    (_, broken), (_, fixed) = played_parts(prepare(schedule))
    assert anomalies_of(broken) == {"violations": 1}
    for frames in (broken, fixed):
        (cut,) = [frame for frame in frames if frame.step is not None and frame.step.cut is not None]
        assert cut.sentence == "The server carries out the COMMIT of session 2, and the answer is lost."
        assert (cut.step.answer, cut.lanes[1].status) == ("connection cut", "will try again")  # type: ignore[union-attr]
    assert anomalies_of(fixed) == {}
    assert fixed[-1].sentence == "No anomaly. The price: session 2 lost its connection."


def test_a_broken_invariant_is_shown(prepare: Prepare) -> None:
    (_, frames), _ = played_parts(prepare("naive", scenario="lost-update"))
    assert "sum-kept is broken: tenant 1, balance 1, deposited 2" in frames[-1].sentence
    accounts, deposits = frames[-1].tables
    assert (accounts.name, deposits.name) == ("accounts", "deposits")
    assert [row.cells for row in deposits.rows] == [("1", "session 1"), ("1", "session 2")]


@pytest.mark.parametrize("name", ["upsert", "table-lock", "parent-row-lock"])
def test_a_right_strategy_is_shown_with_a_wait(name: str, prepare: Prepare) -> None:
    ((part, frames),) = played_parts(prepare(name))
    assert re.search(
        r"(All )?\d+ schedules were run first; none has an anomaly\. In this one a session has to wait", part.opening
    )
    assert has_wait(frames)
    assert anomalies_of(frames) == {}


@pytest.mark.parametrize(
    ("name", "price"), [("serializable-retry", "refused and tried again"), ("commit-stamp", "no session had to wait")]
)
def test_a_right_strategy_without_a_wait_says_so(name: str, price: str, prepare: Prepare) -> None:
    ((part, frames),) = played_parts(prepare(name))
    assert "Here the sessions overlap, and none has to wait" in part.opening
    assert not has_wait(frames)
    assert price in frames[-1].sentence


def test_a_race_inside_one_statement_is_not_called_none(prepare: Prepare) -> None:
    (part, _), *_ = played_parts(prepare("lock-trigger-default"))
    assert "Its race is inside one statement: use racebench run to see it" in part.opening


def test_a_schedule_with_an_anomaly_only_after_other_schedules_is_not_shown_as_a_witness(
    prepare: Prepare, tmp_path: Path
) -> None:
    files = {
        "scenario.toml": """
summary = "numbers that other schedules have taken"
schema = "schema.sql"
forbid = ["violations"]
[invariants]
new = "SELECT * FROM t WHERE used"
[strategies.remembers]
summary = "a sequence goes on from one schedule to the next"
script = "remembers.sql"
expect = ["violations"]
""",
        "schema.sql": "CREATE TABLE t (tenant int, used boolean); CREATE SEQUENCE numbers;",
        "remembers.sql": "INSERT INTO t VALUES (:tenant, nextval('numbers') > 2);",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ((part, frames),) = played_parts(prepare("remembers", scenario=str(tmp_path)))
    assert "this is one" not in part.opening
    assert re.search(r"\d+ of \d+ schedules had an anomaly, but none with new sessions", part.opening)
    assert anomalies_of(frames) == {}


def test_a_table_that_cannot_be_read_is_shown_as_locked(prepare: Prepare) -> None:
    (_, frames), *_ = played_parts(prepare("one-statement", scenario="migration", fix="none"))
    assert any(table.locked and "cannot be read now" in table.title for frame in frames for table in frame.tables)


def test_a_schedule_is_played_as_it_is_and_is_its_own(prepare: Prepare) -> None:
    text = prepare("late-lock").recording.schedules[0]
    (part, frames), _ = played_parts(prepare(text))
    assert part.schedule == tuple(
        ScheduleEntry(session=int(number)) for number in re.findall(r"s(\d)", text.rpartition(":")[2])
    )
    assert anomalies_of(frames) == {"duplicates": 1, "missed": 1}
    assert prepare(text).recording.schedules[0] == text


def test_each_reason_why_a_search_proves_nothing_has_its_sentence() -> None:
    assert LIMITS.keys() == set(Unseen)
