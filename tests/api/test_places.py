"""Where the library's calls run: through a pooler, divided among jobs, and what is refused there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from poolers import needs_pgbouncer

import racebench
from racebench.api import places
from racebench.core.model import Load, Protocol
from racebench.core.target import Pooling
from racebench.exploration.jobs import sharing
from racebench.exploration.jobs.pool import Jobs
from waiting import wait_for

SCHEMA = "CREATE TABLE orders (number int)"


def nothing() -> None:
    """A function of the application."""


@pytest.fixture(scope="module")
def behind(cache_folder: Path) -> Iterator[racebench.Bench]:
    assert cache_folder.is_absolute()
    with racebench.Bench(pooler="transaction") as bench:
        yield bench


@needs_pgbouncer
def test_a_load_passes_the_pooler_by_a_protocol_that_it_can_share_sessions_by(behind: racebench.Bench) -> None:
    loaded = behind.hammer("version-counter", strategy="advisory", operations=100)
    assert loaded.verdict is racebench.Verdict.VALID
    assert loaded.environment["pooler"]["mode"] == "transaction"
    assert loaded.result.load.protocol is Protocol.SIMPLE


@needs_pgbouncer
@pytest.mark.server
def test_what_a_pooler_refuses_is_said_of_one_strategy_and_of_several_with_the_parameter(cache_folder: Path) -> None:
    assert cache_folder.is_absolute()
    said = r"^'naive' begins transactions, which statement pooling refuses; use .*Bench\(pooler='transaction'\)"
    with racebench.Bench(pooler="statement") as bench:
        with pytest.raises(racebench.RacebenchError, match=said):
            bench.hammer("version-counter", strategy="naive", operations=8)
        with pytest.raises(racebench.RacebenchError, match=said):
            bench.compare("version-counter", strategies=["naive", "upsert"], operations=8, rounds=1)


def test_an_exploration_simulates_the_pooler_and_so_does_the_replay(behind: racebench.Bench) -> None:
    found = behind.explore("version-counter", strategy="session-advisory", stop_at_first=True)
    assert found.verdict is racebench.Verdict.INVALID
    assert found.schedule is not None
    assert behind.replay(schedule=found.schedule).counts["duplicates"] == 1
    assert behind.explore("version-counter", strategy="advisory").verdict is racebench.Verdict.VALID


@pytest.mark.server
def test_a_search_that_is_to_be_divided_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Jobs.begin

    def begin_and_wait(self: Jobs) -> str:
        problem = begin(self)
        wait_for(lambda: list(self.messages(0.05)) or all(job.ready for job in self.jobs), "the job is not ready")
        return problem

    monkeypatch.setattr(Jobs, "begin", begin_and_wait)
    monkeypatch.setattr(sharing, "ALONE_S", 0.0)
    with racebench.Bench() as bench:
        alone, divided = (
            bench.explore("version-counter", strategy="naive", sessions=3, jobs=number) for number in (None, 2)
        )
    assert (alone.result.jobs, divided.result.jobs) == (1, 2)
    assert (divided.schedule, divided.run, divided.counts) == (alone.schedule, alone.run, alone.counts)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda bench: bench.explore(nothing, setup=SCHEMA), "a Bench with a pooler explores scripts"),
        (lambda bench: bench.explore("version-counter", strategy="naive", crash=1), "crash cuts connections"),
        (lambda bench: bench.explore("version-counter", strategy="naive", jobs=0), "jobs is a number from 1 to"),
        (
            lambda bench: bench.explore("version-counter", strategy="naive", jobs=1, scheduler="local"),
            "jobs=1 is this process alone; with scheduler give 2 or more, or leave out jobs",
        ),
        (
            lambda bench: bench.hammer("version-counter", strategy="naive", scheduler="tcp://127.0.0.1:1"),
            "scheduler tcp://127.0.0.1:1 needs dsn",
        ),
        (
            lambda bench: bench.hammer(nothing, setup=SCHEMA, scheduler="local"),
            "scheduler runs SQL; code of your own runs on this machine",
        ),
        (
            lambda bench: bench.compare("version-counter", strategies=["all"], workers_per_machine=2),
            "workers_per_machine needs scheduler",
        ),
        (lambda _bench: racebench.Bench(server=17), "server is 18 or 16, not 17"),
        (lambda _bench: racebench.Bench(pool_size=2), "pool_size needs a pooler"),
        (lambda _bench: racebench.Bench(pooler="statements"), "pooler: 'statements' is unknown"),
    ],
)
def test_what_cannot_be_is_refused_with_the_parameter(
    behind: racebench.Bench, ask: Callable[[racebench.Bench], object], message: str
) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(racebench.RacebenchError) as raised:
        ask(behind)
    assert str(raised.value).startswith(message)


@pytest.mark.server
def test_calls_are_not_divided() -> None:
    with racebench.Bench() as bench, pytest.raises(racebench.RacebenchError, match=r"^jobs=2: calls, programs and"):
        bench.explore(nothing, setup=SCHEMA, jobs=2)


def test_a_pooler_that_shares_sessions_takes_no_pipelines() -> None:
    load = Load(workers=1, duration_s=1.0, operations=None, protocol=Protocol.PIPELINED)
    assert places.load_through(load, Pooling.SESSION) == load
    with pytest.raises(racebench.RacebenchError, match="prepares statements by name"):
        places.load_through(load, Pooling.TRANSACTION)
