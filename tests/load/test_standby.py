"""Consumers on a hot standby: judged only once it has replayed everything, and compared with the primary's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import psycopg
import pytest
from psycopg import sql

import racebench
from conftest import Command, Start, UsersServer, assert_one_line
from racebench.analysis.remedies import expected_misses, is_at_fault, other_consumer
from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import Consumer, Load, Scenario
from racebench.core.results import ConsumerResult, RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors.processes import Processes
from racebench.load import crew
from racebench.load.driver import LoadDriver
from racebench.postgres import standby
from racebench.postgres.connection import connect
from racebench.postgres.embedded import as_superuser
from racebench.postgres.embedded.template import SUPERUSER
from racebench.postgres.external import external
from racebench.postgres.schemas import empty_schema, new_name
from racebench.reports.results.document import SCHEMA_FILE
from racebench.workloads import catalog, scripts
from waiting import finish, repeat, wait_for

SCENARIO = catalog.find_scenario("version-counter")
Run = Callable[..., RunResult]


@pytest.fixture
def run(pair: Target, processes: Processes) -> Run:
    """Run a strategy with consumers on both servers; keywords are Load's."""

    def once(
        strategy: str,
        consumers: str | Consumer,
        *,
        scenario: Scenario = SCENARIO,
        progress: Callable[[float], None] = lambda _fraction: None,
        until: Callable[[RunResult], bool] = lambda _result: True,
        **load: object,
    ) -> RunResult:
        readers = (
            [consumers] if isinstance(consumers, Consumer) else catalog.find_consumers(scenario, consumers.split())
        )

        def seeded(seed: int) -> RunResult:
            options = {"workers": 4, "duration_s": None, "operations": 400, "seed": seed, **load}
            return LoadDriver(target=pair, executor=processes).run(
                scenario,
                scenario.strategies[strategy],
                readers,
                Load(**options),  # type: ignore[arg-type]
                progress,
            )

        return repeat(seeded, until)

    return once


def of(result: RunResult, name: str) -> ConsumerResult:
    return next(consumer for consumer in result.consumers if consumer.name == name)


def standby_of(pair: Target) -> Target:
    assert pair.standby is not None
    return as_superuser(pair.standby)


def test_a_cursor_misses_rows_of_a_sequence_on_a_standby_and_the_horizon_does_not(run: Run) -> None:
    def is_caught(result: RunResult) -> bool:
        return all(of(result, name).counts["missed"] for name in ("cursor@standby", "snapshot@standby"))

    result = run("sequence", "cursor horizon snapshot", hold_us=2000, poll_interval_ms=0.2, until=is_caught)
    assert result.verdict is Verdict.INVALID
    assert result.as_expected
    assert {witness.consumer for witness in result.witnesses} >= {"cursor@standby", "snapshot@standby"}
    for name in ("horizon", "horizon@standby", "snapshot"):
        assert of(result, name).counts["missed"] == 0, name
        assert of(result, name).counts["delivered"] == 400
        assert of(result, name).verdict is Verdict.VALID
    # The snapshot of a standby lists no transaction in progress: what it loses, it loses only there.
    lost = of(result, "snapshot@standby")
    assert lost.missed_only_here == lost.counts["missed"]
    assert lost.at_fault
    assert lost.instead == "horizon"
    assert of(result, "horizon@standby").missed_only_here == 0
    assert [consumer.server for consumer in result.consumers] == ["primary", "standby"] * 3
    assert of(result, "cursor").missed_only_here is None


def test_a_cursor_on_a_standby_is_given_every_row_of_a_strategy_that_commits_in_order(run: Run) -> None:
    result = run("advisory", "cursor")
    assert result.verdict is Verdict.VALID, result.notes
    for consumer in result.consumers:
        assert consumer.counts["delivered"] == 400
        assert consumer.late_us["max"] is not None
    assert result.notes == ()


@pytest.mark.parametrize(("strategy", "consumer"), [("advisory", "cursor"), ("sequence", "horizon")])
def test_a_standby_that_does_not_catch_up_is_named_and_accuses_nobody(
    run: Run, pair: Target, monkeypatch: pytest.MonkeyPatch, strategy: str, consumer: str
) -> None:
    monkeypatch.setattr(crew, "_DRAIN_SECONDS", 1.0)
    with connect(standby_of(pair)) as replica:

        def pause(fraction: float) -> None:
            if fraction > 0.2:
                replica.execute("SELECT pg_wal_replay_pause()")

        try:
            result = run(strategy, consumer, hold_us=1000, operations=800, progress=pause)
        finally:
            replica.execute("SELECT pg_wal_replay_resume()")
    assert result.verdict is Verdict.UNKNOWN, result.witnesses
    assert of(result, consumer).verdict is Verdict.VALID
    behind = of(result, f"{consumer}@standby")
    assert behind.verdict is Verdict.UNKNOWN
    assert behind.missed_only_here is None
    assert any("the embedded standby has not replayed the last commit" in note for note in result.notes)
    assert any("what it missed is not known" in note and behind.name in note for note in result.notes)


def test_a_poll_that_conflicts_with_replay_is_repeated_and_counted(run: Run, pair: Target) -> None:
    cursor = SCENARIO.consumers["cursor"]
    text = "SELECT events.* FROM events, (SELECT pg_sleep(0.05)) AS slept WHERE tenant = :tenant AND version > :version"
    slow = replace(
        cursor, script=scripts.parse(f"{text} ORDER BY version LIMIT :batch;", cursor.script.path), settle_ms=0
    )
    with connect(standby_of(pair)) as replica, connect(pair) as primary:
        replica.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        replica.execute("SELECT pg_reload_conf()")

        def lock(_fraction: float) -> None:
            (schema,) = primary.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%' ORDER BY oid DESC LIMIT 1"
            ).fetchone() or ("",)
            with primary.transaction():
                primary.execute(f'LOCK TABLE "{schema}".events'.encode())

        try:
            result = run(
                "advisory",
                slow,
                duration_s=1.0,
                operations=None,
                progress=lock,
                until=lambda result: any("conflicted" in note for note in result.notes),
            )
        finally:
            replica.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
            replica.execute("SELECT pg_reload_conf()")
    assert result.verdict is Verdict.VALID, result.notes
    (note,) = result.notes
    assert note.startswith("the standby canceled a poll of 'cursor@standby' ")
    assert note.endswith("because its replay conflicted with it; each was repeated")


def test_a_consumer_that_writes_is_refused_on_a_standby(run: Run) -> None:
    unsaid = replace(SCENARIO.consumers["claim-queue"], writes=False)
    with pytest.raises(DatabaseProblem, match="this consumer cannot read on a standby, leave it out"):
        run("advisory", unsaid)


def test_a_standby_of_another_cluster_or_none_is_refused(
    pair: Target, embedded: Target, users_server: UsersServer
) -> None:
    assert pair.standby is not None
    assert standby.usable(pair, pair.standby).parameters == pair.standby.parameters
    with pytest.raises(DatabaseProblem, match=r"is not a standby of .*: its system identifier is \d+, the primary's"):
        standby.usable(external(users_server.dsn()), pair.standby)
    with pytest.raises(DatabaseProblem, match=r"is not a standby: pg_is_in_recovery\(\) is false"):
        standby.usable(pair, embedded)


def test_a_standby_of_a_copy_of_the_primary_is_refused_when_the_schema_is_not_there(
    pair: Target, embedded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedded servers are copies of one template: they have the same system identifier."""
    assert pair.standby is not None
    standby.usable(embedded, pair.standby)
    monkeypatch.setattr(standby, "PATIENCE_SECONDS", 0.5)
    with connect(pair) as ahead, connect(embedded) as connection, empty_schema(embedded, schema := new_name()):
        written = ahead.execute("SELECT pg_current_wal_lsn() > %s::pg_lsn", (standby.mark(connection),)).fetchone()
        message = "is not a standby of the embedded" if written == (True,) else "has not replayed the last commit"
        with pytest.raises(DatabaseProblem, match=message):
            standby.follow(replace(embedded, standby=pair.standby), connection, schema)


def test_a_standby_of_another_database_is_refused(pair: Target) -> None:
    assert pair.standby is not None
    with connect(as_superuser(pair)) as connection:
        connection.execute("CREATE DATABASE other TEMPLATE postgres")
        connection.execute("CREATE SCHEMA other")
        try:
            standby.follow(pair, connection, "other")
            other = replace(pair.standby, parameters={**pair.standby.parameters, "dbname": "other"})
            with pytest.raises(DatabaseProblem, match="its database is other, the primary's is postgres"):
                standby.usable(pair, other)
        finally:
            connection.execute("DROP SCHEMA other")
            connection.execute("DROP DATABASE other")


def dsn(target: Target, **changed: str) -> str:
    return psycopg.conninfo.make_conninfo(**{**target.parameters, **changed})


def test_the_users_standby_is_given_by_its_dsn(racebench: Command, pair: Target) -> None:
    assert pair.standby is not None
    load = ("-w", "2", "-n", "100", "--no-save", "--json", "-")
    done = racebench(
        "run", "-s", "advisory", "--dsn", dsn(pair), "--consumer-dsn", dsn(pair.standby), *load, "--consumer", "cursor"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(SCHEMA_FILE.read_text()))
    assert document["environment"]["standby"] == {"target": "external", "delay_ms": None}
    (one,) = document["runs"]
    assert [(read["name"], read["server"], read["missed_only_here"]) for read in one["consumers"]] == [
        ("cursor", "primary", None),
        ("cursor@standby", "standby", 0),
    ]
    for wrong, message in (
        (dsn(pair), "(--consumer-dsn) is not a standby: pg_is_in_recovery() is false"),
        (dsn(pair.standby, host="/nowhere"), "cannot connect to /nowhere:5432/postgres"),
    ):
        done = racebench("run", "-s", "advisory", "--dsn", dsn(pair), "--consumer-dsn", wrong, *load)
        assert_one_line(done, 6, message)


def test_a_bench_of_the_library_has_a_standby(pair: Target) -> None:
    assert pair.standby is not None
    with racebench.Bench(dsn(pair), consumer_dsn=dsn(pair.standby)) as bench:
        loaded = repeat(
            lambda seed: bench.hammer("version-counter", strategy="advisory", workers=2, operations=40, seed=seed),
            lambda one: one.verdict is not Verdict.UNKNOWN,  # the sessions may not have worked at the same time
        )
        assert [consumer.name for consumer in loaded.result.consumers] == ["cursor", "cursor@standby"]
        assert loaded.verdict is Verdict.VALID
        # Exploring uses the primary alone, also with what a standby refuses.
        explored = bench.explore("version-counter", strategy="advisory", consumer="claim-queue", max_schedules=2)
        assert explored.counts["missed"] == 0
        with pytest.raises(DatabaseProblem, match="'claim-queue' writes, which a standby refuses"):
            bench.hammer("version-counter", strategy="advisory", consumer="claim-queue", operations=40)
    for wrong in ({"standby": True, "dsn": "host=a"}, {"standby_delay": 5}, {"consumer_dsn": "host=a"}):
        with pytest.raises(UsageProblem, match="standby"):
            racebench.Bench(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--consumer-dsn", "host=a password=secret"), "--consumer-dsn needs --dsn"),
        (("--consumer-dsn", "://secret@", "--dsn", "host=b"), "--consumer-dsn: the DSN"),
        (("--standby", "--dsn", "host=a"), "--standby is for the embedded server"),
        (("--standby-delay", "5"), "--standby-delay 5 needs --standby"),
        (("--standby", "--consumer", "none"), "--standby is for consumers, and --consumer none was given"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    racebench: Command, options: tuple[str, ...], message: str
) -> None:
    done = racebench("run", "-s", "advisory", *options)
    assert_one_line(done, 2, message)
    assert "secret" not in done.stderr


@pytest.mark.server
def test_an_embedded_standby_is_started_by_an_option_and_is_late(racebench: Command) -> None:
    done = racebench(
        *("run", "-s", "advisory", "--standby", "--standby-delay", "300", "--consumer", "all", "-w", "2", "-n", "60"),
        *("--no-save", "--threshold", "late_p50_ms < 100", "--threshold", "late_max_ms < 60000"),
    )
    assert done.returncode == 4, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "with a hot standby 300 ms behind" in said
    assert "left out: claim-queue: writes, which a standby refuses" in said
    assert "left out: logical-slot: has SQL to open, which only a primary runs" in said
    given = re.search(r"on the standby 'cursor' missed no row and was given rows ([\d,.]+) ms \(median\)", said)
    assert given is not None, said
    # From the answer to the COMMIT on, which on a busy machine comes some time after the commit.
    assert float(given[1].replace(",", "")) > 150
    assert "crossed advisory: late_p50_ms < 100" in said


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """The postmasters whose data is under a folder, with their command lines: the server and the standby."""
    listing = subprocess.run(["ps", "-wweo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 1) for line in listing.splitlines()]
    return [(int(pid), words) for pid, words in lines if "postgres -D" in words and str(folder) in words]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> Path:
    short_path.chmod(0o755)
    monkeypatch.setenv("RACEBENCH_CACHE_DIR", str(short_path))
    return short_path


def standbys(cache: Path) -> list[int]:
    return [pid for pid, words in processes_of(cache) if "hot_standby=on" in words]


@pytest.mark.server
def test_a_standby_that_is_killed_is_named_and_the_run_ends_with_a_report(start: Start, cache: Path) -> None:
    process = start(
        "run", "-s", "advisory", "--standby", "-w", "2", "-d", "4", "--hold", "10", "--no-save", "--consumer", "cursor"
    )

    wait_for(lambda: _rows_on_standby(cache), "the run did not begin")
    for pid in standbys(cache):
        os.kill(pid, signal.SIGKILL)
    out, err = finish(process)
    assert process.returncode == 0, out + err
    said = " ".join(out.split())
    assert "consumer 'cursor@standby' failed: the embedded standby has ended; what it missed is not known" in said
    assert "advisory is UNKNOWN" in said
    assert processes_of(cache) == []


@pytest.mark.server
def test_a_standby_that_is_promoted_is_named_and_not_waited_for(start: Start, cache: Path) -> None:
    process = start(
        "run", "-s", "advisory", "--standby", "-w", "2", "-d", "4", "--hold", "10", "--no-save", "--consumer", "cursor"
    )

    wait_for(lambda: _rows_on_standby(cache), "the run did not begin")
    (server,) = standbys(cache)
    socket = next(cache.glob("*/slot-1/socket"))
    with psycopg.connect(host=str(socket), user=SUPERUSER, dbname="postgres") as connection:
        assert connection.execute("SELECT pg_is_in_recovery(), pg_promote()").fetchone() == (True, True)
    out, err = finish(process)
    assert process.returncode == 0, out + err
    said = " ".join(out.split())
    assert "note: the embedded standby was promoted and is no standby any more: it has replayed up to" in said
    assert "consumer 'cursor@standby' could not catch up; what it missed is not known" in said
    assert "advisory is UNKNOWN" in said
    assert server not in standbys(cache)


def _rows_on_standby(cache: Path) -> int:
    """How many rows of a run the standby has."""
    for socket in cache.glob("*/*/socket/.s.PGSQL.5432"):
        with (
            contextlib.suppress(psycopg.OperationalError, psycopg.errors.UndefinedTable),
            psycopg.connect(host=str(socket.parent), user="racebench", dbname="postgres") as connection,
        ):
            found = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE pg_is_in_recovery() AND nspname LIKE 'racebench%'"
            ).fetchall()
            for (schema,) in found:
                query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, "events"))
                ((count,),) = connection.execute(query).fetchall()
                return int(count)
    return 0


def test_a_standby_that_ends_before_the_run_begins_is_named(pair: Target) -> None:
    assert pair.standby is not None
    lost = replace(pair.standby, parameters={**pair.standby.parameters, "host": "/nowhere"})
    with subprocess.Popen(["sleep", "600"]) as server, connect(pair) as connection:
        lost = replace(lost, server_pid=server.pid)
        problem = DatabaseProblem("another")
        assert standby.ended_or(lost, problem) is problem
        server.kill()
        wait_for(lambda: standby.has_ended(lost), "the server did not end")
        with pytest.raises(DatabaseProblem, match="has ended before the run began; run again"):
            standby.follow(replace(pair, standby=lost), connection, "any")
        usage = UsageProblem("what has nothing to do with it")
        assert standby.ended_or(lost, usage) is usage


@pytest.mark.server
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_standby_ends_with_its_command(start: Start, cache: Path, number: signal.Signals) -> None:
    process = start("run", "-s", "advisory", "--standby", "-w", "2", "-d", "60", "--hold", "10", "--no-save")
    data = "slot-1/data" if number is signal.SIGINT else "slot-1/socket/.s.PGSQL.5432"
    wait_for(lambda: list(cache.glob(f"*/{data}")), "the standby did not begin")
    process.send_signal(number)
    out, err = finish(process)
    assert "Traceback" not in out + err
    wait_for(lambda: processes_of(cache) == [], "a server was left")


def test_what_is_known_of_a_consumer_on_a_standby() -> None:
    snapshot, horizon, cursor = (SCENARIO.consumers[name] for name in ("snapshot", "horizon", "cursor"))
    sequence, advisory = SCENARIO.strategies["sequence"], SCENARIO.strategies["advisory"]
    assert expected_misses(sequence, snapshot) == expected_misses(sequence, horizon.at_standby()) == "never"
    assert expected_misses(sequence, snapshot.at_standby()) == "always"
    assert expected_misses(advisory, snapshot.at_standby()) == "maybe"
    assert expected_misses(sequence, cursor.at_standby()) == "always"
    assert expected_misses(advisory, cursor.at_standby()) == "never"
    assert is_at_fault(snapshot.at_standby(), sequence)
    assert not is_at_fault(cursor.at_standby(), sequence)
    assert other_consumer(SCENARIO, sequence, snapshot.at_standby()) == "horizon"
