"""One client's connection together with its own connection to the server.

The start-up passes by itself (opening.py); then each side's messages are its user's to take and to send on.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from racebench.postgres.proxy.channel import Channel
from racebench.postgres.proxy.messages import CLIENT_KINDS, TERMINATE, Message, split
from racebench.postgres.proxy.opening import Opening
from racebench.postgres.proxy.readiness import READ, Readiness
from racebench.postgres.proxy.startup import CancelRequest
from racebench.postgres.proxy.upstream import Upstream

#: While more than this waits for one side to take, the other side is not read.
_MOST_WAITING = 4 << 20


class State(Enum):
    """Where a link is in its life."""

    STARTING = "starting"
    OPEN = "open"
    CLOSED = "closed"


class Owner(Protocol):
    """The proxy, as its links see it."""

    upstream: Upstream
    readiness: Readiness

    def tell(self, link: Link) -> None:
        """There is news of a link."""

    def forget(self, link: Link) -> None:
        """A link has been closed."""

    def cancel(self, request: CancelRequest) -> None:
        """A client asks to cancel what the session of a link does."""


class Link:
    """`port`: the listener's, by which the client came. `cancelled`: the requests to cancel its statement so far."""

    def __init__(self, owner: Owner, connection: socket.socket, port: int, defaults: Mapping[str, str]) -> None:
        self.port = port
        self.state = State.STARTING
        self.cancelled = 0
        self._terminated = False
        self._owner = owner
        self._client = Channel(connection, owner.readiness, self._client_event, acknowledging=True)
        self._opening = Opening(self._client, owner.upstream, owner.readiness, defaults, self)
        self._server: Channel | None = None
        self._from_client = self._opening.from_client
        self._from_server = self._opening.from_server

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters of the start-up message that the server got."""
        return self._opening.parameters

    @property
    def pid(self) -> int:
        """The server's process; 0 while it is not known."""
        return self._opening.pid

    @property
    def secret(self) -> bytes:
        """With the pid, what a CancelRequest names a session by."""
        return self._opening.secret

    @property
    def has_session(self) -> bool:
        """Whether the server has opened a session for it; it may have ended since."""
        return self._server is not None

    @property
    def client_closed(self) -> bool:
        """Whether the client has closed or lost its connection, or this side has closed it."""
        return self._client.ended or self._client.closed

    @property
    def server_closed(self) -> bool:
        """Whether the server has closed or lost its connection: its session has ended. Or this side has reset it."""
        return self._server is not None and (self._server.ended or self._server.gone)

    @property
    def client_descriptor(self) -> int:
        """The file descriptor of the client's socket; -1 once it is closed."""
        return self._client.descriptor

    @property
    def waiting(self) -> int:
        """How many bytes the sockets have not taken yet, on both sides."""
        return self._client.waiting + (self._server.waiting if self._server is not None else 0)

    def client_messages(self) -> list[Message]:
        """Take what the client has sent since; nothing before the link is open."""
        return split(self._from_client, CLIENT_KINDS) if self._server is not None else []

    def server_messages(self) -> list[Message]:
        """Take what the server has sent since; nothing before the link is open."""
        return split(self._from_server) if self._server is not None else []

    def send_client(self, raw: bytes) -> None:
        """Send messages to the client; what its socket does not take follows when it does."""
        client, server = self._client, self._server
        client.send(raw)
        if client.waiting > _MOST_WAITING and server is not None:
            server.read(False)

    def send_server(self, raw: bytes) -> None:
        """Send messages to the server; what its socket does not take follows when it does."""
        server = self._server
        if server is not None:
            server.send(raw)
            if server.waiting > _MOST_WAITING:
                self._client.read(False)

    def relay(self) -> None:
        """Pass on all that has arrived on either side, untouched, and the end of either side."""
        client, server = self._client, self._server
        if server is None:
            return
        if self._from_client:
            raw = bytes(self._from_client)
            self._from_client.clear()
            self.send_server(raw)
        if self._from_server:
            raw = bytes(self._from_server)
            self._from_server.clear()
            self.send_client(raw)
        if not (client.ended or server.ended):
            return
        if server.ended:
            self.close()
        elif not self._terminated:  # the client may still read the answers to what it has sent
            self._terminated = True
            self.send_server(TERMINATE)

    def close(self) -> None:
        """Close both sides in order: what waits is sent first, and the server gets a Terminate.

        `server_closed` is true, and the state CLOSED, once the server has ended its session.
        """
        if self.state is State.STARTING:
            self._opening.refuse()
        else:
            self.close_client()
            self.close_server()

    def cut(self) -> None:
        """Reset the client's side, as if the network were gone, and end the server's session."""
        self.close_client(reset=True)
        self.close_server()

    def close_client(self, *, reset: bool = False) -> None:
        """Close the client's side once it has what waits for it; with a reset (TCP RST), at once."""
        if reset:
            self._client.drop(reset=True)
        else:
            self._client.finish()
        self._settle()

    def close_server(self, *, reset: bool = False) -> None:
        """Send the server a Terminate, and wait for its end without reading; with a reset (TCP RST), close at once."""
        server = self._server
        if server is not None and reset:
            server.drop(reset=True)
        elif server is not None and not server.closed:
            if not self._terminated:
                self._terminated = True
                server.send(TERMINATE)
            server.finish(until_end=True)
        self._settle()

    # What its opening tells (opening.Events).

    def opened(self) -> None:
        """The server is ready for the first query."""
        self._server = self._opening.server
        assert self._server is not None
        self._server.notify = self._server_event
        self._client.notify = self._client_event
        self.state = State.OPEN
        self._owner.tell(self)

    def refused(self) -> None:
        """There is no session."""
        self._settle()

    def cancels(self, request: CancelRequest) -> None:
        """The client asks to cancel what another session does."""
        self._owner.cancel(request)

    def _client_event(self, mask: int) -> None:
        client, server = self._client, self._server
        assert server is not None
        if client.waiting <= _MOST_WAITING:
            server.read(True)
        if mask & READ and not client.gone:
            client.receive(self._from_client)
        self._owner.tell(self)

    def _server_event(self, mask: int) -> None:
        client, server = self._client, self._server
        assert server is not None
        if server.waiting <= _MOST_WAITING:
            client.read(True)
        if mask & READ and not server.gone:
            server.receive(self._from_server)
        self._owner.tell(self)
        self._settle()

    def _settle(self) -> None:
        """Note that both sides are closed."""
        if self.state is not State.CLOSED and self.client_closed and (self._server is None or self.server_closed):
            self.state = State.CLOSED
            self._owner.forget(self)
