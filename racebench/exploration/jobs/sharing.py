"""Divides the search of an exploration among this process and its jobs.

Each searches a part. A job that has nothing to do is given a part of what this process has left, or of what another job
has left. What a job has not done when it ends without a word is searched by another, or here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.quantity import quantity
from racebench.executors import Died, Failure
from racebench.exploration.faults import Fault
from racebench.exploration.jobs.messages import Divide, Finish, Finished, Report, Search, Seen, Stop, Tree
from racebench.exploration.jobs.pool import Job, Jobs
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Unseen
from racebench.exploration.search import Progress, search
from racebench.exploration.tree import WHOLE, Part, Rest
from racebench.exploration.world import ServerWorld

#: How long an exploration searches alone, in seconds: most have ended by then.
ALONE_S = 0.4
#: How often the limits are looked at while only jobs search, in seconds.
_LOOK_S = 0.05
#: A job that has said nothing for so long, in seconds beside the limit of a step, is ended: it may have been stopped.
_SILENT_S = 30.0


class Sharing:
    """A search.Sharing of one exploration, of which `world` is this process's. `jobs`: None to search alone.

    `notes`: what the reader should know of the jobs.
    """

    def __init__(self, jobs: Jobs | None, request: ExplorationRequest, world: ServerWorld) -> None:
        self._jobs, self._request, self._world = jobs, request, world
        self._since_s = time.monotonic()
        self._seen: dict[str, Seen] = {}
        self._problems: list[str] = []
        self._parts: list[Part] = []
        self._tree = Tree(draw=0, order=(), victim=1)
        self._progress = Progress()
        self._go_on: Callable[[Progress], bool] = lambda _: True
        self._took_part: set[str] = set()

    # What was seen

    @property
    def processes(self) -> int:
        """How many processes have run schedules of the exploration."""
        return 1 + len(self._took_part)

    @property
    def leftovers(self) -> tuple[str, ...]:
        """See SearchedWorld; of the jobs' worlds. So for `unseen` and `notes`."""
        return tuple(dict.fromkeys(text for seen in self._seen.values() for text in seen.leftovers))

    @property
    def unseen(self) -> Unseen | None:
        return next((seen.unseen for seen in self._seen.values() if seen.unseen is not None), None)

    @property
    def notes(self) -> list[str]:
        return [*(text for seen in self._seen.values() for text in seen.notes), *self._problems]

    # The search

    def search(self, *, go_on: Callable[[Progress], bool], part: Part = WHOLE, victim: int = 1) -> Progress:
        """Run every schedule of a part, as search.search does. Raises what that raises, also in a job."""
        world = self._world
        if self._jobs is None:
            return search(world, reduce=self._request.reduce, go_on=go_on, part=part)
        self._tree = Tree(draw=world.draw, order=world.order, victim=victim)
        self._parts, self._progress, self._go_on = [part], Progress(), go_on
        try:
            self._progress.complete = self._search()
        finally:
            for job in self._working():
                job.stopped = True
                job.worker.send(Stop())
        return self._progress

    def _search(self) -> bool:
        """Search until nothing is left, here or in a job; return False if a limit was reached before."""
        while self._parts or self._working():
            if self._parts:
                part = self._parts.pop()
                found = search(self._world, reduce=self._request.reduce, go_on=self._go_on, part=part, sharing=self)
                self._progress.run += found.run
                self._progress.pruned += found.pruned
                if not found.complete:
                    return False
            else:
                self._divide(wanted=1)
                self._receive(_LOOK_S)
                self._hand_out(None)
                if not self._go_on(self._progress):
                    return False
        return True

    def between(self, rest: Rest) -> None:
        """See search.Sharing."""
        assert self._jobs is not None
        lasted_s = time.monotonic() - self._since_s
        if lasted_s < ALONE_S:
            return
        if not self._jobs.begun:
            if self._jobs.are_due(lasted_s) and (problem := self._jobs.begin()):
                self._problems.append(f"the search was not divided: {problem}")
            return
        self._receive(0.0)
        self._hand_out(rest)

    def _working(self) -> list[Job]:
        """The jobs whose Search belongs to the current one."""
        jobs = self._jobs.jobs if self._jobs is not None else []
        return [job for job in jobs if job.number is not None and not job.stopped]

    def _hand_out(self, rest: Rest | None) -> None:
        """Give parts to the jobs that have nothing to do; where there are none, ask others to divide theirs."""
        assert self._jobs is not None
        idle = [job for job in self._jobs.jobs if job.is_idle]
        for place, job in enumerate(idle):
            keep = rest is None and len(self._parts) == 1  # this process has nothing to do either
            part = self._parts.pop(0) if self._parts and not keep else rest.take() if rest is not None else None
            if part is None:
                self._divide(wanted=len(idle) - place + keep)
                return
            job.search(Search(number=self._jobs.next_number(), tree=self._tree, part=part, request=None), self._request)
            self._took_part.add(job.name)

    def _divide(self, *, wanted: int) -> None:
        """Ask jobs to give parts away, if that many were not asked yet."""
        working = self._working()
        missing = wanted - sum(job.asked for job in working)
        for job in [job for job in working if not job.asked][: max(0, missing)]:
            job.asked = True
            job.worker.send(Divide())

    def _receive(self, timeout: float) -> None:
        """Take what the jobs say within some seconds."""
        assert self._jobs is not None
        for job, message in list(self._jobs.messages(timeout)):
            if isinstance(message, Report):
                self._take(job, message)
            elif isinstance(message, Failure | Died):
                self._lose(job, message)
        self._check_silent()

    def _take(self, job: Job, report: Report) -> None:
        if report.seen != Seen():
            self._seen[job.name] = report.seen
        if not job.stopped and report.number == job.number:
            self._progress.pruned += report.pruned
            self._count(report)
            job.left = report.left
            if report.given is not None:
                self._parts.append(report.given)
                job.asked = False
        if report.ended:
            job.number, job.left = None, ()

    def _count(self, report: Report) -> None:
        """Count the schedules of a report, up to the limits of the search."""
        for result in report.results:
            if not self._go_on(self._progress):
                return  # the caller finds out for itself
            self._progress.run += 1
            self._world.ended(result)

    def _lose(self, job: Job, message: Failure | Died) -> None:
        """Go on without a job. Raises what would have ended the search here, too."""
        assert self._jobs is not None
        error = message.error if isinstance(message, Failure) else None
        left, interesting = job.left, job.number is not None and not job.stopped
        self._jobs.remove(job)
        if interesting and isinstance(error, UsageProblem):  # as where it is not deterministic
            raise error
        why = f"{type(error).__name__}: {error}" if error is not None else message.cause  # type: ignore[union-attr]
        if isinstance(error, Fault | RacebenchError):
            why = str(error)
        after = "what it had left was searched by others" if interesting else "it had nothing to do"
        self._problems.append(f"{job.name} of {self._jobs.count} ended early ({why}); {after}")
        if interesting:
            self._parts += left

    def _check_silent(self) -> None:
        limit_s = _SILENT_S + 2 * self._request.step_s
        for job in self._working():
            if time.monotonic() - job.heard_s > limit_s:
                job.worker.kill()
                self._lose(job, Failure(RacebenchError(f"it said nothing for {limit_s:.0f} s")))

    # The end

    def finish(self) -> None:
        """Have the jobs look for what their schedules left behind; one that does not answer is ended."""
        if self._jobs is None:
            return
        asked = [job for job in self._jobs.jobs if job.took_part]
        for job in asked:
            job.worker.send(Finish())
        deadline = time.monotonic() + _SILENT_S
        while asked and time.monotonic() < deadline:
            for job, message in list(self._jobs.messages(_LOOK_S)):
                if isinstance(message, Finished):
                    self._seen[job.name] = message.seen
                    job.forget()
                elif isinstance(message, Report):
                    self._take(job, message)
                elif isinstance(message, Failure | Died):
                    with contextlib.suppress(UsageProblem):
                        self._lose(job, message)
            asked = [job for job in asked if job.took_part and job in self._jobs.jobs]
        for job in asked:
            self._problems.append(f"{job.name} did not answer for {quantity(round(_SILENT_S), 'second')} and was ended")
            self._jobs.remove(job)
