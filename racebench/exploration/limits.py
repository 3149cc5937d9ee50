"""The limits of a search, in seconds and in schedules, and what is left of them.

They are divided among the choices of random numbers (draws.py). What is searched within them is explorer.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import ExplorationProgress, Limit
from racebench.exploration.search import Progress
from racebench.exploration.tally import Tally
from racebench.exploration.world import ServerWorld


class Limits:
    """The request's limits, divided among the choices of random numbers that are left.

    `end`: the time by which the search is to end, on time.monotonic's clock.
    """

    def __init__(
        self, request: ExplorationRequest, tally: Tally, progress: Callable[[ExplorationProgress], None]
    ) -> None:
        self._request, self._tally, self._progress = request, tally, progress
        self._started = time.monotonic()
        self.end = self._started + (request.budget_s or float("inf"))

    @property
    def reached(self) -> Limit | None:
        """The limit that ends the search now; None if there is none."""
        request, tally = self._request, self._tally
        if tally.anomalous and request.stop_at_first:
            return Limit.FIRST
        if tally.anomalous and request.enough is not None and tally.run + tally.repeated >= request.enough:
            return Limit.ENOUGH
        if time.monotonic() > self.end:
            return Limit.BUDGET
        return Limit.SCHEDULES if request.max_schedules is not None and tally.run >= request.max_schedules else None

    @property
    def satisfied(self) -> bool:
        """Whether an anomaly was found, and no more schedules are asked for."""
        return self.reached in (Limit.FIRST, Limit.ENOUGH)

    @property
    def expired(self) -> bool:
        """Whether schedules that have been run are not to be run again: there is no time, or an anomaly is enough."""
        return self.reached not in (None, Limit.SCHEDULES)

    def draws(self, world: ServerWorld) -> int:
        """How many choices of random numbers are to be explored: one, if the sessions draw none."""
        return self._request.draws if world.draws.vary else 1

    def tell(self) -> None:
        """Note the time, and report the progress."""
        self._tally.seconds = time.monotonic() - self._started
        self._progress(self._tally.progress())

    def within(self, share: float, world: ServerWorld) -> Callable[[Progress], bool]:
        """Whether a search may go on: within a share of what the current choice of random numbers has."""
        request, tally = self._request, self._tally
        left = self.draws(world) - tally.explored_draws + 1
        before_s, before = tally.seconds, tally.run

        def go_on(_progress: Progress) -> bool:
            self.tell()
            tally.leftovers = world.leftovers
            used_s, used = tally.seconds - before_s, tally.run - before
            late = request.budget_s is not None and used_s > (request.budget_s - before_s) / left * share
            many = request.max_schedules is not None and used >= (request.max_schedules - before) / left * share
            # Each choice of random numbers has a schedule, however many there are.
            return not (self.satisfied or many or (late and used))

        return go_on
