"""PostgreSQL servers that a fault may end: each is started again by its owner.

A server listens on 127.0.0.1 and on a Unix socket, without passwords, and keeps nothing. `look` and `grounds` connect
to it beside racebench.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import click
import psycopg

from racebench.core.target import Target

#: The database with the table in which the subjects' rows are written a second time, and one without it.
AUDITED, PLAIN = "audited", "plain"

_AUDIT = (Path(__file__).parent / "subjects" / "audit.sql").read_text()
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "wal_level": "replica",
    "log_min_messages": "fatal",
}
_WAIT_S = 60.0


class Server:
    """A cluster in a folder, and its postmaster. `programs`: the bin folder of a PostgreSQL."""

    def __init__(self, programs: Path, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self._programs, self._settings = programs, {**_SETTINGS, **(settings or {})}
        self._log: IO[bytes] = (folder.parent / f"{folder.name}.log").open("wb")
        folder.mkdir()
        give(folder)
        self.process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make a cluster with the two databases, and start it."""
        options = ["-U", "owner", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self._program("initdb", "-D", str(self.folder / "data"), *options)
        self.start()
        with self.connect("postgres") as connection:
            for database in (AUDITED, PLAIN):
                connection.execute(f"CREATE DATABASE {database}".encode())
            connection.execute("CREATE ROLE tester LOGIN")
            for database in (AUDITED, PLAIN):
                connection.execute(f"GRANT CREATE ON DATABASE {database} TO tester".encode())
        self.audit()

    def audit(self) -> None:
        """Make the table in which the subjects' rows are written a second time."""
        with self.connect(AUDITED) as connection:
            connection.execute(_AUDIT.encode())

    def copy(self, data: Path) -> None:
        """Begin with the data of a server that was stopped, and start it."""
        command = ["cp", "--archive", "--reflink=auto", str(data), str(self.folder / "data")]
        subprocess.run(command, check=True)
        self.start()

    def follow(self, primary: Server) -> None:
        """Make a standby of another server, and start it."""
        target = ["-d", primary.dsn("postgres", user="owner"), "-D", str(self.folder / "data")]
        self._program("pg_basebackup", *target, "-R", "--no-sync", "--checkpoint=fast")
        self.start()

    def start(self) -> None:
        """Start the postmaster, again and again while an earlier one's processes end; return when it answers."""
        limit = time.monotonic() + _WAIT_S
        while not self._answers():
            if time.monotonic() > limit:
                raise click.ClickException(f"the server in {self.folder} does not start; see its log")
            if self.process is None or self.process.poll() is not None:
                words = [f"-c{name}={value}" for name, value in self._settings.items()]
                self.process = self._popen(
                    "postgres",
                    *("-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1"),
                    *("-k", str(self.folder), *words),
                )
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End the postmaster: SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL what it is."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()

    def close(self) -> None:
        """Stop it for good; its data stay."""
        self.stop()
        self._log.close()

    def remove(self) -> None:
        """Stop it for good and delete its folder."""
        self.close()
        shutil.rmtree(self.folder)

    def connect(self, database: str = AUDITED) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the superuser, over the Unix socket."""
        return psycopg.connect(self.dsn(database, user="owner", host=str(self.folder)), autocommit=True)

    def dsn(
        self, database: str = AUDITED, *, user: str = "tester", host: str = "127.0.0.1", port: int | None = None
    ) -> str:
        """A DSN for racebench; by default a role that may create schemas and no more."""
        return f"host={host} port={port or self.port} user={user} dbname={database} sslmode=disable"

    @property
    def target(self) -> Target:
        """The server behind a proxy."""
        parameters = {"host": str(self.folder), "port": str(self.port)}
        return Target(kind="external", parameters=parameters, label="the server of a fault")

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        with contextlib.suppress(psycopg.OperationalError), self.connect("postgres"):
            return True
        return False

    def _program(self, name: str, *arguments: str) -> None:
        process = self._popen(name, *arguments)
        if process.wait() != 0:
            raise click.ClickException(f"{name} ended with {process.returncode}; see {self._log.name}")

    def _popen(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        library = self._programs.parent / "lib"
        return subprocess.Popen(
            [str(self._programs / name), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "LD_LIBRARY_PATH": str(library)},
            **identity(),
        )


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    limit = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > limit:
            raise click.ClickException(failure)
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def identity() -> dict[str, Any]:
    """PostgreSQL refuses to run as root, so root's servers run as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give(folder: Path) -> None:
    if user := identity():
        os.chown(folder, user["user"], user["group"])
