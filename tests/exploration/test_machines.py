"""A search that is divided among machines of Dask finds what one process finds, also if a machine is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Command, assert_one_line
from made_scenario import made
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Pooling, Target
from racebench.core.verdict import Verdict
from racebench.executors import connecting
from racebench.executors.connecting import Scheduler
from racebench.exploration.explorer import explore
from racebench.exploration.jobs import machines, sharing
from racebench.exploration.jobs.messages import Place, Report
from racebench.exploration.jobs.pool import Job, Jobs
from racebench.exploration.pool import PoolOptions
from racebench.exploration.request import ExplorationRequest, judged
from racebench.exploration.result import Exploration
from racebench.postgres.embedded import server
from waiting import LIMIT_S, wait_for

if os.environ.get("TEST_CLUSTER") != "required":
    pytest.importorskip("distributed")

PLACE = Place(version=18, connections=10, superuser=False, give_up_s=LIMIT_S)
NUMBERED = """CREATE TABLE numbers (tenant int, version int);
CREATE VIEW bad AS SELECT tenant, version FROM numbers GROUP BY 1, 2 HAVING count(*) > 1;"""
NEXT = "INSERT INTO numbers SELECT :tenant, coalesce(max(version), 0) + 1 FROM numbers WHERE tenant = :tenant;"
#: Right with a server session of its own; a pooler gives the lock to whoever has the session next.
SESSION_LOCK = f"SELECT pg_advisory_lock(1);\n{NEXT}\nSELECT pg_advisory_unlock(1);\n"
#: Two locks in two orders: a deadlock, whose victim writes nothing.
DEADLOCK = f"""BEGIN;
SELECT pg_advisory_xact_lock(:client_id);
SELECT pg_advisory_xact_lock(1 - :client_id);
{NEXT}
COMMIT;
"""
pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide a search from its first schedule on."""
    monkeypatch.setattr(sharing, "ALONE_S", 0.0)


@pytest.fixture(scope="module")
def client(cache_folder: Path) -> Iterator[Any]:
    assert cache_folder.is_absolute()
    with connecting.connected(Scheduler.parse("local"), machines=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def jobs(client: Any) -> Iterator[Jobs]:
    """Jobs on machines, which have started their servers."""
    address = Scheduler.parse(client.scheduler.address)
    with (
        machines.opened(address, jobs=None, version=18) as (executor, count),
        Jobs(count, PLACE, executor=lambda: contextlib.nullcontext(executor)) as three,
    ):
        assert (count, three.begin()) == (3, "")

        def all_are_ready() -> bool:
            assert not list(three.messages(0.05))  # no job fails
            return all(job.ready for job in three.jobs)

        wait_for(all_are_ready, "the jobs did not become ready")
        yield three


def request(scenario: Scenario, strategy: str, consumer: str | None = None, **more: Any) -> ExplorationRequest:
    asked = ExplorationRequest(
        scenario=scenario,
        strategy=scenario.strategies[strategy],
        consumer=scenario.consumers[consumer] if consumer else None,
        **{"polls": 1, **more},
    )
    return judged(asked)


def of_script(folder: Path, script: str, **more: Any) -> ExplorationRequest:
    """A request for a scenario in a folder that is deleted then: no file of it is read later."""
    folder.mkdir()
    scenario = made(folder, script=script, schema=NUMBERED)
    shutil.rmtree(folder)
    return request(scenario, next(iter(scenario.strategies)), **more)


def findings(result: Exploration) -> tuple[object, ...]:
    """What must not depend on the number of jobs, nor on where they run."""
    witness = result.witness and (str(result.witness.schedule), result.witness.anomalies, result.witness.broken)
    ran = (result.run, result.pruned, dict(result.outcomes), result.counts)
    return result.verdict, result.complete, result.unseen, witness, result.as_expected, ran


@pytest.mark.parametrize(
    ("strategy", "more", "verdict"),
    [
        ("naive", {"sessions": 3}, Verdict.INVALID),
        ("unique-retry", {"consumer": "cursor"}, Verdict.VALID),
        (SESSION_LOCK, {"pooler": PoolOptions(pooling=Pooling.TRANSACTION, size=2)}, Verdict.INVALID),
        (SESSION_LOCK, {"pooler": PoolOptions(pooling=Pooling.SESSION, size=1)}, Verdict.VALID),
        (DEADLOCK, {}, Verdict.VALID),
    ],
    ids=["three sessions", "a consumer", "pooler", "right behind a pooler", "deadlock"],
)
def test_three_machines_find_what_one_process_finds(
    embedded: Target,
    version_counter: Scenario,
    jobs: Jobs,
    tmp_path: Path,
    strategy: str,
    more: dict[str, Any],
    verdict: Verdict,
) -> None:
    scripted = strategy not in version_counter.strategies
    asked = of_script(tmp_path / "it", strategy, **more) if scripted else request(version_counter, strategy, **more)
    alone, divided = explore(embedded, asked), explore(embedded, asked, jobs=jobs)
    assert alone.verdict is verdict
    assert (alone.jobs, divided.jobs) == (1, 3)
    assert findings(divided) == findings(alone)
    assert len(jobs.jobs) == 2, divided.notes


def test_what_a_killed_machine_had_left_is_searched_by_others(
    client: Any, embedded: Target, version_counter: Scenario, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = client.run(os.getpid)
    victim = min(pids)  # of which the first job is
    killed: list[str] = []
    take = sharing.Sharing._take

    def take_and_kill(self: sharing.Sharing, job: Job, report: Report) -> None:
        take(self, job, report)
        if job.name == "job 2" and report.results and not report.ended and not killed:
            killed.append(job.name)
            os.kill(pids[victim], signal.SIGKILL)

    asked = request(version_counter, "sequence", "horizon")
    alone = explore(embedded, asked)
    monkeypatch.setattr(sharing.Sharing, "_take", take_and_kill)
    divided = explore(embedded, asked, jobs=jobs)
    assert killed == ["job 2"]
    assert findings(divided) == findings(alone)
    named = f"job 2 of 3 ended early (machine {victim} was lost); what it had left was searched by others"
    assert named in divided.notes


def test_a_machine_whose_server_has_other_settings_is_refused_before_the_search(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Scheduler.parse(client.scheduler.address)
    monkeypatch.setitem(server.SETTINGS, "shared_buffers", "64MB")  # the machines are other processes
    with pytest.raises(RacebenchError) as raised, machines.opened(address, jobs=None, version=18):
        raise AssertionError("it is opened")
    assert "has shared_buffers 128MB; here it is 64MB: install the same" in str(raised.value)
    with (
        pytest.raises(UsageProblem, match=r"--jobs 9 needs 8 machines beside this one; .* has [12]$"),
        machines.opened(address, jobs=9, version=18),
    ):
        raise AssertionError("it is opened")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-s", "naive", "--dsn", "host=127.0.0.1", "--scheduler", "local"), "--scheduler: each job has an embedded"),
        (("--exec", "true", "--setup", "SELECT 1", "--scheduler", "local"), "--scheduler: calls, programs and"),
        (("-s", "naive", "--scheduler", "local", "--jobs", "1"), "--jobs 1 is this process alone"),
        (("-s", "naive", "--jobs", "100"), "--jobs 100 is more than 32 processes of this machine"),
        (
            ("-s", "naive", "--jobs", "33", "--scheduler", "local"),
            "--jobs 33 is more than 32 processes of this machine",
        ),
        (
            ("-s", "naive", "--scheduler", "here"),
            "or local, not 'here'; `dask scheduler` prints",
        ),
        (("mine.spec", "--scheduler", "local"), "--scheduler has no meaning for a spec file"),
    ],
)
def test_what_machines_cannot_search_is_refused_in_one_line(
    racebench: Command, words: tuple[str, ...], message: str
) -> None:
    assert_one_line(racebench("explore", *words, "--no-save"), 2, message)
