"""Which processes of this machine have opened the connections that a gate has accepted. Source: proc(5), tcp."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from pathlib import Path

_PROC = Path("/proc")
_TABLES = (_PROC / "net/tcp", _PROC / "net/tcp6")


def processes(ports: Collection[int]) -> set[int]:
    """The processes whose sockets have these local ports; without those that this user may not look at."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(ports)}
    found = set()
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdigit() and int(folder.name) != os.getpid() and _has(folder / "fd", wanted):
            found.add(int(folder.name))
    return found


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
    """The port of the other end of a connection."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        name = connection.getpeername()
    return int(name[1])
