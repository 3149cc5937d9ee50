"""The server that --server and --dsn name, as a value: parsed at the edge, opened when the command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from racebench.cli.option_groups import TargetOptions
from racebench.cli.streams import say
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Pooling, StandbyChoice, Target
from racebench.core.watching import Patience, watched
from racebench.postgres import abandoned
from racebench.postgres.embedded import EmbeddedServer
from racebench.postgres.external import external
from racebench.postgres.targets import open_target
from racebench.postgres.waits import of_sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The user's server, or the embedded one of a version if there is no `target`.

    `superuser`: what runs on it needs a superuser. `pooler`: the mode of the PgBouncer that workers pass, if any.
    `patience`: how long it may not answer. `standby`: where consumers read too, None for none.
    """

    target: Target | None
    version: int
    superuser: bool = False
    pooler: Pooling | None = None
    patience: Patience = field(default_factory=Patience)
    standby: StandbyChoice | None = None

    @contextlib.contextmanager
    def opened(self, connections: int, *, pooled: int = 0, begun: EmbeddedServer | None = None) -> Iterator[Target]:
        """The server, started or checked; raises DatabaseProblem. `connections`: the most that are open at once.

        `pooled`: those that a service may keep beside them; a user's server need not have them free. `begun`: the
        embedded server, if it was begun before.

        A line on stderr names what killed commands have left on a user's server.
        """
        connections += pooled if self.target is None else 0
        if self.pooler is not None:
            from racebench.postgres import pgbouncer

            pgbouncer.program()  # if it is missing, no server is needed to say so
        with (
            watched(self.patience) as watch,
            open_target(
                self.target,
                version=self.version,
                connections=connections,
                superuser=self.superuser,
                pooler=self.pooler,
                begun=begun,
                standby=self.standby,
            ) as target,
        ):
            watch.explain = partial(of_sessions, target)
            if self.target is not None and (left := abandoned.on(target)):
                say(f"racebench: {abandoned.sentence(left, target.label)}", err=True)
            yield target


def _say(line: str) -> None:
    """A line about what is under way, beside the progress bar."""
    say(f"racebench: {line}", err=True)


def server_of(options: TargetOptions, scenario: Scenario | None = None) -> Server:
    """The server that the options name, for a scenario; raises UsageProblem for options that do not go together."""
    if options.superuser and options.dsn:
        raise UsageProblem("--superuser is for the embedded server; with --dsn, connect as a superuser yourself")
    return Server(
        target=external(options.dsn) if options.dsn else None,
        version=options.version,
        pooler=Pooling(options.pooler) if options.pooler else None,
        superuser=options.superuser or (scenario is not None and scenario.superuser),
        patience=Patience(give_up_s=options.give_up_after, say=_say),
        standby=_standby(options),
    )


def _standby(options: TargetOptions) -> StandbyChoice | None:
    """The standby that the options name; raises UsageProblem for options that do not go together."""
    if options.consumer_dsn and not options.dsn:
        raise UsageProblem("--consumer-dsn needs --dsn: the primary of that standby; for an embedded one use --standby")
    if options.standby and options.dsn:
        raise UsageProblem("--standby is for the embedded server; with --dsn give --consumer-dsn, your own standby")
    if options.standby_delay and not options.standby:
        raise UsageProblem(
            f"--standby-delay {options.standby_delay:g} needs --standby; of your own standby set "
            "recovery_min_apply_delay"
        )
    if options.consumer_dsn:
        try:
            return StandbyChoice(target=external(options.consumer_dsn))
        except UsageProblem as problem:
            raise UsageProblem(f"--consumer-dsn: {problem}") from None
    return StandbyChoice(delay_ms=round(options.standby_delay)) if options.standby else None
