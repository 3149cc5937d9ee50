"""One trial while it runs: the command, its processes and its sessions on the server, and what a fault does to them.

Processes of the command are known by a variable of their environment, whatever becomes of their parents; a process of a
session on the server by its TCP port.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.faults.grounds import Ground
from benchmarks.faults.proxy import BreakingProxy
from benchmarks.faults.subjects import Driver, Subject

TOKEN = "FAULT_TRIAL"
_TICK_S = 0.005


@dataclass(slots=True, kw_only=True)
class Scene:
    """A trial. `folder` has `work`, where the command runs, and `tmp`, its temporary folder.

    `prefix`: a program that starts the command with limits. `process`: the command, once it is started.
    """

    driver: Driver
    subject: Subject
    draw: random.Random
    folder: Path
    ground: Ground
    token: str
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    proxy: BreakingProxy | None = None

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def command(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def runs(self) -> bool:
        """Whether the command has not ended."""
        return self.command.poll() is None

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False if the command ended before."""
        while not condition():
            if not self.runs():
                return False
            time.sleep(_TICK_S)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait that long; False if the command ended before."""
        moment = time.monotonic() + seconds
        return self.wait_until(lambda: time.monotonic() >= moment)

    def wait_for_moment(self) -> bool:
        """Wait until the drawn moment: a number of committed rows, or a time. False if the command ended before.

        Most moments are events, where rows can be counted. The others hit the beginning and the end, too.
        """
        if self.driver.audited and self.ground.server is not None and self.draw.random() < 0.7:
            rows = self.draw.randint(1, 120)
            with contextlib.suppress(psycopg.Error), self.ground.server.connect() as connection:
                return self.wait_until(lambda: _count(connection) >= rows)
        return self.wait(self.draw.uniform(0.0, self.driver.seconds))

    def backends(self, role: str) -> list[tuple[int, int]]:
        """The command's sessions on the server that have a role: process of the server, TCP port of the client.

        The role `command` is every session that is neither a worker's nor a consumer's nor an explored one; the role
        `any` is every session.
        """
        if self.ground.server is None:
            return []
        others = ("worker", "consumer", "session")
        with contextlib.suppress(psycopg.Error), self.ground.server.connect() as connection:
            rows = connection.execute(
                "SELECT pid, coalesce(client_port, 0), split_part(application_name, ' ', 2) FROM pg_stat_activity"
                " WHERE application_name LIKE 'racebench%' AND backend_type = 'client backend' ORDER BY backend_start"
            ).fetchall()
            return [
                (pid, port)
                for pid, port, name in rows
                if role in (name, "any") or (role == "command" and name not in others)
            ]
        return []

    def backend(self, role: str) -> tuple[int, int] | None:
        """Wait for the moment and for a session of that role; one that is drawn, or None."""
        if not self.wait_for_moment():
            return None
        chosen: list[tuple[int, int]] = []

        def is_there() -> bool:
            if sessions := self.backends(role):
                chosen.append(self.draw.choice(sessions))
            return bool(chosen)

        return chosen[0] if self.wait_until(is_there) else None

    def client(self, role: str) -> int | None:
        """Wait for the moment and for a process of that role; its pid, or None. The command's own has role `main`."""
        if role == "main":
            return self.command.pid if self.wait_for_moment() else None
        session = self.backend(role)
        return None if session is None else _owner(session[1], self.processes())

    def processes(self) -> list[int]:
        """The processes of the command that run, the first among them."""
        mark = f"{TOKEN}={self.token}".encode()
        return [pid for pid in _pids() if mark in _read(f"/proc/{pid}/environ").split(b"\0") and _lives(pid)]

    def handles(self, what: signal.Signals) -> bool:
        """Whether the command has a handler for a signal."""
        for line in _read(f"/proc/{self.command.pid}/status").splitlines():
            if line.startswith(b"SigCgt:"):
                return bool(int(line.split()[1], 16) >> (what - 1) & 1)
        return False

    def signal(self, pid: int | None, what: signal.Signals) -> bool:
        """Send a signal to a process of the command or the server; False if it has ended."""
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)
            return True
        return False

    def pause(self, pid: int | None) -> bool:
        """Stop a process for some tenths of a second."""
        if not self.signal(pid, signal.SIGSTOP):
            return False
        time.sleep(self.draw.uniform(0.1, 0.8))
        self.signal(pid, signal.SIGCONT)
        return True


def _count(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM faults.rows").fetchone()
    assert row is not None
    return int(row[0])


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - a thousand paths are not needed
        if name.isdecimal():
            yield int(name)


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""


def _lives(pid: int) -> bool:
    """Whether it runs: a process that has ended and was not waited for does not."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"], [b"X"])


def _owner(port: int, processes: list[int]) -> int | None:
    """The process among these whose TCP socket has that local port."""
    place = f":{port:04X}".encode()
    sockets = {
        words[9]
        for line in _read("/proc/net/tcp").splitlines()[1:]
        if (words := line.split())[1].endswith(place) and words[9] != b"0"
    }
    for pid in processes:
        with contextlib.suppress(OSError):
            links = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
            if any(link.startswith("socket:[") and link[8:-1].encode() in sockets for link in links):
                return pid
    return None
