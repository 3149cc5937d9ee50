"""From --scheduler and --workers-per-machine to machines, which are opened when the command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from racebench.cli.option_groups import LoadOptions, MachineOptions, OutputOptions, TargetOptions
from racebench.cli.streams import say
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.load import machines as load_machines

if TYPE_CHECKING:
    from racebench.executors import Executor
    from racebench.executors.cluster import Machines
    from racebench.executors.connecting import Scheduler


def machines_of(
    options: MachineOptions | None, scenario: Scenario, target: TargetOptions, load: LoadOptions, own_code: str | None
) -> Machines | None:
    """The machines that are asked for, None for this one; raises UsageProblem for what they cannot run."""
    if options is None:
        return None
    return load_machines.parse(
        options.scheduler,
        options.workers_per_machine,
        scenario,
        faults=load.faults,
        own_code=None if own_code is None else own_code.partition(" ")[0],
        embedded=not target.dsn,
        pooled=target.pooler is not None,
    )


def rows_on(options: MachineOptions, target: TargetOptions, output: OutputOptions) -> Scheduler | None:
    """The scheduler whose machines measure the rows of a matrix; raises UsageProblem for what they cannot measure."""
    if options.scheduler is None:
        return None
    from racebench.executors.connecting import Scheduler, check_installed

    check_installed()
    scheduler = Scheduler.parse(options.scheduler)
    if scheduler.is_local:
        raise UsageProblem(
            "--scheduler local: strategies that are measured at the same time on one machine slow each other down; "
            "give the address of a scheduler, or leave out --scheduler"
        )
    if target.dsn:
        raise UsageProblem(
            "--scheduler measures each strategy on an embedded server of the machine, and --dsn names one server for "
            "all; give one of them"
        )
    if output.history:
        raise UsageProblem("--history keeps histories of runs on this machine; leave out --scheduler, or --history")
    return scheduler


@contextlib.contextmanager
def opened(machines: Machines, target: Target, *, workers: int) -> Iterator[tuple[Target, Executor]]:
    """The machines as an executor, and the target as they reach it; raises RacebenchError.

    A line on stderr says so if a password crosses the network in the open.
    """
    with load_machines.opened(machines, target, workers=workers, warn=lambda line: say(line, err=True)) as found:
        yield found
