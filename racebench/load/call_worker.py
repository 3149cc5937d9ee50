"""One worker process that calls an application: like worker.py, but an operation is a call of the user's own code.

What it calls, and how, is racebench.load.callers'.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.model import Load
from racebench.executors import Channel
from racebench.history.recording import CHUNK_RECORDS, NO_VERSION, OPERATION, RecordFile
from racebench.load.callers import Application, Caller, Ending
from racebench.load.pacing import ENDLESS, DueTimes, Go, jitter_s, line_up, phases, wait_until
from racebench.load.standing import Standing
from racebench.load.worker import Ready, WorkerReport
from racebench.postgres.reconnecting import reconnect
from racebench.workloads import callables

#: How often a call that runs alone is tried while its connection is lost each time.
_TRIES_ALONE = 5


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


def try_alone(task: AloneTask, channel: Channel) -> None:
    """Run each call twice while no other session works; send Alone."""
    with Standing(task.standing) as standing, contextlib.closing(task.application.caller(standing)) as caller:
        codes, error = [], ""
        imported = set(sys.modules)
        for _ in range(2):
            for call in caller.subjects:
                ending = _run_to_end(caller, call)
                if ending.fault:
                    channel.send(Alone((), error, f"{call}: {ending.message}"))
                    return
                codes.append(ending.code)
                error = error or ending.message
        late = tuple(name for name in [*sys.modules] if name not in imported and _is_of_a_library(name))
        used = caller.used
        silent_ones = () if used else caller.silent_connections()
        channel.send(Alone(tuple(codes), error, used=used, connections=silent_ones, late=late))


def _run_to_end(caller: Caller, call: Any) -> Ending:
    """Call until the connection is not lost meanwhile; the last ending if it is lost each time."""
    for _ in range(_TRIES_ALONE):
        if not (ending := caller.run(call)).fault:
            break
        with contextlib.suppress(DatabaseProblem):  # said by the next try
            caller.connect()
    return ending


def _is_of_a_library(name: str) -> bool:
    """Whether a module can be imported before a call needs it: one of the application may rely on what comes first."""
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.name == name and not callables.is_application(spec.origin or "<built-in>")


def work(task: CallTask, channel: Channel) -> None:
    """Run one worker from start to end: send Ready, wait for Go (or None), send a WorkerReport."""
    report = WorkerReport()
    with contextlib.ExitStack() as stack:
        standing = stack.enter_context(Standing(task.standing))
        caller = stack.enter_context(contextlib.closing(task.application.caller(standing)))
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
    task: CallTask, caller: Caller, record: RecordFile, report: WorkerReport, go: Go
) -> Generator[float, None, None]:
    load, clock = task.load, time.perf_counter_ns
    committed = Ending().status
    in_doubt = bool(load.faults) and not caller.sees_faults  # a fault may have followed the commit
    due_times = DueTimes(load, task.session) if load.rate_per_session else None
    call = caller.subjects[(task.session - 1) % len(caller.subjects)]
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
            if ending.code and in_doubt:
                ending = replace(ending, unknown=True)
            status = ending.status if ending.code else committed
            record.finish(start, clock(), NO_VERSION, 1, 1, status)
            if ending.code:
                report.messages.setdefault(ending.code, ending.message)
            if ending.fault:
                report.lost += 1
                if problem := (yield from reconnect(caller.connect, phase.until_ns)):
                    report.problems.append(f"session {task.session} could not connect again: {problem}")
                    return
