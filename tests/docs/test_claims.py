"""docs/claims.md as tests: each would fail if the verdict there changed. The numbers are the page's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from racebench.core.results import RunResult

Run = Callable[..., RunResult]
PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


#: Long enough for all processes to have read the table before the first of them alters it.
TOGETHER_US = 200_000


def migrate(hammer: Run, strategy: str, consumers: str = "", workers: int = 1, think_us: int = 0) -> RunResult:
    return hammer(strategy, consumers, "migration", workers=workers, operations=workers, think_us=think_us)


def test_1_and_2_the_naive_insert_duplicates_and_its_reader_loses_twins(hammer: Run) -> None:
    result = hammer("naive")
    assert result.counts["duplicates"] > 0
    assert result.counts["missed"] > 0
    twins = [witness for witness in result.witnesses if witness.kind == "duplicates"]
    assert any(len({poll["poll"] for poll in witness.polls}) == 1 for witness in twins), "one of two twins delivered"


def test_3_a_unique_constraint_turns_the_loss_into_errors_and_a_retry_cures_them(hammer: Run) -> None:
    refused, retried = hammer("unique"), hammer("unique-retry", operations=400)
    assert refused.errors.keys() == {"23505"}
    assert refused.counts["failed"] > refused.counts["committed"] / 2
    assert refused.counts["duplicates"] == refused.counts["missed"] == 0
    assert retried.errors == {}
    assert retried.counts["duplicates"] == retried.counts["missed"] == 0


@pytest.mark.parametrize("strategy", ["sequence", "identity"])
def test_4_a_sequence_is_unique_and_its_reader_misses_rows_all_the_same(hammer: Run, strategy: str) -> None:
    result = hammer(strategy, hold_us=5000)
    assert result.counts["duplicates"] == 0
    assert result.counts["missed"] > 0


def test_5_the_counter_row_is_right(hammer: Run) -> None:
    result = hammer("upsert", operations=400, hold_us=1000)
    assert result.counts["duplicates"] == result.counts["missed"] == 0


def test_6_an_advisory_lock_is_right_only_if_it_is_taken_and_kept_as_it_must(hammer: Run) -> None:
    right = hammer("advisory", operations=400, hold_us=1000)
    assert right.counts["duplicates"] == right.counts["missed"] == 0
    for wrong in ("advisory-early-release", "advisory-same-statement", "advisory-repeatable-read"):
        result = hammer(wrong, operations=400, hold_us=1000)
        assert result.counts["duplicates"] > 0, wrong


def test_7_the_start_up_ddl_fails_when_processes_start_together_but_not_alone_nor_under_a_lock(hammer: Run) -> None:
    failures = 0
    for _ in range(5):
        together = migrate(hammer, "one-statement", workers=8)
        assert set(together.errors) <= {"23505", "42P07", "40P01", "XX000"}
        failures += together.counts["failed"]
    assert failures > 0
    assert migrate(hammer, "one-statement").counts["failed"] == 0
    assert migrate(hammer, "locked", workers=8).counts["failed"] == 0


def test_7_reading_the_table_first_makes_it_a_deadlock(hammer: Run) -> None:
    assert "40P01" in migrate(hammer, "select-first", workers=4, think_us=TOGETHER_US).errors


def test_8_one_statement_numbers_every_old_row_and_rewrites_the_table(hammer: Run) -> None:
    assert migrate(hammer, "one-statement").measures == {
        "old-null": 0,
        "new-null": 0,
        "rewritten": "yes",
        "default": "yes",
    }


def test_8a_two_steps_leave_old_rows_null_and_rewrite_nothing(hammer: Run) -> None:
    assert migrate(hammer, "two-steps").measures == {
        "old-null": 2000,
        "new-null": 0,
        "rewritten": "no",
        "default": "yes",
    }


def test_8b_if_the_column_is_there_the_default_is_skipped_with_the_clause(hammer: Run) -> None:
    assert migrate(hammer, "column-there").measures == {
        "old-null": 2000,
        "new-null": 1,
        "rewritten": "no",
        "default": "no",
    }


def test_9_null_is_not_above_0_but_or_null_coalesce_and_newest_first_redeliver(hammer: Run) -> None:
    result = migrate(hammer, "two-steps", "guarded unguarded or-null coalesce newest-first")
    again = {read.name: read.counts["redelivered"] for read in result.consumers}
    assert again["guarded"] == again["unguarded"] == 0
    assert min(again["or-null"], again["coalesce"], again["newest-first"]) > 0
    delivered = {read.name: read.counts["delivered"] for read in result.consumers}
    assert delivered["guarded"] == delivered["unguarded"] == 1, "old rows are not delivered at all"


def test_7_readers_wait_behind_the_ddl_for_as_long_as_it_waits(hammer: Run) -> None:
    """The deadlock is found after deadlock_timeout, 1 s; until then the ALTER stands in every reader's way."""
    (read,) = migrate(hammer, "select-first", "unguarded", workers=4, think_us=TOGETHER_US).consumers
    assert read.longest_poll_us is not None
    assert read.longest_poll_us > 500_000


def test_10_a_spread_of_arrivals_hides_the_race(hammer: Run) -> None:
    def rounds_with_duplicates(jitter_us: int) -> int:
        results = [hammer("naive", "", workers=4, operations=4, jitter_us=jitter_us) for _ in range(8)]
        return sum(result.counts["duplicates"] > 0 for result in results)

    together, apart = rounds_with_duplicates(0), rounds_with_duplicates(500_000)
    assert together > apart


def test_every_claim_of_the_page_has_a_test() -> None:
    numbers = {line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("| ")}
    claims = {number.rstrip("ab") for number in numbers if number[:1].isdigit()}
    tested = {name.split("_")[1] for name in globals() if name.startswith("test_") and name.split("_")[1][:1].isdigit()}
    assert claims == {number.rstrip("ab") for number in tested} | {"2"}
