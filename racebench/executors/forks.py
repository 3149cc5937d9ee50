"""Starts a pool's processes as forks of this one, which has imported what they need, and so within milliseconds.

A fork copies the locks of threads in whatever state they are, open connections and a live display. So this process
forks once, early, while it has one thread and nothing open, and the fork forks the processes of the pool, at any time
(docs/decisions/0001-start-method.md). It is the parent of them all, and waits for them when it is told to: the number
of a process that has ended is not given to another one before that.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn

from racebench.core.signals import SIGNALS, shielded
from racebench.executors.serving import PRELOAD, mask, serve
from racebench.workloads import working_folder

#: A request is a word and the number of a process: FORK comes with the process's end of its pipe. So is an answer: a
#: pid or an exit code behind DONE, or the number of an error of the operating system.
_MESSAGE = struct.Struct("=ii")
_FORK, _WAIT = 1, 2
_DONE = 0
_TASKS = Path("/proc/self/task")


def possible() -> bool:
    """Whether this process may fork: it has one thread, and the system knows files that stand for processes."""
    if not (hasattr(os, "pidfd_open") and _TASKS.exists()):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return threading.active_count() == 1 == len(list(_TASKS.iterdir()))  # a library's threads are not Python's


class _Fork:
    """A process that was forked: a processes.Started."""

    def __init__(self, pid: int, forks: Forks) -> None:
        self._pid, self._forks = pid, forks
        self._file = os.pidfd_open(pid)
        self._code: int | None = None
        self._ended = False

    def kill(self) -> None:
        if not self._ended:
            signal.pidfd_send_signal(self._file, signal.SIGKILL)

    def join(self, timeout: float) -> int | None:
        if not self._ended and self._has_ended(timeout):
            self._ended = True
            os.close(self._file)
            self._code = self._forks.wait(self._pid)
        return self._code

    @property
    def alive(self) -> bool:
        if not self._ended:
            self.join(0.0)
        return not self._ended

    def _has_ended(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        return bool(poll.poll(timeout * 1e3))


class Forks:
    """A processes.Starter. It is to be opened only where `possible()`.

    `preload`: modules that are imported before, because each process would import them by itself.
    """

    method = "fork"

    def __init__(self, *, preload: Sequence[str] = PRELOAD) -> None:
        self._preload = tuple(preload)
        self._forker: socket.socket | None = None
        self._pid = 0

    def open(self) -> None:
        for name in self._preload:
            importlib.import_module(name)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # what waits there would be written by each process
        mask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _be_the_forker(there)
            self._forker = here
        finally:
            mask(signal.SIG_UNBLOCK, SIGNALS)
        there.close()

    def start(self) -> tuple[_Fork, Any]:
        here, there = Pipe()
        try:
            code, pid = self._ask(_FORK, 0, there.fileno())
            if code != _DONE:
                raise OSError(code, os.strerror(code))
            return _Fork(pid, self), here
        except BaseException:
            here.close()
            raise
        finally:
            there.close()

    def wait(self, pid: int) -> int | None:
        """The exit code of a process that has ended; None if it is not known."""
        try:
            with shielded():
                code, exit_code = self._ask(_WAIT, pid)
        except OSError:
            return None
        return exit_code if code == _DONE else None

    def close(self) -> None:
        if self._forker is not None:
            self._forker.close()
            self._forker = None
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def _ask(self, word: int, number: int, *files: int) -> tuple[int, int]:
        if self._forker is None:
            raise OSError(errno.ECHILD, os.strerror(errno.ECHILD))
        socket.send_fds(self._forker, [_MESSAGE.pack(word, number)], files)
        answer = self._forker.recv(_MESSAGE.size)
        if not answer:
            raise OSError(errno.ECHILD, "the process that starts the others has ended")
        code, value = _MESSAGE.unpack(answer)
        return code, value


def _be_the_forker(requests: socket.socket) -> NoReturn:
    """Fork a process for each request, until the command closes its end. Never returns into the command's code."""
    try:
        # It ends with the command, and before that it is needed: to wait for processes that such a signal has ended.
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        mask(signal.SIG_UNBLOCK, SIGNALS)
        _lead_nowhere({0, 1, 2, requests.fileno()})
        working_folder.remove()
        gc.freeze()  # so that no process copies these pages to look for garbage in them
        while True:
            message, files, _, _ = socket.recv_fds(requests, _MESSAGE.size, 1)
            if not message:
                os._exit(0)
            word, number = _MESSAGE.unpack(message)
            requests.send(_MESSAGE.pack(*(_forked(requests, files, handled) if word == _FORK else _waited(number))))
    finally:
        os._exit(1)


def _forked(requests: socket.socket, files: Sequence[int], handled: Sequence[int]) -> tuple[int, int]:
    """Fork a process that serves a pipe; what is answered. `handled`: signals that are to end it by their default."""
    if not files:
        return errno.EMFILE, 0
    try:
        pid = os.fork()
    except OSError as problem:
        return problem.errno or errno.EAGAIN, 0
    if pid:
        os.close(files[0])
        return _DONE, pid
    code = 1
    try:
        requests.close()
        for number in handled:
            if number != signal.SIGINT:  # which `serve` ignores
                signal.signal(number, signal.SIG_DFL)
        serve(Connection(files[0]))
        for thread in threading.enumerate():  # the application's; the parent's patience is limited
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as a program that ends with a traceback
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _waited(pid: int) -> tuple[int, int]:
    try:
        _, status = os.waitpid(pid, 0)
    except OSError as problem:
        return problem.errno or errno.ECHILD, 0
    return _DONE, os.waitstatus_to_exitcode(status)


def _lead_nowhere(kept: set[int]) -> None:
    """Have all other open files lead nowhere. Not closed: an object that is still there could close another's file."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if number not in kept and number != nowhere:
            with contextlib.suppress(OSError):  # the listing's own
                os.fstat(number)
                os.dup2(nowhere, number, inheritable=False)
    os.close(nowhere)
