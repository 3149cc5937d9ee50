"""How a connection begins: the client's packets, the connection to the server, authentication, the first ReadyForQuery.

All of it passes by itself. Two things are changed: settings are added to the start-up message, and SCRAM with channel
binding is not offered, because it would refuse a proxy. Where both ends speak TLS, a client would be refused for not
binding: it is asked for its password, over TLS, and the proxy does SCRAM with the server.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from racebench.postgres.proxy.certificate import server_context
from racebench.postgres.proxy.channel import Channel
from racebench.postgres.proxy.messages import build, error_response, split
from racebench.postgres.proxy.readiness import Readiness
from racebench.postgres.proxy.scram import MECHANISM, Refused, Scram
from racebench.postgres.proxy.startup import (
    TLS_HANDSHAKE,
    CancelRequest,
    GssRequest,
    NotAPacket,
    Packet,
    SslRequest,
    StartupMessage,
    take_packet,
)
from racebench.postgres.proxy.upstream import Dial, Upstream

_ACCEPTED, _CLEARTEXT = struct.pack("!i", 0), struct.pack("!i", 3)
_SASL, _SASL_CONTINUE, _SASL_FINAL = (struct.pack("!i", code) for code in (10, 11, 12))
_BINDING = b"-PLUS"


class Events(Protocol):
    """Whom an opening tells what becomes of it."""

    def opened(self) -> None:
        """The server is ready for the first query."""

    def refused(self) -> None:
        """There will be no session: both ends are closed or closing."""

    def cancels(self, request: CancelRequest) -> None:
        """The client only asks to cancel what another session does."""


class Opening:
    """Opens one connection, with the client's socket in `client`; afterwards `server` is the server's.

    `from_client` may hold messages that came early. `parameters`: of the start-up message that the server got. `pid`,
    `secret`: of the server's process.
    """

    def __init__(
        self,
        client: Channel,
        upstream: Upstream,
        readiness: Readiness,
        defaults: Mapping[str, str],
        events: Events,
    ) -> None:
        self.client = client
        self.server: Channel | None = None
        self.from_client = bytearray()
        self.from_server = bytearray()
        self.parameters: Mapping[str, str] = {}
        self.pid = 0
        self.secret = b""
        self._upstream = upstream
        self._readiness = readiness
        self._defaults = defaults
        self._events = events
        self._dial: Dial | None = None
        self._greeted = False
        self._accepted = False
        self._asked = False
        self._scram: Scram | None = None
        client.notify = self._client_event

    def refuse(self) -> None:
        """Close both ends; what waits for the client is sent first."""
        if self._dial is not None:
            self._dial.give_up()
        self.client.finish()
        if self.server is not None:
            self.server.finish()
        self._events.refused()

    def _client_event(self, _mask: int) -> None:
        client = self.client
        if not self._greeted:
            first = client.peek()
            self._greeted = bool(first) or client.ended
            if first == TLS_HANDSHAKE:  # libpq's sslnegotiation=direct
                self._secure()
                return
        client.receive(self.from_client)
        if client.ended:
            self.refuse()
        elif self.server is not None:
            self._pass_answers(self.server)
        elif self._dial is None:
            self._take_packets()

    def _take_packets(self) -> None:
        while (packet := self._next_packet()) is not None:
            match packet:
                case SslRequest():
                    if self.client.encrypted or self.from_client:  # nothing may follow in the clear: CVE-2021-23214
                        self.client.send(b"N")
                    else:
                        self._secure(b"S")
                        return
                case GssRequest():
                    self.client.send(b"N")
                case CancelRequest():
                    self._events.cancels(packet)
                    self._connect(packet.raw, lambda _why: self.refuse())
                    return
                case StartupMessage():
                    started = packet.with_defaults(self._defaults)
                    self.parameters = started.parameters
                    self._connect(started.raw(), self._unreachable)
                    return

    def _next_packet(self) -> Packet | None:
        try:
            return take_packet(self.from_client)
        except NotAPacket:
            self.refuse()
            return None

    def _secure(self, answer: bytes = b"") -> None:
        """Speak TLS with the client, after this answer to its request; without a certificate, decline."""
        context = server_context()
        if context is not None:
            self.client.send(answer)
            self.client.secure(context, lambda: None, server=True)
        elif answer:
            self.client.send(b"N")
        else:
            self.refuse()

    def _connect(self, first: bytes, failed: Callable[[str], None]) -> None:
        """Connect to the server, and send it the client's first packet. A cancel request is answered by its end."""

        def connected(channel: Channel) -> None:
            self._dial = None
            self.server = channel
            channel.notify = self._server_event
            channel.send(first)

        self._dial = Dial(self._upstream, self._readiness, connected, failed)

    def _unreachable(self, why: str) -> None:
        self._fail("08006", f"{self._upstream.name} cannot be reached: {why}")

    def _fail(self, sqlstate: str, message: str) -> None:
        self.client.send(error_response(sqlstate, message, severity="FATAL"))
        self.refuse()

    def _pass_answers(self, server: Channel) -> None:
        """Pass the client's part of the authentication; what it sends after that is for later."""
        buffer = self.from_client
        while not self._accepted and buffer[:1] == b"p" and len(buffer) >= 5:
            end = 1 + int.from_bytes(buffer[1:5], "big")
            if len(buffer) < end:
                return
            answer = bytes(buffer[:end])
            del buffer[:end]
            if self._asked:
                self._asked = False
                self._scram = Scram(answer[5:-1])
                first = self._scram.first()
                answer = build(b"p", MECHANISM + b"\x00" + len(first).to_bytes(4, "big") + first)
            server.send(answer)

    def _server_event(self, _mask: int) -> None:
        server = self.server
        assert server is not None
        server.receive(self.from_server)
        for message in split(self.from_server):
            raw = message.raw
            if message.kind == b"R":
                raw = self._authentication(raw, server)
            elif message.kind == b"K":
                self.pid, self.secret = int.from_bytes(raw[5:9], "big"), raw[9:]
            self.client.send(raw)
            if message.kind == b"Z":
                self._events.opened()
                return
        if server.ended:  # refused, or a cancel request was taken
            self.refuse()

    def _authentication(self, raw: bytes, server: Channel) -> bytes:
        """What the client gets for the server's message; nothing for one that the proxy itself answers."""
        code, body = raw[5:9], raw[9:]
        self._accepted = code == _ACCEPTED
        if code == _SASL:
            mechanisms = [name for name in body.split(b"\x00") if name and not name.endswith(_BINDING)]
            if self.client.encrypted and server.encrypted and MECHANISM in mechanisms:
                self._asked = True
                return build(b"R", _CLEARTEXT)
            return build(b"R", _SASL + b"".join(name + b"\x00" for name in mechanisms) + b"\x00")
        if self._scram is None:
            return raw
        try:
            if code == _SASL_CONTINUE:
                server.send(build(b"p", self._scram.final(body)))
                return b""
            if code == _SASL_FINAL:
                self._scram.check(body)
                return b""
        except Refused:
            self._accepted = False
            self._fail("08P01", f"{self._upstream.name} does not know the password either")
            return b""
        return raw
