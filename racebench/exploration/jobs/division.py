"""Decides whether an exploration is divided among jobs, and where they run; opens them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racebench.core.cores import usable_cores
from racebench.core.defaults import MOST_JOBS, MOST_LOCAL_JOBS
from racebench.core.errors import UsageProblem
from racebench.executors import Executor
from racebench.exploration.jobs.messages import Place
from racebench.exploration.jobs.pool import Jobs
from racebench.exploration.request import ExplorationRequest

if TYPE_CHECKING:
    from racebench.executors.connecting import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Among how many processes a search is divided, and where they run.

    `jobs`: the number of processes, this one included; None if it was not given: as many as cores are idle, or one on
    each machine beside this one. `scheduler`: the machines'; None for processes of this machine.
    """

    jobs: int | None = 1
    scheduler: Scheduler | None = None

    @classmethod
    def parse(cls, jobs: int | None, scheduler: str | None) -> Division:
        """Raises UsageProblem for a number of processes or an address that cannot be."""
        if jobs is not None and not 1 <= jobs <= MOST_JOBS:
            raise UsageProblem(f"--jobs is a number from 1 to {MOST_JOBS}, not {jobs}")
        machines: Scheduler | None = None
        if scheduler is not None:
            from racebench.executors import connecting  # most searches have no machines

            connecting.check_installed()
            machines = connecting.Scheduler.parse(scheduler)
            if jobs == 1:
                raise UsageProblem(
                    "--jobs 1 is this process alone; with --scheduler give 2 or more, or leave out --jobs"
                )
        if jobs is not None and jobs > MOST_LOCAL_JOBS and (machines is None or machines.is_local):
            raise UsageProblem(
                f"--jobs {jobs} is more than {MOST_LOCAL_JOBS} processes of this machine; use the --scheduler of other "
                "machines for more"
            )
        return cls(jobs=jobs, scheduler=machines)

    @property
    def possible(self) -> bool:
        """Whether there can be other processes."""
        return self.jobs != 1 and (self.jobs is not None or self.scheduler is not None or usable_cores() > 1)


def why_not(request: ExplorationRequest, *, embedded: bool) -> str:
    """Why the search of a request is not divided, as a clause; "" if it can be. `embedded`: on an embedded server.

    Sessions of an application's code have more state than a server: what one process has seen of it holds there.
    On a user's server the advisory locks of a database, the oldest transaction and the predicate locks of the cluster
    are shared, so that one job would see what another one does.
    """
    if not embedded or request.in_place:
        return "each job has an embedded server of its own, and a user's server is one"
    if request.strategy.is_application:
        return "calls, programs and requests are explored by one process"
    if request.scenario.setup or request.scenario.checks:
        return "a setup or an invariant in Python is run by one process"
    return ""


@contextlib.contextmanager
def opened(division: Division, place: Place, processes: Executor | None = None) -> Iterator[Jobs]:
    """The jobs; machines are connected to, and compared with this one, now. Raises RacebenchError.

    `processes`: where jobs of this machine run; None to start new programs when they are needed.
    """
    if division.scheduler is not None:
        from racebench.exploration.jobs import machines

        with (
            machines.opened(division.scheduler, jobs=division.jobs, version=place.version) as (executor, count),
            Jobs(count, place, executor=lambda: contextlib.nullcontext(executor)) as jobs,
        ):
            yield jobs
    elif division.jobs is None:
        with Jobs.usual(place) as jobs:
            yield jobs
    else:
        make = None if processes is None else lambda: contextlib.nullcontext(processes)
        with Jobs(division.jobs, place, executor=make) as jobs:
            yield jobs
