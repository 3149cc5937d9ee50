"""A PostgreSQL server from a folder of its programs (initdb, postgres), for versions that the embedded wheel lacks.

The npm packages of benchmarks/postgresql/package.json have such folders. The server is new, listens on a Unix socket
only, runs as the server user of the embedded server, and is stopped and deleted at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import psycopg

from racebench.postgres.embedded.programs import give_to_server_user, run_program, start_program
from racebench.postgres.embedded.server import SETTINGS

#: The versions of benchmarks/postgresql/package.json.
INSTALLABLE = (14, 15, 17)

_HERE = Path(__file__).parent / "postgresql"
_START_SECONDS = 60.0
_USER = "owner"


def installed(version: int) -> Path | None:
    """The folder of the programs of a version in INSTALLABLE, here or in NODE_PATH; None if it is not installed."""
    for modules in (
        _HERE / "node_modules",
        *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep))),
    ):
        programs = modules / f"postgresql-{version}" / "native" / "bin"
        if programs.is_dir():
            return programs
    return None


@contextlib.contextmanager
def started(programs: Path, settings: Mapping[str, str], *, connections: int) -> Iterator[str]:
    """Start a server with the settings of the embedded one that its version has, and these; yield its DSN.

    Raises click.ClickException if a program is missing or fails.
    """
    for name in ("initdb", "postgres"):
        if not (programs / name).is_file():
            raise click.ClickException(f"{programs} has no program '{name}'; name the folder 'bin' of a PostgreSQL")
    folder = Path(tempfile.mkdtemp(prefix="racebench-server-", dir="/tmp"))  # short, because of the socket's path
    try:
        give_to_server_user(folder)
        data, log = folder / "data", folder / "log"
        words = [
            "-D",
            str(data),
            "-U",
            _USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--wal-segsize=1",
        ]
        code, said = run_program([str(programs / "initdb"), *words], cwd=folder)
        if code != 0:
            raise click.ClickException(f"initdb of {programs} failed: {said.strip()}")
        major = int((data / "PG_VERSION").read_text())
        known = {name: value for name, value in SETTINGS.items() if major >= 16 or name != "createrole_self_grant"}
        chosen = {**known, "unix_socket_directories": str(folder), "max_connections": str(connections + 10), **settings}
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            process = start_program(command, cwd=folder, output=output)
        try:
            dsn = f"host={folder} port={chosen['port']} user={_USER} dbname=postgres"
            _wait(process, dsn, log)
            yield dsn
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    finally:
        shutil.rmtree(folder)


def _wait(process: subprocess.Popen[bytes], dsn: str, log: Path) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise click.ClickException(f"the server did not start: {log.read_text(errors='replace').strip()}")
        time.sleep(0.05)
