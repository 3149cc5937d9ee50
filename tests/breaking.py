"""A proxy before a server that cuts a connection at a chosen message, and counts how often it did.

It is a process: libpq may wait for an answer without letting other threads of its process run.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from racebench.core.target import Target

#: Given what travels and whether it is the client's: how many bytes pass before the connection is cut, None for all.
Cut = Callable[[bytes, bool], int | None]

_FORK = multiprocessing.get_context("fork")


class BreakingProxy:
    """Passes bytes on in both directions, on a Unix socket, and cuts a connection where `cut` says.

    `target`: the server behind it. `frozen`: while it is set, nothing is passed on, and connections stay open.
    """

    def __init__(self, folder: Path, target: Target, cut: Cut) -> None:
        self._server = str(Path(target.parameters["host"]) / f".s.PGSQL.{target.parameters['port']}")
        self._cut, self._turn = cut, threading.Lock()
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
        """How often a connection was cut."""
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
            while True:
                for source in select.select([client, server], [], [], 0.05)[0]:
                    if self.frozen.is_set():
                        continue
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    with self._turn:
                        passed = self._cut(data, source is client)
                    (server if source is client else client).sendall(data if passed is None else data[:passed])
                    if passed is not None:
                        self._cuts.value += 1
                        return


@contextlib.contextmanager
def breaking(folder: Path, target: Target, cut: Cut) -> Iterator[BreakingProxy]:
    """A proxy for the length of the block. The folder's path is short: a Unix socket's is limited."""
    proxy = BreakingProxy(folder, target, cut)
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
            return at
    return None
