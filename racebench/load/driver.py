"""The hammer: one strategy under load, from a fresh schema to a RunResult.

Order matters and is this: consumer polling → common start → workers end → their backends are gone → the consumer
drains → the table is read → the schema is dropped. Judging is the checkers'; nothing here formats.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from racebench.analysis.verdicts import judge
from racebench.core.errors import RacebenchError, ScenarioProblem, UsageProblem, one_line
from racebench.core.model import Consumer, Load, Scenario, Strategy
from racebench.core.results import RunResult, Usage
from racebench.core.signals import shielded
from racebench.core.target import Target
from racebench.history import History, Log, Violation, archive, read_operations
from racebench.history.about import About, Recorded
from racebench.history.logs import read_log
from racebench.history.records import OPERATION, read_records
from racebench.history.rows import numbered
from racebench.history.spill import Scratch
from racebench.history.table import ask_invariants, ask_measures, read_rows
from racebench.load.consumer import ConsumerReport, ConsumerTask, Drain, Polling, consume
from racebench.load.executors.processes import Died, Failure, Processes, Worker, messages
from racebench.load.pacing import Go
from racebench.load.python_worker import Alone, Application, CallTask, application, try_alone
from racebench.load.python_worker import work as call
from racebench.load.worker import Ready, WorkerReport, WorkerTask, work
from racebench.postgres import cpu_time
from racebench.postgres.schemas import application_name, fill, fresh_schema, new_name, quiesce
from racebench.postgres.session import connect
from racebench.postgres.snapshot import Snapshot
from racebench.workloads.ad_hoc import NO_INVARIANT, lacks_invariant
from racebench.workloads.callables import broken

#: Connections a run opens beside its workers' and consumers': one to set up, watch and clean up.
EXTRA_CONNECTIONS = 1

_READY_SECONDS = 60.0
_GRACE_SECONDS = 5.0
_DRAIN_SECONDS = 60.0
_LEAD_NS = 20_000_000
_TICK_SECONDS = 0.1
_SHOWN = 20

Progress = Callable[[float], None]
#: Given a result, where to keep its history; None for nowhere.
Keep = Callable[[RunResult], Path | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hammer:
    """What every run of a command shares: where, with which processes, and whether schemas are kept.

    `environment` goes into the histories that are kept. `schema`: the name of the schema to make, None for a new one
    each time; `in_place`: it is there, with the application's own tables in it, and stays.
    """

    target: Target
    processes: Processes
    keep: bool = False
    environment: Mapping[str, Any] = field(default_factory=dict)
    schema: str | None = None
    in_place: bool = False

    def run(
        self,
        scenario: Scenario,
        strategy: Strategy,
        consumers: Sequence[Consumer],
        load: Load,
        progress: Progress,
        *,
        keep_history: Keep = lambda _result: None,
    ) -> RunResult:
        """Run one strategy under load and judge what is left.

        `progress` is called several times a second with the fraction done. Raises RacebenchError; whatever
        happens, the schema is dropped (unless kept) and no process of the run is still busy.
        """
        schema = self.schema or new_name()
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="racebench-")))
            if self.in_place:
                monitor = stack.enter_context(connect(self.target, schema=schema))
                stack.callback(Snapshot(monitor, schema).restore)
                fill(self.target, schema, scenario, strategy, consumers)
            else:
                stack.enter_context(fresh_schema(self.target, schema, scenario, strategy, consumers, keep=self.keep))
            scratch = stack.enter_context(Scratch())
            run = _Run(self, scenario, strategy, tuple(consumers), load, schema, folder, scratch)
            if lacks_invariant(scenario):
                run.notes.append(NO_INVARIANT)
            stack.callback(run.end)
            history = run.history(progress)
            result = judge(
                scenario=scenario,
                strategy=strategy,
                consumers=consumers,
                load=load,
                history=history,
                retried=run.retried,
                messages=run.messages,
                notes=run.notes,
                schema=schema if self.keep else None,
                usage=run.usage,
            )
            path = keep_history(result)
            return result if path is None else self._kept(result, path, history, scenario)

    def _kept(self, result: RunResult, path: Path, history: History, scenario: Scenario) -> RunResult:
        """Keep a run's history; a full disk costs the history, not the result."""
        load = result.load
        about = About(
            scenario=scenario.name,
            strategy=result.strategy,
            forbidden=scenario.forbid,
            load=asdict(load),
            environment=self.environment,
            warmup_ns=int(load.warmup_s * 1e9),
        )
        try:
            archive.write(path, Recorded(history=history, about=about))
        except RacebenchError as problem:
            return replace(result, notes=(*result.notes, str(problem)))
        return replace(result, history=path.name)


@dataclass(slots=True)
class _Run:
    """One run in progress: its processes, their files, and what they said."""

    hammer: Hammer
    scenario: Scenario
    strategy: Strategy
    consumers: tuple[Consumer, ...]
    load: Load
    schema: str
    folder: Path
    scratch: Scratch
    retried: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    workers: dict[Worker, int] = field(default_factory=dict)
    pollers: dict[Worker, str] = field(default_factory=dict)
    reports: dict[str, ConsumerReport] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def history(self, progress: Progress) -> History:
        """Run to the end and return what happened."""
        alone = self._tried_alone() if self.strategy.calls else None
        self._start()
        start = self._go(progress)
        scenario = self.scenario
        rows, labels = None, None
        if self.strategy.calls:
            self.hammer.processes.retire(self.workers)  # an application's pool would hold on to its connections
        with connect(self.hammer.target, schema=self.schema) as connection:
            quiesce(connection, self.schema, role="worker", wait_seconds=0.5)
            server = cpu_time.server_seconds(self.hammer.target)
            if server is not None and self.usage.server_s is not None:
                self.usage = replace(self.usage, server_s=server - self.usage.server_s)
            if scenario.rows is not None:
                rows, labels = read_rows(connection, scenario.rows, self.scratch)
                self._drain(numbered(rows))
            violations = (*ask_invariants(connection, scenario), *_called(scenario, connection))
            measures = ask_measures(connection, scenario)
        if alone is not None:
            alone |= set(self._alone().codes)
        return History(
            start=start,
            operations=read_operations({n: self._record(n) for n in self._sessions()}),
            rows=rows,
            logs=() if rows is None else tuple(self._log(number) for number in range(len(self.consumers))),
            violations=violations,
            measures=measures,
            numbering=self.strategy.numbering,
            labels=labels,
            alone=None if alone is None else frozenset(alone - {""}),
        )

    def _tried_alone(self) -> set[str]:
        """How the calls end when nobody else is at work; the tables are put back. Raises UsageProblem if they fail."""
        with connect(self.hammer.target, schema=self.schema) as connection:
            before = Snapshot(connection, self.schema)
            tried = self._alone()
            before.restore()
        if tried.codes[0]:
            raise UsageProblem(
                f"{self.strategy.calls[0]} fails when it runs alone, right after the setup: {tried.said}; "
                "is the setup complete?"
            )
        return set(tried.codes)

    def _alone(self) -> Alone:
        """Have a process of its own run the calls one after the other."""
        processes = self.hammer.processes
        worker = processes.start(try_alone, self._application("alone"))
        self.workers[worker] = 0
        message: object = None
        deadline = time.monotonic() + _READY_SECONDS
        while message is None:
            if time.monotonic() > deadline:
                raise UsageProblem(
                    f"{self.strategy.name} did not come to an end in {_READY_SECONDS:.0f} s, running alone; "
                    "does it wait for something?"
                )
            for _, message in messages([worker], _TICK_SECONDS):
                if isinstance(message, Failure):
                    raise message.error
                if isinstance(message, Died):
                    raise UsageProblem(f"{self.strategy.name} ends its process ({_cause(message)}); a call must return")
        del self.workers[worker]
        processes.retire([worker])
        assert isinstance(message, Alone)
        return message

    def _application(self, role: str) -> Application:
        name = application_name(self.schema, role)
        return application(self.hammer.target, self.schema, name, self.strategy.calls)

    def _log(self, number: int) -> Log:
        consumer, table = self.consumers[number], self.scenario.rows
        report = self.reports.get(consumer.name)
        return read_log(
            consumer.name,
            self._file(f"deliveries-{number}"),
            self._file(f"polls-{number}"),
            ordered="version" in consumer.cursor or (table is not None and table.version in consumer.cursor),
            drained=report is not None,
            longest_poll_ns=None if report is None else report.longest_poll_ns,
        )

    def end(self) -> None:
        """Give the processes back; those still busy (an error, Ctrl-C) are killed."""
        everyone = [*self.workers, *self.pollers]
        with shielded():
            for worker in everyone:
                if worker.busy:
                    worker.kill()
                    worker.exit_code()
            self.hammer.processes.release(everyone)

    def _file(self, name: str) -> Path:
        return self.folder / name

    def _record(self, session: int) -> Path:
        """The record file of a session, numbered from 1 over all workers."""
        return self._file(f"worker-{session}")

    def _sessions(self) -> range:
        return range(1, self.load.sessions + 1)

    def _sessions_of(self, worker: int) -> range:
        each = self.load.connections_per_worker
        return range((worker - 1) * each + 1, worker * each + 1)

    def _start(self) -> None:
        """Bring up the workers and the consumer, each connected and prepared."""
        hammer, load = self.hammer, self.load
        shares = _shares(load.operations, load.sessions)
        each = load.connections_per_worker
        for number, consumer in enumerate(self.consumers):
            task = ConsumerTask(
                target=hammer.target,
                schema=self.schema,
                application_name=application_name(self.schema, "consumer"),
                consumer=consumer,
                strategy=self.strategy,
                load=load,
                deliveries=self._file(f"deliveries-{number}"),
                polls=self._file(f"polls-{number}"),
            )
            self.pollers[hammer.processes.start(consume, task)] = consumer.name
        for number in range(1, load.workers + 1):
            sessions = self._sessions_of(number)
            if self.strategy.calls:
                call_task = CallTask(
                    application=self._application("worker"),
                    load=load,
                    session=number,
                    operations=shares[number - 1],
                    record=self._record(number),
                )
                self.workers[hammer.processes.start(call, call_task)] = number
                continue
            work_task = WorkerTask(
                target=hammer.target,
                schema=self.schema,
                application_name=application_name(self.schema, "worker"),
                strategy=self.strategy,
                load=load,
                sessions=tuple(sessions),
                operations=tuple(shares[(number - 1) * each : number * each]),
                records=tuple(self._record(session) for session in sessions),
            )
            self.workers[hammer.processes.start(work, work_task)] = number
        waiting = {*self.pollers, *self.workers}
        deadline = time.monotonic() + _READY_SECONDS
        while waiting:
            if time.monotonic() > deadline:
                raise RacebenchError(f"{len(waiting)} processes were not ready within {_READY_SECONDS:.0f} s")
            for worker, message in messages(waiting, _TICK_SECONDS):
                if isinstance(message, Failure):
                    raise message.error
                if isinstance(message, Died):
                    raise RacebenchError(f"a process ended before the start ({_cause(message)}); run again")
                assert isinstance(message, Ready | Polling)
                waiting.discard(worker)

    def _go(self, progress: Progress) -> int:
        """Give the common start and wait for the workers' end; return the start in perf_counter_ns."""
        load = self.load
        start = time.perf_counter_ns() + _LEAD_NS
        warmup = int(load.warmup_s * 1e9)
        stop = None if load.duration_s is None else start + warmup + int(load.duration_s * 1e9)
        self.usage = Usage(client_s=0.0, busiest_s=0.0, server_s=cpu_time.server_seconds(self.hammer.target))
        for worker in self.workers:
            worker.send(Go(start, start + warmup, stop))
        longest_us = load.think_us + max(load.hold_us, load.long_us) + load.jitter_us
        patience = None if stop is None else stop / 1e9 + _GRACE_SECONDS + 2 * longest_us / 1e6
        cancelled = False
        waiting = set(self.workers)
        watched = {*waiting, *self.pollers}
        while waiting:
            for worker, message in messages(watched, _TICK_SECONDS):
                watched.discard(worker)
                if worker in self.pollers:
                    self._consumer_ended(worker, message)
                    continue
                waiting.discard(worker)
                self._worker_ended(worker, message)
            progress(self._fraction(start, stop))
            late = None if patience is None else time.perf_counter_ns() / 1e9 - patience
            if late is not None and late > _GRACE_SECONDS:
                for worker in waiting:
                    worker.kill()
            elif late is not None and late > 0 and not cancelled and waiting:
                cancelled = True
                self._cancel(len(waiting))
        return start

    def _cancel(self, count: int) -> None:
        """Cancel the statements of workers that do not come to an end; each fails with 57014."""
        self.notes.append(f"{count} workers were still waiting {_GRACE_SECONDS:.0f} s after the end and were cancelled")
        with connect(self.hammer.target) as connection:
            connection.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                (application_name(self.schema, "worker"),),
            )

    def _worker_ended(self, worker: Worker, message: object) -> None:
        number = self.workers[worker]
        worker.busy = False
        if isinstance(message, Failure):
            raise message.error
        if isinstance(message, Died):
            self.notes.append(f"worker {number} died ({_cause(message)}); what it had in flight is UNKNOWN")
            self.usage = replace(self.usage, client_s=None, busiest_s=None)
            return
        assert isinstance(message, WorkerReport)
        for sqlstate, count in message.retried.items():
            self.retried[sqlstate] = self.retried.get(sqlstate, 0) + count
        self.messages.update({**message.messages, **self.messages})
        used = self.usage
        if used.client_s is not None and used.busiest_s is not None:
            self.usage = replace(
                used, client_s=used.client_s + message.cpu_s, busiest_s=max(used.busiest_s, message.cpu_s)
            )
        if message.reconnects:
            self.notes.append(f"worker {number} lost its connection {message.reconnects} times and reconnected")
        self.notes += [f"worker {number} ended early: {problem}" for problem in message.problems]

    def _consumer_ended(self, poller: Worker, message: object) -> None:
        name = self.pollers[poller]
        poller.busy = False
        if isinstance(message, Failure):
            if isinstance(message.error, ScenarioProblem):
                raise message.error
            self.notes.append(f"consumer '{name}' failed: {one_line(str(message.error))}; what it missed is not known")
        elif isinstance(message, Died):
            self.notes.append(f"consumer '{name}' died ({_cause(message)}); what it missed is not known")
        else:
            assert isinstance(message, ConsumerReport)
            self.reports[name] = message

    def _drain(self, rows: int) -> None:
        """Have the consumers read to the end; one that does not come to an end has no report."""
        waiting = {poller for poller in self.pollers if poller.busy}
        for poller in waiting:
            poller.send(Drain(rows))
        deadline = time.monotonic() + _DRAIN_SECONDS
        while waiting and time.monotonic() < deadline:
            for poller, message in messages(waiting, _TICK_SECONDS):
                waiting.discard(poller)
                self._consumer_ended(poller, message)
        for poller in waiting:
            self.notes.append(
                f"consumer '{self.pollers[poller]}' had not caught up after {_DRAIN_SECONDS:.0f} s; "
                "what it missed is not known"
            )

    def _fraction(self, start: int, stop: int | None) -> float:
        parts = [0.0]
        if stop is not None:
            parts.append((time.perf_counter_ns() - start) / (stop - start))
        if self.load.operations is not None:
            done = sum(len(read_records(self._record(n), OPERATION)) for n in self._sessions())
            parts.append(done / self.load.operations)
        return min(1.0, max(parts))


def _called(scenario: Scenario, connection: psycopg.Connection[Any]) -> Iterator[Violation]:
    """Ask the invariants that are called."""
    for name, check in scenario.checks.items():
        if said := broken(check, connection):
            rows = tuple({"said": each} for each in said[:_SHOWN])
            yield Violation(invariant=name, count=len(said), rows=rows)


def _shares(total: int | None, workers: int) -> list[int | None]:
    """Divide operations among workers as evenly as can be."""
    if total is None:
        return [None] * workers
    least, more = divmod(total, workers)
    return [least + (number < more) for number in range(workers)]


def _cause(died: Died) -> str:
    code = died.exit_code
    if code is None:
        return "no exit code"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
