"""Opens the target of a command: the user's server, checked before anything starts, or an embedded one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from racebench.core.target import Target
from racebench.postgres.connection import naming_lost_connections
from racebench.postgres.embedded import EmbeddedServer, as_superuser
from racebench.postgres.external import usable


@contextlib.contextmanager
def open_target(
    external: Target | None,
    *,
    version: int,
    connections: int,
    superuser: bool = False,
    begun: EmbeddedServer | None = None,
) -> Iterator[Target]:
    """Use the external server if there is one, else start an embedded server of that version and stop it at the end.

    `connections`: how many sessions will be open at once. `superuser`: they must be a superuser's. `begun`: an embedded
    server of that version that has been begun; if it has not room for so many, another one is started. Raises
    DatabaseProblem if the server cannot be used or started, and where a connection of racebench's own is lost during
    the block.
    """
    if external is not None:
        with naming_lost_connections(external):
            yield usable(external, connections, superuser=superuser)
        return
    server = EmbeddedServer(version=version, connections=connections)
    if begun is not None:
        if begun.max_connections >= server.max_connections:
            server = begun
        else:
            begun.stop()
    with server as target, naming_lost_connections(target):
        yield as_superuser(target) if superuser else target
