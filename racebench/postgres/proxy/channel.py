"""One end of a connection: a non-blocking socket, plain or TLS, with a queue of what it has not taken yet.

Knows no message. Its owner is notified of events, and reads; the queue is sent without the owner.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

from racebench.postgres.proxy.readiness import READ, WRITE, Readiness

_SIZE = 65_536
#: So much is read at a time over TLS, at least: one connection must not hold up the others.
_TURN = 16 * _SIZE
#: Linux only: acknowledges at once what a client sends in two parts; Nagle's algorithm would delay the second by 40 ms.
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)

Notify = Callable[[int], None]


class Channel:
    """`notify` is called with the events (READ, WRITE) after what is queued was sent.

    `ended`: the peer sends no more: it has closed or lost the connection; `error`: why, if the system says. `waiting`:
    bytes queued. `acknowledging`: acknowledge at once what arrives (TCP_QUICKACK). `connecting`: notify once it is
    connected.
    """

    def __init__(
        self,
        connection: socket.socket,
        readiness: Readiness,
        notify: Notify,
        *,
        acknowledging: bool = False,
        connecting: bool = False,
    ) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.notify = notify
        self.ended = False
        self.error = ""
        self.waiting = 0
        self._readiness = readiness
        self._queue: list[bytes] = []
        self._tls: ssl.SSLSocket | None = None
        self._handshake: Callable[[], None] | None = None
        self._reading = True
        self._connecting = connecting
        self._finishing = False
        self._until_end = False
        self._closed = False
        self._lost = False
        self._mask = 0
        self._acknowledging = acknowledging and _QUICKACK is not None
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._acknowledging:
            self._acknowledge()
        self._watch()

    @property
    def closed(self) -> bool:
        """Whether this side has closed it, or does as soon as what is queued was sent."""
        return self._closed or self._finishing

    @property
    def gone(self) -> bool:
        """Whether the socket is closed."""
        return self._closed

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor; -1 once it is closed."""
        return self.socket.fileno()

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    def happen(self, mask: int) -> None:
        """Take events."""
        if self._closed:
            return  # by another event of the same round
        if self._handshake is not None:
            self._shake()
            return
        if mask & WRITE and self._queue:
            self._send_queue()
        if not self._finishing:
            self.notify(mask)
        elif mask & READ and not self._closed:
            self._discard()

    def receive(self, buffer: bytearray) -> int:
        """Add what has arrived to a buffer; the number of bytes. At the end, `ended` is true."""
        count = 0
        try:
            if self._tls is None:
                data = self.socket.recv(_SIZE)
                buffer += data
                count = len(data)
                self.ended = not data
                if self._acknowledging:  # the system forgets it
                    self._acknowledge()
            else:
                while count < _TURN or self._tls.pending():
                    data = self._tls.recv(_SIZE)
                    if not data:
                        self.ended = True
                        break
                    buffer += data
                    count += len(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as problem:
            self._end(problem)
        if self.ended:
            self._watch()
        return count

    def peek(self) -> bytes:
        """The first byte that has arrived, which stays; none if there is none yet."""
        try:
            first = self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return b""
        except OSError as problem:
            self._end(problem)
            return b""
        self.ended = not first
        return first

    def send(self, data: bytes) -> None:
        """Send data, or queue what the socket does not take now; nothing once it is closed or lost."""
        if self._closed or self._finishing or self._lost or not data:
            return
        if self._queue or self._handshake is not None:
            self._queue.append(data)
            self.waiting += len(data)
            return
        sent = self._try(data)
        if sent < len(data):
            self._queue.append(data[sent:] if sent else data)
            self.waiting = len(data) - sent
            self._watch()

    def connected(self) -> None:
        """End the notifications of a socket that is connecting."""
        self._connecting = False
        self._watch()

    def read(self, wanted: bool) -> None:
        """Go on reading, or stop: what the peer sends waits with it."""
        if self._reading != wanted:
            self._reading = wanted
            self._watch()

    def secure(
        self, context: ssl.SSLContext, then: Callable[[], None], *, server: bool, name: str | None = None
    ) -> None:
        """Speak TLS from now on, as the server or as a client of a host with this name; calls `then` once it does."""
        self._unwatch()
        try:
            self._tls = context.wrap_socket(
                self.socket, server_side=server, do_handshake_on_connect=False, server_hostname=name
            )
        except OSError as problem:  # the peer is gone
            self._end(problem)
            self._handshake = None
            self.notify(READ)
            return
        self.socket = self._tls
        self._handshake = then
        self._shake()

    def finish(self, *, until_end: bool = False) -> None:
        """Close it as soon as what is queued was sent; what the peer still sends is dropped.

        `until_end`: not before the peer has closed its side, of which `notify` is told.
        """
        if self._closed or self._finishing:
            return
        if self._lost or not (self._queue or (until_end and not self.ended)):
            self.drop()
            return
        self._finishing = self._reading = True
        self._until_end = until_end
        self._watch()

    def drop(self, *, reset: bool = False) -> None:
        """Close it now. `reset`: as if the peer's network were gone (TCP RST), not in order."""
        if self._closed:
            return
        self._closed = True
        self._unwatch()
        self._queue.clear()
        self.waiting = 0
        if reset:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif self._tls is not None and not self.ended and self._handshake is None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()  # sends close_notify, and does not wait for the peer's
        self.socket.close()

    def _acknowledge(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)  # type: ignore[arg-type]

    def _try(self, data: bytes) -> int:
        """Send as much as the socket takes now."""
        try:
            return self.socket.send(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as problem:
            # What the peer sent before it went is still to be read, as the reason of a server that ends a session.
            self._lost = True
            self.error = self.error or problem.strerror or str(problem)
            return len(data)

    def _send_queue(self) -> None:
        data = b"".join(self._queue)
        sent = self._try(data)
        self._queue = [data[sent:]] if sent < len(data) else []
        self.waiting = len(data) - sent
        if not self._queue:
            if self._finishing and not self._until_end:
                self.drop()
                return
            self._watch()

    def _discard(self) -> None:
        self.receive(bytearray())
        if self.ended and (self._until_end or self._lost):
            self.drop()
            self.notify(READ)

    def _shake(self) -> None:
        assert self._tls is not None
        mask = READ
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            mask = WRITE
        except OSError as problem:
            self._end(problem)
            self._handshake = None
            self.notify(READ)
            return
        else:
            then, self._handshake = self._handshake, None
            assert then is not None
            if self._queue:
                self._send_queue()
            self._watch()
            then()
            if self._tls.pending() and not self._closed:
                self.notify(READ)  # came with the handshake; no event tells of it
            return
        self._set_mask(mask)

    def _end(self, problem: OSError) -> None:
        self.ended = self._lost = True
        self.error = self.error or problem.strerror or str(problem)
        self._queue.clear()
        self.waiting = 0
        self._unwatch()

    def _watch(self) -> None:
        if not self._closed:
            reading = READ if self._reading and not self.ended else 0
            self._set_mask(reading | (WRITE if self._queue or self._connecting else 0))

    def _set_mask(self, mask: int) -> None:
        if mask == self._mask:
            return
        self._readiness.watch(self.socket, self._mask, mask, self)
        self._mask = mask

    def _unwatch(self) -> None:
        self._set_mask(0)
