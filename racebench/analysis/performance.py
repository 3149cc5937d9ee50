"""A run's performance: throughput and latency over time, the spread of the start, an open loop's lateness, CPU time.

All figures are exact. The records are read in the same passes as for the checkers. Notes name the bottleneck.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers import Pass
from racebench.analysis.index import RowChunk
from racebench.analysis.statistics import percentile, percentiles
from racebench.core.model import Load, Outcome
from racebench.core.quantity import quantity
from racebench.core.results import OpenLoop, Pace, Timeline
from racebench.history import Chunk, History
from racebench.history.records import outcomes
from racebench.workloads import arrivals

Array = npt.NDArray[Any]

_POINTS = 60  # at most so many intervals, so that the timeline of a day is as short as that of a minute
_STEPS = (1, 2, 5)
_LATE_NS = 1_000_000  # an operation that begins more than a millisecond after it was due is late
_OF_DUE = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
_OF_LAG = {"p50": 0.50, "p99": 0.99, "max": 1.0}
_BUSY = 0.9
_UNSENT = 0.01  # a smaller share of unsent operations can be due to the end of the run


class Course(Pass):
    """Commits acknowledged in each interval, and the latency of the operations that began in it."""

    def __init__(self, history: History) -> None:
        self._start = history.start
        ends = [int(records["start"][-1]) for records in history.operations.sessions.values() if len(records)]
        self._interval = _interval((max(ends) - history.start) / 1e9 if ends else 0.0)
        self._committed = np.zeros(1, np.int64)
        self._p50: list[float | None] = []
        self._p99: list[float | None] = []
        self._waiting: list[Array] = []
        self._now = 0

    def rows(self, chunk: RowChunk) -> None:
        """Do nothing: rows have no time."""

    def operations(self, chunk: Chunk) -> None:
        acknowledged = chunk.outcome == Outcome.OK
        start, end = chunk.start[acknowledged], chunk.end[acknowledged]
        if not len(start):
            return
        counted = np.bincount(self._at(end))
        if len(counted) > len(self._committed):
            self._committed = np.concatenate([self._committed, np.zeros(len(counted) - len(self._committed), np.int64)])
        self._committed[: len(counted)] += counted
        # Chunks are sorted by start, so each interval is a slice.
        at = self._at(start)
        cuts = np.flatnonzero(np.diff(at)) + 1
        for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(at)], strict=True):
            self._finish(int(at[low]))
            self._waiting.append(end[low:high] - start[low:high])

    def _at(self, times: Array) -> Array:
        intervals: Array = np.maximum((times - self._start) // round(self._interval * 1e9), 0)
        return intervals

    def _finish(self, until: int) -> None:
        """Finish the intervals before `until`."""
        while self._now < until:
            latencies = np.sort(np.concatenate(self._waiting)) / 1e3 if self._waiting else np.empty(0)
            self._p50.append(percentile(latencies, 0.50))
            self._p99.append(percentile(latencies, 0.99))
            self._waiting = []
            self._now += 1

    def timeline(self) -> Timeline:
        """The timeline; all columns have the same length."""
        self._finish(max(len(self._committed), self._now + 1))
        missing = len(self._p50) - len(self._committed)
        return Timeline(
            interval_s=self._interval,
            committed=(*self._committed.tolist(), *([0] * missing)),
            p50_us=tuple(self._p50),
            p99_us=tuple(self._p99),
        )


def _interval(seconds: float) -> float:
    """The shortest of 0.1, 0.2, 0.5, 1 … seconds that divides a run into no more intervals than the limit."""
    exponent = -1
    while True:
        for step in _STEPS:
            interval = step * 10.0**exponent
            if seconds / interval <= _POINTS:
                return round(interval, 1)
        exponent += 1


def start_spread_us(history: History) -> float | None:
    """The time between the first operations of the first and the last session, in microseconds; None without any."""
    firsts = [int(records["start"][0]) for records in history.operations.sessions.values() if len(records)]
    return (max(firsts) - min(firsts)) / 1e3 if firsts else None


def open_loop(history: History, load: Load) -> OpenLoop | None:
    """The late operations of an open loop; None for a closed one."""
    rate = load.rate_per_session
    if rate is None:
        return None
    sessions = history.operations.sessions
    since = round(load.warmup_s * 1e9)
    bounds = {session: clock.bound_ns for clock in history.clocks for session in clock.sessions}

    def parts() -> Iterator[tuple[Array, Array]]:
        """Each session's measured records, with the times at which they were due: the latest that the bounds allow."""
        for number, records in sessions.items():
            at = 0
            for block in arrivals.blocks(load.seed, number, rate):
                part = records[at : at + len(block)]
                due = block[: len(part)]
                measured = due >= since
                yield part[measured], history.start + due[measured] + bounds.get(number, 0)
                at += len(block)
                if at >= len(records):
                    break

    def lags() -> Iterator[Array]:
        return (np.maximum(part["start"] - due, 0) for part, due in parts())

    def latencies() -> Iterator[Array]:
        for part, due in parts():
            acknowledged = outcomes(part["status"]) == Outcome.OK
            yield (part["end"] - due)[acknowledged]

    unsent = 0
    if load.duration_s is not None:
        end = since + round(load.duration_s * 1e9)
        for number, records in sessions.items():
            unsent += max(0, arrivals.due_before(end, load.seed, number, rate) - len(records))
    lag = percentiles(lags, _OF_LAG)
    latency = percentiles(latencies, _OF_DUE)
    return OpenLoop(
        late=sum(int((lag_ns > _LATE_NS).sum()) for lag_ns in lags()),
        unsent=unsent,
        lag_us={name: None if value is None else value / 1e3 for name, value in lag.items()},
        latency_us={name: None if value is None else value / 1e3 for name, value in latency.items()},
    )


def remarks(pace: Pace, load: Load, attempts: int, seconds: float, cpus: int) -> list[str]:
    """Notes on the figures: the client was the bottleneck, or the rate was not reached."""
    usage, said = pace.cpu, []
    if seconds > 0 and usage.busiest_s is not None and usage.busiest_s / seconds >= _BUSY:
        said.append(
            f"a worker process was busy {_percent(usage.busiest_s / seconds)} of the time: "
            "the client was the bottleneck; use more --workers"
            + (", fewer --connections-per-worker" if load.connections_per_worker > 1 else "")
        )
    elif usage.client_s is not None and usage.server_s is not None and usage.client_s > usage.server_s > 0:
        together = (usage.client_s + usage.server_s) / (seconds * cpus) if seconds > 0 else 0.0
        if together >= _BUSY:
            said.append(
                "the machine was full and the client used more of it than the server: it was the bottleneck; "
                "run racebench on another machine than the server, or compare with --protocol pipelined"
            )
    if pace.open_loop is not None and pace.open_loop.unsent > _UNSENT * attempts:
        said.append(
            f"{quantity(pace.open_loop.unsent, 'operation was', 'operations were')} due and never begun: "
            f"the server was slower than --rate {load.rate_per_s:g}; lower it or give more sessions"
        )
    return said


def _percent(share: float) -> str:
    return f"{math.floor(100 * min(share, 1.0))} %"
