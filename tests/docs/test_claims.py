"""One test for each claim of docs/claims.md, with its number; it fails if the verdict of the claim changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import shows
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict

Run = Callable[..., RunResult]
PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


#: Long enough that all processes have read the table before the first one alters it.
TOGETHER_US = 200_000


def migrate(hammer: Run, strategy: str, consumers: str = "", workers: int = 1, **load: Any) -> RunResult:
    return hammer(strategy, consumers, "migration", workers=workers, operations=workers, **load)


def test_1_and_2_the_naive_insert_makes_duplicates_and_its_consumer_misses_rows(hammer: Run) -> None:
    def one_of_two_twins_is_delivered(result: RunResult) -> bool:
        twins = [witness for witness in result.witnesses if witness.kind == "duplicates"]
        return any(len({poll["poll"] for poll in witness.polls}) == 1 for witness in twins)

    result = hammer("naive", until=one_of_two_twins_is_delivered)
    assert {"duplicates", "missed"} <= set(result.found)


def test_3_a_unique_constraint_turns_missed_rows_into_errors_and_a_retry_fixes_them(hammer: Run) -> None:
    refused = hammer("unique", until=lambda result: result.counts["failed"] > result.counts["committed"] / 2)
    retried = hammer("unique-retry", operations=400, until=shows("retries"))
    assert refused.errors == {"23505": refused.counts["refused"]}
    assert refused.counts["refused"] == refused.counts["failed"]
    assert refused.counts["duplicates"] == refused.counts["missed"] == 0
    assert retried.errors == {}
    assert retried.counts["retries"] == retried.retried["23505"]
    assert retried.counts["duplicates"] == retried.counts["missed"] == 0


@pytest.mark.parametrize("strategy", ["sequence", "identity"])
def test_4_a_sequence_is_unique_and_its_consumer_misses_rows(hammer: Run, strategy: str) -> None:
    result = hammer(strategy, hold_us=5000, until=shows("missed"))
    assert result.found == ("missed",)
    assert result.counts["duplicates"] == 0


def test_5_the_counter_row_is_right(hammer: Run) -> None:
    result = hammer("upsert", operations=400, hold_us=1000)
    assert result.counts["duplicates"] == result.counts["missed"] == 0


def test_6_an_advisory_lock_is_right_only_before_the_select_and_until_commit(hammer: Run) -> None:
    right = hammer("advisory", operations=400, hold_us=1000)
    assert right.counts["duplicates"] == right.counts["missed"] == 0
    for wrong in ("advisory-early-release", "advisory-same-statement", "advisory-repeatable-read"):
        result = hammer(wrong, operations=400, hold_us=1000, until=shows("duplicates"))
        assert result.verdict is Verdict.INVALID, wrong


def test_7_the_start_up_ddl_fails_in_processes_that_start_together_but_not_alone_or_under_a_lock(hammer: Run) -> None:
    together = migrate(hammer, "one-statement", workers=8, until=shows("failed"))
    assert set(together.errors) <= {"23505", "42P07", "40P01", "XX000"}
    assert migrate(hammer, "one-statement").counts["failed"] == 0
    assert migrate(hammer, "locked", workers=8).counts["failed"] == 0


def test_7_reading_the_table_first_causes_a_deadlock(hammer: Run) -> None:
    together = {"workers": 4, "think_us": TOGETHER_US}
    result = migrate(hammer, "select-first", **together, until=lambda result: "40P01" in result.errors)
    assert result.counts["failed"] > 0


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


def test_8b_if_the_column_exists_the_default_is_skipped_with_the_clause(hammer: Run) -> None:
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


def test_7_consumers_wait_behind_the_waiting_ddl(hammer: Run) -> None:
    """The deadlock is found after deadlock_timeout, 1 s; until then the ALTER blocks every reader."""

    def the_consumer_waited(result: RunResult) -> bool:
        (consumer,) = result.consumers
        return consumer.longest_poll_us is not None and consumer.longest_poll_us > 500_000

    together = {"workers": 4, "think_us": TOGETHER_US}
    assert the_consumer_waited(migrate(hammer, "select-first", "unguarded", **together, until=the_consumer_waited))


def test_10_a_spread_of_arrivals_hides_the_race(hammer: Run) -> None:
    """With 100 ms between reading and writing, workers that start together always race.

    Apart they do not overlap, or hardly: a run without an overlap is UNKNOWN.
    """
    load = {"workers": 4, "operations": 4, "think_us": 100_000}
    together = hammer("naive", "", **load, until=shows("duplicates"))
    apart = hammer("naive", "", **load, jitter_us=3_000_000, until=lambda result: result.counts["duplicates"] == 0)
    assert together.verdict is Verdict.INVALID
    assert apart.pace is not None
    assert apart.verdict is (Verdict.VALID if apart.pace.overlapped else Verdict.UNKNOWN)


def test_every_claim_of_the_page_has_a_test() -> None:
    numbers = {line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("| ")}
    claims = {number.rstrip("ab") for number in numbers if number[:1].isdigit()}
    tested = {name.split("_")[1] for name in globals() if name.startswith("test_") and name.split("_")[1][:1].isdigit()}
    assert claims == {number.rstrip("ab") for number in tested} | {"2"}
