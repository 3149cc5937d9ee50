"""Which processes of this machine have opened the connections that a gate has accepted. Source: proc(5), tcp."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from itertools import chain
from pathlib import Path

_PROC = Path("/proc")
_TABLES = (_PROC / "net/tcp", _PROC / "net/tcp6")


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
