"""A search that is divided among jobs finds what one process finds, also if a job is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import Command, Start, assert_one_line
from executor_tasks import use_cache
from racebench.core.errors import RacebenchError
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors import Channel, Worker
from racebench.executors.new_programs import NewPrograms
from racebench.executors.processes import Processes
from racebench.exploration.explorer import explore
from racebench.exploration.jobs import pool, sharing
from racebench.exploration.jobs.messages import Place, Report
from racebench.exploration.jobs.pool import Job, Jobs
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, Limit
from racebench.postgres.embedded import server_folder
from racebench.workloads import catalog
from waiting import LIMIT_S, finish, wait_for

PLACE = Place(version=18, connections=10, superuser=False, give_up_s=LIMIT_S)


class ProcessesHere(Processes):
    """Processes that use the tests' cache. A test that starts no server may have started what they are forked from."""

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        return super().start(partial(use_cache, os.environ["RACEBENCH_CACHE_DIR"], function), task)


def made(count: int, processes: Processes) -> Jobs:
    """Jobs that are ready."""
    jobs = Jobs(count, PLACE, executor=lambda: contextlib.nullcontext(processes))
    assert jobs.begin() == ""

    def all_are_ready() -> bool:
        assert not list(jobs.messages(0.05))  # no job fails
        return all(job.ready for job in jobs.jobs)

    wait_for(all_are_ready, "the jobs did not become ready")
    return jobs


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide a search from its first schedule on."""
    monkeypatch.setattr(sharing, "ALONE_S", 0.0)


@pytest.fixture(scope="module")
def processes(cache_folder: Path) -> Iterator[Processes]:
    """Processes that have imported what a job needs."""
    assert cache_folder.is_absolute()
    with ProcessesHere(starter=NewPrograms("forkserver", preload=["racebench.exploration.jobs.job"])) as pool:
        yield pool


@pytest.fixture(scope="module")
def jobs(processes: Processes) -> Iterator[Jobs]:
    with made(3, processes) as three:
        yield three


def request(strategy: str, consumer: str | None = None, **more: Any) -> ExplorationRequest:
    found = catalog.find_scenario("version-counter")
    return ExplorationRequest(
        scenario=found,
        strategy=found.strategies[strategy],
        consumer=found.consumers[consumer] if consumer else None,
        **{"polls": 1, **more},
    )


def findings(result: Exploration) -> tuple[object, ...]:
    """What must not depend on the number of jobs."""
    witness = result.witness and (str(result.witness.schedule), result.witness.anomalies, result.witness.broken)
    return result.verdict, result.complete, result.unseen, set(result.outcomes), witness, result.as_expected


@pytest.mark.server
@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        (request("naive", sessions=3), Verdict.INVALID),
        (request("unique-retry", "cursor"), Verdict.VALID),
        (request("naive", crash=1), Verdict.INVALID),
    ],
    ids=lambda value: value.strategy.name if isinstance(value, ExplorationRequest) else str(value),
)
def test_three_jobs_find_what_one_process_finds(
    embedded: Target, jobs: Jobs, asked: ExplorationRequest, verdict: Verdict
) -> None:
    alone, divided = explore(embedded, asked), explore(embedded, asked, jobs=jobs)
    assert alone.verdict is verdict
    assert (alone.jobs, divided.jobs) == (1, 3)
    assert findings(divided) == findings(alone)
    assert divided.outcomes == alone.outcomes
    assert (divided.run, divided.pruned, divided.counts) == (alone.run, alone.pruned, alone.counts)


@pytest.mark.server
def test_what_a_process_learns_of_conflicts_changes_the_number_of_schedules_only(embedded: Target, jobs: Jobs) -> None:
    asked = request("serializable-retry", "cursor")
    alone, divided = explore(embedded, asked), explore(embedded, asked, jobs=jobs)
    assert alone.verdict is Verdict.VALID
    assert divided.jobs > 1
    assert findings(divided) == findings(alone)
    assert divided.run >= alone.run


@pytest.mark.server
def test_limits_hold_for_all_jobs_together(embedded: Target, jobs: Jobs) -> None:
    asked = request("sequence", "horizon", polls=2, max_schedules=20)
    result = explore(embedded, asked, jobs=jobs)
    assert result.run <= 20
    assert (result.complete, result.limit, result.verdict) == (False, Limit.SCHEDULES, Verdict.UNKNOWN)
    first = explore(embedded, request("naive", sessions=3, stop_at_first=True), jobs=jobs)
    assert (first.verdict, first.limit, first.complete) == (Verdict.INVALID, Limit.FIRST, False)
    assert not any("job" in note for note in (*result.notes, *first.notes))
    assert len(jobs.jobs) == 2
    assert explore(embedded, request("naive"), jobs=jobs).complete  # nothing of a search before is left


@pytest.mark.server
def test_what_a_killed_job_had_left_is_searched_by_others(
    embedded: Target, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    take = sharing.Sharing._take

    def take_and_kill(self: sharing.Sharing, job: Job, report: Report) -> None:
        take(self, job, report)
        if report.results and not report.ended and not killed:
            killed.append(job.name)
            job.worker.kill()

    monkeypatch.setattr(sharing.Sharing, "_take", take_and_kill)
    asked = request("sequence", "horizon")
    alone = explore(embedded, asked)
    with made(2, processes) as two:
        divided = explore(embedded, asked, jobs=two)
    assert killed == ["job 2"]
    assert findings(divided) == findings(alone)
    assert divided.outcomes == alone.outcomes
    assert "job 2 of 2 ended early (signal 9); what it had left was searched by others" in divided.notes


def test_jobs_that_nobody_asked_for_start_late_on_idle_cores_and_once(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "usable_cores", lambda: 8)
    with Jobs.usual(PLACE) as jobs:
        monkeypatch.setattr(jobs, "_make", lambda: contextlib.nullcontext(processes))
        assert jobs.count == 8
        for looked_s, idle, lasted_s, due in (
            (0.5, 8, 3.0, False),
            (1.0, 8, 1.9, False),
            (1.0, 8, 2.9, False),
            (1.0, 0, 60.0, False),
            (1.0, 2, 3.0, True),
        ):
            looks = SimpleNamespace(lasted_s=looked_s, count=lambda idle=idle: idle)
            monkeypatch.setattr(pool, "IdleCores", lambda looks=looks: looks)
            assert jobs.are_due(lasted_s) is due
            jobs.are_due(0.0)  # another search
        assert jobs.begin() == ""
        assert [job.name for job in jobs.jobs] == ["job 2", "job 3"]
        assert not jobs.are_due(60.0)


def test_jobs_that_cannot_start_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> contextlib.AbstractContextManager[Processes]:
        raise RacebenchError("there is no place")

    with Jobs(2, PLACE, executor=fail) as jobs:
        assert jobs.are_due(0.0)
        assert jobs.begin() == "there is no place"
        assert not jobs.are_due(60.0)


@pytest.mark.server
def test_ctrl_c_leaves_no_job_and_no_server(embedded: Target, start: Start) -> None:
    assert embedded.server_pid is not None  # there is a template of its data

    def servers() -> set[Path]:
        files = (server_folder(18) / f"slot-{number}" / "data" / "postmaster.pid" for number in range(64))
        return {file for file in files if file.exists()}

    before = servers()
    command = start("explore", "-s", "unique-retry", "--sessions", "4", "--budget", "unlimited", "--jobs", "2")
    wait_for(lambda: len(servers() - before) == 2 or command.poll() is not None, "the job started no server")
    command.send_signal(signal.SIGINT)
    _, said = finish(command)
    assert command.returncode == 130, said
    assert "interrupted" in said
    assert servers() == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-s", "naive", "--dsn", "host=127.0.0.1"), "each job has an embedded server of its own"),
        (("--exec", "true", "--setup", "CREATE TABLE t (n int)"), "calls, programs and requests"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line(racebench: Command, words: tuple[str, ...], why: str) -> None:
    assert_one_line(racebench("explore", *words, "--jobs", "2", "--no-save"), 2, f"--jobs 2: {why}")
