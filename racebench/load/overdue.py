"""When workers that have not ended after the measured time are canceled, and when they are killed."""

from __future__ import annotations

import time

from racebench.core.model import Load

#: How long they have beside twice their longest operation, and again once their statements were canceled.
GRACE_SECONDS = 5.0


class Overdue:
    """Whether workers have had long enough to end after the measured time: longer than their longest operation."""

    def __init__(self, load: Load, stop_ns: int | None) -> None:
        self._deadline_s = None if stop_ns is None else stop_ns / 1e9 + GRACE_SECONDS + 2 * load.longest_us / 1e6

    def _late_s(self) -> float:
        return -1.0 if self._deadline_s is None else time.perf_counter_ns() / 1e9 - self._deadline_s

    def may_cancel(self) -> bool:
        """Whether their statements may be canceled."""
        return self._late_s() > 0

    def may_kill(self) -> bool:
        """Whether they may be killed: cancelling has not helped."""
        return self._late_s() > GRACE_SECONDS
