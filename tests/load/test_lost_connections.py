"""Connections that are lost at a chosen moment: the operation is FAIL or UNKNOWN, no strategy is accused of it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq

from benchmarks.faults.moments import once
from benchmarks.faults.proxy import BreakingProxy, Cut, after_an_error, breaking
from racebench.core.errors import ConnectionLost, DatabaseProblem, ScenarioProblem
from racebench.core.faults import CONNECTION_LOST, is_fault, of_lost_connection
from racebench.core.model import Load, Outcome, Protocol, Retry, Scenario, SqlFile, Strategy
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors.processes import Processes
from racebench.history.records import OPERATION, OPERATION_BITS, decode_status, read_records
from racebench.load import worker
from racebench.load.driver import LoadDriver
from racebench.load.pacing import Go
from racebench.load.worker import WorkerReport, WorkerTask
from racebench.postgres import transport
from racebench.postgres.connection import connect, run_file
from racebench.postgres.query import Query
from racebench.postgres.reconnecting import connect_first, reconnect
from racebench.postgres.schemas import empty_schema
from racebench.workloads import ad_hoc, scripts
from racebench.workloads.faults import fault

Through = Callable[[Cut], BreakingProxy]


@pytest.fixture(params=["0", *(["1"] if find_spec("racebench_compiled") else [])], autouse=True)
def with_and_without_the_extension(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACEBENCH_COMPILED", request.param)


@pytest.fixture
def through(embedded: Target) -> Iterator[Through]:
    """A proxy before the embedded server."""
    folder = Path(tempfile.mkdtemp(prefix="rb-"))
    opened = []

    def make(cut: Cut) -> BreakingProxy:
        context = breaking(folder, embedded, cut)
        opened.append(context)
        return context.__enter__()

    yield make
    for context in opened:
        context.__exit__(None, None, None)
    shutil.rmtree(folder)


class Spoken:
    """A channel whose other end says Go."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.kept: dict[str, Any] = {}

    def send(self, message: object) -> None:
        self.said.append(message)

    def receive(self) -> Go:
        now = time.perf_counter_ns()
        return Go(now, now, None)

    def waiting(self, timeout: float = 0.0) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class Worked:
    """What a worker reported, and each session's operations as (outcome, SQLSTATE)."""

    report: WorkerReport
    sessions: tuple[list[tuple[Outcome, str]], ...]


def strategy_of(script: str, retry: Retry | None = None) -> Strategy:
    return Strategy(name="own", summary="", script=scripts.parse(script, Path("own.sql")), retry=retry)


def worked(
    target: Target,
    folder: Path,
    strategy: Strategy,
    *,
    sessions: int = 1,
    operations: int = 4,
    protocol: Protocol = Protocol.PREPARED,
) -> Worked:
    """Run one worker in this process, in the schema `lost`."""
    numbers = tuple(range(1, sessions + 1))
    records = tuple(folder / f"r{number}" for number in numbers)
    channel = Spoken()
    task = WorkerTask(
        target=target,
        schema="lost",
        application_name="racebench-test",
        strategy=strategy,
        load=Load(
            workers=1,
            duration_s=None,
            operations=operations * sessions,
            connections_per_worker=sessions,
            protocol=protocol,
        ),
        sessions=numbers,
        operations=(operations,) * sessions,
        records=records,
    )
    worker.work(task, channel)
    report = channel.said[-1]
    assert isinstance(report, WorkerReport)
    return Worked(report, tuple([decode_status(int(r["status"])) for r in read_records(p, OPERATION)] for p in records))


@pytest.fixture
def table(embedded: Target) -> Iterator[psycopg.Connection[Any]]:
    """The table `t (id bigint UNIQUE)` in the schema `lost`."""
    with empty_schema(embedded, "lost"), connect(embedded, schema="lost") as connection:
        connection.execute("CREATE TABLE t (id bigint UNIQUE)")
        yield connection


INSERT = "BEGIN;\nINSERT INTO t VALUES (:operation);\nCOMMIT;"
RETRIED = Retry(sqlstates=frozenset({"23505"}), tries=3, backoff_ms=0.0)
OK = (Outcome.OK, "")


def first_operation(session: int) -> int:
    return session << OPERATION_BITS


# Between a refusal and the ROLLBACK


def _when_the_refused_session_rolls_back() -> Cut:
    refused: list[bool] = []

    def condition(data: bytes, of_client: bool) -> int | None:
        if not of_client and b"C23505\x00" in data:
            refused.append(True)
        return 0 if of_client and refused else None

    return once(condition)


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("retry", [RETRIED, None])
def test_a_refusal_before_a_lost_connection_is_the_outcome_only_if_it_is_not_retried(
    embedded: Target,
    through: Through,
    table: psycopg.Connection[Any],
    tmp_path: Path,
    retry: Retry | None,
    protocol: Protocol,
) -> None:
    """The retried one would have been tried again; to the other application the refusal was the answer."""
    table.execute("INSERT INTO t VALUES (%s)", (first_operation(1),))
    proxy = through(_when_the_refused_session_rolls_back())
    done = worked(proxy.target, tmp_path, strategy_of(INSERT, retry), protocol=protocol)
    assert proxy.cuts == 1
    (first, *rest) = done.sessions[0]
    if retry is None:
        assert first == (Outcome.FAIL, "23505")
    else:
        sent_along = protocol is Protocol.PIPELINED  # the COMMIT travelled with the INSERT
        assert first == (Outcome.UNKNOWN if sent_along else Outcome.FAIL, CONNECTION_LOST)
    assert rest == [OK] * 3
    assert done.report.lost == 1
    assert done.report.problems == []


@pytest.mark.parametrize("line", ["socket", "libpq"])
def test_a_connection_cut_right_behind_an_error_is_lost_and_not_refused(
    through: Through,
    table: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
) -> None:
    if line == "libpq":
        monkeypatch.setattr(transport, "takes_socket", lambda _connection: False)
    table.execute("INSERT INTO t VALUES (%s)", (first_operation(1),))
    proxy = through(
        once(lambda data, of_client: None if of_client or b"C23505\x00" not in data else after_an_error(data))
    )
    done = worked(proxy.target, tmp_path, strategy_of(INSERT))
    assert proxy.cuts == 1
    assert done.sessions[0] == [(Outcome.FAIL, CONNECTION_LOST), OK, OK, OK]


@pytest.mark.parametrize(
    ("sqlstate", "fatal", "recorded"),
    [
        ("57P01", True, "57P01"),
        ("25P03", True, "25P03"),
        ("23505", False, CONNECTION_LOST),
        ("40001", True, CONNECTION_LOST),
        ("", False, CONNECTION_LOST),
    ],
)
def test_what_a_lost_connection_is_recorded_as(sqlstate: str, fatal: bool, recorded: str) -> None:
    assert of_lost_connection(sqlstate, fatal=fatal) == recorded


@pytest.mark.parametrize("sqlstate", ["08000", "08006", "57P01", "57P05"])
def test_a_fault_of_the_surroundings_is_known_by_its_sqlstate(sqlstate: str) -> None:
    assert is_fault(sqlstate)


@pytest.mark.parametrize("sqlstate", ["", "23505", "40001", "40P01", "57014", "55P03", "RB0A1"])
def test_a_refusal_is_no_fault_of_the_surroundings(sqlstate: str) -> None:
    assert not is_fault(sqlstate)


# Several connections in a worker, and connections lost as they begin


@pytest.mark.parametrize("line", ["socket", "libpq"])
def test_a_worker_of_several_connections_goes_on_when_one_is_lost(
    through: Through,
    table: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
) -> None:
    if line == "libpq":
        monkeypatch.setattr(transport, "takes_socket", lambda _connection: False)
    tags = itertools.count()
    proxy = through(
        once(lambda data, of_client: 0 if not of_client and b"INSERT 0 1" in data and next(tags) == 5 else None)
    )
    done = worked(proxy.target, tmp_path, strategy_of(INSERT), sessions=3, operations=6)
    assert proxy.cuts == 1
    outcomes = [outcome for session in done.sessions for outcome in session]
    assert len(outcomes) == 18
    assert sorted(set(outcomes)) == [OK, (Outcome.FAIL, CONNECTION_LOST)]
    assert outcomes.count(OK) == 17
    assert table.execute("SELECT count(*) FROM t").fetchone() == (17,)
    assert done.report.lost == 1
    assert done.report.problems == []


@pytest.mark.parametrize("sessions", [1, 3])
def test_a_connection_lost_again_while_it_is_prepared_is_replaced(
    through: Through, table: psycopg.Connection[Any], tmp_path: Path, sessions: int
) -> None:
    """Cut at the third INSERT, and then the new connection as it prepares its statements."""
    inserts = itertools.count()
    lost: list[str] = []

    def cut(data: bytes, of_client: bool) -> int | None:
        if not of_client and b"INSERT 0 1" in data and next(inserts) == 2:
            lost.append("running")
            return 0
        if of_client and lost == ["running"] and data.startswith(b"P"):
            lost.append("preparing")
            return 0
        return None

    proxy = through(cut)
    done = worked(proxy.target, tmp_path, strategy_of(INSERT), sessions=sessions)
    assert proxy.cuts == 2
    outcomes = [outcome for session in done.sessions for outcome in session]
    assert len(outcomes) == 4 * sessions
    assert outcomes.count(OK) == 4 * sessions - 1
    assert done.report.problems == []


def test_a_connection_lost_while_it_is_prepared_for_the_start_is_replaced(
    through: Through, table: psycopg.Connection[Any], tmp_path: Path
) -> None:
    proxy = through(once(lambda data, of_client: 0 if of_client and data.startswith(b"P") else None))
    done = worked(proxy.target, tmp_path, strategy_of(INSERT))
    assert proxy.cuts == 1
    assert done.sessions == ([OK] * 4,)


def test_a_statement_that_the_server_refuses_is_still_the_scripts_fault(
    embedded: Target, table: psycopg.Connection[Any], tmp_path: Path
) -> None:
    with pytest.raises(ScenarioProblem, match=r"own\.sql:1: the server refuses this statement"):
        worked(embedded, tmp_path, strategy_of("INSERT INTO absent VALUES (1);"))


@pytest.mark.parametrize("end", ["SELECT pg_terminate_backend(pg_backend_pid());", "SELECT 'cut';"])
def test_a_connection_lost_while_a_file_is_run_is_not_the_files_fault(
    embedded: Target, through: Through, end: str
) -> None:
    proxy = through(once(lambda data, of_client: 0 if of_client and b"'cut'" in data else None))
    with (
        connect(proxy.target) as connection,
        pytest.raises(ConnectionLost, match=r"schema\.sql:\d: the connection was lost: "),
    ):
        run_file(connection, SqlFile(path=Path("schema.sql"), text=f"SELECT 1;\n{end}\nSELECT 2;"))


def test_a_statement_of_a_file_that_the_server_refuses_is_the_files_fault(embedded: Target) -> None:
    file = SqlFile(path=Path("schema.sql"), text="SELECT 1;\nSELECT absent;")
    with connect(embedded) as connection, pytest.raises(ScenarioProblem, match=r"schema\.sql:2: the server refuses"):
        run_file(connection, file)


def test_a_connection_lost_when_it_is_asked_about_gssapi_is_lost(embedded: Target) -> None:
    connection = connect(embedded)
    with connect(embedded) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

    class Tcp:
        """The connection's own libpq connection, as if over TCP."""

        host, ssl_in_use, info = b"127.0.0.1", False, ()

        @property
        def status(self) -> pq.ConnStatus:
            return pq.ConnStatus(connection.pgconn.status)

    class Asked:
        pgconn = Tcp()
        execute = connection.execute

    with pytest.raises(ConnectionLost, match="asked about GSSAPI"):
        transport.takes_socket(Asked())  # type: ignore[arg-type]
    connection.close()


def test_a_role_that_may_not_ask_about_gssapi_leaves_the_socket_to_libpq() -> None:
    class Refused:
        class pgconn:  # noqa: N801 - an attribute
            host, ssl_in_use, status, info = b"127.0.0.1", False, pq.ConnStatus.OK, ()

        def execute(self, _text: str) -> None:
            raise psycopg.errors.InsufficientPrivilege("permission denied for view pg_stat_gssapi")

    assert not transport.takes_socket(Refused())  # type: ignore[arg-type]


@pytest.mark.parametrize("sqlstate", [None, b"57P01"])
def test_an_error_of_sending_is_a_lost_connection_though_libpq_says_that_it_is_open(sqlstate: bytes | None) -> None:
    """libpq keeps the status OK until it reads; the error that it gives meanwhile has no SQLSTATE."""
    status = pq.ConnStatus.OK if sqlstate is None else pq.ConnStatus.BAD

    class Failed:
        status = pq.ExecStatus.FATAL_ERROR

        def error_field(self, field: pq.DiagnosticField) -> bytes | None:
            return sqlstate if field == pq.DiagnosticField.SQLSTATE else None

        def get_error_message(self, _encoding: str) -> str:
            return ""

    class Prepared(Failed):
        status, nfields = pq.ExecStatus.COMMAND_OK, 0

    class Synchronized(Failed):
        status = pq.ExecStatus.PIPELINE_SYNC

    class Libpq:
        def __init__(self) -> None:
            self.status = status
            prepared = [Prepared(), None, Prepared(), None, Synchronized()]
            self.results = itertools.chain(prepared, itertools.cycle([Failed(), None]))

        def sent(self, *_: object) -> None:
            """Take what is sent."""

        enter_pipeline_mode = exit_pipeline_mode = pipeline_sync = send_prepare = send_describe_prepared = sent

        def is_busy(self) -> bool:
            return False

        def get_result(self) -> object:
            return next(self.results)

        def exec_prepared(self, *_: object) -> object:
            return Failed()

        def get_error_message(self) -> str:
            return "server closed the connection unexpectedly"

    class Connection:
        pgconn = Libpq()

    query = Query(Connection(), scripts.parse("SELECT 1;", Path("own.sql")))  # type: ignore[arg-type]
    with pytest.raises(ConnectionLost):
        query.run([])
    with pytest.raises(ConnectionLost):
        Query(Connection(), scripts.parse("SELECT 1;", Path("own.sql")))  # type: ignore[arg-type]


def test_a_server_that_does_not_come_back_ends_a_session_with_its_problem() -> None:
    def absent() -> None:
        raise DatabaseProblem("cannot connect")

    assert _to_its_end(reconnect(absent, time.perf_counter_ns())) == "cannot connect"


def _to_its_end(pauses: Generator[float, None, str]) -> str:
    while True:
        try:
            next(pauses)
        except StopIteration as end:
            return str(end.value)


def test_before_the_start_only_a_lost_connection_is_tried_again() -> None:
    tries: list[int] = []

    def lost_twice() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionLost("the connection was lost")

    connect_first(lost_twice)
    assert len(tries) == 3
    with pytest.raises(DatabaseProblem, match="no password"):
        connect_first(_no_password)


def _no_password() -> None:
    raise DatabaseProblem("no password")


# Python callables


def test_an_operational_error_without_sqlstate_is_a_fault_whatever_wraps_it() -> None:
    lost = psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")
    assert fault(lost) == CONNECTION_LOST
    assert fault(psycopg.errors.AdminShutdown("terminating connection")) == "57P01"
    wrapped = RuntimeError("order failed")
    wrapped.__cause__ = lost
    assert fault(wrapped) == CONNECTION_LOST
    handled = RuntimeError("order failed")
    handled.__context__ = lost
    assert fault(handled) == CONNECTION_LOST
    after_a_refusal = psycopg.OperationalError("the connection is lost")
    after_a_refusal.__context__ = psycopg.errors.UniqueViolation("duplicate key")
    assert fault(after_a_refusal) == CONNECTION_LOST
    assert fault(ConnectionResetError(104, "Connection reset by peer")) == CONNECTION_LOST


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UniqueViolation("duplicate key"),
        psycopg.errors.SerializationFailure("could not serialize"),
        psycopg.errors.DeadlockDetected("deadlock detected"),
        psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"),
        psycopg.errors.PipelineAborted("pipeline aborted"),
        psycopg.InterfaceError("the cursor is closed"),
        psycopg.ProgrammingError("the last operation didn't produce records"),
        ValueError("sold out"),
    ],
)
def test_what_another_session_or_the_application_causes_is_no_fault(error: Exception) -> None:
    assert fault(error) == ""


def insert(connection: psycopg.Connection[Any]) -> None:
    """An innocent function."""
    with connection.transaction():
        connection.execute("INSERT INTO t SELECT count(*) FROM t")


def insert_over_its_own_connection() -> None:
    with psycopg.connect(os.environ["RACEBENCH_DSN"]) as connection:
        insert(connection)


def insert_and_hide_what_happened(connection: psycopg.Connection[Any]) -> None:
    try:
        insert(connection)
    except psycopg.Error:
        raise ValueError("no order") from None


def insert_the_same(connection: psycopg.Connection[Any]) -> None:
    """A guilty one: beside any other session it is refused."""
    with connection.transaction():
        connection.execute("INSERT INTO t SELECT count(*) FROM t")
        connection.execute("SELECT pg_sleep(0.01)")
        connection.execute("INSERT INTO u SELECT count(*) FROM u")


SETUP = "CREATE TABLE t (id bigint); CREATE TABLE u (id bigint UNIQUE)"


@pytest.mark.parametrize("function", [insert, insert_and_hide_what_happened, insert_over_its_own_connection])
def test_a_lost_connection_makes_no_innocent_function_invalid(through: Through, function: Callable[..., None]) -> None:
    commands = itertools.count()
    proxy = through(
        once(lambda data, of_client: 0 if not of_client and b"INSERT 0 1" in data and next(commands) == 20 else None)
    )
    with Processes() as executor:
        result = called(proxy.target, executor, function)
    assert proxy.cuts == 1
    assert result.verdict is Verdict.VALID, result.witnesses
    assert result.counts["refused"] == 0
    assert result.counts["unknown"] == 1
    assert result.errors == {CONNECTION_LOST: 1}
    assert result.counts["attempts"] == 60
    assert any("lost a connection 1 time" in note for note in result.notes)


def test_a_guilty_function_that_loses_a_connection_is_still_invalid(through: Through) -> None:
    commands = itertools.count()
    proxy = through(
        once(lambda data, of_client: 0 if not of_client and b"INSERT 0 1" in data and next(commands) == 20 else None)
    )
    with Processes() as executor:
        result = called(proxy.target, executor, insert_the_same)
    assert proxy.cuts == 1
    assert result.verdict is Verdict.INVALID
    assert result.counts["refused"] > 0


def test_a_connection_lost_while_a_call_runs_alone_is_tried_again(through: Through) -> None:
    commands = itertools.count()
    proxy = through(
        once(lambda data, of_client: 0 if not of_client and b"INSERT 0 1" in data and next(commands) == 0 else None)
    )
    with Processes() as executor:
        result = called(proxy.target, executor, insert)
    assert proxy.cuts == 1
    assert result.verdict is Verdict.VALID
    assert result.errors == {}


def called(target: Target, executor: Processes, function: Callable[..., None]) -> RunResult:
    scenario = ad_hoc.from_calls([function], setup=[SETUP], invariants=["SELECT 1 WHERE false"])
    (strategy,) = scenario.strategies.values()
    load = Load(workers=3, duration_s=None, operations=60)
    return LoadDriver(target=target, executor=executor).run(scenario, strategy, [], load, lambda _: None)


# The connection that reads what a run has left


def test_a_connection_lost_while_the_table_is_read_is_replaced(
    through: Through, processes: Processes, version_counter: Scenario
) -> None:
    proxy = through(once(lambda data, of_client: 20 if not of_client and b"PGCOPY" in data else None))
    driver = LoadDriver(target=proxy.target, executor=processes)
    load = Load(workers=2, duration_s=None, operations=40)
    consumers = [version_counter.consumers["cursor"]]
    result = driver.run(version_counter, version_counter.strategies["advisory"], consumers, load, lambda _: None)
    assert proxy.cuts == 1
    assert result.verdict is Verdict.VALID
    assert result.counts["rows"] == result.consumers[0].counts["delivered"] == 40


def test_a_consumers_connection_that_is_lost_as_it_begins_is_replaced(
    through: Through, processes: Processes, version_counter: Scenario
) -> None:
    proxy = through(once(lambda data, of_client: 0 if of_client and b"racebench_query" in data else None))
    driver = LoadDriver(target=proxy.target, executor=processes)
    load = Load(workers=2, duration_s=None, operations=40)
    consumers = [version_counter.consumers["cursor"]]
    result = driver.run(version_counter, version_counter.strategies["advisory"], consumers, load, lambda _: None)
    assert proxy.cuts == 1
    assert result.verdict is Verdict.VALID
    assert result.consumers[0].counts["delivered"] == 40


def tenth(condition: Callable[[bytes, bool], int | None]) -> Cut:
    """Cut the tenth time that a condition says so."""
    met = itertools.count(1)

    def cut(data: bytes, of_client: bool) -> int | None:
        passed = condition(data, of_client)
        return passed if passed is not None and next(met) == 10 else None

    return cut


@pytest.mark.parametrize("passed", [0, 20])
@pytest.mark.parametrize(("strategy", "verdict"), [("advisory", Verdict.VALID), ("naive", Verdict.INVALID)])
def test_a_consumer_that_loses_its_connection_goes_on_from_its_cursor(
    through: Through, processes: Processes, version_counter: Scenario, strategy: str, verdict: Verdict, passed: int
) -> None:
    """It is cut before its question is sent, or in the middle of it."""
    proxy = through(tenth(lambda data, of_client: passed if of_client and b"racebench_query" in data else None))
    driver = LoadDriver(target=proxy.target, executor=processes)
    load = Load(workers=2, duration_s=None, operations=40, hold_us=5_000)
    consumers = [version_counter.consumers["cursor"]]
    result = driver.run(version_counter, version_counter.strategies[strategy], consumers, load, lambda _: None)
    assert proxy.cuts == 1
    assert result.verdict is verdict
    assert "consumer 'cursor' lost its connection 1 time; it went on from its cursor over another" in result.notes
    assert result.consumers[0].counts["redelivered"] == 0
    if verdict is Verdict.VALID:
        assert result.consumers[0].counts["delivered"] == result.counts["rows"] == 40


def test_a_connection_lost_while_an_invariant_is_asked_is_not_the_invariants_fault(
    through: Through, processes: Processes, tmp_path: Path
) -> None:
    script = tmp_path / "insert.sql"
    script.write_text("INSERT INTO t VALUES (1);\n")
    scenario = ad_hoc.from_sql(str(script), setup=["CREATE TABLE t (id int)"], invariants=["SELECT 1 AS odd FROM t"])
    (strategy,) = scenario.strategies.values()
    proxy = through(once(lambda data, of_client: 0 if of_client and b"AS odd" in data else None))
    driver = LoadDriver(target=proxy.target, executor=processes)
    load = Load(workers=1, duration_s=None, operations=3)
    result = driver.run(scenario, strategy, [], load, lambda _: None)
    assert proxy.cuts == 1
    assert result.counts["violations"] == 3
    assert result.verdict is Verdict.INVALID
