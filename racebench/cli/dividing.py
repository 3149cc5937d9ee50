"""From --jobs and --scheduler to the processes among which a search is divided; what cannot be divided is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from racebench.cli.option_groups import ExplorationOptions, MachineOptions
from racebench.core.cores import usable_cores
from racebench.core.defaults import MOST_LOCAL_JOBS
from racebench.core.errors import UsageProblem
from racebench.exploration.jobs import division
from racebench.exploration.jobs.messages import Place
from racebench.exploration.jobs.pool import Jobs
from racebench.exploration.request import ExplorationRequest

if TYPE_CHECKING:
    from racebench.executors import Executor
    from racebench.executors.connecting import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Among how many processes a search is divided, and where they run.

    `jobs`: this process and others; None if nobody has said how many: as many as cores are idle, or one on each machine
    beside this one. `scheduler`: the machines'; None for processes of this machine.
    """

    jobs: int | None = 1
    scheduler: Scheduler | None = None

    @property
    def possible(self) -> bool:
        """Whether there can be other processes."""
        return self.jobs != 1 and (self.jobs is not None or self.scheduler is not None or usable_cores() > 1)


def division_of(
    options: ExplorationOptions,
    machines: MachineOptions,
    explorations: Sequence[ExplorationRequest],
    *,
    embedded: bool,
) -> Division:
    """What the options ask for. Raises UsageProblem for an option on the command line that has no effect.

    A setting is for the explorations that can be divided. `embedded`: they run on an embedded server.
    """
    given = machines.scheduler is not None and _is_on_the_command_line("scheduler")
    if options.jobs == 1 and not given:
        return Division()
    scheduler: Scheduler | None = None
    if machines.scheduler is not None:
        from racebench.executors import connecting

        connecting.check_installed()
        scheduler = connecting.Scheduler.parse(machines.scheduler)
        if options.jobs == 1:
            raise UsageProblem("--jobs 1 is this process alone; with --scheduler give 2 or more, or leave out --jobs")
    elif options.jobs is not None and options.jobs > MOST_LOCAL_JOBS:
        raise UsageProblem(
            f"--jobs {options.jobs} is more than {MOST_LOCAL_JOBS} processes of this machine; use --scheduler for more"
        )
    undivided = next(filter(None, (division.why_not(one, embedded=embedded) for one in explorations)), "")
    if undivided and given:
        raise UsageProblem(f"--scheduler: {undivided}; leave out --scheduler")
    if undivided and options.jobs is not None and _is_on_the_command_line("jobs"):
        raise UsageProblem(f"--jobs {options.jobs}: {undivided}; leave out --jobs")
    return Division(jobs=options.jobs, scheduler=scheduler)


def _is_on_the_command_line(parameter: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


@contextlib.contextmanager
def local(division: Division, *, needed: bool) -> Iterator[Executor | None]:
    """Processes of this machine where jobs can run; None if there are machines, or if they are not needed.

    It is to be entered while the command has one thread and no connection: jobs are forks of a fork that is made here.
    Jobs that nobody has asked for are new programs, so that a search that ends before they start costs no fork.
    """
    if not needed or division.jobs is None or division.scheduler is not None:
        yield None
        return
    from racebench.executors.processes import Processes

    with Processes.of_command(preload=["racebench.exploration.jobs.job"]) as processes:
        yield processes


@contextlib.contextmanager
def jobs(division: Division, processes: Executor | None, place: Place, *, needed: bool) -> Iterator[Jobs | None]:
    """The jobs, which have servers as the command's own is; None if they are not needed. Raises RacebenchError.

    `processes`: where they run if that is this machine.
    """
    if not needed:
        yield None
    elif division.scheduler is not None:
        from racebench.exploration.jobs import machines

        with (
            machines.opened(division.scheduler, jobs=division.jobs, version=place.version) as (executor, count),
            Jobs(count, place, executor=lambda: contextlib.nullcontext(executor)) as on_machines,
        ):
            yield on_machines
    elif division.jobs is None or processes is None:
        with Jobs.usual(place) as usual:
            yield usual
    else:
        with Jobs(division.jobs, place, executor=lambda: contextlib.nullcontext(processes)) as local_jobs:
            yield local_jobs
