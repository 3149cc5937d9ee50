"""The whole catalog under load: every strategy and consumer does what the field knows of it, with its witness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Command, UsersServer, assert_one_line, shows, shows_what_is_expected
from racebench.analysis.remedies import expected_misses
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.workloads import catalog

Run = Callable[..., RunResult]
SCENARIO = catalog.find_scenario("version-counter")
OTHERS = [scenario for scenario in catalog.shipped() if scenario.rows is None]

CORRECT = (
    *("unique-retry", "serializable-retry", "advisory", "session-advisory", "table-lock", "parent-row-lock", "upsert"),
    *("advisory-nextval", "trigger-lock-nextval", "commit-stamp"),
)
UNORDERED = ("sequence", "identity", "sequence-cache", "sequence-app", "uuidv7", "clock")
LESSONS = (
    *("naive", "unique", "insert-select-max", "trigger-max", "repeatable-read-max", "lock-last-row"),
    *("advisory-early-release", "advisory-same-statement", "advisory-repeatable-read", "lock-after-select"),
    *("lock-trigger-default", "cache-plus-lock"),
)
CONSUMERS = (
    *("cursor", "cursor-inclusive", "lookback", "settle-delay", "gap-wait", "horizon", "snapshot"),
    "horizon-version",
    *("commit-timestamp", "claim-queue", "logical-slot"),
)


def test_the_catalog_is_whole() -> None:
    assert set(SCENARIO.strategies) == {*CORRECT, *UNORDERED, *LESSONS}
    assert tuple(SCENARIO.consumers) == CONSUMERS
    assert {s.name for s in catalog.find_strategies(SCENARIO, ["correct"])} == set(CORRECT)
    assert {s.name for s in catalog.find_strategies(SCENARIO, ["broken"])} == {*UNORDERED, *LESSONS}


@pytest.mark.parametrize("strategy", CORRECT)
def test_a_right_strategy_is_valid_under_load(hammer: Run, strategy: str) -> None:
    result = hammer(strategy, operations=400, hold_us=500)
    assert result.verdict is Verdict.VALID, result.witnesses
    assert result.found == ()
    assert result.counts["committed"] == result.counts["rows"] == result.consumers[0].counts["delivered"] == 400
    assert result.upper_bound is not None
    assert result.as_expected
    assert result.first_duplicate is None


@pytest.mark.parametrize("strategy", [*UNORDERED, *LESSONS])
def test_a_broken_strategy_is_invalid_under_load_with_a_witness(hammer: Run, strategy: str) -> None:
    def is_caught(result: RunResult) -> bool:
        return bool(result.found) and shows_what_is_expected(result)

    result = hammer(strategy, operations=400, hold_us=1000, poll_interval_ms=0.2, until=is_caught)
    assert result.verdict is Verdict.INVALID, result.counts
    assert result.as_expected, result.counts
    for kind in result.found:
        assert any(witness.kind == kind for witness in result.witnesses)
    assert result.first_duplicate is None or result.counts["duplicates"] > 0


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_no_consumer_misses_rows_of_a_strategy_that_commits_in_order(hammer: Run, consumer: str) -> None:
    result = hammer("advisory-nextval", consumer, operations=400, hold_us=500)
    (read,) = result.consumers
    assert read.counts["missed"] == 0, result.witnesses
    assert read.counts["delivered"] == 400
    assert read.verdict is Verdict.VALID


def test_a_right_strategy_and_a_waiting_consumer_can_miss_rows_together(hammer: Run) -> None:
    """commit-stamp numbers a row after its insertion; settle-delay lets rows through by the time of their insertion."""
    result = hammer("commit-stamp", "cursor settle-delay horizon", hold_us=2000, until=shows("missed"))
    missed = {read.name: read.counts["missed"] for read in result.consumers}
    assert missed["settle-delay"] > 0
    assert missed["cursor"] == missed["horizon"] == 0
    assert {read.name: read.expected for read in result.consumers}["settle-delay"] == "maybe"


@pytest.mark.parametrize("consumer", ["horizon", "snapshot", "claim-queue", "logical-slot"])
@pytest.mark.parametrize("strategy", ["sequence", "naive", "sequence-cache", "uuidv7"])
def test_a_right_consumer_misses_nothing_beside_any_strategy(hammer: Run, strategy: str, consumer: str) -> None:
    result = hammer(strategy, consumer, operations=800, hold_us=1000, long_percent=2, long_us=50_000)
    (read,) = result.consumers
    assert read.counts["missed"] == read.counts["redelivered"] == 0, result.witnesses
    assert read.counts["delivered"] == 800
    assert read.expected == "never"
    assert read.as_expected


@pytest.mark.parametrize("consumer", ["cursor", "cursor-inclusive", "lookback", "settle-delay"])
def test_a_waiting_consumer_misses_rows_that_commit_after_its_wait(hammer: Run, consumer: str) -> None:
    result = hammer("sequence", consumer, operations=1000, long_percent=2, long_us=200_000, until=shows("missed"))
    (read,) = result.consumers
    assert read.counts["missed"] > 0
    assert read.verdict is Verdict.INVALID
    missed = [witness for witness in result.witnesses if witness.kind == "missed"]
    assert missed[0].consumer == consumer
    assert missed[0].polls


def test_gap_wait_misses_only_rows_that_commit_after_its_patience(hammer: Run) -> None:
    patient = hammer("sequence", "gap-wait", operations=800, long_percent=2, long_us=100_000)
    assert patient.consumers[0].counts["missed"] == 0
    hasty = hammer("sequence", "gap-wait", operations=800, long_percent=1, long_us=1_200_000, until=shows("missed"))
    assert hasty.consumers[0].counts["missed"] > 0


def test_rolled_back_numbers_are_gaps_and_a_right_consumer_reads_past_them(hammer: Run) -> None:
    result = hammer("advisory-nextval", "cursor", operations=400, rollback_percent=25)
    assert result.counts["rolled_back"] == result.counts["failed"] == result.counts["attempts"] - result.counts["rows"]
    assert 40 < result.counts["rolled_back"] < 160
    assert result.counts["gaps"] > 0
    assert result.counts["unexpected"] == result.counts["lost"] == 0
    assert result.verdict is Verdict.VALID
    assert result.errors == {}


def test_several_consumers_read_the_same_run(hammer: Run) -> None:
    result = hammer("sequence", "cursor horizon claim-queue", hold_us=2000, until=shows("missed"))
    missed = {read.name: read.counts["missed"] for read in result.consumers}
    assert missed["cursor"] > 0
    assert missed["horizon"] == missed["claim-queue"] == 0
    assert result.counts["missed"] == missed["cursor"]
    late = {read.name: read.late_us["p50"] for read in result.consumers}
    assert (late["horizon"] or 0) > 0


def test_settle_delay_delivers_rows_late_by_its_delay(hammer: Run) -> None:
    def is_read_in_a_second(result: RunResult) -> bool:
        return (result.consumers[0].late_us["p50"] or 0) < 1_000_000

    (read,) = hammer("sequence", "settle-delay", operations=400, until=is_read_in_a_second).consumers
    assert (read.late_us["p50"] or 0) > 30_000


@pytest.mark.parametrize(
    ("strategy", "consumer", "expected"),
    [
        ("sequence", "cursor", "always"),
        ("sequence", "lookback", "maybe"),
        ("sequence", "horizon", "never"),
        ("advisory", "cursor", "never"),
        ("advisory", "horizon-version", "never"),
        ("unique", "cursor", "never"),
        ("naive", "cursor", "always"),
        ("commit-stamp", "cursor", "never"),
        ("commit-stamp", "settle-delay", "maybe"),
        ("commit-stamp", "horizon-version", "maybe"),
        ("commit-stamp", "horizon", "never"),
    ],
)
def test_the_expected_misses_of_a_strategy_and_a_consumer(strategy: str, consumer: str, expected: str) -> None:
    assert expected_misses(SCENARIO.strategies[strategy], SCENARIO.consumers[consumer]) == expected


@pytest.mark.server
def test_a_consumer_that_cannot_read_such_numbers_is_left_out_with_the_reason(racebench: Command) -> None:
    done = racebench("run", "-s", "uuidv7", "--consumer", "all", "-n", "80", "--no-save", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    assert "left out: gap-wait with uuidv7: needs dense numbers" in done.stdout
    assert "left out: lookback with uuidv7: needs integer numbers" in done.stdout


# What a server does not have


@pytest.mark.server
def test_uuidv7_needs_18_and_says_so(racebench: Command) -> None:
    refused = racebench("run", "-s", "uuidv7", "-n", "80", "--server", "16", "--no-save")
    assert_one_line(refused, 6, "'uuidv7' needs PostgreSQL 18, the embedded PostgreSQL 16 is 16, or leave it out")
    skipped = racebench("run", "-s", "correct", "-s", "broken", "-w", "2", "-n", "4", "--server", "16", "--no-save")
    assert skipped.returncode == 0, skipped.stderr
    assert "left out: uuidv7: needs PostgreSQL 18" in skipped.stdout


@pytest.mark.parametrize(
    ("consumer", "setting"),
    [("logical-slot", "wal_level = logical"), ("commit-timestamp", "track_commit_timestamp = on")],
)
def test_a_users_server_without_the_setting_gets_a_clear_message(
    racebench: Command, users_server: UsersServer, consumer: str, setting: str
) -> None:
    environment = {"RACEBENCH_DSN": users_server.dsn()}
    refused = racebench("run", "-s", "sequence", "--consumer", consumer, "-n", "80", "--no-save", env=environment)
    assert_one_line(refused, 6, f"'{consumer}' needs {setting}, the server has")
    skipped = racebench("run", "-s", "sequence", "--consumer", "all", "-n", "80", "--no-save", env=environment)
    assert skipped.returncode == 0, skipped.stderr
    assert f"left out: {consumer}: needs {setting}" in skipped.stdout
    assert users_server.schemas() == []


# Other select-then-act races


@pytest.mark.parametrize(
    ("scenario", "strategy"),
    [(scenario.name, name) for scenario in OTHERS for name in scenario.strategies],
)
def test_every_strategy_of_the_other_scenarios_has_its_expected_anomalies(
    hammer: Run, scenario: str, strategy: str
) -> None:
    # Each of that one's operations has thousands of transactions; without a pooler no session has another's state.
    operations = 80 if strategy == "serializable-busy" or scenario == "session-state" else 600
    result = hammer(strategy, "", scenario, operations=operations, until=shows_what_is_expected)
    assert result.as_expected, (result.counts, result.errors)
    known = catalog.find_scenario(scenario).strategies[strategy]
    if known.right or known.expect:
        assert result.verdict is (Verdict.VALID if known.right else Verdict.INVALID)
    if "violations" in result.found:
        assert any(witness.kind == "violations" and witness.rows for witness in result.witnesses)


# The matrix


@pytest.mark.server
def test_the_matrix_runs_each_pair_alone_and_prints_the_matrix(racebench: Command, tmp_path: Path) -> None:
    done = racebench(
        *("matrix", "-s", "sequence", "-s", "advisory", "--consumer", "cursor", "--consumer", "horizon"),
        *("-n", "400", "--hold", "2", "--no-save", "--json", "m.json", "--markdown", "m.md"),
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "m.json").read_text())["runs"]
    assert [(run["strategy"], run["consumer"]) for run in runs] == [
        ("sequence", None),
        ("sequence", "cursor"),
        ("sequence", "horizon"),
        ("advisory", None),
        ("advisory", "cursor"),
        ("advisory", "horizon"),
    ]
    lines = (tmp_path / "m.md").read_text().splitlines()
    header, sequence, advisory = (next(x for x in lines if x.startswith(w)) for w in ("| st", "| `se", "| `ad"))
    assert header == "| strategy | alone per s | duplicates | cursor | horizon |"
    cells = [cell.strip() for cell in sequence.split("|")]
    assert cells[4].startswith("**")
    assert cells[5].startswith("0 (")
    assert [cell.strip()[:2] for cell in advisory.split("|")][4:6] == ["0 ", "0 "]
    assert "cursor" in done.stdout
    assert racebench("report", "m.json", "--format", "markdown").stdout == (tmp_path / "m.md").read_text()


def test_an_interrupted_matrix_or_a_bad_path_is_one_line(racebench: Command) -> None:
    done = racebench("matrix", "-s", "sequence", "--markdown", "/nonexistent/m.md")
    assert_one_line(done, 2, "--markdown '/nonexistent/m.md': folder '/nonexistent' does not exist")
