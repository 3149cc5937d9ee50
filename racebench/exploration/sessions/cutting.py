"""Cuts the connection of a session at a step, as the network or the end of its client does.

The server ends a backend that lost its client: it rolls back, and releases what the session held. That is awaited, so
that it belongs to the step. A backend that is at work notices the loss when its work is done; then too.
"""

from __future__ import annotations

import contextlib
import os
import socket
from time import monotonic
from typing import Any

import psycopg

from racebench.core.errors import DatabaseProblem

#: One row while a backend lives.
_DOES = "SELECT wait_event_type, wait_event, query FROM pg_stat_get_activity(%s)"
_HIDDEN = "<insufficient privilege>"
_SIZE = 65_536


class Cutter:
    """Cuts connections; `monitor`: one that no session uses. `limit_s`: how long the server is awaited, in seconds."""

    def __init__(self, monitor: psycopg.Connection[Any], limit_s: float) -> None:
        self._monitor, self._limit_s = monitor, limit_s

    def cut(self, descriptor: int, pid: int) -> None:
        """Cut a connection and return when its backend has ended. Raises DatabaseProblem."""
        with _connected(descriptor) as connected, contextlib.suppress(OSError):  # the server may have closed it
            connected.shutdown(socket.SHUT_RDWR)
        deadline = monotonic() + self._limit_s
        while self._does(pid) is not None:
            self._check(deadline, pid)

    def lose_answer(self, descriptor: int, pid: int) -> bool:
        """Drop what has arrived of an answer; when it was all, cut the connection and return True.

        False: the step waits for another session. Raises DatabaseProblem.
        """
        deadline = monotonic() + self._limit_s
        with _connected(descriptor) as connected:
            _drain(connected)
            while (doing := self._does(pid)) is not None and doing[1] != "ClientRead":
                if doing[0] == "Lock":
                    return False
                self._check(deadline, pid)
                _drain(connected)
            _drain(connected)  # the last of the answer came before the backend began to wait for its client
        self.cut(descriptor, pid)
        return True

    def _does(self, pid: int) -> tuple[str | None, str | None] | None:
        """What a backend waits for; None if it has ended."""
        row = self._monitor.execute(_DOES, (pid,), prepare=True).fetchone()
        if row is None:
            return None
        if row[2] == _HIDDEN:
            raise DatabaseProblem(
                "the role that explores does not see what the sessions' backends do; GRANT pg_read_all_stats, or have "
                "the sessions connect with its role"
            )
        return row[0], row[1]

    def _check(self, deadline: float, pid: int) -> None:
        if monotonic() > deadline:
            raise DatabaseProblem(f"backend {pid} did not end in {self._limit_s:g} s after its connection was cut")


def _connected(descriptor: int) -> socket.socket:
    """The socket of a descriptor that stays open when this one is closed."""
    return socket.socket(fileno=os.dup(descriptor))


def _drain(connected: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while connected.recv(_SIZE, socket.MSG_DONTWAIT):
            pass
