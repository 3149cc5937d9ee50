"""Stops a server that is left in a slot whose lock is held: its command was killed, and its watcher too.

It is found among the running processes, by its user and its data directory. No file that it could have written is
asked which process to signal.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from racebench.postgres.embedded.programs import run_program, server_uid

_STOP_SECONDS = 10.0
_PROC = Path("/proc")


def stop_orphans(data: Path) -> None:
    """Stop the servers of a data directory, by force if they do not end."""
    if not data.exists():
        return
    for name in ("QUIT", "KILL"):
        for pid in _servers(data):
            _signal(pid, name)
        deadline = time.monotonic() + _STOP_SECONDS
        while _servers(data) and time.monotonic() < deadline:
            time.sleep(0.01)


def _signal(pid: int, name: str) -> None:
    """Send a signal as the server's user, which cannot reach a process of another user that has got this number."""
    run_program(["/bin/sh", "-c", 'kill -"$1" "$2"', "sh", name, str(pid)], cwd=Path("/"))


def _servers(data: Path) -> list[int]:
    """The servers of a data directory that run as the server's user."""
    wanted, uid = str(data), server_uid()
    return [pid for pid, user, words in _processes() if user == uid and "-D" in words and wanted in words]


def _processes() -> Iterator[tuple[int, int, list[str]]]:
    """The pid, the user and the words of the command line of every process."""
    if not _PROC.joinpath("self", "cmdline").exists():
        listing = subprocess.run(["ps", "-axww", "-o", "pid=,uid=,args="], capture_output=True, text=True, check=False)
        for line in listing.stdout.splitlines():
            pid, user, command = line.split(None, 2)
            yield int(pid), int(user), command.split(" ")
        return
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
                yield int(folder.name), folder.stat().st_uid, words
