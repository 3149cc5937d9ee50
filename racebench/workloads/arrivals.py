"""When operations are due in an open loop: a Poisson process, which workers follow and judging computes again.

Arrivals are independent, as those of users are; evenly spaced ones would never meet and hide the race. They are not
recorded, but drawn again from the run's seed and the session's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 1024


def blocks(seed: int, session: int, per_s: float) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the due times of a session's operations without end: nanoseconds since the common start, in blocks."""
    draw = np.random.Generator(np.random.PCG64([seed, session]))
    last = 0.0
    while True:
        times = last + np.cumsum(draw.exponential(1e9 / per_s, _BLOCK))
        last = float(times[-1])
        yield times.astype(np.int64)


def times(seed: int, session: int, per_s: float) -> Iterator[int]:
    """Yield the due times one by one."""
    for block in blocks(seed, session, per_s):
        yield from block.tolist()


def first(count: int, seed: int, session: int, per_s: float) -> npt.NDArray[Any]:
    """The first `count` due times."""
    due = np.empty(count, np.int64)
    at = 0
    for block in blocks(seed, session, per_s):
        part = block[: count - at]
        due[at : at + len(part)] = part
        at += len(part)
        if at >= count:
            break
    return due


def due_before(end_ns: int, seed: int, session: int, per_s: float) -> int:
    """How many operations of a session are due before a time."""
    count = 0
    for block in blocks(seed, session, per_s):
        inside = int(np.searchsorted(block, end_ns))
        count += inside
        if inside < len(block):
            return count
    raise AssertionError("the blocks never end")
