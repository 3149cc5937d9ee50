"""Opens the target of a command: the user's server, checked before anything starts, or an embedded one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from racebench.core.errors import DatabaseProblem
from racebench.core.target import Pooling, StandbyChoice, Target
from racebench.postgres.connection import naming_lost_connections
from racebench.postgres.embedded import EmbeddedServer, EmbeddedStandby, as_superuser
from racebench.postgres.external import usable


@contextlib.contextmanager
def open_target(
    external: Target | None,
    *,
    version: int,
    connections: int,
    superuser: bool = False,
    pooler: Pooling | None = None,
    begun: EmbeddedServer | None = None,
    standby: StandbyChoice | None = None,
) -> Iterator[Target]:
    """Use the external server if there is one, else start an embedded server of that version and stop it at the end.

    `connections`: how many sessions will be open at once. `superuser`: they must be a superuser's. `pooler`: those of
    workers pass PgBouncer in that mode, which each run starts. `begun`: an embedded server of that version that has
    been begun; if it has not room for so many, another one is started. `standby`: the target's, which is checked or
    started too. Raises DatabaseProblem if a server cannot be used or started, and where a connection of racebench's own
    is lost during the block.
    """
    if external is not None:
        with naming_lost_connections(external):
            target = _through(usable(external, connections, superuser=superuser), pooler)
            if standby is not None and standby.target is not None:
                from racebench.postgres.standby import usable as usable_standby

                target = replace(target, standby=usable_standby(target, standby.target))
            yield target
        return
    server = EmbeddedServer(
        version=version, connections=connections, pooled=pooler is not None, replicated=standby is not None
    )
    if begun is not None:
        alike = (begun.pooled, begun.replicated) == (server.pooled, server.replicated)
        if alike and begun.max_connections >= server.max_connections:
            server = begun
        else:
            begun.stop()
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(server)
        if standby is not None:
            replica = stack.enter_context(EmbeddedStandby(server, delay_ms=standby.delay_ms))
            target = replace(target, standby=replica)
        stack.enter_context(naming_lost_connections(target))
        yield _through(as_superuser(target) if superuser else target, pooler)


def _through(target: Target, pooler: Pooling | None) -> Target:
    """A target whose workers' sessions pass PgBouncer. Raises DatabaseProblem where another pooler is in between."""
    if pooler is not None and target.pooled:
        raise DatabaseProblem(
            f"{target.label} is a pooler already, in session pooling; leave out --pooler, or give a DSN of the server "
            "itself"
        )
    return replace(target, pooler=pooler)
