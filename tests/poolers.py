"""PgBouncer in front of the user's server of the tests: a pool mode, and whatever else a test sets."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conftest import UsersServer
from waiting import wait_for

PGBOUNCER = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
#: .ci/run installs it.
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@contextlib.contextmanager
def pgbouncer(server: UsersServer, mode: str, **settings: object) -> Iterator[str]:
    """Run PgBouncer before a server; yield the DSN of the pooler. `settings` are those of its [pgbouncer] section."""
    assert PGBOUNCER is not None
    folder = Path(tempfile.mkdtemp(prefix="racebench-pgbouncer-"))
    identity: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "users").write_text(f'"owner" "{server.password}"\n')
    options = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users",
        "pool_mode": mode,
        "default_pool_size": 30,
        **settings,
    }
    lines = [f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]", *(f"{k} = {v}" for k, v in options.items())]
    (folder / "pgbouncer.ini").write_text("\n".join(["[databases]", *lines, ""]))
    with (folder / "log").open("wb") as log:
        pooler = subprocess.Popen([PGBOUNCER, "pgbouncer.ini"], cwd=folder, stdout=log, stderr=log, **identity)  # type: ignore[call-overload]
    dsn = f"postgresql://owner:{server.password}@127.0.0.1:{port}/postgres"
    try:
        wait_for(lambda: _answers(dsn), "pgbouncer does not answer")
        yield dsn
    finally:
        pooler.terminate()
        pooler.wait()
        shutil.rmtree(folder)


def _answers(dsn: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
        return True
    return False
