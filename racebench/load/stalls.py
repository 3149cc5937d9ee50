"""Notices that a run makes no progress: when to say so, and when to give up.

Progress is that an operation begins, or that a worker ends. What the sessions wait for is asked by waits.py; the crew
kills them.
"""

from __future__ import annotations

from racebench.core.model import Load
from racebench.core.watching import Patience

_SAY_SECONDS = 5.0


class Stalls:
    """Follows one run's progress. Times are seconds on one monotonic clock."""

    def __init__(self, load: Load, patience: Patience, now_s: float) -> None:
        # Operations as long as these, and gaps between arrivals, are what was asked for.
        longest_s = load.longest_us / 1e6
        gap_s = 10 / load.rate_per_session if load.rate_per_session else 0.0
        self._say_s = _SAY_SECONDS + 2 * longest_s + gap_s
        self._give_up_s = max(patience.give_up_s, 2 * longest_s + gap_s)
        self._progress: object = None
        self._since_s, self._said = now_s, False
        self._asked_s = 0.0

    def look(self, progress: object, now_s: float) -> None:
        """Take note of the progress at a time: of any value that changes with it."""
        if progress != self._progress:
            self._progress, self._since_s, self._said = progress, now_s, False
            self._asked_s = 0.0

    def stalled_s(self, now_s: float) -> float:
        """How long there has been no progress."""
        return now_s - self._since_s

    def may_say(self, now_s: float) -> bool:
        """Whether a line is due; once for each stall."""
        if self._said or self.stalled_s(now_s) < min(self._say_s, self._give_up_s):
            return False
        self._said = True
        return True

    def may_ask(self, now_s: float) -> bool:
        """Whether it is time to ask if the run can go on at all: when a line is due, and every few seconds after."""
        if self.stalled_s(now_s) < self._say_s or now_s < self._asked_s + _SAY_SECONDS:
            return False
        self._asked_s = now_s
        return True

    def may_give_up(self, now_s: float) -> bool:
        """Whether the run has waited for as long as it may."""
        return self.stalled_s(now_s) >= self._give_up_s
