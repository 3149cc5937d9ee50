"""The driver's side of the processes that inject faults into a run: it starts them, and asks what they injected."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from racebench.core.errors import DatabaseProblem, RacebenchError
from racebench.core.injection import check
from racebench.core.model import Load
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.target import Target
from racebench.executors import Died, Executor, Failure, Worker
from racebench.load.faults.messages import Finish, InjectionReport, Listening
from racebench.load.pacing import Go
from racebench.load.run_files import RunFiles
from racebench.postgres.connection import connect

_START_SECONDS = 60.0
_END_SECONDS = 10.0
_TICK_SECONDS = 0.1
#: What a client of a proxy on this machine does not need: the proxy itself encrypts if the target asks for it.
_OF_THE_WAY = (
    *("host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation"),
    *("gssencmode", "channel_binding", "requirepeer", "target_session_attrs", "load_balance_hosts", "service"),
)


def processes(load: Load) -> int:
    """How many processes inject the faults of a load."""
    return len(_shares(load)) + any(not fault.on_the_wire for fault in load.faults)


@dataclass(slots=True, kw_only=True)
class Injectors:
    """The processes of one run that inject its faults; none without faults.

    `application_name`: that of the workers' sessions, which work in the `schema`. `counts`: how often each fault was
    injected, by its text, and `notes` what went wrong with it, once they have finished. `entrance`: where workers
    connect to; `target` is the server itself.
    """

    executor: Executor
    target: Target
    entrance: Target
    load: Load
    files: RunFiles
    schema: str
    application_name: str
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _processes: list[Worker] = field(default_factory=list, init=False)
    _running: set[Worker] = field(default_factory=set, init=False)
    _ports: dict[int, int] = field(default_factory=dict, init=False)
    _password: str = field(default="", init=False)

    def start(self) -> None:
        """Start the processes, and wait until they are ready. Raises RacebenchError."""
        if not self.load.faults:
            return
        from racebench.load.faults.disturber import DisturberTask, disturb
        from racebench.load.faults.interposer import InterposerTask, interpose

        check(self.load.faults, embedded=self.target.server_pid is not None)
        self.counts = {fault.text: 0 for fault in self.load.faults}
        on_the_wire = tuple(fault for fault in self.load.faults if fault.on_the_wire)
        others = tuple(fault for fault in self.load.faults if not fault.on_the_wire)
        for workers in _shares(self.load):
            task = InterposerTask(
                target=self.entrance,
                parameters={"search_path": self.schema, "application_name": self.application_name},
                workers=workers,
                faults=on_the_wire,
                seed=self.load.seed,
            )
            self._run(interpose, task)
        if on_the_wire:
            with connect(self.entrance) as connection:
                self._password = connection.info.password  # it may be one of libpq's password file, which is by host
        if others:
            disturbing = DisturberTask(
                target=self.target,
                application_name=self.application_name,
                faults=others,
                load=self.load,
                files=self.files,
            )
            self._run(disturb, disturbing)
        self._wait_ready()

    def target_of(self, worker: int) -> Target:
        """Where a worker connects to, numbered from 1: to its port of a proxy, if faults are injected on the wire."""
        if not self._ports:
            return self.entrance
        kept = {name: value for name, value in self.entrance.parameters.items() if name not in _OF_THE_WAY}
        here = {
            "host": "127.0.0.1",
            "port": str(self._ports[worker]),
            "sslmode": "disable",
            "gssencmode": "disable",
            **({"password": self._password} if self._password else {}),
        }
        return replace(self.entrance, parameters={**kept, **here})

    def go(self, go: Go) -> None:
        """Say the common start."""
        for process in self._processes:
            process.send(go)

    def finish(self) -> None:
        """Have them report, when the workers have ended: what they pass on is closed then."""
        for process in self._running:
            process.send(Finish())
        waiting, deadline = set(self._running), time.monotonic() + _END_SECONDS
        while waiting and time.monotonic() < deadline:
            for process, message in self.executor.messages(waiting, _TICK_SECONDS):
                waiting.discard(process)
                self._ended(process, message)
        if waiting:
            many = quantity(len(waiting), "process that injects", "processes that inject")
            self.notes.append(f"{many} faults did not end within {_END_SECONDS:.0f} s; what it injected is not known")

    def end(self) -> None:
        """Give the processes back; those still running (an error, Ctrl-C) are killed."""
        for process in self._running:
            process.kill()
        self.executor.release(self._processes)
        self._running.clear()
        self._processes.clear()

    def _run(self, function: Callable[..., None], task: object) -> None:
        process = self.executor.start(function, task)
        self._processes.append(process)
        self._running.add(process)

    def _wait_ready(self) -> None:
        waiting, deadline = set(self._running), time.monotonic() + _START_SECONDS
        while waiting:
            if time.monotonic() > deadline:
                raise DatabaseProblem(f"the processes that inject faults were not ready within {_START_SECONDS:.0f} s")
            for process, message in self.executor.messages(waiting, _TICK_SECONDS):
                if isinstance(message, Failure):
                    raise message.error
                if isinstance(message, Died):
                    raise RacebenchError(f"a process ended before the start ({message.cause}); run again")
                waiting.discard(process)
                if isinstance(message, Listening):
                    self._ports.update(message.ports)

    def _ended(self, process: Worker, message: object) -> None:
        self._running.discard(process)
        if isinstance(message, Failure):
            self.notes.append(f"a process that injects faults failed: {one_line(str(message.error))}")
        elif isinstance(message, Died):
            self.notes.append(f"a process that injects faults died ({message.cause}); what it injected is not known")
        elif isinstance(message, InjectionReport):
            for text, count in message.counts.items():
                self.counts[text] += count
            if message.problem:
                self.notes.append(f"a fault could not be injected: {message.problem}")


def _shares(load: Load) -> list[tuple[int, ...]]:
    """The workers of each interposer, by their numbers; none if no fault is on the wire."""
    if not any(fault.on_the_wire for fault in load.faults):
        return []
    most = min(load.workers, os.cpu_count() or 1)
    return [tuple(range(first, load.workers + 1, most)) for first in range(1, most + 1)]
