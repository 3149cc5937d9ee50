"""One worker process: connects, prepares, waits for the common start, and runs operations until told to stop.

It has one connection, or several that it drives by readiness.

Every operation is recorded before it begins and after it ends, so that a killed worker leaves the operation in flight
on file. Counting and judging are the checkers'.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from racebench.core.errors import ConnectionLost, DiskFull
from racebench.core.faults import CONNECTION_LOST
from racebench.core.model import Load, Outcome, Strategy
from racebench.core.plain_text import one_line
from racebench.core.target import Pooling, Target
from racebench.executors import Channel, RecordedFile, Report
from racebench.history.recording import (
    CHUNK_RECORDS,
    NO_VERSION,
    OPERATION,
    OPERATION_BITS,
    RecordFile,
    encode_status,
    packed,
)
from racebench.load.multiplexing import Waiting, drive
from racebench.load.pacing import DueTimes, Go, Phase, jitter_s, line_up, phases, wait_until
from racebench.postgres.compiler.program import LoopCalls
from racebench.postgres.connection import connect
from racebench.postgres.extension import Course
from racebench.postgres.reconnecting import connect_first, reconnect
from racebench.postgres.resting import Resting
from racebench.postgres.session import Session
from racebench.postgres.transport import Variables
from racebench.workloads.retry import Tries

#: The variables that a session sets once, where nothing is drawn for an operation.
_CONSTANTS = frozenset({"think", "hold", "tenants", "client_id", "random_seed", "tenant"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """What one worker process has to do: a connection for each of its `sessions`, numbered from 1 over all workers.

    `operations` are how many each session does (None: as many as the clock allows), `records` their files. `own_code`:
    the strategy is the user's own code. `rests`: another run follows, and its connections may wait for that.
    """

    target: Target
    schema: str
    application_name: str
    strategy: Strategy
    load: Load
    sessions: tuple[int, ...]
    operations: tuple[int | None, ...]
    records: tuple[Path, ...]
    own_code: bool = False
    rests: bool = False

    @property
    def recorded(self) -> tuple[RecordedFile, ...]:
        return tuple(
            RecordedFile(path, OPERATION, session) for path, session in zip(self.records, self.sessions, strict=True)
        )

    def recorded_in(self, folder: Path) -> WorkerTask:
        return replace(self, records=tuple(folder / path.name for path in self.records))


@dataclass(frozen=True, slots=True)
class Ready:
    """Connected and prepared."""


@dataclass(slots=True, kw_only=True)
class WorkerReport(Report):
    """What a worker reports at its end. `retried` and `messages` are by SQLSTATE; `problems` say why sessions gave up.

    `lost`: how often a connection was lost. `cpu_s` is the process's own time on a CPU from the common start on. Of a
    worker that calls Python, `used`: a statement may have been sent over the connection that calls are given; if none
    was, `connections`: the pids of the process's sessions that have sent nothing of a call's. `resting`: the pids of
    the sessions that wait for the next run, with the answer to all that they have sent.
    """

    retried: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    problems: list[str] = field(default_factory=list)
    cpu_s: float = 0.0
    used: bool = True
    connections: tuple[int, ...] = ()
    resting: tuple[int, ...] = ()


def work(task: WorkerTask, channel: Channel) -> None:
    """Run one worker from start to end: send Ready, wait for Go (or None), send a WorkerReport."""
    report = WorkerReport()
    resting: Resting = channel.kept.setdefault("sessions", Resting())
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(contextlib.closing(_Client(task, report, resting, *session)))
            for session in zip(task.sessions, task.operations, task.records, strict=True)
        ]
        gc.disable()  # the loop makes no cycles, and a collection would lengthen one operation
        stack.callback(gc.enable)
        channel.send(Ready())
        go = channel.receive()
        if go is None:
            return
        wait_until(go.start_ns)
        cpu = time.process_time()
        if clients[0].direct:
            _drive_one(clients[0], go)
        else:
            drive([(client, client.operations(go)) for client in clients])
        report.cpu_s = time.process_time() - cpu
        if task.rests:
            rested = [client for client in clients if client.session.alive and client.session.socket >= 0]
            report.resting = tuple(client.session.connection.pgconn.backend_pid for client in rested)
        channel.send(report)
        if task.rests:
            for client in rested:
                with contextlib.suppress(psycopg.Error):  # it was lost meanwhile, and is closed
                    client.rest()


def _drive_one(client: _Client, go: Go) -> None:
    """Run one connection, which waits for its answers itself."""
    for pause in client.operations(go):
        if isinstance(pause, float):
            time.sleep(pause)


class _Client:
    """One connection and its record. What it does is a generator of what it waits for.

    `direct`: it is the only one of its process, and waits for its answers itself.
    """

    def __init__(
        self,
        task: WorkerTask,
        report: WorkerReport,
        resting: Resting,
        number: int,
        operations: int | None,
        record: Path,
    ) -> None:
        self.task = task
        self.report = report
        self.resting = resting
        self.session_number = number
        self.most = operations
        self.random = Random(f"{task.load.seed}/{number}")
        chunk = max(4096, CHUNK_RECORDS // len(task.sessions))
        self.record = RecordFile(record, OPERATION, chunk)
        load = task.load
        self._draws = load.tenants > 1 or load.long_percent > 0 or load.rollback_percent > 0
        self._due = load.rate_per_s is not None
        self.direct = self._begun = False
        #: When to begin, and what the session is in; of no meaning before the start.
        self.go, self.phase = Go(0, 0, None), Phase(0, 0)
        #: Whether the server could not be reached again.
        self.gone = False
        #: Whether the connection waits for the next run.
        self.rested = False
        self.due_times = DueTimes(task.load, number)
        try:
            self.record.reserve()
            connect_first(self.open)
            self._begun = True
        except BaseException:
            self.record.close()
            raise

    def open(self) -> None:
        """Connect, prepare and compile; raises DatabaseProblem."""
        task, load = self.task, self.task.load
        connection = (
            connect(
                task.target,
                schema=task.schema,
                application_name=task.application_name,
                settings=self._settings,
                own_code=True,
            )
            if task.own_code
            else self.resting.connect(
                task.target,
                schema=task.schema,
                application_name=task.application_name,
                settings=self._settings,
                rests=task.rests,
            )
        )
        try:
            self.session = Session(
                connection,
                task.strategy.script,
                seed=f"{load.seed}/{self.session_number}/script",
                protocol=load.protocol,
                zero=_never_slept(load),
                shared=task.target.configured and task.target.pooler is not Pooling.SESSION,
                text=task.strategy.text,
            )
        except psycopg.OperationalError as problem:  # libpq has already closed the socket
            raise ConnectionLost(f"the connection was lost as it began: {one_line(str(problem))}") from None
        if not self._begun:
            self.direct = len(task.sessions) == 1 and not self._takes_course
        self.program = self._compile()

    @property
    def _settings(self) -> dict[str, str]:
        isolation = self.task.strategy.isolation
        return {"default_transaction_isolation": isolation} if isolation else {}

    def rest(self) -> None:
        """Have the connection wait for the next run."""
        task, connection = self.task, self.session.detach()
        self.rested = True
        self.resting.rest(connection, task.target, schema=task.schema, application_name=task.application_name)

    def close(self) -> None:
        if not self.rested:
            self.session.close()
        self.record.close()

    @property
    def socket(self) -> int:
        return self.session.socket

    @property
    def _takes_course(self) -> bool:
        """Whether the extension can run the usual operations: nothing is drawn, and each begins when the last ended."""
        return self.session.has_course(_CONSTANTS) and not self._draws and not self._due

    def operations(self, go: Go) -> Waiting:
        """Run operations until told to stop. A full disk ends it: what it did is on record."""
        try:
            yield from self._operations(go)
        except DiskFull as problem:
            self.report.problems.append(str(problem))

    def _operations(self, go: Go) -> Waiting:
        load, record = self.task.load, self.record
        self.go = go
        variables: Variables = {
            "think": b"%d" % load.think_us,
            "hold": b"%d" % load.hold_us,
            "tenants": b"%d" % load.tenants,
            "client_id": b"%d" % (self.session_number - 1),
            "random_seed": b"%d" % load.seed,
            "tenant": b"1",
            "version": None,
        }
        if (pause := jitter_s(load, self.random)) > 0:
            yield pause
        for phase in phases(go, self.most):
            self.phase = phase
            done, changed = record.count + phase.operations, True
            while changed and not self.gone:
                running = self.program(
                    variables, self.session_number << OPERATION_BITS, done - record.count, phase.until_ns
                )
                changed = running if self.direct else (yield from self._noticing(running))

    def _noticing(self, running: Generator[float | Course | None, Any, bool]) -> Generator[Any, Any, bool]:
        """Run a program; if its connection is lost and libpq has closed the socket, it finds that out by itself."""
        if self.session.has_socket:
            return (yield from running)
        try:
            waited = next(running)
            while True:
                lost = waited is None and self.session.socket < 0
                waited = running.send(None if lost else (yield waited))
        except StopIteration as ended:
            changed: bool = ended.value
            return changed

    def _compile(self) -> Any:
        """The session's loop, with everything of the worker that it calls."""
        load, session, clock = self.task.load, self.session, time.perf_counter_ns
        tenants, random, due_times = load.tenants, self.random, self.due_times

        def draw(variables: Variables) -> tuple[int, bool]:
            tenant = random.randint(1, tenants) if tenants > 1 else 1
            variables["tenant"] = b"%d" % tenant
            if load.long_percent:
                long = random.random() * 100 < load.long_percent
                variables["hold"] = b"%d" % (load.long_us if long else load.hold_us)
            return tenant, bool(load.rollback_percent) and random.random() * 100 < load.rollback_percent

        def due() -> float:
            return due_times.pause_s(self.go, self.phase)

        calls = LoopCalls(
            clock=clock,
            begin=self.record.begin,
            finish=self.record.finish,
            record=self.record,
            line_up=line_up,
            draw=draw,
            due=due,
            again=self._again,
            changed=lambda: self.gone or self.session is not session,
            version=_version,
            no_version=NO_VERSION,
            committed_status=encode_status(Outcome.OK, ""),
        )
        records = None
        if not self.direct and self._takes_course:
            committed = packed(OPERATION, 0, 0, NO_VERSION, 1, 1, calls.committed_status)
            records = packed(OPERATION, 0, 0, NO_VERSION, 1, 1, 0), committed
        return session.loop(calls, direct=self.direct, draws=self._draws, due=self._due, records=records)

    def _again(
        self, variables: Variables, outcome: Outcome, roll_back: bool, start: int, tenant: int
    ) -> Generator[float | None, None, None]:
        """Retry an operation whose first try did not succeed, as the retry rule says, and record its outcome."""
        report = self.report
        tries, sqlstate, doubt = Tries(self.task.strategy.retry), "", False
        while outcome is not Outcome.OK:
            session = self.session
            sqlstate, message = session.sqlstate, session.message
            retried = tries.would_retry(outcome, sqlstate)
            yield from self._waiting(session.rolling_back())
            if sqlstate:
                report.messages.setdefault(sqlstate, message)
            if retried and not session.alive:
                # The refusal was not the last word: what ended the operation is the loss of the connection.
                outcome = Outcome.UNKNOWN if session.in_doubt else Outcome.FAIL
                sqlstate = session.sqlstate
                report.messages.setdefault(sqlstate, session.message)
            doubt |= outcome is Outcome.UNKNOWN
            if not tries.again(outcome, sqlstate):
                break
            if not session.alive:
                yield from self._reconnect()
                if self.gone:
                    break
            report.retried[sqlstate] = report.retried.get(sqlstate, 0) + 1
            variables["version"] = None
            if (pause := tries.pause_s(self.random)) > 0:
                yield pause
            sqlstate = ""
            outcome = yield from self._waiting(self.session.steps(variables, roll_back))
        if doubt and outcome is Outcome.FAIL:
            # Refused now, but an earlier try may have been committed; perhaps that is why.
            outcome, sqlstate = Outcome.UNKNOWN, CONNECTION_LOST
        end = time.perf_counter_ns()
        self.record.finish(start, end, _version(variables), tenant, tries.number, encode_status(outcome, sqlstate))
        if not self.gone and not self.session.alive:
            yield from self._reconnect()

    def _waiting(self, steps: Generator[float | None, None, Any]) -> Generator[float | None, None, Any]:
        """Run steps of the session: a loop that waits by itself waits for the session with which it began."""
        if self.direct:
            return self.session.wait(steps)
        return (yield from steps)

    def _reconnect(self) -> Generator[float | None, None, None]:
        """Connect again as an application would; `gone`, and a problem reported, if the server cannot be reached."""
        self.session.close()
        self.report.lost += 1
        if problem := (yield from reconnect(self.open, self.phase.until_ns)):
            self.gone = True
            self.report.problems.append(f"session {self.session_number} could not connect again: {problem}")
        else:
            yield 0.0  # after a pause the new socket is waited for


def _never_slept(load: Load) -> frozenset[str]:
    """The delays set by racebench that are 0 for the whole run, so that a program leaves them out."""
    delays_us = {"think": load.think_us, "hold": load.hold_us or (load.long_us if load.long_percent else 0)}
    return frozenset(name for name, us in delays_us.items() if us == 0)


def _version(variables: Variables) -> int:
    """The number that the script says it used, if it is a 64-bit integer; judging uses the table's."""
    raw = variables.get("version")
    if raw is None:
        return NO_VERSION
    try:
        version = int(raw)
    except ValueError:
        return NO_VERSION
    return version if NO_VERSION < version < 2**63 else NO_VERSION
