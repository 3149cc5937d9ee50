"""Sessions of a command's first run that are opened while its server starts and the command imports the rest.

A worker process connects as soon as the server is ready, and has its sessions rest. The first run takes them as any run
takes sessions that rest (racebench.postgres.resting): only where it would open them with the same arguments.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psycopg

from racebench.core.errors import RacebenchError
from racebench.executors import Channel, Executor
from racebench.postgres.connection import connect
from racebench.postgres.embedded import Coming
from racebench.postgres.resting import Resting
from racebench.postgres.schemas import application_name, new_name

_LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyTask:
    """The sessions that a worker process is to open: how many, where, and for which schema."""

    server: Coming
    schema: str
    sessions: int


class EarlySessions:
    """The sessions that `workers` processes open, `each` so many; `schema` is that of the run, which is made later.

    Until `hand_over` the processes are busy: if the command fails before, they are ended at once. Raises RacebenchError
    if there cannot be so many.
    """

    def __init__(self, executor: Executor, server: Coming, *, workers: int, each: int) -> None:
        self.schema = new_name()
        self._executor = executor
        executor.warm(workers)
        task = EarlyTask(server=server, schema=self.schema, sessions=each)
        self._workers = [executor.start(open_sessions, task) for _ in range(workers)]

    def hand_over(self, *, wanted: bool) -> None:
        """Let the first run have the processes: each begins its task there when it has connected.

        Unless `wanted`, their sessions are closed before: those of a run alone begin with its settings.
        """
        self._executor.release(self._workers)
        if not wanted:
            self._executor.release([self._executor.start(close_sessions, None) for _ in self._workers])


def open_sessions(task: EarlyTask, channel: Channel) -> None:
    """Connect when the server is ready, and have the sessions rest. What goes wrong is the run's to find out and say.

    Nothing is opened if a message, or the driver's end, comes before the server is ready.
    """
    resting: Resting = channel.kept.setdefault("sessions", Resting())
    name = application_name(task.schema, "worker")
    with contextlib.suppress(RacebenchError, psycopg.Error, OSError), contextlib.ExitStack() as stack:
        while not task.server.is_ready():
            if channel.waiting(_LOOK_SECONDS) and not task.server.is_ready():
                return
        target = task.server.target
        connections = [
            stack.enter_context(contextlib.closing(connect(target, schema=task.schema, application_name=name)))
            for _ in range(task.sessions)
        ]
        stack.pop_all()
        for connection in connections:
            resting.rest(connection, target, schema=task.schema, application_name=name)


def close_sessions(_task: None, channel: Channel) -> None:
    """Close the sessions that rest."""
    sessions: Resting = channel.kept.setdefault("sessions", Resting())
    sessions.close()
