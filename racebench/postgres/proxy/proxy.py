"""The proxy: its listeners, the links of their clients, and one loop for all of them, in its user's thread."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping
from typing import Self

from racebench.core.target import Target
from racebench.postgres.proxy.link import Link
from racebench.postgres.proxy.readiness import READ, readiness
from racebench.postgres.proxy.startup import CancelRequest
from racebench.postgres.proxy.upstream import Upstream

_HOST = "127.0.0.1"
_BACKLOG = 512
#: How long `close` may wait for the sockets to take what is queued.
_CLOSING_S = 1.0


class _Listener:
    """A port; each client that comes by it becomes a link."""

    def __init__(self, proxy: Proxy, port: int, defaults: Mapping[str, str]) -> None:
        self._proxy = proxy
        self._defaults = defaults
        self.socket = socket.create_server((_HOST, port), backlog=_BACKLOG)
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        proxy.readiness.watch(self.socket, 0, READ, self)

    def happen(self, _mask: int) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                continue  # the client has gone already
            self._proxy.add(Link(self._proxy, connection, self.port, self._defaults))

    def drop(self) -> None:
        self._proxy.readiness.watch(self.socket, READ, 0, self)
        self.socket.close()


class Proxy:
    """Clients connect to its ports, and reach the target; `poll` does all the work.

    `parameters` are added to each start-up message; what a client sets itself stands. Raises DatabaseProblem if the
    target cannot be reached. A context manager that closes it.
    """

    def __init__(self, target: Target, parameters: Mapping[str, str] | None = None) -> None:
        self.upstream = Upstream.of(target)
        self.readiness = readiness()
        self._parameters = dict(parameters or {})
        self._listeners: list[_Listener] = []
        self._links: dict[Link, None] = {}
        self._news: dict[Link, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    @property
    def links(self) -> list[Link]:
        """Those that are not closed, in the order in which their clients came."""
        return list(self._links)

    def listen(self, port: int = 0, parameters: Mapping[str, str] | None = None) -> int:
        """Listen on a port of 127.0.0.1, or on any free one; its number.

        `parameters`: further ones, for the clients of this port. Raises OSError.
        """
        listener = _Listener(self, port, {**self._parameters, **(parameters or {})})
        self._listeners.append(listener)
        return listener.port

    def fileno(self) -> int:
        """A descriptor that is readable when `poll` has work to do."""
        return self.readiness.fileno()

    def poll(self, timeout_s: float | None = 0.0) -> list[Link]:
        """Wait up to a time for something to happen (None: for ever), and do what passes by itself.

        The links that have become open, have received something or have lost a side; perhaps none, before the time has
        passed. A message may be still incomplete.
        """
        self.readiness.poll(timeout_s)
        if not self._news:
            return []
        news = list(self._news)
        self._news.clear()
        return news

    def close(self) -> None:
        """Close all links in order, and the ports; sides that take nothing any more are dropped."""
        for listener in self._listeners:
            listener.drop()
        self._listeners.clear()
        for link in self.links:
            link.close()
        deadline_s = time.monotonic() + _CLOSING_S
        while (ends := list(self.readiness.handlers())) and time.monotonic() < deadline_s:
            self.poll(0.05)
        for end in ends:
            end.drop()
        self._news.clear()
        self.readiness.close()

    # What the links use.

    def add(self, link: Link) -> None:
        """A client has come."""
        self._links[link] = None

    def forget(self, link: Link) -> None:
        """A link has been closed."""
        self._links.pop(link, None)
        self.tell(link)

    def tell(self, link: Link) -> None:
        """There is news of a link."""
        self._news[link] = None

    def cancel(self, request: CancelRequest) -> None:
        """A client asks to cancel what the session of a link does."""
        for link in self._links:
            if link.pid == request.pid and link.secret == request.secret:
                link.cancelled += 1
                self.tell(link)
