"""Consumers behind an idle transaction: who stalls, behind whom, and who is not accused of missing rows."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import Command, Start, UsersServer, shows
from racebench.core.results import ConsumerResult, RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.postgres.connection import connect
from racebench.postgres.holders import holders, may_be_held_back
from racebench.reports.results import reading
from racebench.workloads import catalog
from waiting import repeat, wait_for

Run = Callable[..., RunResult]


@contextlib.contextmanager
def idle(target: Target, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session that is idle in a transaction."""
    with contextlib.closing(connect(target, application_name="the other", autocommit=False)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection
        connection.rollback()


def first_stalled(result: RunResult) -> bool:
    return result.consumers[0].stalled


def test_a_horizon_stalls_behind_the_idle_transaction_which_is_named_and_a_cursor_does_not(
    hammer: Run, embedded: Target
) -> None:
    result = hammer(
        "upsert",
        "horizon cursor",
        workers=2,
        operations=None,
        duration_s=1.0,
        idle_in_transaction_s=0.9,
        until=first_stalled,
    )
    horizon, cursor = result.consumers
    assert result.verdict is Verdict.VALID, "a stall is no anomaly"
    assert horizon.stalled_ms is not None
    assert 450 < horizon.stalled_ms <= 1e3 * result.seconds + 1e3
    assert horizon.behind
    (named,) = [one for one in horizon.behind if one.name.endswith(" idle transaction")]
    assert (named.oldest, named.state, named.statement) == (True, "idle in transaction", "SELECT pg_current_xact_id()")
    assert (cursor.stalled, cursor.stalled_ms, cursor.behind) == (False, 0.0, None)
    assert horizon.counts["delivered"] == cursor.counts["delivered"] == result.counts["rows"]
    with connect(embedded) as connection:
        assert "idle transaction" not in " ".join(one.name for one in holders(connection))


def test_a_run_does_not_wait_for_the_end_of_the_idle_transaction(hammer: Run) -> None:
    result = hammer("upsert", "horizon", workers=2, operations=20, idle_in_transaction_s=3600.0)
    assert (result.verdict, result.counts["committed"], result.notes) == (Verdict.VALID, 20, ())


def test_rows_behind_a_transaction_of_another_database_are_held_back_and_not_missed(
    racebench: Command, users_server: UsersServer, tmp_path: Path
) -> None:
    """The transaction outlasts the drain. The cursor, which passes rows, is accused all the same."""
    words = ("-s", "sequence", "-w", "4", "-n", "100", "--hold", "2", "--consumer", "horizon", "--consumer", "cursor")
    words += ("--consumer", "cursor-inclusive")

    def once(_seed: int) -> RunResult:
        done = racebench("run", *words, "--no-save", "--json", "r.json", "--dsn", users_server.dsn())
        assert done.returncode == 0, done.stderr
        (run,) = reading.from_json((tmp_path / "r.json").read_text(), "r.json").runs
        return run

    with psycopg.connect(users_server.dsn(dbname="template1"), application_name="the other") as connection:
        connection.execute("SELECT pg_current_xact_id()")
        result = repeat(once, shows("missed"))
        pid = connection.info.backend_pid
    horizon, cursor, inclusive = result.consumers
    assert (inclusive.verdict is Verdict.UNKNOWN, inclusive.held_back) == (False, 0), "it waits for no transaction"
    assert inclusive.counts["missed"] + inclusive.counts["delivered"] == result.counts["rows"]
    assert (horizon.verdict, horizon.counts["missed"], horizon.counts["delivered"]) == (Verdict.UNKNOWN, 0, 0)
    assert horizon.held_back == result.counts["rows"]
    assert (cursor.verdict, cursor.counts["missed"] > 0, cursor.held_back) == (Verdict.INVALID, True, 0)
    assert result.verdict is Verdict.INVALID
    (note,) = [note for note in result.notes if "'horizon' may still hold rows back" in note]
    assert f"behind session {pid} ('the other', database template1, idle in transaction for" in note


def test_an_idle_transaction_without_an_xid_holds_nobody_back(hammer: Run, embedded: Target) -> None:
    with idle(embedded, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1") as connection:
        with connect(embedded) as asking:
            assert connection.info.backend_pid not in [one.pid for one in holders(asking)]
        result = hammer("upsert", "horizon", workers=2, operations=60)
    (horizon,) = result.consumers
    assert (result.verdict, horizon.held_back, horizon.counts["delivered"]) == (Verdict.VALID, 0, 60)


def test_a_prepared_transaction_is_a_holder_and_shows_its_name(embedded: Target) -> None:
    with idle(embedded, "SELECT pg_current_xact_id()", "PREPARE TRANSACTION 'left over'"), connect(embedded) as asking:
        try:
            (found,) = [one for one in holders(asking) if one.name == "left over"]
        finally:
            asking.execute("ROLLBACK PREPARED 'left over'")
    assert (found.pid, found.state, found.oldest) == (None, "prepared", True)
    assert str(found).startswith("prepared transaction 'left over' (database ")


def test_only_a_query_that_may_ask_for_transactions_is_held_back(embedded: Target) -> None:
    consumers = catalog.find_scenario("version-counter").consumers
    with connect(embedded) as connection:
        held = {
            name
            for name, consumer in consumers.items()
            if may_be_held_back(connection, consumer.script.statements[0].sql)
        }
        assert held >= {"horizon", "horizon-version", "snapshot", "claim-queue", "logical-slot"}
        assert held.isdisjoint({"cursor", "cursor-inclusive", "lookback", "commit-timestamp"})
        connection.execute("CREATE TEMPORARY VIEW visible AS SELECT pg_current_snapshot()")
        assert may_be_held_back(connection, "SELECT * FROM visible")


def stalled_consumer(path: Path) -> ConsumerResult:
    (run,) = reading.from_json(path.read_text(), "r.json").runs
    (consumer,) = run.consumers
    return consumer


@pytest.mark.server
def test_the_command_says_who_stalled_and_a_threshold_judges_it(racebench: Command, tmp_path: Path) -> None:
    def run(seconds: str) -> str:
        words = ("-s", "upsert", "-w", "2", "-d", "1", "--consumer", "horizon", "--no-save", "--json", "r.json")
        limit = ("--threshold", "upsert: stalled_max_ms < 250")
        done = racebench("run", *words, *limit, "--idle-in-transaction", seconds)
        assert done.returncode == 4, (done.stdout, done.stderr)
        return " ".join(done.stdout.split())

    said = run("0.9")
    consumer = stalled_consumer(tmp_path / "r.json")
    assert consumer.stalled_ms is not None
    assert consumer.stalled_ms >= 250
    assert "a session idle in transaction for 0.9 s" in said
    assert json.loads((tmp_path / "r.json").read_text())["runs"][0]["idle_in_transaction_s"] == 0.9
    if consumer.stalled:  # on a busy machine the workers may begin so late that it is not long enough
        assert "consumer 'horizon' was stalled for " in said
        assert "idle transaction', database postgres, idle in transaction for " in said


def test_a_killed_command_leaves_no_idle_transaction(start: Start, users_server: UsersServer) -> None:
    def idle_sessions() -> int:
        with users_server.connect() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%% idle transaction' "
                "AND state = 'idle in transaction' AND backend_xid IS NOT NULL"
            ).fetchone() or (0,)
        return int(str(count))

    words = ("--idle-in-transaction", "3000", "-w", "1", "-d", "3000", "--no-save", "--dsn", users_server.dsn())
    process = start("run", "-s", "upsert", *words)
    wait_for(lambda: idle_sessions() == 1, "the session does not come")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: idle_sessions() == 0, "the session does not go")
    wait_for(lambda: users_server.sessions() == 0, "sessions of the killed command do not go")
    with users_server.connect() as connection:
        for schema in users_server.schemas():
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')  # type: ignore[call-overload]
