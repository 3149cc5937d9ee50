"""Local processes as an executor: started early, reused, and reported when they end.

How a process is started is a Starter's: `forks` for a command, whose own process may fork at its beginning,
`new_programs` for all others. What the process does then is in `serving`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from multiprocessing import connection as connections
from multiprocessing.connection import Connection
from typing import Any, Protocol

from racebench.core.errors import RacebenchError
from racebench.core.signals import shielded
from racebench.executors import Channel, Died, Worker, forks
from racebench.executors.messages import packed, unpacked
from racebench.executors.serving import PRELOAD, Task
from racebench.history.clocks import MachineClock

#: Descriptors of this process: its pipe to another process, that one's to this, and what tells that it has ended.
_FILES_FOR_ONE = 3
_FILES_FOR_STARTING = 12
_FILES_OF_A_COMMAND = 32
_END_SECONDS = 5.0
#: How far ahead a common start is.
_LEAD_NS = 20_000_000


class Started(Protocol):
    """A process that a starter has started."""

    def kill(self) -> None:
        """Have it end, without waiting."""

    def join(self, timeout: float) -> int | None:
        """Wait until it ends; its exit code, None if it is still alive."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""


class Starter(Protocol):
    """A way to start processes that run `serving.serve`."""

    def open(self) -> None:
        """Prepare, before the first one is started."""

    def start(self) -> tuple[Started, Any]:
        """Start one; it, and this side of its pipe. Raises OSError."""

    def close(self) -> None:
        """End what `open` has started, when all processes have ended."""


class _Process:
    """The parent's side of one process: an executors.Worker. `busy`: it has a task."""

    def __init__(self, started: Started, pipe: Any) -> None:
        self._started = started
        self.pipe = pipe
        self.busy = False

    def send(self, message: object) -> None:
        data = packed(message)
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(data)

    def kill(self) -> None:
        self._started.kill()
        self.join()

    def begin_kill(self) -> None:
        """Have it end, without waiting."""
        self._started.kill()

    def join(self, timeout: float = _END_SECONDS) -> int | None:
        """Wait until it ends; its exit code, None if it is still alive."""
        return self._started.join(timeout)

    @property
    def alive(self) -> bool:
        return self._started.alive


def _check_descriptors(processes: int) -> None:
    """Raise RacebenchError unless so many more processes can be started.

    Half way, the server that forks them would print a traceback.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _open_files() + _FILES_FOR_ONE * processes + _FILES_FOR_STARTING
    if processes > 0 and needed > most != resource.RLIM_INFINITY:
        raise RacebenchError(
            f"{processes} more processes need {needed} open files, and the limit is {most}; raise it "
            f"(`ulimit -n {needed}`), or use fewer --workers"
        )


def _open_files() -> int:
    """How many files this process has open; on a system without /dev/fd as many as a command has at most."""
    try:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208 - their number
    except OSError:
        return _FILES_OF_A_COMMAND


class Processes:
    """An executors.Executor: a pool of processes, and a context manager that leaves none behind.

    `method`: a start method of multiprocess, None for the best that there is. `starter` is given in place of a method.
    """

    def __init__(self, method: str | None = None, *, starter: Starter | None = None) -> None:
        if starter is None:
            from racebench.executors.new_programs import NewPrograms  # it imports multiprocess, which takes long

            starter = NewPrograms(method)
        self._starter = starter
        self._pool: list[_Process] = []

    @classmethod
    def of_command(cls, *, preload: Sequence[str] = PRELOAD) -> Processes:
        """The pool of a command, whose process has opened nothing so far: forks of it, if it has one thread.

        `preload`: modules that each process would import by itself.
        """
        if forks.possible():
            return cls(starter=forks.Forks(preload=preload))
        from racebench.executors.new_programs import NewPrograms

        return cls(starter=NewPrograms(preload=["racebench.cli.main", *preload]))

    def __enter__(self) -> Processes:
        self._starter.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self, count: int) -> None:
        idle = sum(not process.busy for process in self._pool)
        _check_descriptors(count - idle)
        for _ in range(count - idle):
            self._spawn()

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        process = next((one for one in self._pool if not one.busy and one.alive), None) or self._spawn()
        process.busy = True
        process.send(Task(function, task))
        return process

    @property
    def offset_ns(self) -> int:
        return 0

    @property
    def lead_ns(self) -> int:
        return _LEAD_NS

    def settle(self, workers: Iterable[Worker]) -> tuple[MachineClock, ...]:  # noqa: ARG002 - they are on this machine
        return ()

    def messages(
        self, workers: Collection[Worker], timeout: float, *, wake: Connection | None = None
    ) -> Iterator[tuple[Worker, Any]]:
        """As of every executor. `wake`: another pipe, which ends the wait when something can be read from it."""
        by_pipe: dict[Any, _Process] = {process.pipe: process for process in self._of(workers)}
        ready: list[Any] = connections.wait([*by_pipe, *(() if wake is None else (wake,))], timeout)
        for pipe in ready:
            if pipe is wake:
                continue
            process = by_pipe[pipe]
            try:
                data = pipe.recv_bytes()
            except (EOFError, OSError):
                yield process, Died(process.join())
                continue
            yield process, unpacked(data)

    def release(self, workers: Iterable[Worker]) -> None:
        for process in self._of(workers):
            process.busy = False
            if not process.alive:
                self._forget(process)

    def retire(self, workers: Iterable[Worker]) -> None:
        for process in self._of(workers):
            process.pipe.close()
            process.join()
            if process.alive:
                process.kill()
            self._forget(process)  # last: of what an interruption leaves here, `close` ends the rest

    def close(self) -> None:
        """End every process: first by closing its pipe, then by force."""
        with shielded():
            self._close()

    def _close(self) -> None:
        for process in self._pool:
            process.pipe.close()
            if process.busy:
                process.begin_kill()
        deadline = time.monotonic() + _END_SECONDS
        for process in self._pool:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.alive:
                process.kill()
        self._pool.clear()
        self._starter.close()

    def _of(self, workers: Iterable[Worker]) -> list[_Process]:
        """The processes of this pool among some workers."""
        wanted = set(map(id, workers))
        return [process for process in self._pool if id(process) in wanted]

    def _forget(self, process: _Process) -> None:
        process.pipe.close()
        self._pool.remove(process)

    def _spawn(self) -> _Process:
        _check_descriptors(1)
        with shielded():  # a process that is not in the pool would not be ended
            try:
                started, pipe = self._starter.start()
            except OSError as problem:
                raise RacebenchError(f"cannot start a process: {problem.strerror}; use fewer --workers") from None
            worker = _Process(started, pipe)
            self._pool.append(worker)
        return worker
