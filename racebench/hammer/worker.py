"""One worker process: connects, prepares, waits for the common start, and runs operations until told to stop.

Every operation is recorded before it begins and after it ends, so that a killed worker leaves its operation in
flight on file. Counting and judging are the checkers'.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from racebench.errors import DatabaseProblem
from racebench.executors.processes import Channel
from racebench.model import Load, Outcome, Strategy
from racebench.recording import NO_VERSION, OPERATION, RecordFile, encode_status
from racebench.session import Session, Variables, connect

if TYPE_CHECKING:
    from racebench.targets import Target

#: Operation ids are worker << OPERATION_BITS | index, so a row names the operation that wrote it.
OPERATION_BITS = 32

_RECONNECT_SECONDS = 2.0
_LONGEST_BACKOFF = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """What one worker has to do. `number` counts from 1; `operations` is None for as long as the clock allows."""

    number: int
    target: Target
    schema: str
    application_name: str
    strategy: Strategy
    load: Load
    operations: int | None
    record: Path


@dataclass(frozen=True, slots=True)
class Ready:
    """Connected and prepared."""


@dataclass(frozen=True, slots=True)
class Go:
    """Begin at `start_ns` (perf_counter_ns, which all processes of a machine share); begin nothing after `stop_ns`."""

    start_ns: int
    stop_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a worker says at the end. `retried` and `messages` are by SQLSTATE; `problem` is why it gave up early."""

    retried: dict[str, int]
    messages: dict[str, str]
    reconnects: int
    problem: str | None


def work(task: WorkerTask, channel: Channel) -> None:
    """The worker's whole life; sends Ready, waits for Go (or None), sends a WorkerReport."""
    worker = _Worker(task)
    gc.collect()
    gc.disable()  # the loop makes no cycles, and a collection would be somebody's slowest operation
    try:
        worker.open()
        channel.send(Ready())
        go = channel.receive()
        if go is not None:
            channel.send(worker.run(go))
    finally:
        worker.close()
        gc.enable()


class _Worker:
    def __init__(self, task: WorkerTask) -> None:
        self.task = task
        self.session: Session | None = None
        self.record = RecordFile(task.record, OPERATION)
        self.random = Random(f"{task.load.seed}/{task.number}")
        self.retried: dict[str, int] = {}
        self.messages: dict[str, str] = {}
        self.reconnects = 0

    def open(self) -> None:
        task = self.task
        isolation = task.strategy.isolation
        settings = {"default_transaction_isolation": isolation} if isolation else {}
        connection = connect(task.target, schema=task.schema, application_name=task.application_name, settings=settings)
        self.session = Session(connection, task.strategy.script, seed=f"{task.load.seed}/{task.number}/script")

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
        self.record.close()

    def run(self, go: Go) -> WorkerReport:
        problem = self._loop(go)
        return WorkerReport(retried=self.retried, messages=self.messages, reconnects=self.reconnects, problem=problem)

    def _loop(self, go: Go) -> str | None:
        load = self.task.load
        variables: Variables = {
            "think": b"%d" % load.think_us,
            "hold": b"%d" % load.hold_us,
            "tenants": b"%d" % load.tenants,
            "client_id": b"%d" % (self.task.number - 1),
            "random_seed": b"%d" % load.seed,
        }
        tenants = load.tenants
        draw = self.random.randint
        record = self.record
        clock = time.perf_counter_ns
        stop = go.stop_ns if go.stop_ns is not None else 2**63 - 1
        roll_back = long = False
        most = self.task.operations if self.task.operations is not None else 2**OPERATION_BITS - 1
        operation = self.task.number << OPERATION_BITS
        tenant = 1
        variables["tenant"] = b"1"
        _wait_until(go.start_ns + round(self.random.uniform(0, load.jitter_us) * 1e3))
        while (start := clock()) < stop and record.count < most:
            if tenants > 1:
                tenant = draw(1, tenants)
                variables["tenant"] = b"%d" % tenant
            variables["operation"] = b"%d" % (operation + record.count)
            variables["version"] = None
            if load.rollback_percent:
                roll_back = self.random.random() * 100 < load.rollback_percent
            if load.long_percent:
                long = self.random.random() * 100 < load.long_percent
                variables["hold"] = b"%d" % (load.long_us if long else load.hold_us)
            record.begin(start, 0, NO_VERSION, tenant, 1, 0)
            outcome, sqlstate, tries = self._attempt(variables, roll_back)
            end = clock()
            record.finish(start, end, _version(variables), tenant, tries, encode_status(outcome, sqlstate))
            assert self.session is not None
            if not self.session.alive and (problem := self._reconnect()):
                return problem
        return None

    def _attempt(self, variables: Variables, roll_back: bool) -> tuple[Outcome, str, int]:
        """Run the script, again if the retry rule says so; return the outcome, its SQLSTATE and the tries."""
        session = self.session
        assert session is not None
        retry = self.task.strategy.retry
        tries = 1
        while True:
            outcome = session.run(variables, roll_back=roll_back)
            if outcome is Outcome.OK:
                return outcome, "", tries
            sqlstate = session.sqlstate
            session.rollback()
            if sqlstate:
                self.messages.setdefault(sqlstate, session.message)
            again = retry is not None and outcome is Outcome.FAIL and sqlstate in retry.sqlstates
            if retry is None or not again or tries >= retry.tries or not session.alive:
                return outcome, sqlstate, tries
            self.retried[sqlstate] = self.retried.get(sqlstate, 0) + 1
            variables["version"] = None
            pause = self.random.uniform(0, retry.backoff_ms * min(2 ** (tries - 1), _LONGEST_BACKOFF)) / 1e3
            if pause > 0:
                time.sleep(pause)
            tries += 1

    def _reconnect(self) -> str | None:
        """Connect again as an application would; return why not if the server stays away."""
        assert self.session is not None
        self.session.close()
        deadline = time.monotonic() + _RECONNECT_SECONDS
        while True:
            try:
                self.open()
            except DatabaseProblem as problem:
                if time.monotonic() > deadline:
                    return str(problem)
                time.sleep(0.05)
            else:
                self.reconnects += 1
                return None


def _version(variables: Variables) -> int:
    """The number the script says it used, if it is a 64-bit integer; the table has the final word."""
    raw = variables.get("version")
    if raw is None:
        return NO_VERSION
    try:
        version = int(raw)
    except ValueError:
        return NO_VERSION
    return version if NO_VERSION < version < 2**63 else NO_VERSION


def _wait_until(start_ns: int) -> None:
    """Sleep until a millisecond before the common start, then spin: the spread is what the scheduler leaves."""
    while (left := start_ns - time.perf_counter_ns()) > 0:
        if left > 2_000_000:
            time.sleep((left - 1_000_000) / 1e9)
