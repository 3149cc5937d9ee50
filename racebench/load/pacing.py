"""When a session's operations begin: the common start, the warm-up, the measured time, and due times of an open loop.

One rule for the two kinds of worker (worker.py runs scripts, call_worker.py calls applications); what an operation is,
is theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from racebench.core.model import Load
from racebench.history.recording import OPERATION_BITS

#: As many operations as a session can number.
ENDLESS = 2**OPERATION_BITS
#: How long before the common start to be awake: what a sleep oversleeps. Eight workers that spin for longer on two CPUs
#: delay each other's start.
_AWAKE_NS = 100_000


@dataclass(frozen=True, slots=True)
class Go:
    """Begin at `start_ns`; begin nothing after `stop_ns`. In a worker both are perf_counter_ns, which a machine shares.

    What begins before `measured_ns` is the warm-up: recorded, but not counted towards a session's operations.
    """

    start_ns: int
    measured_ns: int
    stop_ns: int | None

    def shifted(self, by_ns: int) -> Go:
        """The same moments of a clock that is so far ahead."""
        stop_ns = None if self.stop_ns is None else self.stop_ns + by_ns
        return Go(self.start_ns + by_ns, self.measured_ns + by_ns, stop_ns)


@dataclass(frozen=True, slots=True)
class Phase:
    """The warm-up or the measured time: no operation begins at `until_ns` or later, nor after so many `operations`."""

    until_ns: int
    operations: int


def phases(go: Go, operations: int | None) -> Iterator[Phase]:
    """The warm-up, if there is one, and the measured time; `operations`: the most in the latter, None for no limit."""
    if go.measured_ns > go.start_ns:
        yield Phase(go.measured_ns, ENDLESS)
    stop_ns = go.stop_ns if go.stop_ns is not None else 2**63 - 1
    yield Phase(stop_ns, operations if operations is not None else ENDLESS)


def jitter_s(load: Load, random: Random) -> float:
    """How long after the common start a session begins, in seconds; 0 without jitter, and then nothing is drawn."""
    return random.uniform(0, load.jitter_us) / 1e6 if load.jitter_us else 0.0


class DueTimes:
    """The due times of one session's operations, one after the other."""

    def __init__(self, load: Load, session: int) -> None:
        self._times: Iterator[int] = iter(())
        if (rate := load.rate_per_session) is not None:
            from racebench.workloads import arrivals  # it imports numpy, which no other worker needs

            self._times = arrivals.times(load.seed, session, rate)

    def pause_s(self, go: Go, phase: Phase) -> float:
        """Seconds until the next operation is due, at most until the phase ends; negative if it is late."""
        return (min(go.start_ns + next(self._times), phase.until_ns) - time.perf_counter_ns()) / 1e9


def wait_until(start_ns: int) -> None:
    """Sleep until just before the common start, then spin: the spread is what the scheduler leaves."""
    if (left := start_ns - time.perf_counter_ns()) > _AWAKE_NS:
        time.sleep((left - _AWAKE_NS) / 1e9)
    while time.perf_counter_ns() < start_ns:
        pass


def line_up() -> None:
    """Let the other workers begin their first operation before this one's server session takes the CPU."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()
