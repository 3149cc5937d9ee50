"""From --jobs and --scheduler to the processes among which a search is divided; what cannot be divided is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from racebench.cli.option_groups import ExplorationOptions, MachineOptions
from racebench.core.errors import UsageProblem
from racebench.exploration.jobs import division
from racebench.exploration.jobs.division import Division
from racebench.exploration.request import ExplorationRequest

if TYPE_CHECKING:
    from racebench.executors import Executor


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
    jobs = options.jobs
    if jobs == 1 and not given:
        return Division()
    if jobs == 1 and not _is_on_the_command_line("jobs"):  # the setting of one process is for searches on this machine
        jobs = None
    parsed = Division.parse(jobs, machines.scheduler)
    undivided = next(filter(None, (division.why_not(one, embedded=embedded) for one in explorations)), "")
    if undivided and given:
        raise UsageProblem(f"--scheduler: {undivided}; leave out --scheduler")
    if undivided and jobs is not None and _is_on_the_command_line("jobs"):
        raise UsageProblem(f"--jobs {jobs}: {undivided}; leave out --jobs")
    return parsed


def _is_on_the_command_line(parameter: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


@contextlib.contextmanager
def local(division: Division, *, needed: bool) -> Iterator[Executor | None]:
    """Processes of this machine where jobs can run; None if there are machines, or if they are not needed.

    It is to be entered while the command has one thread and no connection: jobs are forks of a fork that is made here.
    Without --jobs, jobs are new programs, so that a search that ends before they start costs no fork.
    """
    if not needed or division.jobs is None or division.scheduler is not None:
        yield None
        return
    from racebench.executors.processes import Processes

    with Processes.of_command(preload=["racebench.exploration.jobs.job"]) as processes:
        yield processes
