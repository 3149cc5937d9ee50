"""A process beside the workers that terminates their sessions, and crashes the embedded server.

It has a connection of its own, which reaches the server directly.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem
from racebench.core.injection import Fault, FaultKind
from racebench.core.model import Load
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.executors import Channel
from racebench.load.faults.messages import InjectionReport
from racebench.load.pacing import Go
from racebench.load.progress import fraction
from racebench.load.run_files import RunFiles
from racebench.load.worker import Ready
from racebench.postgres.connection import connect

#: How often the process looks whether something is due.
_LOOK_S = 0.005
#: The part of the run in which the server crashes.
_CRASH_FROM, _CRASH_TO = 0.2, 0.6
_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY backend_start, pid"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturberTask:
    """What the process has to do. `application_name`: that of the workers' sessions."""

    target: Target
    application_name: str
    faults: tuple[Fault, ...]
    load: Load
    files: RunFiles


def disturb(task: DisturberTask, channel: Channel) -> None:
    """Disturb a run from start to end: send Ready, get Go, inject until Finish comes, send an InjectionReport."""
    channel.send(Ready())
    go = channel.receive()
    if isinstance(go, Go):
        disturber = _Disturber(task)
        disturber.run(go, channel)
        channel.receive()
        channel.send(InjectionReport(dict(disturber.counts), disturber.problem))
    else:
        channel.send(InjectionReport({}))


class _Disturber:
    """What is due, and how often each fault was injected."""

    def __init__(self, task: DisturberTask) -> None:
        self._task = task
        self.counts: Counter[str] = Counter()
        self.problem = ""

    def run(self, go: Go, channel: Channel) -> None:
        """Inject until a message comes, or the measured time is over."""
        load = self._task.load
        crash_at = Random(f"{load.seed}/crash").uniform(_CRASH_FROM, _CRASH_TO)
        crashes = [fault for fault in self._task.faults if fault.kind is FaultKind.CRASH_SERVER]
        endings = [_Endings(fault, go, load.seed) for fault in self._task.faults if fault not in crashes]
        while not channel.waiting(_LOOK_S):
            now_ns = time.perf_counter_ns()
            if now_ns < go.start_ns or (go.stop_ns is not None and now_ns >= go.stop_ns):
                continue
            for ending in endings:
                if ending.is_due(now_ns):
                    self._inject(ending.fault, ending.random)
            if crashes and fraction(load, self._task.files, go.start_ns, go.stop_ns) >= crash_at:
                self._inject(crashes.pop(), None)

    def _inject(self, fault: Fault, random: Random | None) -> None:
        try:
            with self._connected() as connection:
                done = _crash(connection) if random is None else self._terminate(connection, random)
        except (DatabaseProblem, psycopg.Error, OSError) as problem:
            self.problem = self.problem or f"{fault.text}: {one_line(str(problem))}"
        else:
            self.counts[fault.text] += done

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        with contextlib.closing(connect(self._task.target)) as connection:
            yield connection

    def _terminate(self, connection: psycopg.Connection[Any], random: Random) -> bool:
        """Terminate a session of a worker; whether there was one."""
        pids: Sequence[int] = [pid for (pid,) in connection.execute(_SESSIONS, (self._task.application_name,))]
        if not pids:
            return False
        row = connection.execute("SELECT pg_terminate_backend(%s)", (random.choice(pids),)).fetchone()
        return row is not None and bool(row[0])


class _Endings:
    """When a session is terminated next, and which."""

    def __init__(self, fault: Fault, go: Go, seed: int) -> None:
        self.fault = fault
        self.random = Random(f"{seed}/{fault.text}")
        self._every_ns = fault.duration_us * 1000
        self._next_ns = go.start_ns + self._every_ns

    def is_due(self, now_ns: int) -> bool:
        """Whether one is due; it is the turn of the next then."""
        if now_ns < self._next_ns:
            return False
        while self._next_ns <= now_ns:
            self._next_ns += self._every_ns
        return True


def _crash(connection: psycopg.Connection[Any]) -> bool:
    """Kill the process of this session: the server ends all the others, and recovers from its log.

    It is a process of the embedded server for certain; another number could be another process's by now.
    """
    os.kill(connection.info.backend_pid, signal.SIGKILL)
    return True
