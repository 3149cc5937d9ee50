"""Worker processes that are started early, reused, and noticed when they die.

The start method is forkserver where there is one (docs/decisions/0001-start-method.md): the children are forked from a
clean process that has no thread, no display and no database connection, so it is safe at any time, and it has the
heavy imports done. A child ends when its parent does: its pipe closes.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection as connections
from typing import Any

import multiprocess

from racebench.core.errors import RacebenchError
from racebench.core.signals import shielded

_PRELOAD = ["racebench.load.worker", "racebench.load.consumer"]
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What a child's function raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended without a word; `exit_code` is negative for a signal."""

    exit_code: int | None


class Channel:
    """The child's side: messages to and from the process that gave the task."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def send(self, message: object) -> None:
        self._pipe.send(message)

    def receive(self) -> Any:
        """Wait for a message; raises EOFError when the parent is gone."""
        return self._pipe.recv()

    def waiting(self, timeout: float = 0.0) -> bool:
        """Whether a message (or the parent's end) is there to receive, after at most `timeout` seconds."""
        return bool(self._pipe.poll(timeout))


class Worker:
    """The parent's side of one process."""

    def __init__(self, process: Any, pipe: Any) -> None:
        self._process = process
        self.pipe = pipe
        self.busy = False

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def send(self, message: object) -> None:
        """Send a message; a dead process is noticed by `messages`, not here."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def kill(self) -> None:
        self._process.kill()

    def exit_code(self) -> int | None:
        self._process.join(_END_SECONDS)
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
    """Let what is started here never see a Ctrl-C, which a terminal sends to all; this process sees it afterwards.

    A Python that is still importing would die of it with a traceback.
    """
    _mask(signal.SIG_BLOCK)
    try:
        yield
    finally:
        _mask(signal.SIG_UNBLOCK)


def _serve(pipe: Any) -> None:
    """Run tasks until the parent hangs up. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _mask(signal.SIG_UNBLOCK)
    channel = Channel(pipe)
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, task = channel.receive()
            try:
                function(task, channel)
            except EOFError:
                return
            except Exception as error:  # noqa: BLE001 - handed to the parent, whole
                channel.send(Failure(error))


class Processes:
    """A pool of processes; a context manager that leaves none behind."""

    def __init__(self, method: str | None = None) -> None:
        available = multiprocess.get_all_start_methods()
        self.method = method or ("forkserver" if "forkserver" in available else "spawn")
        self._context = multiprocess.get_context(self.method)
        if self.method == "forkserver":
            self._context.set_forkserver_preload(_PRELOAD)
        self._workers: list[Worker] = []

    def __enter__(self) -> Processes:
        if self.method == "forkserver":
            from multiprocess import forkserver, resource_tracker

            resource_tracker.ensure_running()  # holds SIGINT back by itself, and lets it through when it is done
            with _held_back():
                forkserver.ensure_running()  # does not wait: the imports go on while the database starts
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self, count: int) -> None:
        """Have `count` idle processes."""
        idle = sum(not worker.busy for worker in self._workers)
        for _ in range(count - idle):
            self._spawn()

    def start(self, function: Callable[[Any, Channel], None], task: object) -> Worker:
        """Run `function(task, channel)` in an idle process, or a new one."""
        worker = next((w for w in self._workers if not w.busy and w.alive), None) or self._spawn()
        worker.busy = True
        worker.send((function, task))
        return worker

    def release(self, workers: Iterable[Worker]) -> None:
        """Take workers back: the living are idle again, the dead forgotten."""
        for worker in workers:
            worker.busy = False
            if not worker.alive and worker in self._workers:
                worker.pipe.close()
                self._workers.remove(worker)

    def retire(self, workers: Iterable[Worker]) -> None:
        """End workers that have done their task, and forget them."""
        for worker in list(workers):
            worker.pipe.close()
            worker.exit_code()
            if worker.alive:
                worker.kill()
                worker.exit_code()
            if worker in self._workers:
                self._workers.remove(worker)

    def close(self) -> None:
        """End every process: first by hanging up, then by force."""
        with shielded():
            self._close()

    def _close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            if worker.busy:
                worker.kill()
        deadline = time.monotonic() + _END_SECONDS
        for worker in self._workers:
            worker._process.join(max(0.0, deadline - time.monotonic()))
            if worker.alive:
                worker.kill()
                worker._process.join()
        self._workers.clear()

    def _spawn(self) -> Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there,), daemon=True)
        try:
            process.start()
        except OSError as problem:
            raise RacebenchError(f"cannot start a process: {problem.strerror}; use fewer --workers") from None
        finally:
            there.close()
        worker = Worker(process, here)
        self._workers.append(worker)
        return worker


def messages(workers: Iterable[Worker], timeout: float) -> Iterator[tuple[Worker, Any]]:
    """Yield (worker, message) for what has arrived within `timeout` seconds; Died for a process that ended."""
    by_pipe: dict[Any, Worker] = {worker.pipe: worker for worker in workers}
    ready: list[Any] = connections.wait(list(by_pipe), timeout)
    for pipe in ready:
        worker = by_pipe[pipe]
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            message = Died(worker.exit_code())
        yield worker, message
