"""Waits until sockets can be read from or written to, and tells their handlers: epoll where there is, else selectors.

selectors alone would do; it costs three times epoll's own time for each event.
"""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Iterator
from typing import Protocol

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Handler(Protocol):
    """Handles the events of a socket."""

    def happen(self, mask: int) -> None:
        """It can be read from (READ), written to (WRITE), or both; also if it has failed."""

    def drop(self) -> None:
        """Close it now."""


class Readiness(Protocol):
    """A set of sockets with their handlers and the events (READ, WRITE) that are waited for."""

    def fileno(self) -> int:
        """A descriptor that is readable when a socket is ready."""

    def handlers(self) -> Iterator[Handler]:
        """Those of all sockets."""

    def watch(self, watched: socket.socket, before: int, mask: int, handler: Handler) -> None:
        """Wait for other events of a socket than before; 0: for none."""

    def poll(self, timeout_s: float | None) -> None:
        """Wait up to a time (None: for ever) until a socket is ready, and tell the handlers of all that are."""

    def close(self) -> None:
        """Wait no more."""


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Handler, int]] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def handlers(self) -> Iterator[Handler]:
        return iter([handler for handler, _ in self._handlers.values()])

    def watch(self, watched: socket.socket, before: int, mask: int, handler: Handler) -> None:
        number = watched.fileno()
        events = (select.EPOLLIN if mask & READ else 0) | (select.EPOLLOUT if mask & WRITE else 0)
        if not before:
            self._epoll.register(number, events)
        elif mask:
            self._epoll.modify(number, events)
        else:
            self._epoll.unregister(number)
            del self._handlers[number]
            return
        self._handlers[number] = (handler, mask)

    def poll(self, timeout_s: float | None) -> None:
        handlers = self._handlers
        for number, events in self._epoll.poll(timeout_s):
            if number not in handlers:
                continue  # it was closed by another event of the same round
            handler, mask = handlers[number]
            if events != select.EPOLLIN:  # an error or the end is seen by reading or by writing
                mask &= (READ if events & ~select.EPOLLOUT else 0) | (WRITE if events & ~select.EPOLLIN else 0)
            else:
                mask = READ
            handler.happen(mask)

    def close(self) -> None:
        self._epoll.close()


class _Selectors:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        return self._selector.fileno()

    def handlers(self) -> Iterator[Handler]:
        return iter([key.data for key in self._selector.get_map().values()])

    def watch(self, watched: socket.socket, before: int, mask: int, handler: Handler) -> None:
        if not before:
            self._selector.register(watched, mask, handler)
        elif mask:
            self._selector.modify(watched, mask, handler)
        else:
            self._selector.unregister(watched)

    def poll(self, timeout_s: float | None) -> None:
        for key, mask in self._selector.select(timeout_s):
            key.data.happen(mask)

    def close(self) -> None:
        self._selector.close()


def readiness() -> Readiness:
    """What this system has."""
    return _Epoll() if hasattr(select, "epoll") else _Selectors()
