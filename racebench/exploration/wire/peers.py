"""Which processes of this machine have opened the connections that a gate has accepted. Source: proc(5), tcp."""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Collection, Iterable
from itertools import chain
from pathlib import Path

from racebench.core.errors import UsageProblem
from racebench.postgres.proxy.link import Link

_PROC = Path("/proc")
#: How long the process of a connection is looked for, in seconds.
_SEEN_S = 1.0
_TABLES = (_PROC / "net/tcp", _PROC / "net/tcp6")


class Peers:
    """The processes that have connected to a gate."""

    def __init__(self) -> None:
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._found: dict[int, None] = {}
        #: Since when the process of a connection has been looked for.
        self._not_seen: weakref.WeakKeyDictionary[Link, float] = weakref.WeakKeyDictionary()

    def processes(self, links: Iterable[Link]) -> Collection[int]:
        """Those that have opened these connections, or earlier ones. Raises UsageProblem if one is not to be seen."""
        for link in links:
            if link in self._links:
                continue
            port = port_of(link.client_descriptor)
            pid = process(port, self._found) if port else None
            if pid is None and port and time.monotonic() < self._not_seen.setdefault(link, time.monotonic()) + _SEEN_S:
                continue  # it may have ended by now, which will be seen
            self._links.add(link)
            if pid is None and port:
                raise UsageProblem(
                    "a process that has connected to the gate is not to be seen from here, so that it is not known "
                    "when it is at rest; start the service with --serve, or as the user that runs racebench"
                )
            if pid is not None:
                self._found[pid] = None
        return self._found


def process(port: int, known: Collection[int]) -> int | None:
    """The process whose socket has a local port; None if this user may not look at it.

    `known`: processes that are looked at first.
    """
    wanted = {f"socket:[{inode}]" for inode in _inodes({port})}
    if not wanted:
        return None
    every = (int(folder.name) for folder in _PROC.iterdir() if folder.name.isdigit()) if _PROC.is_dir() else ()
    for pid in chain(known, every):
        if pid != os.getpid() and _has(_PROC / str(pid) / "fd", wanted):
            return pid
    return None


def _inodes(ports: Collection[int]) -> set[str]:
    inodes = set()
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) in ports:
                inodes.add(fields[9])
    return inodes


def _has(folder: Path, wanted: Collection[str]) -> bool:
    try:
        return any(os.readlink(folder / name) in wanted for name in os.listdir(folder))  # noqa: PTH115, PTH208 - quick
    except OSError:
        return False


def port_of(descriptor: int) -> int:
    """The port of the other end of a connection; 0 if it has been closed there."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        try:
            return int(connection.getpeername()[1])
        except OSError:
            return 0
