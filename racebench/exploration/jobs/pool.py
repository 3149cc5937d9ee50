"""Starts the jobs of a command while it searches, and ends them.

A job costs nothing before it is needed: its process is started when a search has lasted for a while, imports what it
needs, and reports that; it starts a server only if the explorer still needs it. Without --jobs, jobs start later, and
only on cores that are idle.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from racebench.core.cores import IdleCores, usable_cores
from racebench.core.defaults import MOST_LOCAL_JOBS
from racebench.core.errors import RacebenchError
from racebench.core.signals import shielded
from racebench.executors import Died, Executor, Failure, Worker
from racebench.exploration.jobs.messages import End, Ended, Imported, Place, Ready, Search, Start
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.tree import Part

#: Makes the place where jobs run.
Making = Callable[[], contextlib.AbstractContextManager[Executor]]
#: How long the jobs have to stop their servers at the end, in seconds, before they are killed.
_END_S = 10.0
#: Without --jobs: how long a search lasts before it is divided, in seconds. By then it has lasted several times as long
#: as a job takes to start.
_LASTS_S = 3.0
#: How long the cores are looked at before that: while the search is at work, so that what is idle is idle beside it.
_LOOKS_S = 1.0


class Job:
    """The explorer's side of a job.

    `number`: of the Search that it works at, None if it has nothing to do. `left`: what of that is not done yet, by its
    last report. `asked`: it was asked to give a part away. `stopped`: its Search is of no interest any more.
    `took_part`: in the current exploration. `heard_s`: when it last said something, on time.monotonic's clock.
    """

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker, self.name = worker, name
        self.started = self.ready = False
        self.number: int | None = None
        self.left: tuple[Part, ...] = ()
        self.asked = self.stopped = self.took_part = False
        self.heard_s = time.monotonic()
        self._request: ExplorationRequest | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it can be given a part."""
        return self.ready and self.number is None

    def search(self, message: Search, request: ExplorationRequest) -> None:
        """Have it search a part."""
        if self._request is request:
            self.worker.send(message)
        else:
            self._request = request
            self.worker.send(Search(number=message.number, tree=message.tree, part=message.part, request=request))
        self.number, self.left = message.number, (message.part,)
        self.asked = self.stopped = False
        self.took_part = True
        self.heard_s = time.monotonic()

    def forget(self) -> None:
        """Note that the exploration is over, and its world gone."""
        self._request, self.took_part = None, False


class Jobs:
    """The jobs of one command, at most `count` with its own process, which is one too; a context manager.

    `executor`: makes the place where the others run; None for processes of this machine. `automatic`: the number was
    not given; then jobs start later, and no more than there are idle cores.
    """

    def __init__(
        self,
        count: int,
        place: Place,
        *,
        executor: Callable[[], contextlib.AbstractContextManager[Executor]] | None = None,
        automatic: bool = False,
    ) -> None:
        self.count, self.place, self._automatic = count, place, automatic
        self._tried = False
        self._most = count
        self._idle: IdleCores | None = None
        self._make = executor or _processes
        self._executor: Executor | None = None
        self._stack = contextlib.ExitStack()
        self.jobs: list[Job] = []
        self._numbers = 0

    @classmethod
    def usual(cls, place: Place) -> Jobs:
        """Those of a search without --jobs: at most one for each core that this process may use."""
        return cls(min(usable_cores(), MOST_LOCAL_JOBS), place, automatic=True)

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def begun(self) -> bool:
        """Whether jobs were started."""
        return self._executor is not None

    def are_due(self, lasted_s: float) -> bool:
        """Whether they are to be started now, for a search that has lasted so long."""
        if self._tried or not self._automatic:
            return not self._tried
        if lasted_s < _LASTS_S - _LOOKS_S:
            self._idle = None
            return False
        if self._idle is None:
            self._idle = IdleCores()
        if lasted_s < _LASTS_S or self._idle.lasted_s < _LOOKS_S:
            return False
        self.count = min(self._most, 1 + self._idle.count())
        self._idle = None
        return self.count > 1

    def begin(self) -> str:
        """Start the jobs, and do not wait for them; return why that is not possible, or ""."""
        from racebench.exploration.jobs.job import work

        self._tried = True
        try:
            self._executor = self._stack.enter_context(self._make())
            for number in range(2, self.count + 1):
                self.jobs.append(Job(self._executor.start(work, self.place), f"job {number}"))
        except RacebenchError as problem:
            return str(problem)
        return ""

    def messages(self, timeout: float) -> Iterator[tuple[Job, Any]]:
        """What the jobs say within some seconds; a job that waits for the word to start is given it."""
        if self._executor is None:
            return
        by_worker = {id(job.worker): job for job in self.jobs}
        for worker, message in self._executor.messages([job.worker for job in self.jobs], timeout):
            job = by_worker[id(worker)]
            job.heard_s = time.monotonic()
            if isinstance(message, Imported):
                job.started = True
                job.worker.send(Start())
            elif isinstance(message, Ready):
                job.ready = True
            else:
                yield job, message

    def next_number(self) -> int:
        """The number of another Search."""
        self._numbers += 1
        return self._numbers

    def remove(self, job: Job) -> None:
        """Forget a job that has ended, or end it by force."""
        with shielded():
            self.jobs.remove(job)
            job.worker.kill()
            if self._executor is not None:
                self._executor.release([job.worker])

    def close(self) -> None:
        """End the jobs: those that have a server stop it first, within a limited time."""
        with shielded():
            self._end([job for job in self.jobs if job.started])
            for job in self.jobs:
                job.worker.kill()  # it has ended, or has nothing yet
            self.jobs.clear()
            self._executor = None
            self._stack.close()

    def _end(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.worker.send(End())
        ending = {id(job.worker): job for job in jobs}
        deadline = time.monotonic() + _END_S
        while ending and self._executor is not None and (left := deadline - time.monotonic()) > 0:
            for worker, message in self._executor.messages([job.worker for job in ending.values()], left):
                if isinstance(message, Ended | Died | Failure):
                    ending.pop(id(worker), None)


def _processes() -> contextlib.AbstractContextManager[Executor]:
    from racebench.executors.new_programs import NewPrograms
    from racebench.executors.processes import Processes

    return Processes(starter=NewPrograms("spawn"))
