"""Starts a pool's processes by multiprocess, from a new Python: whatever threads and connections this process has.

The start method is forkserver where there is one (docs/decisions/0001-start-method.md): the children are forked from a
clean process that has no thread, no display and no database connection, so forking is safe at any time, and that has
done the heavy imports.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import multiprocess

from racebench.core.environ import exported
from racebench.executors import socket_folder
from racebench.executors.serving import PRELOAD, mask, serve
from racebench.workloads import working_folder

#: Python's variable for "do not put the working folder on the import path" (`python -P`).
_SAFE_PATH = "PYTHONSAFEPATH"


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Start processes with Ctrl-C blocked, which a terminal sends to all of them; this process sees it afterwards.

    A Python that is still importing would end with a traceback.
    """
    mask(signal.SIG_BLOCK)
    try:
        yield
    finally:
        mask(signal.SIG_UNBLOCK)


@contextlib.contextmanager
def _isolated() -> Iterator[None]:
    """Start processes that import nothing from the working folder: `--call` puts it on the path later."""
    with exported({_SAFE_PATH: "1"}), working_folder.removed():
        yield


class _Started:
    """A process of multiprocess: a processes.Started."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def kill(self) -> None:
        self._process.kill()

    def join(self, timeout: float) -> int | None:
        self._process.join(timeout)
        code: int | None = self._process.exitcode
        return code

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())


class NewPrograms:
    """A processes.Starter. `method`: a start method of multiprocess, None for the best that there is.

    `preload`: modules that each child would import by itself, beside PRELOAD. Those of the program's main module
    belong here, because multiprocess runs that module again in each child.
    """

    def __init__(self, method: str | None = None, *, preload: Sequence[str] = ()) -> None:
        available = multiprocess.get_all_start_methods()
        self.method = method or ("forkserver" if "forkserver" in available else "spawn")
        self._context = multiprocess.get_context(self.method)
        if self.method == "forkserver":
            self._context.set_forkserver_preload([*PRELOAD, *preload])

    def open(self) -> None:
        if self.method == "forkserver":
            from multiprocess import forkserver, resource_tracker

            socket_folder.make()
            with _isolated():
                resource_tracker.ensure_running()  # holds SIGINT back by itself, and lets it through when it is done
            with _held_back(), _isolated():
                forkserver.ensure_running()  # does not wait: the imports go on while the database starts

    def start(self) -> tuple[_Started, Any]:
        here, there = self._context.Pipe()
        process = self._context.Process(target=serve, args=(there,), daemon=True)
        try:
            with _held_back(), _isolated():
                process.start()
        finally:
            there.close()
        return _Started(process), here

    def close(self) -> None:
        pass
