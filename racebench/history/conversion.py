"""Converts times of one machine's clock to the database server's, along a line between two readings of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.clocks import Reading

Array = npt.NDArray[Any]

#: How far two clocks may run apart, one part in this many: NTP slews a clock by at most 500 ppm.
_RATE = 1000
#: A reading with a larger bound than so many times those of the first and the last one is not used between them.
_WORSE = 2


class Conversion:
    """Converts one machine's times to the server's clock, from its readings in the order of time, at least one."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        limit = _WORSE * max(readings[0].bound_ns, readings[-1].bound_ns)
        last = len(readings) - 1
        self._readings = [one for at, one in enumerate(readings) if at in (0, last) or one.bound_ns <= limit]
        self._base = self._readings[0]
        self._local = np.array([one.local_ns - self._base.local_ns for one in self._readings], np.float64)
        self._change = np.array([one.offset_ns - self._base.offset_ns for one in self._readings], np.float64)

    def to_server(self, times: Array) -> Array:
        """Times of `perf_counter_ns` as times of the server's clock, in nanoseconds since 1970."""
        change = np.interp((times - self._base.local_ns).astype(np.float64), self._local, self._change)
        converted: Array = times + self._base.offset_ns + np.rint(change).astype(np.int64)
        return converted

    def bound_ns(self, first_ns: int, last_ns: int) -> int:
        """How wrong a converted time can be, of times from `first_ns` to `last_ns` of `perf_counter_ns`.

        Between two readings it is the larger of their bounds and by how much the offset has changed; before the first
        and after the last one it grows with the time.
        """
        readings = self._readings
        bound = max(one.bound_ns for one in readings)
        for before, after in pairwise(readings):
            change = abs(after.offset_ns - before.offset_ns)
            bound = max(bound, max(before.bound_ns, after.bound_ns) + change)
        outside = max(0, readings[0].local_ns - first_ns, last_ns - readings[-1].local_ns)
        return bound + outside // _RATE
