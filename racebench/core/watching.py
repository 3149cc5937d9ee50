"""Watches that the server answers this process: says so when it does not, and ends the connections after a limit.

A connection whose network is gone is waited for without an end, mostly inside libpq, where Python can neither handle a
signal nor look at a clock. So a thread watches: when the process has waited for too long, it shuts down the sockets,
and every wait ends with an error like that of a lost connection. Workers are watched by racebench.load.stalls.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from racebench.core.defaults import GIVE_UP_SECONDS

_SAY_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_ANSWER_SECONDS = 6.0
_CLEANING_SECONDS = 20.0
#: libpq's transaction status of a connection that waits for an answer (PQTRANS_ACTIVE).
_ACTIVE = 1


def unsaid(_line: str) -> None:
    """Say nothing: the line is in the result, or in the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long there may be no progress, in seconds, and who is told meanwhile: `say` is given one line."""

    give_up_s: float = GIVE_UP_SECONDS
    say: Callable[[str], None] = unsaid


class Watch:
    """Follows the connections of one command. `explain`: given pids of backends, says what they wait for.

    `gave_up`: why the connections were ended; "" if they were not.
    """

    def __init__(self, patience: Patience) -> None:
        self.gave_up = ""
        self.explain: Callable[[list[int]], str] | None = None
        self._patience = patience
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._progress = 0
        self._working = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # Called by the thread that is watched

    def add(self, pgconn: Any) -> None:
        """Watch one more connection, of libpq."""
        with self._lock:
            self._connections.add(pgconn)
        self._progress += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="racebench watch", daemon=True)
            self._thread.start()

    def beat(self) -> None:
        """Note that there is progress."""
        self._progress += 1

    def begin(self) -> None:
        """Note that what begins now is to end within the limit, whether a connection of libpq waits or not."""
        self._progress += 1
        self._working = True

    def end(self) -> None:
        """Note that it has ended."""
        self._working = False

    def close(self) -> None:
        """End the watch."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_LOOK_SECONDS)

    # Called by its own thread

    def _look(self) -> None:
        progress, since, said = -1, time.monotonic(), False
        while not self._ended.wait(_LOOK_SECONDS):
            now = time.monotonic()
            waiting = self._waiting()
            if self._progress != progress or not (waiting or self._working):
                progress, since, said = self._progress, now, False
                continue
            # To remove what the command has made takes its time, on new connections.
            limit_s = max(self._patience.give_up_s, _CLEANING_SECONDS if self.gave_up else 0.0)
            if now - since >= limit_s:
                self.gave_up = f"gave up: no answer from the server for {now - since:.0f} s (--give-up-after)"
                self._patience.say(self.gave_up)
                self._cut()
                since, said = now, True
            elif now - since >= _SAY_SECONDS and not said:
                said = True
                self._patience.say(self._notice(waiting, now - since))

    def _waiting(self) -> list[int]:
        """The pids of the backends whose answer is awaited."""
        with self._lock:
            connections = list(self._connections)
        return [pgconn.backend_pid for pgconn in connections if pgconn.transaction_status == _ACTIVE]

    def _notice(self, waiting: list[int], seconds: float) -> str:
        """That there is no progress: with the reason, if an answer of the server is awaited."""
        if not waiting and self.explain is not None:
            return f"no step has ended for {seconds:.0f} s"
        return f"no answer from the server for {seconds:.0f} s: {self._explained(waiting)}"

    def _explained(self, pids: list[int]) -> str:
        """What the backends wait for; that the server does not say so, if it does not within a few seconds."""
        answers: list[str] = []
        if self.explain is None:
            return "it has not been connected to yet"
        explain = self.explain
        asking = threading.Thread(target=lambda: answers.append(explain(pids)), name="racebench asks", daemon=True)
        asking.start()
        asking.join(min(_ANSWER_SECONDS, self._patience.give_up_s))
        return answers[0] if answers else "it does not answer over a new connection either"

    def _cut(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for pgconn in connections:
            with contextlib.suppress(Exception):  # it is closed, or being closed
                _shut_down(pgconn.socket)


def _shut_down(number: int) -> None:
    with socket.socket(fileno=os.dup(number)) as same:
        same.shutdown(socket.SHUT_RDWR)


_CURRENT: ContextVar[Watch | None] = ContextVar("racebench_watch", default=None)


def current() -> Watch | None:
    """The watch of this thread's command; None where nothing is watched."""
    return _CURRENT.get()


def beat() -> None:
    """Note that there is progress, where it is watched."""
    if (watch := _CURRENT.get()) is not None:
        watch.beat()


@contextlib.contextmanager
def watched(patience: Patience) -> Iterator[Watch]:
    """Watch the connections that this thread makes in the block."""
    watch, before = Watch(patience), _CURRENT.get()
    _CURRENT.set(watch)
    try:
        yield watch
    finally:
        _CURRENT.set(before)
        watch.close()
