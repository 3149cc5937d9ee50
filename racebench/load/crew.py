"""The workers and consumers of one run: started, given a common start, watched until they end, and drained.

What they record is in files, which run.py reads; what they report is collected here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem, RacebenchError, ScenarioProblem
from racebench.core.liveness import listed
from racebench.core.model import Consumer
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.results import Usage
from racebench.core.signals import shielded
from racebench.core.watching import beat
from racebench.executors import Died, Executor, Failure, Worker
from racebench.history.clocks import MachineClock
from racebench.load import call_worker, overdue
from racebench.load.assignment import Assignment
from racebench.load.consumer import ConsumerReport, ConsumerTask, Drain, Polling, consume
from racebench.load.faults.injectors import Injectors
from racebench.load.idle_transaction import IdleTransaction
from racebench.load.observation import Observation
from racebench.load.pacing import Go
from racebench.load.progress import begun, fraction
from racebench.load.stalls import Stalls
from racebench.load.standing import standing_at
from racebench.load.waits import Question, endless, explained, quiet_before_endless
from racebench.load.worker import Ready, WorkerReport, WorkerTask, work
from racebench.postgres import cpu_time
from racebench.postgres.connection import connect
from racebench.postgres.restarts import has_ended
from racebench.postgres.schemas import application_name
from racebench.postgres.standby import Replay, ended_or, mark

READY_SECONDS = 60.0
TICK_SECONDS = 0.1
#: How the note of a run begins that was given up.
GAVE_UP = "gave up"
#: When a slow start is said: later than a slow stretch of a run, because the processes import much.
_SLOW_START_SECONDS = 20.0
_DRAIN_SECONDS = 60.0
#: How often a standby is asked whether it has replayed the last commit.
_BEHIND_SECONDS = 0.01
#: How often the progress is looked at: it takes a look into every session's file.
_LOOK_SECONDS = 1.0

#: Called several times a second with the fraction done.
Progress = Callable[[float], None]


@dataclass(slots=True)
class Crew:
    """The workers and consumers of one run, on an executor. Its public fields are what they reported.

    `retried` and `messages` are by SQLSTATE, `reports` by consumer: of those that read to the end. `gave_up`: there was
    no progress, and the run was ended. `hung`: operations did not come to an end, and their workers were killed. `used`
    and `connections` are those of the workers' reports: of any, and of all. `resting`: the pids of all sessions that
    wait for the next run. `lost`: the workers that were on lost machines. `observation`: reads what they
    record while they work.
    """

    assignment: Assignment
    executor: Executor
    observation: Observation
    retried: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reports: dict[str, ConsumerReport] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    gave_up: bool = False
    hung: bool = False
    used: bool = False
    connections: tuple[int, ...] = ()
    resting: tuple[int, ...] = ()
    lost: list[int] = field(default_factory=list)
    #: Each worker's number, each consumer, and those of both that have not ended.
    _workers: dict[Worker, int] = field(default_factory=dict, init=False)
    _consumers: dict[Worker, Consumer] = field(default_factory=dict, init=False)
    _running: set[Worker] = field(default_factory=set, init=False)
    _measured: bool = field(default=False, init=False)
    _next_look_s: float = field(default=0.0, init=False)
    _quiet_s: float | None = field(init=False)
    _injectors: Injectors = field(init=False)
    _idle: IdleTransaction = field(init=False)

    def __post_init__(self) -> None:
        known = self.assignment
        self._quiet_s = quiet_before_endless(known.target, known.strategy, known.load)
        self._injectors = Injectors(
            executor=self.executor,
            target=known.target,
            entrance=known.entrance,
            load=known.load,
            files=known.files,
            schema=known.schema,
            application_name=application_name(known.schema, known.role),
            notes=self.notes,
        )
        self._idle = IdleTransaction(known.target, known.schema, known.load.idle_in_transaction_s)

    @property
    def injected(self) -> Mapping[str, int]:
        """How often each fault of the load was injected, by its text."""
        return self._injectors.counts

    def start(self) -> None:
        """Start all of them and wait until each is connected and prepared.

        Raises DatabaseProblem, with what their sessions wait for, if that takes longer than READY_SECONDS.
        """
        began = time.monotonic()
        self._injectors.start()
        if self.assignment.instances is not None and self.assignment.load.faults:
            self.assignment.instances.restart(
                lambda number: self.assignment.environment(self._injectors.target_of(number))
            )
        # The workers first: in each run of a campaign they are the same processes, with sessions that rest there.
        for number in range(1, self.assignment.load.workers + 1):
            self._workers[self._start_worker(number)] = number
        for task in self._consumer_tasks():
            self._consumers[self._run(consume, task)] = task.consumer
        waiting, said = set(self._running), False
        while waiting:
            if (passed := time.monotonic() - began) > READY_SECONDS:
                raise DatabaseProblem(
                    f"{quantity(len(waiting), 'process was', 'processes were')} not ready within "
                    f"{READY_SECONDS:.0f} s: {self._waits()}"
                )
            if passed > _SLOW_START_SECONDS and not said:
                said = True
                count = quantity(len(waiting), "process is", "processes are")
                self._say(f"{count} not ready after {passed:.0f} s: {self._waits()}")
            for process, message in self.executor.messages(waiting, TICK_SECONDS):
                if isinstance(message, Failure):
                    consumer = self._consumers.get(process)
                    on_standby = consumer is not None and consumer.on_standby
                    raise ended_or(self.assignment.target.standby if on_standby else None, message.error)
                if isinstance(message, Died):
                    raise RacebenchError(f"a process ended before the start ({message.cause}); run again")
                assert isinstance(message, Ready | Polling)
                waiting.discard(process)

    def go(self, progress: Progress) -> int:
        """Give the common start and wait until the workers have ended; return the start on the executor's clock."""
        load = self.assignment.load
        offset = self.executor.offset_ns
        start = time.perf_counter_ns() + self.executor.lead_ns
        warmup = int(load.warmup_s * 1e9)
        stop = None if load.duration_s is None else start + warmup + int(load.duration_s * 1e9)
        self.usage = Usage(client_s=0.0, busiest_s=0.0, server_s=cpu_time.server_seconds(self.assignment.target))
        go = Go(start, start + warmup, stop)
        self._idle.begin(start)
        self._injectors.go(go)
        for process in self._workers:
            process.send(go.shifted(offset))
        late = overdue.Overdue(load, stop)
        stalls = Stalls(load, self.assignment.patience, time.monotonic())
        canceled = False
        watched = set(self._running)
        self.observation.begin(start, start + warmup, offset)
        said_s = 0.0
        while waiting := self._running & self._workers.keys():
            pause_s = min(TICK_SECONDS, self.observation.pause_s, self._idle.pause_s)
            for process, message in self.executor.messages(watched, pause_s):
                watched.discard(process)
                self._ended(process, message)
            self._note(self._idle.look())
            self.observation.look()
            if (now_s := time.monotonic()) >= said_s:
                said_s = now_s + TICK_SECONDS
                progress(fraction(load, self.assignment.files, start, stop))
            self._watch(stalls)
            if self.gave_up or late.may_kill():
                self.hung = not self.gave_up
                for process in waiting & self._running:
                    process.kill()
            elif late.may_cancel() and not canceled and (left := waiting & self._running):
                canceled = True
                self._cancel(len(left))
        if not self.gave_up:
            self.observation.finish()
        self._note(self._idle.end())
        self._injectors.finish()
        return start + offset

    def drain(self, rows: int, connection: psycopg.Connection[Any]) -> None:
        """Have the consumers read to the end of so many rows; one that does not finish has no report.

        Those on a standby are told once it has replayed what was committed on the primary, which `connection` is to.
        """
        waiting = self._running & self._consumers.keys()
        behind = {process for process in waiting if self._consumers[process].on_standby}
        standby = self.assignment.target.standby
        # First what can fail: it is tried again over another connection, and no consumer must be told twice.
        position = mark(connection) if behind else ""
        for process in waiting - behind:
            process.send(Drain(rows))
        with contextlib.ExitStack() as stack:
            replay, deadline = None, time.monotonic() + _DRAIN_SECONDS
            if behind and standby is not None:
                replay = stack.enter_context(Replay(standby, position))
                deadline += standby.behind_ms / 1e3
            while waiting and time.monotonic() < deadline:
                if behind and replay is not None and replay.is_done():
                    for process in behind & waiting:
                        process.send(Drain(rows))
                    behind, deadline = set(), time.monotonic() + _DRAIN_SECONDS
                if behind and replay is not None:
                    replay.say_once(self.assignment.patience.say)
                    if replay.was_promoted and not waiting - behind:
                        break
                for process, message in self.executor.messages(waiting, _BEHIND_SECONDS if behind else TICK_SECONDS):
                    waiting.discard(process)
                    self._ended(process, message)
        if behind & waiting and replay is not None:
            self.notes.append(replay.lack())
        for process in waiting:
            given_up = process in behind and replay is not None and replay.was_promoted
            why = "could not catch up" if given_up else f"had not caught up after {_DRAIN_SECONDS:.0f} s"
            self.notes.append(f"consumer '{self._consumers[process].name}' {why}; what it missed is not known")

    def settle(self) -> tuple[MachineClock, ...]:
        """Have the records of those that have ended on one clock; the clocks of the machines that they ran on."""
        return self.executor.settle([*self._workers, *self._consumers])

    def measure_server(self) -> None:
        """Take the server's time on a CPU from the common start to now, when the workers have ended; the first time."""
        if self._measured:
            return
        self._measured = True
        server = cpu_time.server_seconds(self.assignment.target)
        if server is not None and self.usage.server_s is not None:
            self.usage = replace(self.usage, server_s=server - self.usage.server_s)

    def retire_workers(self) -> None:
        """End the workers' processes, which are not used again."""
        self.executor.retire(self._workers)

    def end(self) -> None:
        """Give the processes back; those still running (an error, Ctrl-C) are killed."""
        with shielded():
            self.observation.stop()
            self._idle.end()
            for process in self._running:
                process.kill()
            self.executor.release([*self._workers, *self._consumers])
            self._injectors.end()

    def _run(self, function: Callable[..., None], task: object) -> Worker:
        process = self.executor.start(function, task)
        self._running.add(process)
        return process

    def _consumer_tasks(self) -> Iterator[ConsumerTask]:
        known = self.assignment
        for place, consumer in enumerate(known.consumers):
            standby = known.target.standby if consumer.on_standby else None
            yield ConsumerTask(
                target=standby or known.target,
                asked=known.target,
                schema=known.schema,
                application_name=application_name(known.schema, "consumer"),
                consumer=consumer,
                strategy=known.strategy,
                load=known.load,
                deliveries=known.files.deliveries(place),
                polls=known.files.polls(place),
                quiet=known.files.quiet(place),
                rests=known.rests and standby is None,
            )

    def _start_worker(self, number: int) -> Worker:
        """Start one worker, numbered from 1, with its share of the sessions and operations."""
        known, load = self.assignment, self.assignment.load
        width = load.connections_per_worker
        first = (number - 1) * width
        sessions = tuple(known.sessions[first : first + width])
        operations = tuple(_shares(load.operations, load.sessions)[first : first + width])
        target = self._injectors.target_of(number)
        if known.strategy.is_application:
            call_task = call_worker.CallTask(
                application=known.application("worker", number, target),
                load=load,
                session=number,
                operations=operations[0],
                record=known.files.operations(number),
                standing=known.files.standing(number),
                reached=known.reached,
            )
            return self._run(call_worker.work, call_task)
        task = WorkerTask(
            target=target,
            schema=known.schema,
            application_name=application_name(known.schema, "worker"),
            strategy=known.strategy,
            load=load,
            sessions=sessions,
            operations=operations,
            records=tuple(known.files.operations(session) for session in sessions),
            own_code=known.own_code,
            rests=known.rests,
        )
        return self._run(work, task)

    def _cancel(self, count: int) -> None:
        """Cancel the statements of workers that do not come to an end; each fails with 57014."""
        workers = quantity(count, "worker was", "workers were")
        self.notes.append(
            f"{workers} still waiting {overdue.GRACE_SECONDS:.0f} s after the end; their statements were canceled"
            f"{self._standing()}"
        )
        try:
            with connect(self.assignment.target) as connection:
                connection.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                    (application_name(self.assignment.schema, self.assignment.role),),
                )
        except (DatabaseProblem, psycopg.Error) as problem:
            self.notes.append(f"the workers could not be canceled: {one_line(str(problem))}")

    def _watch(self, stalls: Stalls) -> None:
        """Say what the sessions wait for if no operation ends for some seconds; give up after the limit.

        Raises DatabaseProblem if the embedded server has ended: it does not come back.
        """
        now = time.monotonic()
        if now < self._next_look_s:
            return
        beat()
        self._next_look_s = now + _LOOK_SECONDS
        if has_ended(self.assignment.target):
            raise DatabaseProblem(f"{self.assignment.target.label} has ended")
        self.look_at_surroundings()
        stalls.look((begun(self.assignment.load, self.assignment.files), len(self._running)), now)
        stalled = f"no operation has ended for {stalls.stalled_s(now):.0f} s"
        if stalls.may_say(now):
            self._say(f"{stalled}: {self._waits()}")
        if stalls.may_give_up(now):
            self.gave_up = True
            self._say(f"{GAVE_UP}: {stalled} (--give-up-after); what was in flight is UNKNOWN")
        elif self._quiet_s is not None and stalls.may_ask(now) and endless(self._question, self.executor):
            self.gave_up = True
            self._say(
                f"{GAVE_UP}: {stalled}, and none can: all wait for a lock that an idle session of the server keeps, "
                "and no client behind the pooler has that session; what was in flight is UNKNOWN"
            )

    def look_at_surroundings(self) -> None:
        """Give up if an instance of the service, or the pooler, has ended: no operation reaches the server any more."""
        instances, pooler = self.assignment.instances, self.assignment.pooler
        dead = "" if instances is None else instances.dead()
        if not dead and pooler is not None and (how := pooler.ended()):
            dead = f"PgBouncer ended ({how})"
        if dead and not self.gave_up:
            self.gave_up = True
            self._say(f"{GAVE_UP}: {dead}; what was in flight is UNKNOWN")

    @property
    def _service_is_dead(self) -> bool:
        instances = self.assignment.instances
        return instances is not None and bool(instances.dead())

    def _waits(self) -> str:
        """What the workers' sessions wait for."""
        return explained(self._question, self.executor) + self._standing()

    @property
    def _question(self) -> Question:
        known = self.assignment
        name = application_name(known.schema, known.role)
        return Question(target=known.target, application_name=name, quiet_s=self._quiet_s or 0.0)

    def _standing(self) -> str:
        """Where calls of Python stand that last long, as the end of a sentence."""
        running = (number for process, number in self._workers.items() if process in self._running)
        return standing_at(self.assignment.files.standing(number) for number in running)

    def _note(self, line: str) -> None:
        if line:
            self.notes.append(line)

    def _say(self, line: str) -> None:
        self.notes.append(line)
        self.assignment.patience.say(line)

    def _ended(self, process: Worker, message: object) -> None:
        self._running.discard(process)
        if process in self._consumers:
            self._consumer_ended(self._consumers[process], message)
        else:
            self._worker_ended(self._workers[process], message)

    def _worker_ended(self, number: int, message: object) -> None:
        if isinstance(message, Failure):
            raise message.error
        if isinstance(message, Died):
            if message.machine is not None:
                self.lost.append(number)
                if (line := f"{message.cause}; what its workers had begun is UNKNOWN") not in self.notes:
                    self._say(line)
            elif not self._service_is_dead:  # then racebench has killed it
                self.notes.append(f"worker {number} died ({message.cause}); what it had in flight is UNKNOWN")
            self.usage = replace(self.usage, client_s=None, busiest_s=None)
            self.used = True  # it is not known
            return
        assert isinstance(message, WorkerReport)
        for sqlstate, count in message.retried.items():
            self.retried[sqlstate] = self.retried.get(sqlstate, 0) + count
        self.messages.update({**message.messages, **self.messages})
        self.used |= message.used
        self.connections += message.connections
        self.resting += message.resting
        used = self.usage
        if self.assignment.strategy.programs or self.assignment.strategy.service:
            self.usage = replace(used, client_s=None, busiest_s=None)  # the work is done in other processes
        elif used.client_s is not None and used.busiest_s is not None:
            self.usage = replace(
                used, client_s=used.client_s + message.cpu_s, busiest_s=max(used.busiest_s, message.cpu_s)
            )
        if self._service_is_dead:
            return  # it follows from that, and is said once
        if message.lost and not self.assignment.load.faults:
            times = f"{message.lost} {'time' if message.lost == 1 else 'times'}"
            self.notes.append(
                f"worker {number} had no answer {times}; what became of these requests is UNKNOWN"
                if self.assignment.instances is not None
                else f"worker {number} lost a connection {times}; "
                "what it had sent is FAIL before COMMIT and UNKNOWN after it"
            )
        self.notes += [f"worker {number} ended early: {problem}" for problem in message.problems]

    def _consumer_ended(self, consumer: Consumer, message: object) -> None:
        name = consumer.name
        if isinstance(message, Failure):
            if isinstance(message.error, ScenarioProblem):
                raise message.error
            why = one_line(str(message.error))
            standby = self.assignment.target.standby
            if consumer.on_standby and standby is not None and has_ended(standby):
                why = f"{standby.label} has ended"
            self.notes.append(f"consumer '{name}' failed: {why}; what it missed is not known")
        elif isinstance(message, Died):
            self.notes.append(f"consumer '{name}' died ({message.cause}); what it missed is not known")
        else:
            assert isinstance(message, ConsumerReport)
            self.reports[name] = message
            self.resting += message.resting
            if message.behind:
                self.notes.append(
                    f"consumer '{name}' may still hold rows back, behind {listed(message.behind)}; "
                    "what it missed is not known"
                )
            if message.lost:
                self.notes.append(
                    f"consumer '{name}' lost its connection {_times(message.lost)}; it went on from its cursor over "
                    "another"
                )
            if message.conflicts:
                self.notes.append(
                    f"the standby canceled a poll of '{name}' {_times(message.conflicts)}, because its replay "
                    "conflicted with it; each was repeated"
                )


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count:,} times"


def _shares(total: int | None, sessions: int) -> list[int | None]:
    """Divide operations among sessions as evenly as can be."""
    if total is None:
        return [None] * sessions
    least, more = divmod(total, sessions)
    return [least + (number < more) for number in range(sessions)]
