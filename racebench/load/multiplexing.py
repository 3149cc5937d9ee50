"""Drives the sessions of one process: each goes on when its socket can be read, when its pause is over, or when the
course that runs its usual operations has stopped.

A session is a generator of what it waits for (`Waiting`). What it does is the worker's.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import time
from collections.abc import Generator, Sequence
from typing import Any, Protocol

from racebench.postgres.extension import Course, Loop, extension

extension()  # imported now, it is there in every process that is forked from one that has imported this module

#: None: the socket can be read. A number: seconds to sleep. A course: its result, which is sent to the generator.
Waiting = Generator[float | Course | None, Any, None]


class Client(Protocol):
    """A session that is driven. `socket`: the descriptor it waits for now; -1 if libpq has closed it."""

    @property
    def socket(self) -> int: ...


class Sockets:
    """Waits for sockets where no extension is installed: a Loop without courses."""

    def __init__(self) -> None:
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._unit_s = 1.0 if hasattr(select, "epoll") else 1e-3

    def watch(self, fd: int, /) -> None:
        self._poll.register(fd, select.POLLIN)

    def forget(self, fd: int, /) -> None:
        with contextlib.suppress(OSError, KeyError):  # it was closed
            self._poll.unregister(fd)

    def start(self, course: Course, /) -> None:
        raise TypeError(f"{course} needs the extension")

    def wait(self, timeout: float | None, /) -> Sequence[tuple[int, Any]]:
        return self._poll.poll(None if timeout is None else timeout / self._unit_s)

    def close(self) -> None:
        if hasattr(self._poll, "close"):
            self._poll.close()


def drive(sessions: Sequence[tuple[Client, Waiting]]) -> None:
    """Run sessions to their end."""
    compiled = extension()
    with contextlib.closing(Sockets() if compiled is None else compiled.Loop()) as loop:
        _Drive(sessions, loop).run()


class _Drive:
    """The sessions that have not ended: by the socket that they wait for, or asleep."""

    def __init__(self, sessions: Sequence[tuple[Client, Waiting]], loop: Loop) -> None:
        self._loop = loop
        self._left = len(sessions)
        #: By socket: the session, and what its generator is given what was waited for with.
        self._watched: dict[int, tuple[int, Any]] = {}
        self._sessions = sessions
        self._sockets = [-1] * len(sessions)
        self._asleep: list[tuple[int, int]] = []

    def run(self) -> None:
        for number in range(len(self._sessions)):
            self._advance(number, None)
        watched, asleep, wait = self._watched, self._asleep, self._loop.wait
        while self._left:
            timeout = max(0.0, (asleep[0][0] - time.perf_counter_ns()) / 1e9) if asleep else None
            for fd, result in wait(timeout):
                number, send = watched[fd]
                try:
                    waited = send(result)
                except StopIteration:
                    self._end(number)
                    continue
                if waited is not None:
                    self._wait(number, waited)
            while asleep and asleep[0][0] <= time.perf_counter_ns():
                self._advance(heapq.heappop(asleep)[1], None)

    def _advance(self, number: int, result: Any) -> None:
        try:
            self._wait(number, self._sessions[number][1].send(result))
        except StopIteration:
            self._end(number)

    def _end(self, number: int) -> None:
        self._forget(number)
        self._left -= 1

    def _wait(self, number: int, waited: float | Course | None) -> None:
        """Wait for what a session asks for. A pause ends the wait for its socket, which may be another one after it."""
        client, generator = self._sessions[number]
        if isinstance(waited, float | int):
            self._forget(number)
            heapq.heappush(self._asleep, (time.perf_counter_ns() + int(waited * 1e9), number))
            return
        if self._sockets[number] < 0:
            fd = self._sockets[number] = client.socket
            self._watched[fd] = number, generator.send
            self._loop.watch(fd)
        if waited is not None:
            self._loop.start(waited)

    def _forget(self, number: int) -> None:
        """By its number: a session that is lost has no socket."""
        if (fd := self._sockets[number]) >= 0:
            self._sockets[number] = -1
            del self._watched[fd]
            self._loop.forget(fd)
