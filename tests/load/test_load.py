"""Load options: protocols, several connections a worker, an open loop, a warm-up; and the notes of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from conftest import Command, UsersServer, assert_one_line, shows
from racebench.analysis import performance
from racebench.core.errors import DiskFull
from racebench.core.model import Load, Protocol, Scenario
from racebench.core.results import OpenLoop, Pace, RunResult, Timeline, Usage
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.history.records import OPERATION, RecordFile, read_records
from racebench.load import worker
from racebench.load.pacing import Go
from racebench.load.worker import WorkerReport, WorkerTask
from racebench.postgres.connection import connect, run_file
from racebench.workloads import arrivals

Run = Callable[..., RunResult]


def test_each_tenant_numbers_its_own_rows(hammer: Run) -> None:
    result = hammer("advisory", operations=400, tenants=5)
    assert result.verdict is Verdict.VALID
    assert result.counts["gaps"] == 0
    assert result.consumers[0].counts["delivered"] == 400


def test_witnesses_name_rows_workers_times_and_the_poll_that_passed_them(hammer: Run) -> None:
    result = hammer("naive", until=shows("duplicates", "missed"))
    by_kind = {witness.kind: witness for witness in reversed(result.witnesses)}
    twins = by_kind["duplicates"]
    assert len({(row["tenant"], row["version"]) for row in twins.rows}) == 1
    assert len({row["id"] for row in twins.rows}) == len(twins.rows) >= 2
    one, two = twins.operations[:2]
    assert one["start_us"] < two["end_us"]
    assert two["start_us"] < one["end_us"], "twins are written at the same time"
    missed = by_kind["missed"]
    row, poll = missed.rows[0], missed.polls[0]
    assert (poll["cursor_before"] or 0) < row["version"] <= poll["cursor_after"]
    assert row["id"] not in poll["delivered"]


def test_the_same_seed_makes_the_same_choices_and_another_makes_others(hammer: Run) -> None:
    def rolled_back(seed: int) -> int:
        load = {"workers": 1, "operations": 100, "tenants": 9, "rollback_percent": 50, "seed": seed}
        return hammer("advisory", "none", **load).counts["rolled_back"]

    assert rolled_back(7) == rolled_back(7)
    assert len({rolled_back(seed) for seed in range(3)}) > 1


def test_operations_are_divided_exactly_among_workers(hammer: Run) -> None:
    assert hammer("sequence", workers=3, operations=100).counts["attempts"] == 100


# How statements travel, and from how many connections


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("connections", [1, 3])
def test_every_protocol_tells_a_right_strategy_from_a_broken_one(
    hammer: Run, protocol: Protocol, connections: int
) -> None:
    load = {"workers": 4, "connections_per_worker": connections, "operations": 400, "protocol": protocol}
    naive = hammer("naive", **load, until=shows("duplicates"))
    assert naive.counts["duplicates"] > 0
    right = hammer("advisory", **{**load, "rollback_percent": 20.0, "tenants": 2})
    assert right.verdict is Verdict.VALID, right.witnesses
    assert right.counts["attempts"] == naive.counts["attempts"] == 400
    assert right.counts["committed"] == right.counts["rows"]
    assert right.counts["rolled_back"] > 0


def test_retries_work_with_several_connections_per_worker(hammer: Run) -> None:
    result = hammer("unique-retry", workers=2, connections_per_worker=8, operations=400, until=shows("retries"))
    assert result.verdict is Verdict.VALID, result.witnesses
    assert result.counts["retries"] > 0
    assert result.counts["committed"] == 400


def test_each_connection_is_a_session_of_its_own(hammer: Run) -> None:
    def sessions(result: RunResult) -> set[int]:
        return {operation["worker"] for witness in result.witnesses for operation in witness.operations}

    load = {"workers": 2, "connections_per_worker": 5, "operations": 400, "hold_us": 1000}
    result = hammer("sequence", **load, until=lambda result: max(sessions(result), default=0) > 2)
    assert max(sessions(result)) <= 10


def test_a_pipelined_run_is_recorded_whole(hammer: Run) -> None:
    result = hammer("unique", "cursor", operations=800, protocol=Protocol.PIPELINED, until=shows("refused"))
    assert result.counts["refused"] == result.errors["23505"] > 0
    assert result.counts["duplicates"] == result.counts["missed"] == result.counts["lost"] == 0


def test_the_warm_up_is_checked_and_not_measured(hammer: Run) -> None:
    result = hammer("naive", workers=2, operations=200, warmup_s=0.5)
    assert result.counts["attempts"] > 200
    assert result.counts["rows"] == result.counts["attempts"]
    assert result.pace is not None
    measured = round(result.throughput_per_s * result.seconds)
    assert measured == 200


def test_an_open_loop_keeps_its_rate_and_reports_lateness(hammer: Run) -> None:
    result = hammer("sequence", "none", workers=4, operations=None, duration_s=1.0, rate_per_s=300.0, seed=11)
    due = sum(arrivals.due_before(10**9, 11, session, 75.0) for session in range(1, 5))
    assert result.pace is not None
    loop = result.pace.open_loop
    assert loop is not None
    assert result.counts["attempts"] + loop.unsent == due
    assert 0 <= loop.late <= result.counts["attempts"]
    sent, waited = result.latency_us, loop.latency_us
    assert all((waited[name] or 0) >= (sent[name] or 0) for name in ("p50", "p90", "p99", "max"))


def test_operations_that_a_slow_server_never_began_are_counted(hammer: Run) -> None:
    load = {"workers": 2, "operations": None, "duration_s": 0.5, "rate_per_s": 2000.0, "hold_us": 20_000, "seed": 3}
    result = hammer("sequence", "none", **load)
    due = sum(arrivals.due_before(5 * 10**8, 3, session, 1000.0) for session in (1, 2))
    assert result.pace is not None
    loop = result.pace.open_loop
    assert loop is not None
    assert result.counts["attempts"] + loop.unsent == due
    assert loop.unsent > 800
    assert loop.late > result.counts["attempts"] / 2
    assert any("were due and never begun" in note for note in result.notes)


def test_arrivals_depend_on_the_seed_alone_and_have_their_rate() -> None:
    times = arrivals.first(5000, 1, 2, 1000.0)
    again = arrivals.times(1, 2, 1000.0)
    assert [next(again) for _ in range(3000)] == times[:3000].tolist()
    assert np.array_equal(arrivals.first(1500, 1, 2, 1000.0), times[:1500])
    assert (np.diff(times) >= 0).all()
    assert 4.6e9 < times[-1] < 5.4e9
    assert not np.array_equal(times, arrivals.first(5000, 1, 3, 1000.0))
    assert arrivals.due_before(int(times[1234]) + 1, 1, 2, 1000.0) == 1235


def test_the_timeline_counts_every_commit_once(hammer: Run) -> None:
    result = hammer("advisory", operations=1000)
    assert result.pace is not None
    timeline = result.pace.timeline
    assert sum(timeline.committed) == result.counts["committed"] == 1000
    assert len(timeline.committed) == len(timeline.p50_us) == len(timeline.p99_us) <= 62
    slowest = max(value for value in timeline.p99_us if value is not None)
    assert slowest <= (result.latency_us["max"] or 0)


def test_the_cpu_time_of_client_and_embedded_server_is_measured(hammer: Run) -> None:
    result = hammer("naive", operations=1000)
    assert result.pace is not None
    cpu = result.pace.cpu
    assert cpu.client_s is not None
    assert cpu.server_s is not None
    assert cpu.busiest_s is not None
    assert 0 < cpu.busiest_s < cpu.client_s
    assert cpu.server_s > 0


def _pace(**cpu: float) -> Pace:
    timeline = Timeline(interval_s=0.1, committed=(), p50_us=(), p99_us=())
    return Pace(start_spread_us=None, timeline=timeline, cpu=Usage(**cpu), open_loop=None)


def test_a_remark_is_made_only_of_a_client_that_is_the_bottleneck() -> None:
    load = Load(workers=2, duration_s=2.0, operations=None)
    busy = _pace(client_s=2.2, busiest_s=1.95, server_s=1.0)
    assert "the client was the bottleneck" in performance.remarks(busy, load, 100, 2.0, 2)[0]
    full = _pace(client_s=2.1, busiest_s=0.6, server_s=1.8)
    assert "it was the bottleneck" in performance.remarks(full, load, 100, 2.0, 2)[0]
    for innocent in (_pace(client_s=1.0, busiest_s=0.5, server_s=2.9), _pace(client_s=1.0, busiest_s=0.5), _pace()):
        assert performance.remarks(innocent, load, 100, 2.0, 2) == []
    unsent = Pace(**{**_as_dict(_pace()), "open_loop": OpenLoop(late=1, unsent=1, lag_us={}, latency_us={})})
    assert (
        performance.remarks(unsent, Load(workers=1, duration_s=1.0, operations=None, rate_per_s=1.0), 1000, 1.0, 2)
        == []
    )


def _as_dict(value: Pace) -> dict[str, object]:
    return {name: getattr(value, name) for name in ("start_spread_us", "timeline", "cpu", "open_loop")}


# The command


@pytest.mark.server
def test_the_table_names_what_changes_the_race(racebench: Command) -> None:
    done = racebench(
        *("run", "-s", "naive", "-w", "2", "--connections-per-worker", "2", "--protocol", "pipelined", "-d", "0.3"),
        *("--rate", "500", "--warmup", "0.1", "--no-save"),
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "2 workers × 2 connections, pipelined, open loop, 500 due a second, 0.1 s warm-up" in said
    assert "began more than 1 ms late" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "--rate is a number above 0"),
        (["--warmup", "-1"], "--warmup is a number from 0"),
        (["--connections-per-worker", "0"], "--connections-per-worker is a whole number from 1"),
        (["-w", "100", "--connections-per-worker", "100"], "is 10000 connections; the limit is 5000"),
        (["-w", "2", "--connections-per-worker", "3", "-n", "5"], "--operations 5 is fewer than 6 connections"),
        (["migration", "--rate", "5"], "--rate and --warmup need many operations"),
    ],
)
def test_an_impossible_load_is_one_line(racebench: Command, arguments: list[str], message: str) -> None:
    done = racebench("run", *arguments)
    assert_one_line(done, 2, message)


def test_over_tls_a_run_is_the_same_run(racebench: Command, users_server: UsersServer) -> None:
    """The socket cannot be taken there: libpq does the talking."""
    if not users_server.tls:
        pytest.skip("this PostgreSQL was built without TLS")
    counts = {}
    for sslmode in ("disable", "require"):
        done = racebench(
            *(
                "run",
                "-s",
                "advisory",
                "-s",
                "naive",
                "-w",
                "4",
                "-n",
                "400",
                "--seed",
                "5",
                "--json",
                "-",
                "--no-save",
            ),
            *("--dsn", users_server.dsn(sslmode=sslmode)),
        )
        assert done.returncode == 0, done.stderr
        advisory, naive = json.loads(done.stdout)["runs"]
        counts[sslmode] = advisory["counts"]
        assert advisory["verdict"] == "VALID"
        assert naive["counts"]["duplicates"] > 0
    assert counts["disable"].pop("inversions") == counts["require"].pop("inversions") == 0
    assert counts["disable"] == counts["require"]
    assert users_server.schemas() == []


# A disk that fills


def test_a_full_disk_ends_a_worker_and_keeps_what_it_recorded(
    embedded: Target, version_counter: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(RecordFile):
        def begin(self, *values: int) -> None:
            if self.count == 50:
                raise DiskFull("cannot record to r: No space left on device; free some space")
            super().begin(*values)

    class Spoken:
        """A channel whose other end says Go."""

        said: ClassVar[list[object]] = []
        kept: ClassVar[dict[str, object]] = {}

        def send(self, message: object) -> None:
            self.said.append(message)

        def receive(self) -> Go:
            now = time.perf_counter_ns()
            return Go(now, now, None)

    monkeypatch.setattr(worker, "RecordFile", Small)
    monkeypatch.setenv("RACEBENCH_COMPILED", "0")  # it writes into the map itself; test_compiled.py fills its disk
    strategy = version_counter.strategies["advisory"]
    with connect(embedded, schema="full_disk") as connection:
        connection.execute("CREATE SCHEMA full_disk")
        for part in version_counter.schema:
            run_file(connection, part)
        task = WorkerTask(
            target=embedded,
            schema="full_disk",
            application_name="racebench-test",
            strategy=strategy,
            load=Load(workers=1, duration_s=None, operations=100),
            sessions=(1,),
            operations=(100,),
            records=(tmp_path / "r",),
        )
        worker.work(task, Spoken())  # type: ignore[arg-type]
        rows = connection.execute("SELECT count(*) FROM events").fetchone()
        connection.execute("DROP SCHEMA full_disk CASCADE")
    report = Spoken.said[-1]
    assert isinstance(report, WorkerReport)
    assert report.problems == ["cannot record to r: No space left on device; free some space"]
    assert rows == (50,)
    assert len(read_records(tmp_path / "r", OPERATION)) == 50
