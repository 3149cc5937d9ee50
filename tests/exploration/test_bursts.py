"""Races inside one statement: several sessions send their statements at once, and the server lets them race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from racebench.api import Bench
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer
from racebench.exploration.explorer import explore
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, Unseen
from racebench.reports import exploration_text
from tests.waiting import repeat


def explored(embedded: Target, scenario: Scenario, strategy: str, *, inside: bool, seed: int = 0) -> Exploration:
    request = ExplorationRequest(
        scenario=scenario,
        strategy=replace(scenario.strategies[strategy], inside=inside),
        consumer=scenario.consumers["cursor"],
        polls=2,
        seed=seed,
    )
    return explore(embedded, request)


def test_a_race_inside_one_statement_shows_when_statements_are_sent_at_once(
    embedded: Target, version_counter: Scenario
) -> None:
    """It takes its number in a default, and its lock in a trigger of the same INSERT."""
    result = repeat(
        lambda seed: explored(embedded, version_counter, "lock-trigger-default", inside=True, seed=seed),
        lambda result: result.anomalous_bursts,
    )
    assert (result.verdict, result.complete, result.anomalous) == (Verdict.INVALID, True, 0)
    assert result.as_expected
    assert result.witness is None
    assert result.found == ("missed",)
    assert f"1 of {result.bursts} burst" in exploration_text.sentence(result)


def test_bursts_without_an_anomaly_prove_nothing(embedded: Target, version_counter: Scenario) -> None:
    """The trigger locks before it takes the number: there is no race, but no search of statements knows that."""
    result = explored(embedded, version_counter, "trigger-lock-nextval", inside=True)
    assert (result.verdict, result.complete, result.unseen) == (Verdict.UNKNOWN, True, Unseen.STATEMENT)
    assert (result.bursts > 0, result.anomalous_bursts, result.found) == (True, 0, ())
    assert f"nor any of {result.bursts} bursts" in exploration_text.sentence(result)


def test_where_every_schedule_can_be_run_no_burst_is(embedded: Target, version_counter: Scenario) -> None:
    result = explored(embedded, version_counter, "trigger-lock-nextval", inside=False)
    assert (result.verdict, result.bursts) == (Verdict.VALID, 0)


def ddl(*statements: str) -> Callable[[psycopg.Connection[Any]], None]:
    """A call that sends statements in one transaction."""

    def change(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)

    return change


SETUP = "CREATE TABLE orders (number int)"
COLUMN = "ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text"
LOCK = "SELECT pg_advisory_xact_lock(1)"


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    assert cache_folder.is_dir()
    with Bench() as opened:
        yield opened


@pytest.mark.parametrize("script", [False, True])
def test_where_two_sessions_change_the_schema_at_once_nothing_is_proved(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: bool
) -> None:
    """What one statement looks up and changes is one step; whether it races inside is not known."""
    monkeypatch.setattr(explorer, "_BURSTS", 30)
    (tmp_path / "column.sql").write_text(f"{COLUMN};")
    subject = str(tmp_path / "column.sql") if script else ddl(COLUMN)
    explored = bench.explore(subject, setup=SETUP, invariant=())
    assert (explored.verdict, explored.complete, explored.result.unseen) == (Verdict.UNKNOWN, True, Unseen.CATALOG)
    assert explored.result.bursts > 0
    assert "two sessions change the schema at the same time" in str(explored)


@pytest.mark.parametrize("script", [False, True])
def test_where_a_lock_keeps_changes_of_the_schema_apart_they_are_proved_right(
    bench: Bench, tmp_path: Path, script: bool
) -> None:
    (tmp_path / "locked.sql").write_text(f"BEGIN;\n{LOCK};\n{COLUMN};\nCOMMIT;")
    subject = str(tmp_path / "locked.sql") if script else ddl(LOCK, COLUMN)
    explored = bench.explore(subject, setup=SETUP, invariant=())
    assert (explored.verdict, explored.result.bursts) == (Verdict.VALID, 0)


@pytest.mark.parametrize("script", [False, True])
def test_a_table_that_two_sessions_create_is_a_race(bench: Bench, tmp_path: Path, script: bool) -> None:
    """The second waits for the first, and is then refused, although it says IF NOT EXISTS."""
    create = "CREATE TABLE IF NOT EXISTS extra (n int)"
    (tmp_path / "create.sql").write_text(f"{create};")
    subject = str(tmp_path / "create.sql") if script else ddl(create)
    explored = bench.explore(subject, setup=SETUP, invariant=())
    assert explored.verdict is Verdict.INVALID
    assert explored.result.found == ("refused",)
