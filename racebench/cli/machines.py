"""From --scheduler and --workers-per-machine to machines: what cannot run there is refused, and they are opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from racebench.cli.option_groups import LoadOptions, MachineOptions, TargetOptions
from racebench.cli.streams import say
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Target

if TYPE_CHECKING:
    from racebench.executors import Executor
    from racebench.executors.cluster import Machines


def machines_of(
    options: MachineOptions | None, scenario: Scenario, target: TargetOptions, load: LoadOptions, own_code: str | None
) -> Machines | None:
    """The machines that are asked for, None for this one; raises UsageProblem for what they cannot run."""
    if options is None or options.scheduler is None:
        if options is not None and options.workers_per_machine is not None:
            raise UsageProblem("--workers-per-machine needs --scheduler: there is one machine")
        return None
    from racebench.executors.connecting import Scheduler, check_installed

    check_installed()
    scheduler = Scheduler.parse(options.scheduler)
    if own_code is not None:
        option = own_code.partition(" ")[0]
        raise UsageProblem(
            f"--scheduler runs SQL; {option} runs on this machine, which has your code: leave out --scheduler"
        )
    if load.faults and any(fault != "none" for fault in load.faults):
        raise UsageProblem("--fault injects on this machine, through which other machines do not connect: leave it out")
    if scenario.faults and not load.faults:
        raise UsageProblem(
            f"scenario '{scenario.name}' injects faults, and --scheduler cannot; add --fault none, or leave it out"
        )
    if not scheduler.is_local and not target.dsn:
        raise UsageProblem(
            f"--scheduler {scheduler.address} needs --dsn: the embedded server is reachable on this machine only"
        )
    if not scheduler.is_local and target.pooler is not None:
        raise UsageProblem("--pooler starts PgBouncer on this machine, which other machines do not reach: leave it out")
    from racebench.executors.cluster import Machines

    return Machines(scheduler=scheduler, workers_per_machine=options.workers_per_machine)


@contextlib.contextmanager
def opened(machines: Machines, target: Target, *, workers: int) -> Iterator[tuple[Target, Executor]]:
    """The machines as an executor, and the target as they reach it; raises RacebenchError.

    A line on stderr says so if a password crosses the network in the open.
    """
    from racebench.executors import cluster
    from racebench.load.server_clock import ServerClock, reachable

    found = reachable(target)
    host = found.parameters.get("host", "")
    if host.startswith("/") and not machines.scheduler.is_local:
        raise UsageProblem(f"{target.label} is reached by a Unix socket, which other machines do not have; give a host")
    if machines.scheduler.is_open and found.parameters.get("password"):
        say(
            f"racebench: the password of {target.label} goes to {machines.scheduler.address} without encryption; "
            "use tls:// where others can listen",
            err=True,
        )
    with cluster.opened(machines, workers=workers, read_clock=ServerClock(found)) as executor:
        yield found, executor
