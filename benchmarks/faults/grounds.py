"""What a fault happens to: a server, behind a proxy or a pooler or not, or nothing but the embedded server.

Templates are made once for each PostgreSQL; the ground of a cell is a copy of one, so that a crash concerns no other.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.faults.pooler import Pooler
from benchmarks.faults.servers import Server


class Kind(Enum):
    """Kinds of ground."""

    SERVER = "server"
    STANDBY = "standby"
    PROXY = "proxy"
    POOLER = "pooler"
    #: The command starts its own server, in a cache folder of its own.
    EMBEDDED = "embedded"
    #: No server is used.
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which ground a fault needs. `version`: of PostgreSQL, None for the harness's own; `pool_mode`: PgBouncer's."""

    kind: Kind = Kind.SERVER
    version: int | None = None
    settings: Mapping[str, str] | None = None
    pool_mode: str = "session"
    pool_ignores: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """One cell's server and pooler, where it has them. `folder`: for what the cell needs besides."""

    folder: Path
    layout: Layout
    server: Server | None = None
    pooler: Pooler | None = None

    def dsn(self, database: str) -> str | None:
        """What racebench is given; None if it starts its own server. A proxy's is made for each trial."""
        if self.server is None:
            return None
        return self.server.dsn(database, port=self.pooler.port if self.pooler else None)

    def mend(self) -> None:
        """Start again what a fault ended."""
        if self.server is not None:
            self.server.start()
        if self.pooler is not None:
            self.pooler.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Data folders with the databases of a ground, by version. `own`: the version that a fault has by default."""

    data: Mapping[int, Path]
    programs: Mapping[int, Path]
    own: int
    pgbouncer: Path | None

    @contextlib.contextmanager
    def ground(self, layout: Layout) -> Iterator[Ground]:
        """A ground for the length of the block."""
        folder = Path(tempfile.mkdtemp(prefix="rbf-"))
        folder.chmod(0o755)  # root's server is another user's
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            if layout.kind in {Kind.EMBEDDED, Kind.NONE}:
                yield Ground(folder=folder, layout=layout)
                return
            version = layout.version or self.own
            server = Server(self.programs[version], folder / "server", layout.settings)
            stack.callback(server.remove)
            server.copy(self.data[version])
            if layout.kind is Kind.STANDBY:
                primary, server = server, Server(self.programs[version], folder / "standby")
                stack.callback(server.remove)
                server.follow(primary)
            pooler = None
            if layout.kind is Kind.POOLER:
                assert self.pgbouncer is not None
                pooler = Pooler(
                    self.pgbouncer,
                    folder / "pooler",
                    server_port=server.port,
                    settings={
                        "auth_type": "trust",
                        "pool_mode": layout.pool_mode,
                        "ignore_startup_parameters": ", ".join(["extra_float_digits", *layout.pool_ignores.split()]),
                    },
                    users={"tester": "", "owner": ""},
                )
                stack.callback(pooler.stop)
                pooler.start()
            yield Ground(folder=folder, layout=layout, server=server, pooler=pooler)


@contextlib.contextmanager
def templates(
    programs: Mapping[int, Path], own: int, versions: Sequence[int], pgbouncer: Path | None
) -> Iterator[Templates]:
    """Make the servers that are copied, of the versions that are needed."""
    folder = Path(tempfile.mkdtemp(prefix="rbt-"))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        data = {}
        for version in versions:
            server = Server(programs[version], folder / str(version))
            stack.callback(server.close)
            server.create()
            server.stop(signal.SIGINT)
            data[version] = server.folder / "data"
        yield Templates(data=data, programs=programs, own=own, pgbouncer=pgbouncer)
