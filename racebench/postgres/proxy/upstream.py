"""The server behind the proxy: where it is, how it wants to be talked to, and a new connection to it.

libpq resolves the target once (several hosts, a service file, environment variables, sslmode=prefer); each connection
then goes to the same address in the same way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from racebench.core.errors import DatabaseProblem
from racebench.core.plain_text import one_line
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.proxy.channel import Channel
from racebench.postgres.proxy.readiness import Readiness
from racebench.postgres.proxy.startup import SSL_REQUEST

#: Linux only: SYN packets that remain unanswered before a connection has failed, which takes about 15 s.
_SYNCNT = getattr(socket, "TCP_SYNCNT", None)
_ALPN = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """An address for socket.connect, and TLS if the server was reached by it. `name`: how to show it."""

    family: socket.AddressFamily
    address: str | tuple[str, int]
    host: str
    name: str
    tls: ssl.SSLContext | None = field(repr=False)
    direct: bool = False

    @classmethod
    def of(cls, target: Target) -> Upstream:
        """Connect to the target once, and keep how it was done. Raises DatabaseProblem."""
        with contextlib.closing(connect(target)) as connection:
            options = {
                option.keyword.decode(): option.val.decode()
                for option in connection.pgconn.info
                if option.val is not None
            }
            pgconn, info = connection.pgconn, connection.info
            tls = _context(target, options) if pgconn.ssl_in_use else None
            host, port = info.host, info.port
            direct = tls is not None and options.get("sslnegotiation") == "direct"
            if host.startswith(("/", "@")):
                path = f"{host}/.s.PGSQL.{port}"
                address: str | tuple[str, int] = f"\0{path[1:]}" if path.startswith("@") else path
                return cls(family=socket.AF_UNIX, address=address, host="", name=target.label, tls=None)
            with socket.socket(fileno=os.dup(pgconn.socket)) as reached:
                family, address = reached.family, reached.getpeername()
        return cls(family=family, address=address, host=host, name=target.label, tls=tls, direct=direct)


def _context(target: Target, options: dict[str, str]) -> ssl.SSLContext:
    """TLS as libpq's parameters ask for it. Source: the manual, "SSL Support" of libpq."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([_ALPN])
    mode = options.get("sslmode", "prefer")
    home = Path.home() / ".postgresql"
    authorities = options.get("sslrootcert") or str(home / "root.crt")
    verified = mode in ("verify-ca", "verify-full") or (mode == "require" and Path(authorities).is_file())
    context.check_hostname = mode == "verify-full" or authorities == "system"
    context.verify_mode = ssl.CERT_REQUIRED if verified or authorities == "system" else ssl.CERT_NONE
    try:
        if authorities == "system":
            context.load_default_certs()
        elif verified:
            context.load_verify_locations(authorities)
        certificate = options.get("sslcert") or str(home / "postgresql.crt")
        key = options.get("sslkey") or str(home / "postgresql.key")
        if Path(certificate).is_file() and options.get("sslcertmode") != "disable":
            context.load_cert_chain(certificate, key, options.get("sslpassword") or (lambda: ""))
    except (OSError, ssl.SSLError) as problem:
        raise DatabaseProblem(
            f"the proxy cannot use the TLS files of {target.label}: {one_line(str(problem))}; "
            "check sslrootcert, sslcert and sslkey"
        ) from None
    return context


class Dial:
    """A connection to the server that is being made; then `connected(channel)`, or `failed(why)`."""

    def __init__(
        self,
        upstream: Upstream,
        readiness: Readiness,
        connected: Callable[[Channel], None],
        failed: Callable[[str], None],
    ) -> None:
        self._upstream = upstream
        self._connected = connected
        self._failed = failed
        self._channel: Channel | None = None
        connection = socket.socket(upstream.family, socket.SOCK_STREAM)
        if _SYNCNT is not None and upstream.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, _SYNCNT, 3)
        # A Unix socket is connected at once, or the server's queue is full: then a non-blocking one fails.
        connection.setblocking(upstream.family == socket.AF_UNIX)
        try:
            connection.connect(upstream.address)
        except BlockingIOError:
            pass
        except OSError as problem:
            connection.close()
            failed(problem.strerror or str(problem))
            return
        self._channel = Channel(connection, readiness, self._reached, connecting=True)

    def give_up(self) -> None:
        """Forget it."""
        if self._channel is not None:
            self._channel.drop()
            self._channel = None

    def _reached(self, _mask: int) -> None:
        channel = self._channel
        assert channel is not None
        if number := channel.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(os.strerror(number))
            return
        channel.connected()
        if self._upstream.tls is None:
            self._succeed()
        elif self._upstream.direct:
            self._secure(channel)
        else:
            channel.notify = self._answered
            channel.send(SSL_REQUEST)

    def _answered(self, _mask: int) -> None:
        channel = self._channel
        assert channel is not None
        answer = bytearray()
        channel.receive(answer)
        if answer == b"S":
            self._secure(channel)
        elif answer or channel.ended:
            self._fail("the server does not offer TLS any more")

    def _secure(self, channel: Channel) -> None:
        assert self._upstream.tls is not None
        channel.notify = self._refused
        channel.secure(self._upstream.tls, self._succeed, server=False, name=self._upstream.host or None)

    def _refused(self, _mask: int) -> None:
        assert self._channel is not None
        if self._channel.ended:
            self._fail(f"TLS failed: {self._channel.error}")

    def _succeed(self) -> None:
        channel, self._channel = self._channel, None
        assert channel is not None
        self._connected(channel)

    def _fail(self, why: str) -> None:
        self.give_up()
        self._failed(why)
