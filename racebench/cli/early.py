"""What a command begins before it has imported all that it needs: the server's start, and the workers of a load.

Both take as long as the imports, and each needs only a part of them. The options are checked later. If one of them is
wrong, the command stops the server before it ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racebench.core.errors import RacebenchError

if TYPE_CHECKING:
    from racebench.cli.option_groups import LoadOptions, MachineOptions, SubjectOptions, TargetOptions
    from racebench.executors.processes import Processes
    from racebench.load.early_sessions import EarlySessions
    from racebench.postgres.embedded import EmbeddedServer

#: Connections for which a server has room that is begun: as many as of most commands. A request may ask for more.
_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """An embedded server that was begun, None on a user's server, and the pool of processes.

    `processes` is None if other machines run the workers.
    `sessions`: those that the pool opens for the first run; None if it has to open them itself.
    """

    server: EmbeddedServer | None
    processes: Processes | None
    sessions: EarlySessions | None


@contextlib.contextmanager
def begun(
    subject: SubjectOptions, target: TargetOptions, load: LoadOptions, machines: MachineOptions | None = None
) -> Iterator[Early]:
    """Begin a command of load; end at the end what was begun.

    It is to be entered while the command has one thread, and no connection or file of its own is open.
    """
    with server(target) as started:
        if machines is not None and machines.scheduler:
            yield Early(server=started, processes=None, sessions=None)
            return
        from racebench.executors.processes import Processes
        from racebench.executors.serving import PRELOAD

        preload = [*PRELOAD, "racebench.load.early_sessions"]
        if load.rate is not None:
            preload.append("racebench.workloads.arrivals")
        with Processes.of_command(preload=preload) as processes:
            yield Early(server=started, processes=processes, sessions=_sessions(started, processes, subject, load))


def _sessions(
    server: EmbeddedServer | None, processes: Processes, subject: SubjectOptions, load: LoadOptions
) -> EarlySessions | None:
    """Have the pool open the sessions of a scenario's workers, as many as a server that was begun has room for.

    The user's own code has no session that rested, and under --fault workers connect to proxies, with --pooler to that.
    """
    own_code = subject.own_code or subject.files or str(subject.scenario or "").endswith(".sql")
    room = load.workers * load.connections_per_worker <= _CONNECTIONS // 2
    if server is None or server.coming is None or server.pooled or own_code or load.faults or not room:
        return None
    from racebench.load.early_sessions import EarlySessions

    with contextlib.suppress(RacebenchError):  # what the machine refuses is said when the run needs it
        return EarlySessions(processes, server.coming, workers=load.workers, each=load.connections_per_worker)
    return None


@contextlib.contextmanager
def server(target: TargetOptions) -> Iterator[EmbeddedServer | None]:
    """Begin to start the embedded server that a command will use, None with --dsn; stop it at the end if it was not."""
    if target.dsn:
        yield None
        return
    from racebench.postgres.embedded import EmbeddedServer

    started = EmbeddedServer(
        version=target.version,
        connections=_CONNECTIONS,
        pooled=target.pooler is not None,
        replicated=target.standby,
    )
    try:
        started.begin()
        yield started
    finally:
        started.stop()
