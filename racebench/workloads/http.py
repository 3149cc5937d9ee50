"""An HTTP client for services under test: one connection that is kept, and the status codes that count as a success.

Which request is sent when, and what an answer means for a verdict, are the drivers'.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from racebench.core.model import HttpRequest
from racebench.core.plain_text import one_line

#: Linux only: acknowledge at once. Otherwise a server that writes its answer in two parts (Python's http.server) waits
#: 40 ms for the acknowledgment of the first (Nagle's algorithm).
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer, whole."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The status and the beginning of the body, as a message has them: "HTTP 500: no stock"."""
        body = one_line(self.body[:200].decode(errors="replace")).strip()
        return f"HTTP {self.status}" + (f": {body}" if body else "")


class NoAnswer(Exception):  # noqa: N818 - what happened, which may be the service's right
    """A request without a whole answer: refused, reset, closed or timed out. `sent`: the service may have acted on it.

    `late`: the time limit has passed, and the service may act on it still.
    """

    def __init__(self, message: str, *, sent: bool, late: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.late = late


def is_expected(status: int, expect: Sequence[str]) -> bool:
    """Whether a status code is one of those that count as a success, such as "2xx" or "409"."""
    return any(pattern in (str(status), f"{status // 100}xx") for pattern in expect)


class HttpClient:
    """One connection to a service, made when it is needed and kept; a context manager. One thread at a time.

    `waits_on`: the descriptor of the socket on which it waits for an answer to what it has sent; -1 if it does not.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = _Connection(host, port)
        self.waits_on = -1

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        self._connection.close()

    def connect(self, timeout_s: float | None = None) -> None:
        """Connect now, if it is not connected; raises NoAnswer."""
        try:
            self._connection.use(timeout_s)
        except OSError as problem:
            self.close()
            raise NoAnswer(_reason(problem), sent=False) from None

    def send(self, request: HttpRequest, timeout_s: float | None = None) -> Response:
        """Send a request and read the whole answer; raises NoAnswer. `timeout_s`: for each wait on the socket."""
        connection = self._connection
        self.connect(timeout_s)
        try:
            headers = dict(request.headers)
            connection.request(request.method, request.path, body=request.body or None, headers=headers)
            connection.acknowledge_at_once()
            self.waits_on = connection.descriptor
            answer = connection.getresponse()
            connection.acknowledge_at_once()
            return Response(status=answer.status, body=answer.read(), headers=tuple(answer.getheaders()))
        except TimeoutError:
            self.close()
            raise NoAnswer(f"no answer within {timeout_s:g} s", sent=True, late=True) from None
        except (OSError, http.client.HTTPException) as problem:
            self.close()
            raise NoAnswer(_reason(problem), sent=True) from None
        except BaseException:  # Ctrl-C: what comes next over this connection is no answer to another request
            self.close()
            raise
        finally:
            self.waits_on = -1


class _Connection(http.client.HTTPConnection):
    def use(self, timeout_s: float | None) -> None:
        """Connect, unless the last connection is still open at its other end."""
        self.timeout = timeout_s
        if self.sock is not None and _was_closed(self.sock):
            self.close()
        if is_new := self.sock is None:
            self.connect()
        assert self.sock is not None
        if is_new:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(timeout_s)

    @property
    def descriptor(self) -> int:
        """That of its socket; -1 if there is none."""
        return -1 if self.sock is None else self.sock.fileno()

    def acknowledge_at_once(self) -> None:
        """Linux forgets it after some answers."""
        if _QUICKACK is not None and self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def _was_closed(connection: socket.socket) -> bool:
    """Whether something has arrived that no request asked for: the end of the connection."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _reason(problem: OSError | http.client.HTTPException) -> str:
    if isinstance(problem, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "the connection was closed without an answer"
    if isinstance(problem, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(problem, http.client.IncompleteRead):
        return "the connection was closed in the middle of the answer"
    if isinstance(problem, http.client.HTTPException):
        return f"the answer is not HTTP ({type(problem).__name__})"
    return one_line(problem.strerror or str(problem))
