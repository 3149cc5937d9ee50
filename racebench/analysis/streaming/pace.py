"""How fast a run is while it goes on: commits a second and latency of the last second, commits a second so far, errors.

The figures at the end are those of racebench.analysis.verdicts and performance; here an operation counts once its end
is known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.statistics import percentile
from racebench.core.model import Outcome
from racebench.history.recording import SQLSTATE_BITS
from racebench.history.records import outcomes

Array = npt.NDArray[Any]

#: How far back the figures of "now" go, about.
WINDOW_NS = 1_000_000_000
_SQLSTATE = np.uint32((1 << SQLSTATE_BITS) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is known of a run that goes on.

    `now_per_s`: commits acknowledged a second in the window (WINDOW_NS), `p50_us` and `p99_us` the latency of these;
    `so_far_per_s`: since the measurement began; each None where there is no commit to tell it from. `errors`:
    operations that failed, or whose outcome is unknown, with a SQLSTATE. `duplicates`: as many operations were
    acknowledged with a number that an operation before had; None where that cannot be told before the end.
    """

    now_per_s: float | None = None
    so_far_per_s: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    errors: int = 0
    duplicates: int | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """The latencies, in nanoseconds, of the commits that were seen between two times."""

    after_ns: int
    until_ns: int
    latencies: Array


class RecentPace:
    """Takes operations as they end, of all sessions. Times are nanoseconds of the clock of the one who looks.

    Records may have the clock of another machine: only how long an operation lasted is read from them.
    `start_ns`: the common start. `since_ns`: the end of the warm-up; what is seen by the first look after it is not
    measured.
    """

    def __init__(self, start_ns: int, since_ns: int) -> None:
        self._since_ns = since_ns
        self._until_ns = start_ns
        self._measured_ns = start_ns if start_ns == since_ns else None
        self._looks: deque[_Look] = deque()
        #: How many commits were seen since the end of the warm-up.
        self._measured = self._errors = 0

    def take(self, records: Array, now_ns: int) -> None:
        """Take the OPERATION records that have ended since the last call."""
        acknowledged = outcomes(records["status"]) == Outcome.OK
        self._errors += int(np.count_nonzero(~acknowledged & (records["status"] & _SQLSTATE != 0)))
        latencies = records["end"][acknowledged] - records["start"][acknowledged]
        if self._measured_ns is not None:
            self._measured += len(latencies)
        elif now_ns >= self._since_ns:
            self._measured_ns = now_ns
        self._looks.append(_Look(self._until_ns, now_ns, latencies))
        self._until_ns = now_ns
        while len(self._looks) > 1 and self._looks[0].until_ns <= now_ns - WINDOW_NS:
            self._looks.popleft()

    def figures(self, duplicates: int | None) -> Figures:
        """The figures as of the last call of `take`."""
        latencies = np.sort(np.concatenate([look.latencies for look in self._looks])) if self._looks else np.empty(0)
        seconds = (self._until_ns - self._looks[0].after_ns) / 1e9 if self._looks else 0.0
        measured_s = 0.0 if self._measured_ns is None else (self._until_ns - self._measured_ns) / 1e9
        p50, p99 = percentile(latencies, 0.50), percentile(latencies, 0.99)
        return Figures(
            now_per_s=len(latencies) / seconds if seconds > 0 and len(latencies) else None,
            so_far_per_s=self._measured / measured_s if measured_s > 0 and self._measured else None,
            p50_us=None if p50 is None else p50 / 1e3,
            p99_us=None if p99 is None else p99 / 1e3,
            errors=self._errors,
            duplicates=duplicates,
        )
