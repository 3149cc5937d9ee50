"""Local processes as an executor: started early, reused, and reported when they end.

The start method is forkserver where there is one (docs/decisions/0001-start-method.md): the children are forked from a
clean process that has no thread, no display and no database connection, so forking is safe at any time, and that has
done the heavy imports.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from multiprocessing import connection as connections
from typing import Any, NamedTuple

import multiprocess

from racebench.core.environ import exported
from racebench.core.errors import RacebenchError
from racebench.core.signals import shielded
from racebench.load.executors import Channel, Died, Failure, Worker, socket_folder
from racebench.load.executors.parent import ParentWatch
from racebench.workloads import working_folder

#: What the server imports that the children are forked from: what a child would import by itself takes time for each.
_PRELOAD = (
    "racebench.load.executors.processes",
    "racebench.load.worker",
    "racebench.load.consumer",
    "racebench.load.call_worker",
    "racebench.load.callers.python",
)
#: Descriptors of this process: its pipe to another process, that one's to this, and what tells that it has ended.
_FILES_FOR_ONE = 3
_FILES_FOR_STARTING = 12
_FILES_OF_A_COMMAND = 32
_END_SECONDS = 5.0
#: Python's variable for "do not put the working folder on the import path" (`python -P`).
_SAFE_PATH = "PYTHONSAFEPATH"


class _PipeChannel:
    """The child's side of a pipe: an executors.Channel."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def send(self, message: object) -> None:
        self._pipe.send(message)

    def receive(self) -> Any:
        return self._pipe.recv()

    def waiting(self, timeout: float = 0.0) -> bool:
        return bool(self._pipe.poll(timeout))


class _Process:
    """The parent's side of one process: an executors.Worker. `busy`: it has a task."""

    def __init__(self, process: Any, pipe: Any) -> None:
        self._process = process
        self.pipe = pipe
        self.busy = False

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def send(self, message: object) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def kill(self) -> None:
        self._process.kill()
        self.join()

    def begin_kill(self) -> None:
        """Have it end, without waiting."""
        self._process.kill()

    def join(self, timeout: float = _END_SECONDS) -> int | None:
        """Wait until it ends; its exit code, None if it is still alive."""
        self._process.join(timeout)
        code: int | None = self._process.exitcode
        return code

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())


def _mask(how: int) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, {signal.SIGINT})


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Start processes with Ctrl-C blocked, which a terminal sends to all of them; this process sees it afterwards.

    A Python that is still importing would end with a traceback.
    """
    _mask(signal.SIG_BLOCK)
    try:
        yield
    finally:
        _mask(signal.SIG_UNBLOCK)


@contextlib.contextmanager
def _isolated() -> Iterator[None]:
    """Start processes that import nothing from the working folder: `--call` puts it on the path later."""
    with exported({_SAFE_PATH: "1"}), working_folder.removed():
        yield


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


class _Task(NamedTuple):
    """What a process runs next."""

    function: Callable[[Any, Channel], None]
    task: object


def _serve(pipe: Any) -> None:
    """Run tasks until the parent closes the pipe. Only the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _mask(signal.SIG_UNBLOCK)
    watch = ParentWatch(pipe)
    channel = _PipeChannel(pipe)
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = channel.receive()
            if not isinstance(message, _Task):
                continue  # a message for a task that has failed: the parent sent it before it knew
            watch.working = True
            try:
                message.function(message.task, channel)
            except EOFError:
                return
            except Exception as error:  # noqa: BLE001 - handed to the parent, whole
                channel.send(Failure(error))
            finally:
                watch.working = False


class Processes:
    """An executors.Executor: a pool of processes, and a context manager that leaves none behind.

    `preload`: modules that each child would import by itself, beside _PRELOAD. Those of the program's main module
    belong here, because multiprocess runs that module again in each child.
    """

    def __init__(self, method: str | None = None, *, preload: Sequence[str] = ()) -> None:
        available = multiprocess.get_all_start_methods()
        self.method = method or ("forkserver" if "forkserver" in available else "spawn")
        self._context = multiprocess.get_context(self.method)
        if self.method == "forkserver":
            self._context.set_forkserver_preload([*_PRELOAD, *preload])
        self._pool: list[_Process] = []

    def __enter__(self) -> Processes:
        if self.method == "forkserver":
            from multiprocess import forkserver, resource_tracker

            socket_folder.make()
            with _isolated():
                resource_tracker.ensure_running()  # holds SIGINT back by itself, and lets it through when it is done
            with _held_back(), _isolated():
                forkserver.ensure_running()  # does not wait: the imports go on while the database starts
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
        process.send(_Task(function, task))
        return process

    def messages(self, workers: Collection[Worker], timeout: float) -> Iterator[tuple[Worker, Any]]:
        by_pipe: dict[Any, _Process] = {process.pipe: process for process in self._of(workers)}
        ready: list[Any] = connections.wait(list(by_pipe), timeout)
        for pipe in ready:
            process = by_pipe[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                message = Died(process.join())
            yield process, message

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

    def _of(self, workers: Iterable[Worker]) -> list[_Process]:
        """The processes of this pool among some workers."""
        wanted = set(map(id, workers))
        return [process for process in self._pool if id(process) in wanted]

    def _forget(self, process: _Process) -> None:
        process.pipe.close()
        self._pool.remove(process)

    def _spawn(self) -> _Process:
        _check_descriptors(1)
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there,), daemon=True)
        try:
            with _isolated():
                process.start()
        except OSError as problem:
            raise RacebenchError(f"cannot start a process: {problem.strerror}; use fewer --workers") from None
        finally:
            there.close()
        worker = _Process(process, here)
        self._pool.append(worker)
        return worker
