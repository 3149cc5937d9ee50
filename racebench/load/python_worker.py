"""One worker process that calls Python: like worker.py, but an operation is a call of the application's own code.

The environment of the process says where the tables are, before anything of the application is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import sys
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import DatabaseProblem, RacebenchError, UsageProblem
from racebench.core.faults import CONNECTION_LOST
from racebench.core.model import Call, Load, Outcome
from racebench.core.plain_text import message_of
from racebench.core.target import Target
from racebench.history.records import CHUNK_RECORDS, NO_VERSION, OPERATION, RecordFile, encode_status
from racebench.load.executors import Channel
from racebench.load.pacing import ENDLESS, DueTimes, Go, jitter_s, line_up, phases, wait_until
from racebench.load.standing import Standing
from racebench.load.worker import Ready, WorkerReport
from racebench.postgres.client_sessions import silent, transactions
from racebench.postgres.connection import connect
from racebench.postgres.reconnecting import connect_first, reconnect
from racebench.workloads import addresses, callables, working_folder
from racebench.workloads.faults import fault

_CONNECTIONS = (psycopg.Connection, psycopg.AsyncConnection)
_OPEN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
#: How often a call that runs alone is tried while its connection is lost each time.
_TRIES_ALONE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a process has to know to call the application: its callables, its surroundings, where the tables are.

    `functions`: those of the callables that cannot be imported, packed by dill, None in place of the others. `late`:
    modules of libraries that the calls import when they are first called.
    """

    target: Target
    schema: str
    application_name: str
    calls: tuple[Call, ...]
    functions: bytes
    folder: str
    environment: Mapping[str, str]
    paths: tuple[str, ...]
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AloneTask:
    """What a process has to do that calls alone. `standing`: the file that says where a call stands."""

    application: Application
    standing: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTask:
    """What one worker process has to do: `operations` calls (None: as many as the clock allows), recorded in a file.

    `standing`: the file that says where a call stands. `reached`: the calls have reached the server, tried alone.
    """

    application: Application
    load: Load
    session: int
    operations: int | None
    record: Path
    standing: Path
    reached: bool


@dataclass(frozen=True, slots=True)
class Alone:
    """How calls end that run one after the other: their codes, "" for those that succeed, and the first error.

    `lost`: what was said of the connection that each try of a call lost; "" if each call came to an end. `used` and
    `connections` are as in WorkerReport. `late`: the modules of libraries that the calls imported.
    """

    codes: tuple[str, ...]
    error: str
    lost: str = ""
    used: bool = True
    connections: tuple[int, ...] = ()
    late: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended: `code` and `message` of its error are "" without one. `fault`: the connection was lost."""

    code: str = ""
    message: str = ""
    fault: bool = False

    @property
    def status(self) -> int:
        """As it is recorded. After a lost connection it is not known whether the call has committed."""
        outcome = Outcome.UNKNOWN if self.fault else Outcome.FAIL if self.code else Outcome.OK
        return encode_status(outcome, self.code)


def application(
    target: Target, schema: str, name: str, calls: tuple[Call, ...], late: tuple[str, ...] = ()
) -> Application:
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
        late=late,
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
            f"{names} cannot be sent to worker processes: {type(problem).__name__}: {message_of(problem)}; "
            "define it at the top of a module that can be imported"
        ) from None
    return packed


def try_alone(task: AloneTask, channel: Channel) -> None:
    """Run each call twice while no other session works; send Alone."""
    with Standing(task.standing) as standing, contextlib.closing(_Caller(task.application, standing)) as caller:
        codes, error = [], ""
        imported = set(sys.modules)
        for _ in range(2):
            for call in caller.application:
                ending = caller.run_to_end(call)
                if ending.fault:
                    channel.send(Alone((), error, f"{call}: {ending.message}"))
                    return
                codes.append(ending.code)
                error = error or ending.message
        late = tuple(name for name in [*sys.modules] if name not in imported and _is_of_a_library(name))
        used = caller.used
        silent_ones = () if used else caller.silent_connections()
        channel.send(Alone(tuple(codes), error, used=used, connections=silent_ones, late=late))


def _is_of_a_library(name: str) -> bool:
    """Whether a module can be imported before a call needs it: one of the application may rely on what comes first."""
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.name == name and not callables.is_application(spec.origin or "<built-in>")


def work(task: CallTask, channel: Channel) -> None:
    """Run one worker from start to end: send Ready, wait for Go (or None), send a WorkerReport."""
    report = WorkerReport()
    with contextlib.ExitStack() as stack:
        standing = stack.enter_context(Standing(task.standing))
        caller = stack.enter_context(contextlib.closing(_Caller(task.application, standing)))
        _import_late(task.application.late)
        record = RecordFile(task.record, OPERATION, CHUNK_RECORDS)
        stack.callback(record.close)
        record.reserve()
        gc.freeze()  # so that no operation collects what the imports left
        standing.idle = True
        channel.send(Ready())
        go = channel.receive()
        standing.idle = False
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
        if not task.reached and not (used := caller.used):
            report.used, report.connections = used, caller.silent_connections()
        channel.send(report)


def _import_late(modules: Iterable[str]) -> None:
    """Import what the first call would, so that its time is not the call's; what cannot be is left to the call."""
    for name in modules:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)


def _operations(
    task: CallTask, caller: _Caller, record: RecordFile, report: WorkerReport, go: Go
) -> Generator[float, None, None]:
    load, clock = task.load, time.perf_counter_ns
    committed = Ending().status
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
            ending = caller.run(call)
            status = ending.status if ending.code else committed
            record.finish(start, clock(), NO_VERSION, 1, 1, status)
            if ending.code:
                report.messages.setdefault(ending.code, ending.message)
            if ending.fault:
                report.lost += 1
                if problem := (yield from reconnect(caller.connect, phase.until_ns)):
                    report.problems.append(f"session {task.session} could not connect again: {problem}")
                    return


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
    """The application in this process. `connections`: the pids of those that were made for calls that are given one."""

    def __init__(self, task: Application, standing: Standing) -> None:
        sys.stdout = sys.stderr  # what the application prints does not belong into a report
        os.environ.clear()  # of the process that this one was forked from
        os.environ.update(task.environment)
        os.environ.update(addresses.variables(task.target, task.schema, task.application_name))
        with contextlib.suppress(OSError):
            os.chdir(task.folder)
        working_folder.adopt([*task.paths, *(path for path in sys.path if path not in task.paths)])
        self.application = _loaded(task)
        self._task = task
        self._standing = standing
        self._takes = any(call.takes_connection for call in self.application)
        self._connection: psycopg.Connection[Any] | None = None
        #: What calls are given: that connection (False), or an asynchronous one over the same backend (True).
        self._handed: dict[bool, Any] = {}
        #: The event loop of `async def`s: one for all calls, as in a server.
        self._runner = asyncio.Runner()
        self._began: int | None = None
        self.connections: list[int] = []
        connect_first(self.connect)

    def connect(self) -> None:
        """Make the connection that calls are given, if one takes a connection; raises DatabaseProblem."""
        self._disconnect()
        if self._takes:
            task = self._task
            self._connection = connect(
                task.target,
                schema=task.schema,
                application_name=task.application_name,
                autocommit=False,
                own_code=True,
            )
            self.connections.append(self._connection.info.backend_pid)
            self._began = self._transactions()

    @property
    def used(self) -> bool:
        """Whether a statement may have been sent over the connection that calls are given."""
        if self._connection is None:
            return False
        before, now = self._began, self._transactions()
        return len(self.connections) > 1 or before is None or now is None or now > before + 1

    def silent_connections(self) -> tuple[int, ...]:
        """The pids of what has sent nothing of a call's, if the connection that calls are given has not.

        These are that connection, those of psycopg that the application keeps open (a pool opens them at import), and
        the one that asks the server about them.
        """
        gc.unfreeze()  # frozen objects are not listed
        # The types are asked: a proxy would say that it is what it stands for.
        kept = [one for one in gc.get_objects() if issubclass(type(one), _CONNECTIONS) and not one.closed]
        others = {one.info.backend_pid for one in kept}.difference(self.connections)
        if not others:
            return tuple(self.connections)
        task = self._task
        try:
            with connect(task.target, schema=task.schema, application_name=task.application_name) as asking:
                return (*self.connections, *silent(asking, [*others]), asking.info.backend_pid)
        except (psycopg.Error, DatabaseProblem):
            return tuple(self.connections)

    def _transactions(self) -> int | None:
        """The number of transactions of the connection, this question's included; None if it cannot be asked."""
        assert self._connection is not None
        try:
            return transactions(self._connection)
        except (psycopg.Error, TimeoutError):
            return None

    def close(self) -> None:
        self._disconnect()
        self._runner.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._handed.clear()

    def run_to_end(self, call: Call) -> Ending:
        """Call until the connection is not lost meanwhile; the last ending if it is lost each time."""
        for _ in range(_TRIES_ALONE):
            if not (ending := self.run(call)).fault:
                break
            with contextlib.suppress(DatabaseProblem):  # said by the next try
                self.connect()
        return ending

    def run(self, call: Call) -> Ending:
        """Call once. Raises UsageProblem."""
        self._standing.begun += 1
        try:
            return self._run(call)
        except SystemExit as problem:
            raise UsageProblem(f"{call} called sys.exit({problem.code}); a call must return, or raise") from None
        except DatabaseProblem as problem:
            return Ending(CONNECTION_LOST, message_of(problem), fault=True)

    def _run(self, call: Call) -> Ending:
        if call.takes_connection and (self._connection is None or self._connection.closed):
            self.connect()  # the call before has closed it
        connection = self._connection
        given: Any = None
        if connection is not None and call.takes_connection:
            if call.asynchronous not in self._handed:
                self._handed[call.asynchronous] = callables.handed(call, connection)
            given = self._handed[call.asynchronous]
        try:
            callables.called(call, given, self._runner.run)
        except Exception as problem:  # noqa: BLE001 - an error of the application, which goes on
            message = f"{type(problem).__name__}: {message_of(problem)}{callables.where(problem)}"
            state = fault(problem)
            if not state and given is not None and given.broken:
                state = CONNECTION_LOST  # whatever the application made of it
            _roll_back(connection)
            return Ending(state or callables.code(problem), message, fault=bool(state))
        if connection is not None and connection.pgconn.transaction_status in _OPEN:
            _roll_back(connection)
            raise UsageProblem(callables.left_open(call))
        return Ending()


def _roll_back(connection: psycopg.Connection[Any] | None) -> None:
    """End the transaction that a call left, if its connection is still there."""
    if connection is not None and not connection.closed:
        with contextlib.suppress(psycopg.OperationalError):
            connection.rollback()
