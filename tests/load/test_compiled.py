"""The extension, where it is installed: a worker does and records the same with it as without it."""

from __future__ import annotations

import importlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from racebench.core.model import Load, Outcome, Protocol, Retry, Strategy
from racebench.core.target import Target
from racebench.history import recording
from racebench.history.recording import OPERATION_BITS, RecordFile, packed
from racebench.history.records import OPERATION, decode_status, read_records
from racebench.load import worker
from racebench.load.pacing import Go
from racebench.load.worker import WorkerReport, WorkerTask
from racebench.postgres.connection import connect
from racebench.postgres.schemas import empty_schema
from racebench.workloads import scripts

if os.environ.get("TEST_COMPILED") == "required":
    compiled: Any = importlib.import_module("racebench_compiled")
else:
    compiled = pytest.importorskip("racebench_compiled", reason="not installed: pip install ./racebench/compiled")

#: Operations of a session, and those whose row is there before: they are refused.
OPERATIONS, TAKEN = 40, (3, 4, 17)


class Channel:
    """A channel whose other end says Go."""

    def __init__(self, duration_s: float | None) -> None:
        self.said: list[object] = []
        self.kept: dict[str, Any] = {}
        self._duration_s = duration_s

    def send(self, message: object) -> None:
        self.said.append(message)

    def receive(self) -> Go:
        self.start = now = time.perf_counter_ns()
        return Go(now, now, None if self._duration_s is None else now + int(self._duration_s * 1e9))

    def waiting(self, timeout: float = 0.0) -> bool:
        raise NotImplementedError


@pytest.fixture
def table(embedded: Target) -> Iterator[psycopg.Connection[Any]]:
    """The table `t (id bigint UNIQUE, version text)` in the schema `compiled`, and a function that notices."""
    with empty_schema(embedded, "compiled"), connect(embedded, schema="compiled") as connection:
        connection.execute("CREATE TABLE t (id bigint UNIQUE, version text)")
        connection.execute(
            "CREATE FUNCTION careful(number bigint) RETURNS bigint LANGUAGE plpgsql AS "
            "$$BEGIN IF number % 7 = 0 THEN RAISE WARNING 'seven'; END IF; RETURN number; END$$"
        )
        yield connection


def work(
    target: Target, folder: Path, script: str, *, sessions: int = 1, duration_s: float | None = None, **load: Any
) -> tuple[WorkerReport, list[Any], int]:
    """Run one worker in this process: its report, the records of each session, and the start."""
    folder.mkdir(exist_ok=True)
    channel = Channel(duration_s)
    retry = Retry(sqlstates=frozenset({"23505"}), tries=3, backoff_ms=0.0) if "-- retry" in script else None
    operations = None if duration_s else OPERATIONS
    files = tuple(folder / f"r{number}" for number in range(sessions))
    task = WorkerTask(
        target=target,
        schema="compiled",
        application_name="racebench-test",
        strategy=Strategy(name="own", summary="", script=scripts.parse(script, Path("own.sql")), retry=retry),
        load=Load(workers=1, connections_per_worker=sessions, duration_s=duration_s, operations=operations, **load),
        sessions=tuple(range(1, sessions + 1)),
        operations=(operations,) * sessions,
        records=files,
    )
    worker.work(task, channel)
    report = channel.said[-1]
    assert isinstance(report, WorkerReport)
    return report, [read_records(file, OPERATION) for file in files], channel.start


def without_times(operations: Any) -> list[Any]:
    return [
        (int(one["version"]), int(one["tenant"]), int(one["tries"]), *decode_status(int(one["status"])))
        for one in operations
    ]


INSERT = "INSERT INTO t VALUES (:operation, :version);\nCOMMIT;"
SCRIPTS = {
    "a number": f"BEGIN;\nSELECT :operation::bigint % 1000 AS version \\gset\n{INSERT}",
    "a number below zero": f"BEGIN;\nSELECT 500 - :operation::bigint % 1000 AS version \\gset\n{INSERT}",
    "a number beyond 64 bits": f"BEGIN;\nSELECT 10::numeric ^ (:operation::bigint % 30) AS version \\gset\n{INSERT}",
    "no number": f"BEGIN;\nSELECT ' 1_' || :operation AS version \\gset\n{INSERT}",
    "nothing": f"BEGIN;\nSELECT nullif(:operation::bigint % 3, 0) AS version \\gset\n{INSERT}",
    "an empty text": f"BEGIN;\nSELECT left('12', (:operation::bigint % 3)::int) AS version \\gset\n{INSERT}",
    "a long text": f"BEGIN;\nSELECT repeat('1', (:operation::bigint % 5 * 300)::int) AS version \\gset\n{INSERT}",
    "two columns": f"BEGIN;\nSELECT 1 AS version, :operation::int8 AS other \\gset\nSELECT :other;\n{INSERT}",
    "notices": f"BEGIN;\nSELECT careful(:operation::bigint) AS version \\gset\n{INSERT}",
    "retries": f"-- retry\nBEGIN;\nSELECT 7 AS version \\gset\n{INSERT}",
    "no transaction": "INSERT INTO t VALUES (:operation, 'x') RETURNING version;",
    "rolled back": "BEGIN;\nINSERT INTO t VALUES (:operation, 'x');\nROLLBACK;",
    "rows before the stored one": f"BEGIN;\nSELECT 'lock';\nSELECT 9 AS version \\gset\n{INSERT}",
    "rows that differ": f"BEGIN;\nSELECT :operation;\nSELECT 9 AS version \\gset\n{INSERT}",
    "what never changes": f"\\set x :client_id + 5\n\\set y :x * 2\nBEGIN;\nSELECT :y AS version \\gset\n{INSERT}",
    "what grows": f"\\set tenant :tenant + 1\nBEGIN;\nSELECT :tenant AS version \\gset\n{INSERT}",
    "what is drawn": f"\\set x random(1, 99)\nBEGIN;\nSELECT :x AS version \\gset\n{INSERT}",
    "what is set behind a statement": f"BEGIN;\n\\set x :client_id\nSELECT :x AS version \\gset\n{INSERT}",
    "what is set from the operation": f"\\set x :operation % 7\nBEGIN;\nSELECT :x AS version \\gset\n{INSERT}",
    "what an answer set": "\\set x :client_id\nBEGIN;\nSELECT :x::int8 + 1 AS x \\gset\n"
    f"SELECT :x AS version \\gset\n{INSERT}",
    "an error at commit": "SET CONSTRAINTS ALL IMMEDIATE;\nBEGIN;\nSELECT 1 / (:operation::int8 % 9);\nCOMMIT;",
}


@pytest.mark.parametrize("protocol", [Protocol.PREPARED, Protocol.PIPELINED])
@pytest.mark.parametrize("sessions", [1, 3])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_worker_records_and_writes_the_same_with_the_extension_and_without(
    embedded: Target,
    table: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    sessions: int,
    protocol: Protocol,
) -> None:
    seen = []
    for wanted in ("0", "1"):
        monkeypatch.setenv("RACEBENCH_COMPILED", wanted)
        table.execute("TRUNCATE t")
        for number in TAKEN:
            table.execute("INSERT INTO t VALUES (%s)", ((1 << OPERATION_BITS) + number,))
        report, histories, _ = work(embedded, tmp_path / wanted, SCRIPTS[script], sessions=sessions, protocol=protocol)
        assert [len(history) for history in histories] == [OPERATIONS] * sessions
        for history in histories:
            assert (history["start"] > 0).all()
            assert (history["start"] <= history["end"]).all()
            assert (history["end"][:-1] <= history["start"][1:]).all()
        rows = table.execute("SELECT * FROM t ORDER BY id").fetchall()
        seen.append(([without_times(history) for history in histories], rows, report.retried, report.messages))
    assert seen[0] == seen[1]
    outcomes = {outcome for history in seen[0][0] for *_, outcome, _ in history}
    assert Outcome.UNKNOWN not in outcomes


@pytest.mark.parametrize("sessions", [1, 3])
def test_no_operation_begins_after_the_end(
    embedded: Target, table: psycopg.Connection[Any], tmp_path: Path, sessions: int
) -> None:
    report, histories, start = work(embedded, tmp_path, SCRIPTS["a number"], sessions=sessions, duration_s=0.2)
    assert report.problems == []
    for history in histories:
        assert len(history) > 1
        assert history["start"][0] >= start
        assert history["start"][-1] < start + 200_000_000 <= history["end"][-1] + 200_000_000
    committed = sum(len(history) for history in histories)
    assert table.execute("SELECT count(*) FROM t").fetchone() == (committed,)


class Small(RecordFile):
    """A file that is mapped a page at a time."""

    def __init__(self, path: Path, dtype: Any, _chunk: int) -> None:
        super().__init__(path, dtype, 128)


def test_records_go_on_in_the_next_piece_of_the_file(
    embedded: Target, table: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RecordFile", Small)
    monkeypatch.setitem(globals(), "OPERATIONS", 300)
    _, (history,), _ = work(embedded, tmp_path, SCRIPTS["a number"])
    assert without_times(history) == [
        (n, 1, 1, Outcome.OK, "") for n in ((1 << OPERATION_BITS) % 1000 + n for n in range(300))
    ]


def test_a_full_disk_ends_a_worker_and_keeps_what_it_recorded(
    embedded: Target, table: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved = recording.reserve

    def reserve(file: int, offset: int, size: int) -> None:
        if offset:
            raise OSError(28, "No space left on device")
        reserved(file, offset, size)

    monkeypatch.setattr(worker, "RecordFile", Small)
    monkeypatch.setattr(recording, "reserve", reserve)
    monkeypatch.setitem(globals(), "OPERATIONS", 300)
    report, histories, _ = work(embedded, tmp_path, SCRIPTS["a number"], sessions=2)
    assert [len(history) for history in histories] == [128, 128]
    assert sorted(report.problems) == [
        f"cannot record to {tmp_path / name}: No space left on device; free some space" for name in ("r0", "r1")
    ]
    assert table.execute("SELECT count(*) FROM t").fetchone() == (256,)


# A course and a loop alone

BEGUN = packed(OPERATION, 0, 0, -1, 1, 1, 0)
DONE = packed(OPERATION, 0, 0, -1, 1, 1, 99)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def started(fd: int, memory: bytearray, *, variables: dict[str, bytes | None], left: int = 5) -> tuple[Any, Any]:
    """A loop that runs a course of one round trip, which sends :x and is answered "usual"."""
    course, loop = compiled.Course(fd, [([(b"\0s\0\0\0\0\1", ("x",))], None)], BEGUN, DONE), compiled.Loop()
    course.learn(0, b"usual")
    loop.watch(fd)
    loop.start(course.begin(variables, 7, left, 2**62, memory, 32, len(memory) // 32 - 1))
    return loop, course


def answer(theirs: socket.socket, *answers: bytes) -> threading.Thread:
    def run() -> None:
        for one in answers:
            assert theirs.recv(10_000).endswith(b"S\0\0\0\4")
            theirs.sendall(one)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_course_stops_at_the_first_answer_that_is_not_as_usual(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    memory = bytearray(32 * 8)
    thread = answer(theirs, b"usual", b"usual", b"unusual")
    loop, _ = started(ours.fileno(), memory, variables={"x": b"1"})
    ((fd, (done, trip, start, data)),) = loop.wait(None)
    thread.join()
    assert (fd, done, trip, data) == (ours.fileno(), 2, 0, b"unusual")
    assert start > 0
    assert [memory[at + 28 : at + 32] for at in (0, 32, 64, 96, 128)] == [
        b"\0" * 4,
        DONE[28:],
        DONE[28:],
        *[b"\0" * 4] * 2,
    ]
    assert memory[96:104] == start.to_bytes(8, "little")
    loop.close()


def test_a_course_that_has_done_what_it_was_to_do_has_no_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    thread = answer(theirs, b"usual", b"usual")
    loop, _ = started(ours.fileno(), bytearray(32 * 8), variables={"x": None}, left=2)
    ((_, (done, trip, _, data)),) = loop.wait(None)
    thread.join()
    assert (done, trip, data) == (2, -1, None)
    loop.close()


@pytest.mark.parametrize("reset", [False, True])
def test_the_end_of_a_connection_is_an_answer(pair: tuple[socket.socket, socket.socket], reset: bool) -> None:
    """With what was sent unread, the kernel reports a reset."""
    ours, theirs = pair
    loop, _ = started(ours.fileno(), bytearray(32 * 8), variables={"x": b"1"})
    if not reset:
        theirs.recv(1000)
    theirs.close()
    ((_, (done, trip, _, data)),) = loop.wait(None)
    assert (done, trip) == (0, 0)
    assert isinstance(data, ConnectionResetError) if reset else data == b""
    loop.close()


def test_a_variable_that_is_not_set_is_left_to_python(pair: tuple[socket.socket, socket.socket]) -> None:
    loop, _ = started(pair[0].fileno(), bytearray(32 * 8), variables={})
    ((_, (done, trip, _, data)),) = loop.wait(None)
    assert (done, trip, data) == (0, -1, None)
    loop.close()


def test_a_loop_returns_what_can_be_read_and_nothing_at_its_timeout(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    loop = compiled.Loop()
    loop.watch(ours.fileno())
    loop.watch(theirs.fileno())
    assert loop.wait(0.0) == []
    theirs.send(b"x")
    assert loop.wait(None) == [(ours.fileno(), None)]
    loop.forget(ours.fileno())
    assert loop.wait(0.001) == []
    loop.close()


def test_records_that_do_not_fit_are_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    course = compiled.Course(pair[0].fileno(), [([(b"", ())], None)], BEGUN, DONE)
    with pytest.raises(ValueError, match="do not fit"):
        course.begin({}, 0, 1, 2**62, bytearray(64), 32, 2)
