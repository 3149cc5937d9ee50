"""A proxy before a server that breaks a connection at a chosen message, and counts how often it did.

It is a process: libpq may wait for an answer without letting other threads of its process run. Which message it is and
what happens to it is said by a function; `moments` has those of the faults.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from racebench.core.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Pass a message on after this time."""

    seconds: float


class Silence(Enum):
    """Ways of being silent for ever on one connection."""

    #: What the client sends is read and lost, and nothing is answered; the connection stays open.
    BLACK_HOLE = "black hole"
    #: The client is told that the server sends nothing more; what the client sends still reaches the server.
    HALF_CLOSED = "half-closed"


#: What happens to a message: that many of its bytes pass before the connection is cut, or another break; None: nothing.
Break = int | Stall | Silence | None
#: Given what travels and whether it is the client's.
Cut = Callable[[bytes, bool], Break]

_FORK = multiprocessing.get_context("fork")


class BreakingProxy:
    """Passes bytes on in both directions, on a Unix socket, and breaks a connection where `cut` says.

    `target`: the server behind it. `piece`: the most bytes that are sent at once, None for all. `frozen`: while it is
    set, nothing is passed on, and connections stay open.
    """

    def __init__(self, folder: Path, target: Target, cut: Cut, *, piece: int | None = None) -> None:
        self._server = str(Path(target.parameters["host"]) / f".s.PGSQL.{target.parameters['port']}")
        self._cut, self._turn, self._piece = cut, threading.Lock(), piece
        self._cuts = _FORK.Value("i", 0)
        self.frozen = _FORK.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{target.parameters['port']}"))
        self._listener.listen(64)
        self.target = replace(target, parameters={**target.parameters, "host": str(folder)})
        self._process = _FORK.Process(target=self._accept, daemon=True)
        self._process.start()
        self._listener.close()

    @property
    def cuts(self) -> int:
        """How often a connection was broken."""
        return int(self._cuts.value)

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._server)
            sources = [client, server]
            while True:
                for source in select.select(sources, [], [], 0.05)[0]:
                    if self.frozen.is_set():
                        continue
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    with self._turn:
                        happens = self._cut(data, source is client)
                        self._cuts.value += happens is not None
                    other = server if source is client else client
                    if isinstance(happens, int):
                        other.sendall(data[:happens])
                        return
                    if isinstance(happens, Stall):
                        time.sleep(happens.seconds)
                    if isinstance(happens, Silence):
                        sources = _fall_silent(happens, client)
                        break
                    self._send(other, data)

    def _send(self, other: socket.socket, data: bytes) -> None:
        piece = self._piece or len(data)
        for start in range(0, len(data), piece):
            other.sendall(data[start : start + piece])


def _fall_silent(silence: Silence, client: socket.socket) -> list[socket.socket]:
    """The sockets that are read from now on."""
    if silence is Silence.HALF_CLOSED:
        client.shutdown(socket.SHUT_WR)
        return [client]
    while client.recv(1 << 16):
        pass
    raise ConnectionError("the client has closed the connection")


@contextlib.contextmanager
def breaking(folder: Path, target: Target, cut: Cut, *, piece: int | None = None) -> Iterator[BreakingProxy]:
    """A proxy for the length of the block. The folder's path is short: a Unix socket's is limited."""
    proxy = BreakingProxy(folder, target, cut, piece=piece)
    try:
        yield proxy
    finally:
        proxy.close()


def after_an_error(data: bytes) -> int | None:
    """Where the first ErrorResponse of what a server sent ends; None if it sent none."""
    at = 0
    while at + 5 <= len(data):
        kind, length = struct.unpack_from("!cI", data, at)
        at += 1 + length
        if kind == b"E":
            return int(at)
    return None
