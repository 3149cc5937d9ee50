"""Machines of a Dask scheduler as the place of jobs: one job on each, with an embedded server as it would be here.

Machines that would start another server are refused before a search. A job gets its scenario in a message, so that the
machines need no common file system; nothing of a search depends on their clocks, so that they are not read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from racebench.core.cores import usable_cores
from racebench.core.defaults import MOST_JOBS, MOST_LOCAL_JOBS
from racebench.core.errors import UsageProblem
from racebench.executors import connecting
from racebench.executors.cluster import Cluster
from racebench.executors.connecting import Scheduler
from racebench.history.clocks import unread
from racebench.postgres.embedded.likeness import check_machines

#: What a job imports.
PRELOAD = ("racebench.exploration.jobs.job",)


@contextlib.contextmanager
def opened(scheduler: Scheduler, *, jobs: int | None, version: int) -> Iterator[tuple[Cluster, int]]:
    """The machines as an executor, and the number of jobs, this process included.

    `jobs`: how many there are to be, None for one on each machine beside this process; of `local` machines there are
    then so many that each job has a core. `version`: of the embedded servers. Raises RacebenchError in one line.
    """
    wanted = max(1, min(usable_cores(), MOST_LOCAL_JOBS) - 1) if jobs is None else jobs - 1
    with connecting.connected(scheduler, machines=wanted) as client:
        addresses = connecting.machines_of(client)
        if jobs is not None and len(addresses) < wanted:
            raise UsageProblem(
                f"--jobs {jobs} needs {wanted} machines beside this one; the Dask scheduler {scheduler.address} has "
                f"{len(addresses)}"
            )
        addresses = addresses[: MOST_JOBS - 1 if jobs is None else wanted]
        check_machines(client, addresses, version)
        with Cluster(client, addresses, unread, preload=PRELOAD) as cluster:
            yield cluster, 1 + len(addresses)
