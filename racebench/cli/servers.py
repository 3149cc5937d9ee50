"""The server that --server and --dsn name, as a value: parsed at the edge, opened when the command runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from racebench.cli.option_groups import TargetOptions
from racebench.core.target import Target
from racebench.postgres.external import external
from racebench.postgres.targets import open_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The user's server, or the embedded one of a version if there is no `target`."""

    target: Target | None
    version: int

    def opened(self, connections: int) -> AbstractContextManager[Target]:
        """The server, started or checked; raises DatabaseProblem. `connections`: the most that are open at once."""
        return open_target(self.target, version=self.version, connections=connections)


def server_of(options: TargetOptions) -> Server:
    """The server that the options name; raises UsageProblem for a connection string that does not parse."""
    return Server(target=external(options.dsn) if options.dsn else None, version=options.version)
