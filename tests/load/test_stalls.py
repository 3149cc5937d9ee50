"""Runs that make no progress: who waits for what is said, and after the limit the verdict is UNKNOWN."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest

from benchmarks.faults.proxy import breaking
from conftest import Command, UsersServer
from racebench.analysis.offline import check_file
from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.core.watching import Patience
from racebench.executors import Executor
from racebench.executors.processes import Processes
from racebench.load import alone, crew, stalls
from racebench.load.driver import LoadDriver
from racebench.load.stalls import Stalls
from racebench.load.standing import standing_at
from racebench.load.waits import Question, explained
from racebench.postgres.connection import connect
from racebench.postgres.schemas import quiesce
from racebench.postgres.waits import described
from racebench.workloads import ad_hoc
from waiting import wait_for

LOAD = Load(workers=2, duration_s=None, operations=10)


def test_a_stall_is_said_once_and_given_up_after_the_limit() -> None:
    run = Stalls(LOAD, Patience(give_up_s=60.0), 100.0)
    run.look(1, 101.0)
    assert not run.may_say(105.9)
    assert run.may_say(106.0)
    assert not run.may_say(150.0), "it was said"
    assert not run.may_give_up(160.9)
    assert run.may_give_up(161.0)


def test_progress_begins_the_time_again() -> None:
    run = Stalls(LOAD, Patience(give_up_s=60.0), 100.0)
    run.look(1, 101.0)
    assert run.may_say(107.0)
    run.look(2, 108.0)
    assert not run.may_give_up(165.0)
    assert not run.may_say(110.0)
    assert run.may_say(114.0)


@pytest.mark.parametrize(
    "load", [replace(LOAD, hold_us=60_000_000), replace(LOAD, rate_per_s=0.1), replace(LOAD, long_us=50_000_000)]
)
def test_operations_that_are_asked_to_be_slow_are_no_stall(load: Load) -> None:
    run = Stalls(load, Patience(give_up_s=1.0), 0.0)
    run.look(1, 0.0)
    assert not run.may_say(90.0)
    assert not run.may_give_up(90.0)


def test_sessions_that_wait_for_the_same_are_told_together() -> None:
    rows = [("Lock/transactionid", "INSERT INTO t", "7 ('psql', idle in transaction)")] * 3
    assert described([*rows, ("IPC/SyncRep", "COMMIT", None)]) == (
        "3 sessions wait for Lock/transactionid in 'INSERT INTO t', held by 7 ('psql', idle in transaction); "
        "1 session waits for IPC/SyncRep in 'COMMIT'"
    )


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say it at the first look without progress."""
    monkeypatch.setattr(stalls, "_SAY_SECONDS", 1.0)


KEY = 4711


@pytest.fixture
def waiting(tmp_path: Path) -> Scenario:
    """Every operation waits for an advisory lock, and then writes."""
    script = tmp_path / "wait.sql"
    script.write_text(f"BEGIN;\nSELECT pg_advisory_xact_lock_shared({KEY});\nINSERT INTO t VALUES (1);\nCOMMIT;\n")
    return ad_hoc.from_sql(str(script), setup=["CREATE TABLE t (id int)"], invariants=["SELECT 1 WHERE false"])


@pytest.fixture
def holder(embedded: Target) -> Iterator[psycopg.Connection[Any]]:
    """The session that holds the lock."""
    with connect(embedded, application_name="the other") as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (KEY,))
        yield connection


def run(
    target: Target, executor: Processes, scenario: Scenario, patience: Patience, kept: Path | None = None, **load: Any
) -> RunResult:
    (strategy,) = scenario.strategies.values()
    driver = LoadDriver(target=target, executor=executor, patience=patience)
    given = replace(LOAD, **load)
    return driver.run(scenario, strategy, [], given, lambda _: None, keep_history=lambda _result: kept)


def test_a_run_that_waits_for_another_session_says_for_which_and_goes_on_after_it(
    embedded: Target, processes: Processes, waiting: Scenario, holder: psycopg.Connection[Any], hasty: None
) -> None:
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        holder.execute("SELECT pg_advisory_unlock(%s)", (KEY,))

    result = run(embedded, processes, waiting, Patience(say=say))
    (line,) = lines
    assert line.startswith("no operation has ended for ")
    assert "2 sessions wait for Lock/advisory in 'SELECT pg_advisory_xact_lock_shared(" in line
    assert f"held by {holder.info.backend_pid} ('the other', idle)" in line
    assert line in result.notes
    assert result.verdict is Verdict.VALID
    assert result.counts["committed"] == 10


def limit_passes(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, asked: psycopg.Connection[Any], *, waiting: int, seconds: float
) -> None:
    """Let the module's clock stand still until so many sessions wait for a lock; then so many seconds passed."""
    passed: list[float] = []

    def seconds_passed() -> float:
        if not passed:
            (count,) = asked.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() or (0,)
            passed.extend([seconds] if count >= waiting else [])
        return max(passed, default=0.0)

    clock = SimpleNamespace(monotonic=seconds_passed, perf_counter_ns=time.perf_counter_ns)
    monkeypatch.setattr(module, "time", clock)


def test_workers_that_cannot_begin_say_for_which_session_they_wait(
    embedded: Target, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement is prepared under a lock of its table."""
    script = tmp_path / "insert.sql"
    script.write_text("INSERT INTO t VALUES (1);\n")
    lines: list[str] = []
    with connect(embedded, application_name="the other") as other:

        def setup(connection: psycopg.Connection[Any]) -> None:
            connection.execute("CREATE TABLE t (id int)")
            connection.commit()
            other.execute("BEGIN; LOCK TABLE slow_start.t")
            limit_passes(crew, monkeypatch, other, waiting=2, seconds=crew._SLOW_START_SECONDS + 1.0)

        def say(line: str) -> None:
            lines.append(line)
            other.execute("ROLLBACK")

        scenario = ad_hoc.from_sql(str(script), setup=[setup], invariants=["SELECT 1 WHERE false"])
        (strategy,) = scenario.strategies.values()
        driver = LoadDriver(target=embedded, executor=processes, schema="slow_start", patience=Patience(say=say))
        result = driver.run(scenario, strategy, [], LOAD, lambda _: None)
    (line,) = lines
    assert line.startswith("2 processes are not ready after ")
    assert "2 sessions wait for Lock/relation" in line
    assert "('the other', idle in transaction)" in line
    assert (result.counts["committed"], result.counts["failed"]) == (10, 0)


def test_workers_that_do_not_begin_in_time_end_the_run_with_what_they_wait_for(
    embedded: Target, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "insert.sql"
    script.write_text("INSERT INTO t VALUES (1);\n")
    with connect(embedded, application_name="the other") as other:

        def setup(connection: psycopg.Connection[Any]) -> None:
            connection.execute("CREATE TABLE t (id int)")
            connection.commit()
            other.execute("BEGIN; LOCK TABLE never_ready.t")
            limit_passes(crew, monkeypatch, other, waiting=2, seconds=crew.READY_SECONDS + 1.0)

        def explained_and_released(question: Question, executor: Executor) -> str:
            said = explained(question, executor)
            other.execute("ROLLBACK")
            return said

        monkeypatch.setattr(crew, "explained", explained_and_released)
        scenario = ad_hoc.from_sql(str(script), setup=[setup], invariants=["SELECT 1 WHERE false"])
        (strategy,) = scenario.strategies.values()
        driver = LoadDriver(target=embedded, executor=processes, schema="never_ready")
        with pytest.raises(DatabaseProblem, match=r"were not ready within 60 s: 2 sessions wait for Lock/relation"):
            driver.run(scenario, strategy, [], LOAD, lambda _: None)


def wait_for_the_lock(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", (KEY,))


def test_a_function_that_does_not_end_alone_is_said_to_wait_for_what(
    embedded: Target, processes: Processes, holder: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def standing_in_the_call(paths: list[Path]) -> str:
        wait_for(lambda: "in wait_for_the_lock" in standing_at(paths), "the process does not say where its call is")
        return standing_at(paths)

    limit_passes(alone, monkeypatch, holder, waiting=1, seconds=crew.READY_SECONDS + 1.0)
    monkeypatch.setattr(alone, "standing_at", standing_in_the_call)
    scenario = ad_hoc.from_calls(
        [wait_for_the_lock], setup=["CREATE TABLE t (id int)"], invariants=["SELECT 1 WHERE false"]
    )
    said = (
        r"running alone: 1 session waits for Lock/advisory in .*'the other'.*; "
        r"1 call is at .*test_stalls.py:\d+, in wait_for_the_lock; does it wait for something"
    )
    with pytest.raises(UsageProblem, match=said):
        run(embedded, processes, scenario, Patience())


def test_a_run_that_waits_for_longer_than_the_limit_is_unknown(
    embedded: Target, processes: Processes, waiting: Scenario, holder: psycopg.Connection[Any], hasty: None
) -> None:
    result = run(embedded, processes, waiting, Patience(give_up_s=2.0))
    assert result.verdict is Verdict.UNKNOWN
    assert result.counts["unknown"] == result.counts["attempts"] == 2
    assert any(note.startswith("gave up: no operation has ended for ") for note in result.notes)


def once_and_then_for_ever(folder: Path, *setup: str) -> Scenario:
    """Each session writes once, and then waits for the lock."""
    script = folder / "insert.sql"
    script.write_text(
        "\\if :operation % 2 = 0\nINSERT INTO t VALUES (1);\n"
        f"\\else\nSELECT pg_advisory_xact_lock_shared({KEY});\n\\endif\n"
    )
    return ad_hoc.from_sql(str(script), setup=[*setup], invariants=["SELECT 1 WHERE false"])


def test_a_guilty_run_that_is_given_up_stays_invalid(
    embedded: Target, processes: Processes, tmp_path: Path, holder: psycopg.Connection[Any], hasty: None
) -> None:
    """Each session is refused once, and then waits for ever."""
    scenario = once_and_then_for_ever(tmp_path, "CREATE TABLE t (id int UNIQUE)", "INSERT INTO t VALUES (1)")
    result = run(embedded, processes, scenario, Patience(give_up_s=2.0), operations=4)
    assert result.counts["refused"] > 0
    assert result.verdict is Verdict.INVALID


def test_the_history_of_a_run_that_was_given_up_is_unknown_too(
    embedded: Target, processes: Processes, tmp_path: Path, holder: psycopg.Connection[Any], hasty: None
) -> None:
    """Each session commits once, and then waits for ever."""
    scenario = once_and_then_for_ever(tmp_path, "CREATE TABLE t (id int)")
    result = run(embedded, processes, scenario, Patience(give_up_s=2.0), tmp_path / "kept.npz", operations=4)
    checked = check_file(tmp_path / "kept.npz", None)
    assert (result.verdict, checked.verdict) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    assert result.counts["committed"] == checked.counts["committed"] == 2
    assert checked.about.note in result.notes


def test_a_run_whose_network_is_gone_is_unknown_and_names_what_is_left(
    embedded: Target, processes: Processes, tmp_path: Path, hasty: None
) -> None:
    script = tmp_path / "insert.sql"
    script.write_text("INSERT INTO t VALUES (1);\n")
    scenario = ad_hoc.from_sql(str(script), setup=["CREATE TABLE t (id int)"], invariants=["SELECT 1 WHERE false"])
    (strategy,) = scenario.strategies.values()
    folder = Path(tempfile.mkdtemp(prefix="rb-"))
    lines: list[str] = []
    try:
        with breaking(folder, embedded, lambda _data, _of_client: None) as proxy:
            target = replace(proxy.target, parameters={**proxy.target.parameters, "connect_timeout": "2"})
            driver = LoadDriver(
                target=target, executor=processes, schema="gone", patience=Patience(give_up_s=2.0, say=lines.append)
            )

            def freeze(fraction: float) -> None:
                if fraction > 0:
                    proxy.frozen.set()

            result = driver.run(scenario, strategy, [], replace(LOAD, operations=1_000_000), freeze)
    finally:
        shutil.rmtree(folder)
        with connect(embedded) as connection:
            quiesce(connection, "gone", wait_seconds=0.0)
            connection.execute("DROP SCHEMA gone CASCADE")
    assert result.verdict is Verdict.UNKNOWN
    assert "the server does not answer" in lines[0]
    said = " ".join(result.notes)
    assert "gave up: no operation has ended for" in said
    assert "the tables could not be read: cannot connect to" in said
    assert "schema gone could not be dropped" in said


@pytest.mark.server
def test_the_command_ends_with_unknown_and_says_why(
    racebench: Command, users_server: UsersServer, tmp_path: Path
) -> None:
    (tmp_path / "wait.sql").write_text(f"SELECT pg_advisory_xact_lock_shared({KEY});\nINSERT INTO t VALUES (1);\n")
    with users_server.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (KEY,))
        done = racebench(
            *("run", "wait.sql", "--setup", "CREATE TABLE t (id int)", "--invariant", "SELECT 1 WHERE false"),
            *("-w", "2", "-n", "10", "--give-up-after", "1", "--no-save", "--fail-on", "any"),
            *("--dsn", users_server.dsn()),
        )
    assert done.returncode == 5, done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("racebench: no operation has ended for ")
    assert "2 sessions wait for Lock/advisory" in first
    assert second.startswith("racebench: gave up: no operation has ended for ")
    assert users_server.schemas() == []


@pytest.mark.server
@pytest.mark.parametrize("command", ["run", "explore", "compare"])
def test_a_setup_that_waits_for_ever_is_said_to_and_ended(
    racebench: Command, users_server: UsersServer, tmp_path: Path, command: str
) -> None:
    """The statements of the main process have a limit too."""
    for name in ("one.sql", "two.sql"):
        (tmp_path / name).write_text("INSERT INTO t VALUES (1);\n")
    setup = f"CREATE TABLE t (id int); SELECT pg_advisory_lock({KEY})"
    files = ("one.sql", "two.sql") if command == "compare" else ("one.sql",)
    with users_server.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (KEY,))
        done = racebench(
            *(command, *files, "--setup", setup, "--invariant", "SELECT 1 WHERE false", "--no-save"),
            *("--give-up-after", "1", "--dsn", users_server.dsn()),
        )
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 2, done.stderr
    gave_up, problem = done.stderr.splitlines()
    assert re.fullmatch(r"racebench: gave up: no answer from the server for \d+ s \(--give-up-after\)", gave_up)
    assert "the connection was lost" in problem
    assert users_server.schemas() == []
