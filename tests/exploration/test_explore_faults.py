"""Faults during an exploration: a schedule that one stops counts for nothing, and no verdict changes."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from benchmarks.faults.proxy import breaking
from racebench.core.errors import DatabaseProblem
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.core.watching import Patience, watched
from racebench.exploration import explorer
from racebench.exploration.faults import Fault, fault_of
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.exploration.schedules import Step
from racebench.exploration.world import ServerWorld
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.schemas import quiesce
from racebench.reports import exploration_text
from racebench.workloads import ad_hoc

Ended = Callable[[ScheduleResult], None]
SETUP = "CREATE TABLE numbers (v int)"
DUPLICATES = "SELECT v FROM numbers GROUP BY v HAVING count(*) > 1"


def of_catalog(scenario: Scenario, strategy: str, consumer: str | None = None) -> ExplorationRequest:
    return ExplorationRequest(
        scenario=scenario,
        strategy=scenario.strategies[strategy],
        consumer=scenario.consumers[consumer] if consumer else None,
        polls=1,
        reduce=consumer is not None,
    )


class Killer:
    """Terminates backends of an exploration, other ones each time, when some of its schedules have ended.

    `racebench` is the application name of the connection that prepares schedules and asks which session waits.
    """

    def __init__(self, target: Target, expected: Exploration) -> None:
        self.killed: list[str] = []
        self._target, self._ended, self._every = target, 0, 1 + expected.run // 6
        self._roles = itertools.cycle(["session", "racebench", "session|racebench|command"])

    def __call__(self, _result: ScheduleResult) -> None:
        self._ended += 1
        if self._ended % self._every:
            return
        with connect(self._target, application_name="the test") as connection:
            rows = connection.execute(
                "SELECT application_name, pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'racebench%%' AND application_name ~ %s",
                (f"({next(self._roles)})$",),
            ).fetchall()
        self.killed += [str(name).rpartition(" ")[2] for name, _ in rows]


@pytest.mark.parametrize(
    ("strategy", "consumer"),
    [
        ("advisory", None),
        ("naive", None),
        ("unique", "cursor"),
        ("sequence", "cursor"),
        ("serializable-retry", None),
        ("serializable-retry", "cursor"),
    ],
)
def test_terminated_backends_change_neither_the_verdict_nor_the_schedules(
    embedded: Target, version_counter: Scenario, strategy: str, consumer: str | None
) -> None:
    request = of_catalog(version_counter, strategy, consumer)
    expected = explorer.explore(embedded, request)
    killer = Killer(embedded, expected)
    result = explorer.explore(embedded, request, ended=killer)
    assert {"session", "racebench"} <= set(killer.killed)
    assert (result.verdict, result.run, result.fault) == (expected.verdict, expected.run, "")
    assert result.counts == expected.counts
    assert set(result.outcomes) == set(expected.outcomes)
    assert any("stopped by a fault and run again" in note for note in result.notes)
    if expected.verdict is Verdict.INVALID:
        assert result.witness is not None
        assert result.witness.anomalies
    nothing_is_left(embedded)


def nothing_is_left(target: Target) -> None:
    with connect(target) as connection:
        assert connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall() == []


# Calls


def increment(connection: psycopg.Connection[Any]) -> None:
    """Take the next number, one session at a time."""
    connection.execute("SELECT pg_advisory_xact_lock(7)")
    race(connection)


def race(connection: psycopg.Connection[Any]) -> None:
    """Take the next number, which another session may take too."""
    connection.execute("INSERT INTO numbers SELECT coalesce(max(v), 0) + 1 FROM numbers")
    connection.commit()


def connecting() -> None:
    with psycopg.connect(os.environ["RACEBENCH_DSN"]) as connection:
        increment(connection)


def wrapping() -> None:
    try:
        connecting()
    except psycopg.Error:
        raise RuntimeError("try again later") from None


def retrying() -> None:
    for _ in range(3):
        try:
            connecting()
        except psycopg.OperationalError:
            continue
        return
    raise RuntimeError("three times")


@pytest.fixture
def explored(embedded: Target) -> Iterator[Callable[..., Exploration]]:
    """Explore a function with the setup and the invariant of this file."""

    def run(function: Callable[..., None], *, setup: str = SETUP, ended: Ended = lambda _: None) -> Exploration:
        scenario = ad_hoc.from_calls([function], setup=[setup], invariants=[DUPLICATES])
        with ad_hoc.ready(scenario, embedded, "racebench_faults") as loaded:
            (strategy,) = loaded.strategies.values()
            request = ExplorationRequest(scenario=loaded, strategy=strategy, reduce=False, schema="racebench_faults")
            return explorer.explore(embedded, request, ended=ended)

    yield run
    nothing_is_left(embedded)


@pytest.mark.parametrize("function", [increment, race, connecting, wrapping, retrying])
def test_terminated_backends_do_not_change_what_is_found_of_a_call(
    embedded: Target, explored: Callable[..., Exploration], function: Callable[..., None]
) -> None:
    expected = explored(function)
    killer = Killer(embedded, expected)
    result = explored(function, ended=killer)
    assert killer.killed
    assert (result.verdict, result.run, result.fault) == (expected.verdict, expected.run, "")
    assert expected.verdict is (Verdict.INVALID if function is race else Verdict.VALID)


def cut_off(connection: psycopg.Connection[Any]) -> None:
    """Lose the connection in a transaction where the other session has written meanwhile, and hide that."""
    first = connection.execute("SELECT count(*) FROM numbers").fetchone()
    second = connection.execute("SELECT count(*) FROM numbers").fetchone()
    if first != second:
        try:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except psycopg.Error:
            raise ValueError("bad luck") from None
    connection.execute("INSERT INTO numbers VALUES (pg_backend_pid())")
    connection.commit()


def raising(connection: psycopg.Connection[Any]) -> None:
    """Raise psycopg's exception, though no connection is lost, where the other session has written meanwhile."""
    first = connection.execute("SELECT count(*) FROM numbers").fetchone()
    second = connection.execute("SELECT count(*) FROM numbers").fetchone()
    if first != second:
        raise psycopg.OperationalError("no connection to the cache")
    connection.execute("INSERT INTO numbers VALUES (pg_backend_pid())")
    connection.commit()


def canceled(connection: psycopg.Connection[Any]) -> None:
    """Have a statement canceled where the other session has written meanwhile."""
    first = connection.execute("SELECT count(*) FROM numbers").fetchone()
    second = connection.execute("SELECT count(*) FROM numbers").fetchone()
    if first != second:
        connection.execute("SELECT pg_cancel_backend(pg_backend_pid())")
    connection.execute("INSERT INTO numbers VALUES (pg_backend_pid())")
    connection.commit()


def exhausted(connection: psycopg.Connection[Any]) -> None:
    """Find no memory where the other session has written meanwhile."""
    first = connection.execute("SELECT count(*) FROM numbers").fetchone()
    connection.execute(
        "DO $$ BEGIN IF (SELECT count(*) FROM numbers) <> %s THEN RAISE SQLSTATE '53200'; END IF; END $$" % first  # noqa: UP031
    )
    connection.execute("INSERT INTO numbers VALUES (pg_backend_pid())")
    connection.commit()


@pytest.mark.parametrize(
    ("function", "sqlstate"), [(cut_off, "57P01"), (raising, "08006"), (canceled, "57014"), (exhausted, "53200")]
)
def test_a_fault_that_comes_again_makes_a_call_unknown_and_is_named(
    explored: Callable[..., Exploration], function: Callable[..., None], sqlstate: str
) -> None:
    result = explored(function)
    assert result.verdict is Verdict.UNKNOWN
    assert result.run > 0
    assert not result.complete
    assert f"({sqlstate})" in result.fault
    assert "it was tried 5 times" in result.fault
    sentence = exploration_text.sentence(result)
    assert "nothing went wrong; then a fault ended the search" in sentence
    assert sqlstate in sentence


def test_what_was_found_before_a_fault_stays_invalid_and_its_witness_replays(
    explored: Callable[..., Exploration],
) -> None:
    def guilty(connection: psycopg.Connection[Any]) -> None:
        first = connection.execute("SELECT count(*) FROM numbers").fetchone()
        second = connection.execute("SELECT count(*) FROM numbers").fetchone()
        if first != second:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        connection.execute("INSERT INTO numbers VALUES (%s)", first)
        connection.commit()

    result = explored(guilty)
    assert result.verdict is Verdict.INVALID
    assert "(57P01)" in result.fault
    assert result.witness is not None
    assert result.witness.anomalies
    assert "the search was not finished: " in exploration_text.sentence(result)


def test_a_call_that_loses_its_connection_each_time_is_an_error_of_the_database(
    explored: Callable[..., Exploration],
) -> None:
    def always(connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseProblem, match=r"AdminShutdown: .*\(57P01\); it was tried 5 times"):
        explored(always)


def test_a_call_that_handles_a_canceled_statement_is_explored(explored: Callable[..., Exploration]) -> None:
    def patient(connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute("SELECT pg_cancel_backend(pg_backend_pid())")
        except psycopg.errors.QueryCanceled:
            connection.rollback()
        increment(connection)

    assert explored(patient).verdict is Verdict.VALID


# Servers


@pytest.mark.parametrize(("strategy", "verdict"), [("advisory", Verdict.VALID), ("naive", Verdict.INVALID)])
def test_a_server_that_recovers_from_a_crash_is_waited_for(
    cache_folder: Path, version_counter: Scenario, strategy: str, verdict: Verdict
) -> None:
    with EmbeddedServer(connections=20) as target:
        crashes = []

        def crash(_result: ScheduleResult) -> None:
            if crashes:
                return
            with connect(target) as connection:
                query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'racebench%session'"
                (pid,) = connection.execute(query).fetchall()[0]
            os.kill(int(pid), signal.SIGKILL)
            crashes.append(pid)

        request = of_catalog(version_counter, strategy)
        result = explorer.explore(target, request, ended=crash)
        assert crashes
        assert (result.verdict, result.fault) == (verdict, "")
        nothing_is_left(target)


def test_a_server_that_ends_for_good_makes_a_search_unknown_and_ends_it(
    cache_folder: Path, version_counter: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("racebench.postgres.reconnecting._RECONNECT_SECONDS", 0.5)
    with EmbeddedServer(connections=20) as target:
        postmaster = target.server_pid
        assert postmaster is not None

        def end(_result: ScheduleResult) -> None:
            os.kill(postmaster, signal.SIGQUIT)

        result = explorer.explore(target, of_catalog(version_counter, "advisory"), ended=end)
    assert result.verdict is Verdict.UNKNOWN
    assert "cannot connect to" in result.fault


@pytest.mark.parametrize(("strategy", "verdict"), [("advisory", Verdict.UNKNOWN), ("naive", Verdict.INVALID)])
def test_a_network_that_is_gone_ends_the_search_after_the_limit(
    embedded: Target, version_counter: Scenario, strategy: str, verdict: Verdict
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rb-"))
    ran: list[ScheduleResult] = []
    try:
        with breaking(folder, embedded, lambda _data, _of_client: None) as proxy:

            def freeze(result: ScheduleResult) -> None:
                ran.append(result)
                if len(ran) == 20:
                    proxy.frozen.set()

            parameters = {**proxy.target.parameters, "connect_timeout": "2"}
            target = replace(embedded, kind="external", label="the user's", parameters=parameters, server_pid=None)
            with watched(Patience(give_up_s=1.0)):
                result = explorer.explore(target, of_catalog(version_counter, strategy), ended=freeze)
    finally:
        shutil.rmtree(folder)
        with connect(embedded) as connection:
            left = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall()
            for (schema,) in left:
                quiesce(connection, schema, wait_seconds=0.0)
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    assert (result.verdict, result.run) == (verdict, 20)
    assert re.search(r"gave up: no answer from the server for \d+ s \(--give-up-after\)", result.fault)
    assert any("could not be dropped on the user's" in note for note in result.notes)


# Replays


def test_a_replay_that_loses_a_connection_is_followed_again(
    embedded: Target, version_counter: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = of_catalog(version_counter, "naive")
    found = explorer.explore(embedded, request).witness
    assert found is not None
    terminated: list[int] = []
    watch = ServerWorld.watch

    def terminated_before(world: ServerWorld, session: int) -> Step:
        if not terminated:
            terminated.append(world.scheduler.sessions[session - 1].pid)
            with connect(embedded, application_name="the test") as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 10000)", terminated)
        return watch(world, session)

    monkeypatch.setattr(ServerWorld, "watch", terminated_before)
    again = explorer.replay(embedded, request, found.schedule.steps)
    assert terminated
    assert again.anomalies == found.anomalies
    nothing_is_left(embedded)


# What is a fault


def test_a_fault_keeps_what_was_said_and_names_its_sqlstate_once() -> None:
    known = Fault("s1 lost its connection (57P01)", "57P01")
    assert fault_of(known) is known
    assert str(known) == "s1 lost its connection (57P01)"
    assert str(Fault("s1 lost its connection", "08006")) == "s1 lost its connection (08006)"


def test_an_error_of_a_statement_is_no_fault() -> None:
    assert fault_of(psycopg.errors.UniqueViolation("duplicate")) is None
    assert fault_of(psycopg.errors.LockNotAvailable("locked")) is None
    assert fault_of(DatabaseProblem("permission denied")) is None


def test_a_script_with_a_time_out_of_its_own_is_not_stopped_by_it(embedded: Target, tmp_path: Path) -> None:
    file = tmp_path / "own.sql"
    file.write_text("SET statement_timeout = 20;\nSELECT pg_sleep(1);\n")
    scenario = ad_hoc.from_sql(str(file), setup=[SETUP], invariants=[DUPLICATES])
    (strategy,) = scenario.strategies.values()
    result = explorer.explore(embedded, ExplorationRequest(scenario=scenario, strategy=strategy, max_schedules=1))
    assert (result.run, result.verdict, result.fault) == (1, Verdict.UNKNOWN, "")
