"""A server that crashes in the middle of a run is named; no strategy is accused of what the crash causes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from conftest import UsersServer
from histories import Op, Poll, Row, history
from judged import MS, result_of
from racebench.analysis.offline import check_file
from racebench.analysis.restarts import after_restart
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.executors.processes import Processes
from racebench.history import History, archive
from racebench.history.spill import Scratch
from racebench.load.driver import LoadDriver
from racebench.postgres.external import external, usable
from racebench.postgres.restarts import restarted, server_processes
from racebench.reports import sentences
from racebench.workloads import ad_hoc
from waiting import LIMIT_S, wait_for

NAMED = "the server crashed or was restarted during the run"


def _crash(server: UsersServer, working: threading.Event) -> None:
    """Kill a worker's session of the server once work is under way; the server then restarts all its processes."""
    assert working.wait(LIMIT_S)
    with server.connect() as connection:
        row = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE '% worker'").fetchone()
        assert row is not None
        os.kill(int(str(row[0])), signal.SIGKILL)


@pytest.fixture
def crashed(users_server: UsersServer, processes: Processes) -> Iterator[Callable[..., RunResult]]:
    """Run a strategy on a server that crashes meanwhile."""
    with users_server.connect() as connection:
        connection.execute("CREATE ROLE fast SUPERUSER LOGIN PASSWORD 'fast'")
        connection.execute("ALTER ROLE fast SET synchronous_commit = off")

    def run(scenario: Scenario, name: str, user: str, kept: Path | None = None) -> RunResult:
        dsn = users_server.dsn() if user == "owner" else users_server.dsn(user="fast", password="fast")
        target = usable(external(dsn), 4)
        working = threading.Event()
        thread = threading.Thread(target=_crash, args=(users_server, working))
        thread.start()
        try:
            return LoadDriver(target=target, executor=processes).run(
                scenario,
                scenario.strategies[name],
                (),
                Load(workers=4, duration_s=2.0, operations=None, hold_us=500, seed=1),
                lambda fraction: working.set() if fraction > 0.2 else None,
                keep_history=lambda _result: kept,
            )
        finally:
            working.set()
            thread.join(LIMIT_S)

    yield run

    def drop() -> bool:
        try:
            with users_server.connect() as connection:
                connection.execute("DROP ROLE fast")
        except psycopg.OperationalError:  # it is still in recovery
            return False
        return True

    wait_for(drop, "the server does not recover")


@pytest.fixture
def own(tmp_path: Path) -> Scenario:
    file = tmp_path / "insert.sql"
    insert = "INSERT INTO orders (n) SELECT coalesce(max(n), 0) + 1 FROM orders"
    file.write_text(f"BEGIN;\nSELECT pg_advisory_xact_lock(1);\n{insert};\nCOMMIT;\n")
    twice = "SELECT n FROM orders GROUP BY n HAVING count(*) > 1"
    return ad_hoc.from_sql(str(file), setup=["CREATE TABLE orders (n int)"], invariants=[twice])


def test_a_strategy_is_valid_whose_server_crashed_and_lost_nothing(
    crashed: Callable[..., RunResult], version_counter: Scenario
) -> None:
    """The role's synchronous_commit = off does not hold for it."""
    result = crashed(version_counter, "advisory", "fast")
    assert (result.verdict, result.counts["lost"]) == (Verdict.VALID, 0)
    assert NAMED in result.notes


def test_a_wrong_strategy_stays_invalid_though_its_server_crashed(
    crashed: Callable[..., RunResult], version_counter: Scenario
) -> None:
    result = crashed(version_counter, "naive", "owner")
    assert result.verdict is Verdict.INVALID
    assert NAMED in result.notes


def test_own_code_is_not_cleared_by_a_run_in_which_commits_may_have_been_lost(
    crashed: Callable[..., RunResult], own: Scenario, tmp_path: Path
) -> None:
    result = crashed(own, "insert", "fast", tmp_path / "kept.npz")
    assert result.verdict is Verdict.UNKNOWN
    assert result.notes[0].startswith(f"{NAMED}, and may have lost acknowledged commits")
    with Scratch() as scratch:
        about = archive.read(tmp_path / "kept.npz", scratch).about
    assert (about.note, about.forbidden) == (result.notes[0], result.forbidden)
    assert "lost" not in about.forbidden
    assert check_file(tmp_path / "kept.npz", None).verdict is Verdict.UNKNOWN


def test_a_run_without_a_crash_is_not_said_to_have_had_one(
    users_server: UsersServer, processes: Processes, own: Scenario
) -> None:
    load = Load(workers=2, duration_s=None, operations=20, seed=1)
    target = usable(external(users_server.dsn()), 4)
    result = LoadDriver(target=target, executor=processes).run(own, own.strategies["insert"], (), load, lambda _: None)
    assert not any("crash" in note for note in result.notes)


def test_processes_of_the_server_are_the_same_until_it_restarts(users_server: UsersServer) -> None:
    with users_server.connect() as first, users_server.connect() as second:
        assert not restarted(server_processes(first), server_processes(second))
    one, two = frozenset({"1 a", "2 a"}), frozenset({"1 b", "3 b"})
    assert restarted(one, two)
    assert not restarted(one, two | {"2 a"})  # one that serves nobody ended by itself
    assert not restarted(frozenset(), two)  # the role may not see them


# What a crash causes, in histories written by hand

#: The rows numbered 2 and 3 were acknowledged and delivered, and are gone; then 2 was given again.
LOST = history(
    [Op(1, 0, 1 * MS, 1), Op(2, 1 * MS, 2 * MS, 2), Op(3, 2 * MS, 6 * MS, 3), Op(4, 5 * MS, 7 * MS, 2)],
    [Row(40, 1, 1), Row(43, 2, 4)],
    [Poll((40,), 1), Poll((41,), 2), Poll((42,), 3)],
)
#: Besides, two rows that are still there have one number.
TWICE = history(
    [Op(1, 0, 1 * MS, 1), Op(2, 1 * MS, 2 * MS, 1), Op(3, 2 * MS, 3 * MS, 3)],
    [Row(40, 1, 1), Row(41, 1, 2)],
    [Poll((40, 41), 1), Poll((42,), 3)],
)


def _judged(scenario: Scenario, past: History) -> RunResult:
    result = result_of(scenario, "advisory", past)
    assert result.verdict is Verdict.INVALID
    assert result.counts["lost"] > 0
    read_to_the_end = tuple(replace(consumer, longest_poll_us=1.0) for consumer in result.consumers)
    return replace(result, consumers=read_to_the_end)


def test_what_a_crash_causes_is_not_counted_against_the_strategy(version_counter: Scenario) -> None:
    result = after_restart(_judged(version_counter, LOST), loses_commits=True)
    assert (result.verdict, result.found, result.as_expected) == (Verdict.UNKNOWN, (), False)
    assert [consumer.verdict for consumer in result.consumers] == [Verdict.UNKNOWN]
    assert sentences.happened(result) == "The notes say why nothing can be said."
    assert "synchronous_commit or fsync is off" in result.notes[0]


def test_what_no_crash_causes_is_counted(version_counter: Scenario) -> None:
    result = after_restart(_judged(version_counter, TWICE), loses_commits=True)
    assert (result.verdict, result.found) == (Verdict.INVALID, ("duplicates",))


def test_rows_that_a_durable_server_loses_are_said_to_be_its_doing(version_counter: Scenario) -> None:
    before = _judged(version_counter, LOST)
    result = after_restart(before, loses_commits=False)
    assert replace(result, notes=()) == replace(before, notes=())
    assert "2 acknowledged rows are gone, although synchronous_commit and fsync are on" in result.notes[0]
