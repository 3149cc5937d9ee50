"""What a command begins before it has imported all that it needs: the server's start, and the workers of a load.

Both take as long as the imports, and each needs only a part of them. The options are checked later. If one of them is
wrong, the command stops the server before it ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from racebench.cli.option_groups import LoadOptions, TargetOptions
    from racebench.load.executors.processes import Processes
    from racebench.postgres.embedded import EmbeddedServer

#: Connections for which a server has room that is begun: as many as of most commands. A request may ask for more.
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """An embedded server that was begun, None on a user's server, and the pool of processes."""

    server: EmbeddedServer | None
    processes: Processes


@contextlib.contextmanager
def begun(target: TargetOptions, load: LoadOptions) -> Iterator[Early]:
    """Begin a command of load; end at the end what was begun.

    It is to be entered while the command has one thread, and no connection or file of its own is open.
    """
    with server(target) as started:
        from racebench.load.executors.processes import Processes

        preload = () if load.rate is None else ("racebench.workloads.arrivals",)
        with Processes.of_command(preload=preload) as processes:
            yield Early(server=started, processes=processes)


@contextlib.contextmanager
def server(target: TargetOptions) -> Iterator[EmbeddedServer | None]:
    """Begin to start the embedded server that a command will use, None with --dsn; stop it at the end if it was not."""
    if target.dsn:
        yield None
        return
    from racebench.postgres.embedded import EmbeddedServer

    started = EmbeddedServer(version=target.version, connections=_CONNECTIONS)
    try:
        started.begin()
        yield started
    finally:
        started.stop()
