"""The first duplicate is known while a run goes on: from what the operations say, once the table confirms it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.core.model import Consumer, Load, NumberedRows, Outcome, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors.processes import Processes
from racebench.history.records import NO_VERSION
from racebench.load.detector import Detector, Table
from racebench.load.driver import LoadDriver
from racebench.load.observation import Observation
from racebench.postgres.connection import connect
from racebench.postgres.control import Control
from racebench.postgres.schemas import new_name
from racebench.workloads import scripts
from recorded_sessions import Answers, Number, Sessions

Run = Callable[..., RunResult]
ROWS = NumberedRows(table="events")


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    with ExitStack() as stack:
        yield Sessions(tmp_path, stack)


class Looked:
    """A detector that looks whenever the test says so."""

    def __init__(self, sessions: Sessions, table: Answers) -> None:
        suspected = SuspectedDuplicates()
        self.detector = Detector(table, suspected)
        self.observation = Observation(sessions.paths(), [self.detector], suspected)

    def look(self) -> Number | None:
        """Look at once; the number that is known."""
        self.observation.begin(0)
        self.observation.look()
        known = self.detector.known
        return None if known is None else (known.tenant, known.version)


def test_two_sessions_that_say_one_number_are_a_suspicion_that_the_table_confirms(sessions: Sessions) -> None:
    table = Answers({(1, 7)})
    looked = Looked(sessions, table)
    sessions.record(1, 7)
    assert looked.look() is None
    assert table.asked == []
    sessions.record(2, 7)
    assert looked.look() == (1, 7)
    assert table.asked == [[(1, 7)]]
    assert looked.observation.pause_s == float("inf")


def test_of_several_the_one_that_was_there_first_is_known(sessions: Sessions) -> None:
    looked = Looked(sessions, Answers({(1, 8), (1, 9)}))
    for session, version in ((2, 7), (1, 7), (2, 9), (2, 8), (1, 9), (1, 8)):
        sessions.record(session, version)
    assert looked.look() == (1, 9)


def test_what_did_not_commit_for_certain_is_no_suspicion_nor_another_tenants_number(sessions: Sessions) -> None:
    table = Answers({(1, 7), (2, 7)})
    looked = Looked(sessions, table)
    sessions.record(1, 7, Outcome.FAIL)
    sessions.record(1, 7, Outcome.FAIL, sqlstate="23505")
    sessions.record(2, 7, Outcome.UNKNOWN, sqlstate="08006")
    sessions.record(3, 7)
    sessions.record(4, 7, tenant=2)
    sessions.record(1, NO_VERSION)
    sessions.record(2, NO_VERSION)
    assert looked.look() is None
    assert table.asked == []


def test_a_script_that_says_what_it_does_not_store_is_asked_about_a_few_times_only(sessions: Sessions) -> None:
    table = Answers()
    looked = Looked(sessions, table)
    for _ in range(50):
        sessions.record(1, 7)
        assert looked.look() is None
    assert 1 <= len(table.asked) <= 8
    assert looked.observation.pause_s == float("inf")


def test_sessions_that_say_no_number_are_not_followed_for_long(sessions: Sessions) -> None:
    looked = Looked(sessions, Answers())
    for _ in range(1000):
        sessions.record(1, NO_VERSION)
    assert looked.look() is None
    assert looked.observation.pause_s == float("inf")


def test_a_question_without_an_answer_is_asked_again(sessions: Sessions) -> None:
    table = Answers({(1, 7)}, silent=True)
    looked = Looked(sessions, table)
    sessions.record(1, 7)
    sessions.record(2, 7)
    assert looked.look() is None
    table.silent = False
    assert looked.look() == (1, 7)


# The table of a real server


@pytest.fixture
def schema(embedded: Target) -> Iterator[str]:
    name = new_name()
    with connect(embedded) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        try:
            connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(name)))
            connection.execute("CREATE TABLE events (tenant integer, version bigint)")
            yield name
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def test_only_committed_rows_of_one_tenant_are_a_duplicate(embedded: Target, schema: str) -> None:
    numbers = [(tenant, version) for tenant in (1, 2) for version in (1, 2, 3)]
    with Control(embedded) as control, connect(embedded, schema=schema, autocommit=False) as writer:
        table = Table(control, schema, ROWS)
        writer.execute("INSERT INTO events VALUES (1, 1), (2, 1), (1, 2), (1, NULL), (1, NULL)")
        writer.commit()
        assert table.repeated(numbers) == set()
        writer.execute("INSERT INTO events VALUES (1, 2), (1, 3)")
        assert table.repeated(numbers) == set()
        writer.commit()
        assert table.repeated(numbers) == {(1, 2)}
        writer.execute("DELETE FROM events WHERE version = 2")
        writer.commit()
        assert table.repeated(numbers) == set()
        writer.rollback()


def test_a_question_does_not_wait_for_the_locks_of_the_sessions(embedded: Target, schema: str) -> None:
    with Control(embedded) as control, connect(embedded, schema=schema, autocommit=False) as writer:
        table = Table(control, schema, ROWS)
        writer.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            table.repeated([(1, 1)])
        writer.rollback()
        with control.session(schema) as kept:
            assert kept.execute("SELECT setting FROM pg_settings WHERE name = 'lock_timeout'").fetchone() == ("0",)
        assert table.repeated([(1, 1)]) == set()


def test_the_first_duplicate_of_a_broken_strategy_is_known_while_it_runs_and_in_the_table_at_the_end(
    hammer: Run,
) -> None:
    result = hammer("naive", "none", tenants=3, until=lambda result: result.first_duplicate is not None)
    first = result.first_duplicate
    assert first is not None
    assert result.counts["duplicates"] > 0
    assert first.acknowledged_us is not None
    assert first.acknowledged_us < first.known_us
    assert first.tenant in (1, 2, 3)


@pytest.mark.parametrize("strategy", ["advisory", "sequence", "unique-retry"])
def test_nothing_is_known_of_a_strategy_whose_numbers_are_distinct(hammer: Run, strategy: str) -> None:
    load = {"operations": None, "duration_s": 0.4, "rollback_percent": 30.0, "tenants": 3}
    result = hammer(strategy, "none", **load)
    assert result.counts["rolled_back"] > 0
    assert (result.counts["duplicates"], result.first_duplicate) == (0, None)


def test_a_script_that_says_one_number_and_stores_another_is_not_accused(
    embedded: Target, processes: Processes, version_counter: Scenario
) -> None:
    text = """SELECT 7 AS version \\gset
    INSERT INTO events (tenant, payload, operation) VALUES (:tenant, 'x', :operation);"""
    says = scripts.parse(text, Path("says.sql"))
    strategy = replace(version_counter.strategies["sequence"], script=says)
    load = Load(workers=4, duration_s=0.4, operations=None)
    consumers: tuple[Consumer, ...] = ()
    result = LoadDriver(target=embedded, executor=processes).run(
        version_counter, strategy, consumers, load, lambda _fraction: None
    )
    assert (result.verdict, result.first_duplicate) == (Verdict.VALID, None)
