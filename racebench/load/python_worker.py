"""One worker process that calls Python: like worker.py, but an operation is a call of the application's own code.

The environment of the process says where the tables are, before anything of the application is imported.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import RacebenchError, UsageProblem, one_line
from racebench.core.model import Call, Load, Outcome
from racebench.core.target import Target
from racebench.history.records import CHUNK_RECORDS, NO_VERSION, OPERATION, RecordFile, encode_status
from racebench.load.executors import Channel
from racebench.load.pacing import ENDLESS, DueTimes, Go, jitter_s, line_up, phases, wait_until
from racebench.load.worker import Ready, WorkerReport
from racebench.postgres.connection import connect
from racebench.workloads import callables

_OPEN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a process has to know to call the application: its callables, its surroundings, where the tables are.

    `functions`: those of the callables that cannot be imported, packed by dill, None in place of the others.
    """

    target: Target
    schema: str
    application_name: str
    calls: tuple[Call, ...]
    functions: bytes
    folder: str
    environment: Mapping[str, str]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTask:
    """What one worker process has to do: `operations` calls (None: as many as the clock allows), recorded in a file."""

    application: Application
    load: Load
    session: int
    operations: int | None
    record: Path


@dataclass(frozen=True, slots=True)
class Alone:
    """How calls end that run one after the other: their codes, "" for those that succeed, and the first error."""

    codes: tuple[str, ...]
    error: str


def application(target: Target, schema: str, name: str, calls: tuple[Call, ...]) -> Application:
    """The application as this process knows it; raises UsageProblem for a callable that cannot be sent to another."""
    functions = [None if _importable(call) else call.function for call in calls]
    return Application(
        target=target,
        schema=schema,
        application_name=name,
        calls=tuple(replace(call, function=None) for call in calls),
        functions=_packed(calls, functions),
        folder=str(Path.cwd()),
        environment=dict(os.environ),
        paths=tuple(sys.path),
    )


def _importable(call: Call) -> bool:
    """Whether a call is at the top of a module, so that another process can import it."""
    return callables.is_at_top(call) and call.module != "__main__"


def _packed(calls: tuple[Call, ...], functions: list[Any]) -> bytes:
    """The functions that are not at the top of a module, with what they refer to, as dill packs them."""
    if not any(functions):
        return b""
    import dill

    try:
        packed: bytes = dill.dumps(functions, recurse=True)
        dill.loads(packed)
    except Exception as problem:  # noqa: BLE001 - depends on what a function refers to
        names = ", ".join(str(call) for call, function in zip(calls, functions, strict=True) if function is not None)
        raise UsageProblem(
            f"{names} cannot be sent to worker processes: {type(problem).__name__}: {one_line(str(problem))}; "
            "define it at the top of a module that can be imported"
        ) from None
    return packed


def try_alone(task: Application, channel: Channel) -> None:
    """Run each call twice while no other session works; send Alone."""
    with contextlib.closing(_Caller(task, 1)) as caller:
        codes, error = [], ""
        for _ in range(2):
            for call in caller.application:
                code, message = caller.run(call)
                codes.append(code)
                error = error or message
        channel.send(Alone(tuple(codes), error))


def work(task: CallTask, channel: Channel) -> None:
    """Run one worker from start to end: send Ready, wait for Go (or None), send a WorkerReport."""
    report = WorkerReport()
    with contextlib.ExitStack() as stack:
        caller = stack.enter_context(contextlib.closing(_Caller(task.application, task.session)))
        record = RecordFile(task.record, OPERATION, CHUNK_RECORDS)
        stack.callback(record.close)
        record.reserve()
        gc.freeze()  # so that no operation collects what the imports left
        channel.send(Ready())
        go = channel.receive()
        if go is None:
            return
        wait_until(go.start_ns)
        cpu = time.process_time()
        try:
            for pause in _operations(task, caller, record, report, go):
                time.sleep(pause)
        except RacebenchError as problem:
            report.problems.append(str(problem))
        report.cpu_s = time.process_time() - cpu
        channel.send(report)


def _operations(task: CallTask, caller: _Caller, record: RecordFile, report: WorkerReport, go: Go) -> Iterator[float]:
    load, clock = task.load, time.perf_counter_ns
    committed = encode_status(Outcome.OK, "")
    due_times = DueTimes(load, task.session) if load.rate_per_session else None
    call = caller.application[(task.session - 1) % len(caller.application)]
    if (pause := jitter_s(load, Random(f"{load.seed}/{task.session}"))) > 0:
        yield pause
    for phase in phases(go, task.operations):
        last = min(ENDLESS, record.count + phase.operations)
        while record.count < last:
            if due_times is not None and (pause := due_times.pause_s(go, phase)) > 0:
                yield pause
            start = clock()
            if start >= phase.until_ns:
                break
            record.begin(start, 0, NO_VERSION, 1, 1, 0)
            if not record.count:
                line_up()
            code, message = caller.run(call)
            status = committed if not code else encode_status(Outcome.FAIL, code)
            record.finish(start, clock(), NO_VERSION, 1, 1, status)
            if code:
                report.messages.setdefault(code, message)


def _loaded(task: Application) -> list[Call]:
    functions: list[Any] = [None] * len(task.calls)
    if task.functions:
        import dill

        callables.set_up_django()
        functions = dill.loads(task.functions)
    return [
        callables.loaded(call) if function is None else replace(call, function=function)
        for call, function in zip(task.calls, functions, strict=True)
    ]


class _Caller:
    """The application in this process."""

    def __init__(self, task: Application, number: int) -> None:
        sys.stdout = sys.stderr  # what the application prints does not belong into a report
        os.environ.update(task.environment)
        os.environ.update(callables.variables(task.target, task.schema, task.application_name))
        with contextlib.suppress(OSError):
            os.chdir(task.folder)
        sys.path[:] = [*task.paths, *(path for path in sys.path if path not in task.paths)]
        self.application = _loaded(task)
        self._number = number
        self._connect: Callable[[], psycopg.Connection[Any]] = lambda: connect(
            task.target, schema=task.schema, application_name=task.application_name, autocommit=False
        )
        takes = any(call.takes_connection for call in self.application)
        self._connection = self._connect() if takes else None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def run(self, call: Call) -> tuple[str, str]:
        """Call once; return the error's code and message, "" and "" without an error. Raises UsageProblem."""
        function, connection = call.function, self._connection
        assert function is not None
        try:
            if call.takes_connection:
                if connection is None or connection.closed:
                    connection = self._connection = self._connect()
                function(connection)
            else:
                function()
        except Exception as problem:  # noqa: BLE001 - an error of the application, which goes on
            if connection is not None and not connection.closed:
                connection.rollback()
            return callables.code(
                problem
            ), f"{type(problem).__name__}: {one_line(str(problem))}{callables.where(problem)}"
        except SystemExit as problem:
            raise UsageProblem(f"{call} called sys.exit({problem.code}); a call must return, or raise") from None
        if connection is not None and connection.pgconn.transaction_status in _OPEN:
            connection.rollback()
            raise UsageProblem(callables.left_open(call))
        return "", ""
