"""Sessions that are opened while a command still imports are those of its first run, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from racebench.core.target import Target
from racebench.executors import Channel, Worker
from racebench.executors.processes import Processes
from racebench.load.early_sessions import EarlySessions
from racebench.postgres.connection import connect
from racebench.postgres.embedded import Coming
from racebench.postgres.resting import Resting
from racebench.postgres.schemas import application_name
from waiting import wait_for

READY = "LOG:  database system is ready to accept connections\n"
LIMIT_S = 60.0


class Wanted(NamedTuple):
    """The sessions that a task of a run connects, with these settings."""

    target: Target
    schema: str
    settings: dict[str, str]
    count: int


def take(task: Wanted, channel: Channel) -> None:
    """Send the pids of the sessions that a worker would work with."""
    resting = channel.kept.setdefault("sessions", Resting())
    name = application_name(task.schema, "worker")
    connections = channel.kept["taken"] = [
        resting.connect(task.target, schema=task.schema, application_name=name, settings=task.settings, rests=False)
        for _ in range(task.count)
    ]
    channel.send([connection.info.backend_pid for connection in connections])


@pytest.fixture
def coming(embedded: Target, tmp_path: Path) -> Coming:
    """A server that says in its log that it is ready when `log` is written to."""
    (tmp_path / "log").write_text("LOG:  starting PostgreSQL\n")
    (tmp_path / "sockets").mkdir()
    return Coming(target=embedded, log=tmp_path / "log", sockets=tmp_path / "sockets")


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as started:
        yield started


def pids(processes: Processes, task: Wanted, workers: int) -> list[int]:
    started: set[Worker] = {processes.start(take, task) for _ in range(workers)}
    found: list[int] = []
    while started:
        messages: list[tuple[Worker, Any]] = list(processes.messages(started, LIMIT_S))
        assert messages, "a process did not answer"
        for worker, message in messages:
            assert isinstance(message, list), message
            found += message
            started.discard(worker)
    return found


def alive(target: Target, schema: str) -> set[int]:
    """The sessions of a schema on the server."""
    with connect(target) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s", (application_name(schema, "worker"),)
        ).fetchall()
    return {row[0] for row in rows}


def until(target: Target, schema: str, holds: Callable[[set[int]], bool]) -> set[int]:
    """The sessions of a schema, as soon as that holds of them."""
    wait_for(lambda: holds(alive(target, schema)), "the sessions are others")
    return alive(target, schema)


def test_the_first_run_takes_the_sessions_that_were_opened_early(coming: Coming, processes: Processes) -> None:
    coming.log.write_text(READY)
    early = EarlySessions(processes, coming, workers=2, each=2)
    opened = until(coming.target, early.schema, lambda found: len(found) == 4)
    early.hand_over(wanted=True)
    taken = pids(processes, Wanted(coming.target, early.schema, {}, 2), 2)
    assert sorted(taken) == sorted(opened)


def test_sessions_that_a_run_does_not_want_are_closed_before_it_connects(coming: Coming, processes: Processes) -> None:
    """A strategy's isolation level is what a session of a run alone begins with, so that RESET returns to it."""
    coming.log.write_text(READY)
    early = EarlySessions(processes, coming, workers=1, each=1)
    opened = until(coming.target, early.schema, lambda found: len(found) == 1)
    early.hand_over(wanted=False)
    settings = {"default_transaction_isolation": "serializable"}
    (taken,) = pids(processes, Wanted(coming.target, early.schema, settings, 1), 1)
    assert taken not in opened
    until(coming.target, early.schema, lambda found: found == {taken})


def test_nothing_is_opened_before_the_server_says_that_it_is_ready(coming: Coming, processes: Processes) -> None:
    early = EarlySessions(processes, coming, workers=1, each=1)
    early.hand_over(wanted=True)
    (taken,) = pids(processes, Wanted(coming.target, early.schema, {}, 1), 1)
    assert alive(coming.target, early.schema) == {taken}  # it was the run's own, and the only one


def test_a_server_that_does_not_come_is_no_failure_of_the_early_sessions(coming: Coming, processes: Processes) -> None:
    coming.log.unlink()
    early = EarlySessions(processes, coming, workers=1, each=1)
    early.hand_over(wanted=True)
    assert len(pids(processes, Wanted(coming.target, early.schema, {}, 1), 1)) == 1
