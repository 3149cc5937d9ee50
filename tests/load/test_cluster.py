"""Load on machines of a Dask scheduler: two workers of Dask on this machine, each a machine to racebench."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import racebench
from conftest import assert_one_line
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors import connecting
from racebench.executors.cluster import Cluster, Machines, opened
from racebench.executors.connecting import Scheduler
from racebench.executors.processes import Processes
from racebench.load import campaign, rows
from racebench.load.driver import LoadDriver
from racebench.load.server_clock import ServerClock
from racebench.workloads import catalog
from waiting import finish, repeat, wait_for

if os.environ.get("TEST_CLUSTER") != "required":
    pytest.importorskip("distributed")

pytestmark = pytest.mark.server
Run = Callable[..., RunResult]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with connecting.connected(Scheduler.parse("local"), machines=2) as opened:
        yield opened


@pytest.fixture
def run(client: Any, embedded: Target, version_counter: Scenario) -> Run:
    def once(name: str, progress: Callable[[float], None] = lambda _fraction: None, **load: Any) -> RunResult:
        options: dict[str, Any] = {"workers": 4, "duration_s": None, "operations": 400, **load}
        with Cluster(client, connecting.machines_of(client), ServerClock(embedded)) as machines:
            return LoadDriver(target=embedded, executor=machines).run(
                version_counter,
                version_counter.strategies[name],
                catalog.find_consumers(version_counter, ["cursor"]),
                Load(**options),
                progress,
            )

    return once


def test_machines_find_what_processes_find_and_every_operation_is_counted(run: Run) -> None:
    result = repeat(lambda seed: run("naive", seed=seed), lambda result: result.counts["duplicates"])
    assert result.verdict is Verdict.INVALID
    assert (result.counts["attempts"], result.counts["committed"]) == (400, 400)
    assert result.counts["lost"] == result.counts["unexpected"] == result.counts["unknown"] == 0
    assert sorted(session for machine in result.machines for session in machine.sessions) == [1, 2, 3, 4]
    assert [len(machine.sessions) for machine in result.machines] == [2, 2]
    assert [name for machine in result.machines for name in machine.consumers] == ["cursor"]
    assert all(0 < machine.bound_us < 1e6 for machine in result.machines)


def test_the_library_spreads_a_load_over_machines(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "connected", lambda _scheduler, **_options: contextlib.nullcontext(client))
    with racebench.Bench() as bench:
        loaded = bench.hammer("version-counter", strategy="naive", operations=40, workers=2, scheduler="local")
    assert loaded.counts["attempts"] == 40
    assert [len(machine.sessions) for machine in loaded.result.machines] == [1, 1]


def test_a_machine_that_is_released_has_ended_what_it_ran(client: Any, embedded: Target) -> None:
    with Cluster(client, connecting.machines_of(client), ServerClock(embedded)) as machines:
        machines.warm(2)

    def left() -> list[str]:
        return [folder.name for folder in Path(tempfile.gettempdir()).glob("racebench-machine-*")]

    assert set(map(tuple, client.run(left).values())) == {()}


def test_a_ctrl_c_of_the_terminal_does_not_reach_machines(client: Any) -> None:
    assert os.getsid(0) not in client.run(os.getsid, 0).values()


@pytest.fixture
def ahead(client: Any) -> Iterator[str]:
    """The address of a machine whose clocks, the wall's and the monotonic one, are another machine's, 3 s ahead."""
    if shutil.which("faketime") is None and os.environ.get("TEST_CLUSTER") != "required":
        pytest.skip("faketime is not installed")
    command = [sys.executable, "-m", "dask", "worker", client.scheduler.address, "--nthreads", "1", "--name", "ahead"]
    process = subprocess.Popen(
        ["faketime", "-f", "+3s", *command, "--no-nanny", "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def addresses() -> list[str]:
        return [one for one, known in client.scheduler_info()["workers"].items() if known["name"] == "ahead"]

    try:
        wait_for(lambda: addresses() or process.poll() is not None, "the machine did not come")
        (address,) = addresses()
        yield address
    finally:
        process.terminate()
        finish(process)


def test_machines_whose_clocks_differ_by_seconds_invert_nothing_and_hide_no_inversion(
    client: Any, ahead: str, embedded: Target, version_counter: Scenario
) -> None:
    other = next(one for one in connecting.machines_of(client) if one != ahead)
    consumers = catalog.find_consumers(version_counter, ["cursor"])
    with Cluster(client, [other, ahead], ServerClock(embedded)) as machines:
        driver = LoadDriver(target=embedded, executor=machines)
        right, wrong = (
            driver.run(
                version_counter,
                version_counter.strategies[name],
                consumers,
                Load(workers=4, duration_s=None, operations=400),
                lambda _fraction: None,
            )
            for name in ("advisory", "sequence-cache")
        )
    assert (right.verdict, right.counts["committed"], right.counts["inversions"]) == (Verdict.VALID, 400, 0)
    assert wrong.counts["inversions"] > 0
    clocks = {machine.machine: machine for machine in right.machines}
    for address, offset_us in ((other, 0.0), (ahead, -3e6)):  # the server is on this machine
        assert abs(clocks[address].offset_us - offset_us) <= clocks[address].bound_us + 100, "and what NTP may slew"
        assert len(clocks[address].sessions) == 2


def test_a_machine_that_is_killed_leaves_unknown_operations_and_a_report(client: Any, run: Run) -> None:
    # The process of Dask is killed when operations have ended, and what it has started ends with it.
    pids = client.run(os.getpid)
    victim = min(pids)
    killed = []

    def kill(fraction: float) -> None:
        if not killed and fraction > 0.05:
            killed.append(victim)
            os.kill(pids[victim], signal.SIGKILL)

    result = run("advisory", kill, operations=None, duration_s=3.0)
    assert killed == [victim]
    assert any(f"machine {victim} was lost; what its workers had begun is UNKNOWN" in note for note in result.notes)
    assert result.counts["unknown"] >= 2, "an operation of each of its sessions"
    assert result.counts["committed"] > 0
    assert result.counts["lost"] == result.counts["unexpected"] == result.counts["duplicates"] == 0
    assert result.verdict is not Verdict.INVALID


def matrix_rows(
    embedded: Target, processes: Processes, scenario: Scenario, **load: Any
) -> tuple[campaign.Request, ...]:
    """The rows of a matrix of a broken and a right strategy, each alone and with a consumer."""
    request = campaign.Request(
        scenario=scenario,
        strategies=catalog.find_strategies(scenario, ["naive", "advisory"]),
        consumers=catalog.find_consumers(scenario, ["cursor"]),
        load=Load(workers=2, **load),
        pairing=campaign.Pairing.EACH_ALONE,
    )
    with campaign.opened(request, embedded, processes) as running:
        return rows.rows_of(running)


PLACE = rows.Place(version=18, connections=20, superuser=False, pooler=None, standby=None, give_up_s=300.0)


def test_a_row_of_a_matrix_is_of_one_machine_also_if_another_was_lost_meanwhile(
    client: Any, embedded: Target, processes: Processes, version_counter: Scenario
) -> None:
    requests = matrix_rows(embedded, processes, version_counter, duration_s=None, operations=100)
    killed: list[str] = []

    def kill(_label: str, _share: float) -> None:
        victim = next((address for address, keys in client.processing().items() if keys and not killed), None)
        if victim is not None:
            killed.append(victim)
            os.kill(client.run(os.getpid)[victim], signal.SIGKILL)

    results = list(rows.results(client, requests, PLACE, kill))
    assert len(killed) == 1
    assert [result.strategy for result in results] == ["naive", "naive", "advisory", "advisory"]
    assert [[one.name for one in result.consumers] for result in results] == [[], ["cursor"]] * 2
    assert [result.counts["committed"] for result in results] == [100] * 4
    assert {result.verdict for result in results[2:]} == {Verdict.VALID}
    for alone, beside in (results[:2], results[2:]):
        assert alone.notes[-1] == beside.notes[-1]
        assert alone.notes[-1].startswith("measured on machine tcp://127.0.0.1:")


def test_machines_that_are_started_here_have_the_present_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the process that they are forked from began with another one."""
    for value in ("first", "second"):
        monkeypatch.setenv("TEST_OF_MACHINES", value)
        with connecting.connected(Scheduler.parse("local"), machines=1) as client:
            assert set(client.run(os.getenv, "TEST_OF_MACHINES").values()) == {value}


def test_a_row_that_nobody_waits_for_ends(
    client: Any, embedded: Target, processes: Processes, version_counter: Scenario
) -> None:
    requests = matrix_rows(embedded, processes, version_counter, duration_s=600.0, operations=None)

    def working() -> int:
        return sum(client.run(lambda dask_worker: dask_worker.state.executing_count).values())

    def leave(_label: str, _share: float) -> None:
        if working():
            raise RacebenchError("it is enough")

    with pytest.raises(RacebenchError, match="it is enough"):
        list(rows.results(client, requests[:1], PLACE, leave))
    wait_for(lambda: not working(), "the machine goes on")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "local"], "--scheduler local: strategies that are measured at the same time on one machine"),
        (["--scheduler", "tcp://127.0.0.1:1", "--dsn", "host=x"], "--scheduler measures each strategy on an embedded"),
        (["--scheduler", "tcp://127.0.0.1:1", "--history"], "--history keeps histories of runs on this machine"),
    ],
)
def test_what_machines_cannot_measure_of_a_matrix_is_refused_in_one_line(
    options: list[str], message: str, racebench: Callable[..., Any]
) -> None:
    assert_one_line(racebench("matrix", *options), 2, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler tcp://127.0.0.1:1 needs --dsn"),
        (["--scheduler", "here"], "--scheduler is tcp://HOST:PORT, tls://HOST:PORT or local, not 'here'"),
        (["--workers-per-machine", "2"], "--workers-per-machine needs --scheduler"),
        (
            ["-w", "100", "--workers-per-machine", "2", "--scheduler", "local"],
            "--workers-per-machine 2 are 50 machines on this computer, and 32 are the most; give 4 or more",
        ),
        (["--scheduler", "local", "--fault", "cut:2%"], "--fault injects on this machine"),
        (["--scheduler", "local", "--exec", "true", "--setup", "SELECT 1"], "--scheduler runs SQL; --exec runs on"),
    ],
)
def test_what_machines_cannot_run_is_refused_in_one_line(
    options: list[str], message: str, racebench: Callable[..., Any]
) -> None:
    assert_one_line(racebench("run", "--no-save", *options), 2, message)


def test_other_versions_on_a_machine_are_named_in_one_line(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = client.get_versions(packages=["racebench", "psycopg"])
    known["workers"][min(known["workers"])]["packages"]["psycopg"] = "3.1.0"
    monkeypatch.setattr(client, "get_versions", lambda **_given: known)
    with pytest.raises(RacebenchError) as raised:
        connecting.check_versions(client, "tcp://10.0.0.1:8786")
    assert str(raised.value).startswith(f"machine {min(known['workers'])} has psycopg 3.1.0; here it is ")


def test_more_machines_than_there_are_is_an_error(client: Any) -> None:
    machines = Machines(scheduler=Scheduler.parse(client.scheduler.address), workers_per_machine=1)
    with (
        pytest.raises(UsageProblem, match=r"--workers 9 at --workers-per-machine 1 needs 9 machines; .* has [1-3]$"),
        opened(machines, workers=9, read_clock=ServerClock(Target(kind="none", parameters={}, label="none"))),
    ):
        raise AssertionError("they are there")
