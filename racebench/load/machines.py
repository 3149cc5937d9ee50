"""The machines that a load is spread over: what cannot run there, and how they reach the server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.executors import Executor

if TYPE_CHECKING:
    from racebench.executors.cluster import Machines


def parse(
    scheduler: str | None,
    workers_per_machine: int | None,
    scenario: Scenario,
    *,
    faults: Sequence[str],
    own_code: str | None,
    embedded: bool,
    pooled: bool,
) -> Machines | None:
    """The machines that are asked for, None for this one; raises UsageProblem for what they cannot run.

    `faults`: as they were given. `own_code`: what names code that only this machine has. `embedded`: the server is;
    `pooled`: workers pass a PgBouncer that is started here.
    """
    if scheduler is None:
        if workers_per_machine is not None:
            raise UsageProblem("--workers-per-machine needs --scheduler: there is one machine")
        return None
    from racebench.executors.connecting import Scheduler, check_installed

    check_installed()
    parsed = Scheduler.parse(scheduler)
    if own_code is not None:
        raise UsageProblem(
            f"--scheduler runs SQL; {own_code} runs on this machine, which has your code: leave out --scheduler"
        )
    if any(fault != "none" for fault in faults):
        raise UsageProblem("--fault injects on this machine, through which other machines do not connect: leave it out")
    if scenario.faults and not faults:
        raise UsageProblem(
            f"scenario '{scenario.name}' injects faults, and --scheduler cannot; add --fault none, or leave it out"
        )
    if not parsed.is_local and embedded:
        raise UsageProblem(
            f"--scheduler {parsed.address} needs --dsn: the embedded server is reachable on this machine only"
        )
    if not parsed.is_local and pooled:
        raise UsageProblem("--pooler starts PgBouncer on this machine, which other machines do not reach: leave it out")
    from racebench.executors.cluster import Machines

    return Machines(scheduler=parsed, workers_per_machine=workers_per_machine)


@contextlib.contextmanager
def opened(
    machines: Machines, target: Target, *, workers: int, warn: Callable[[str], None]
) -> Iterator[tuple[Target, Executor]]:
    """The machines as an executor, and the target as they reach it; raises RacebenchError.

    `warn` is told if a password crosses the network in the open.
    """
    from racebench.executors import cluster
    from racebench.load.server_clock import ServerClock, reachable

    found = reachable(target)
    host = found.parameters.get("host", "")
    if host.startswith("/") and not machines.scheduler.is_local:
        raise UsageProblem(f"{target.label} is reached by a Unix socket, which other machines do not have; give a host")
    if machines.scheduler.is_open and found.parameters.get("password"):
        warn(
            f"racebench: the password of {target.label} goes to {machines.scheduler.address} without encryption; "
            "use tls:// where others can listen"
        )
    with cluster.opened(machines, workers=workers, read_clock=ServerClock(found)) as executor:
        yield found, executor
