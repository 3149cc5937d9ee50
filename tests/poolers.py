"""PgBouncer in front of the user's server of the tests: a pool mode, and whatever else a test sets."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.pooler import Pooler
from conftest import UsersServer

PGBOUNCER = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
#: .ci/run installs it.
needs_pgbouncer = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@contextlib.contextmanager
def pgbouncer(server: UsersServer, mode: str, **settings: object) -> Iterator[str]:
    """Run PgBouncer before a server; yield the DSN of the pooler. `settings` are those of its [pgbouncer] section."""
    assert PGBOUNCER is not None
    folder = Path(tempfile.mkdtemp(prefix="racebench-pgbouncer-"))
    folder.chmod(0o755)  # root's pooler is another user's
    pooler = Pooler(
        Path(PGBOUNCER),
        folder / "pooler",
        server_port=server.port,
        settings={"auth_type": "plain", "pool_mode": mode, **settings},
        users={"owner": server.password},
    )
    try:
        pooler.start()
        yield f"postgresql://owner:{server.password}@127.0.0.1:{pooler.port}/postgres"
    finally:
        pooler.stop()
        shutil.rmtree(folder)
