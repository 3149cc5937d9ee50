"""The server that --server and --dsn name: checked at the edge, opened by the command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from racebench.cli.options import TargetOptions
from racebench.core.target import Target
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.external import check_usable, external


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The user's server, or the embedded one of a version if there is no `target`."""

    target: Target | None
    version: int

    @contextlib.contextmanager
    def opened(self, connections: int) -> Iterator[Target]:
        """Start the embedded server, or check the user's; raises DatabaseProblem. `connections`: the most at a time."""
        if self.target is None:
            with EmbeddedServer(version=self.version, connections=connections) as target:
                yield target
            return
        check_usable(self.target, connections)
        yield self.target


def server_of(options: TargetOptions) -> Server:
    """The server that the options name; raises UsageProblem for a connection string that does not parse."""
    return Server(target=external(options.dsn) if options.dsn else None, version=options.version)
