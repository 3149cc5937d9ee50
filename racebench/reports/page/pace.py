"""Throughput and latency over time: for each run a panel, all to the same scales.

Geometry only; page.html draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from racebench.core.results import RunResult
from racebench.reports.page import scale

WIDTH, HEIGHT = 300, 178
_LEFT, _RIGHT = 44, 8
_TOP, _MIDDLE, _LOWER, _FLOOR = 8, 88, 104, 156
_LEAST = 0.2  # of an interval: the rate of a shorter last interval means nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A run's commits a second as an outline of steps, and its p50 and p99 as lines, each as an SVG path."""

    name: str
    commits: str
    p50: str
    p99: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Panels of one size, and the axes they share; ticks are (where, text)."""

    panels: tuple[Panel, ...]
    interval_s: float
    width: int
    height: int
    left: float
    right: float
    top: float
    middle: float
    lower: float
    floor: float
    time_ticks: tuple[tuple[float, str], ...]
    rate_ticks: tuple[tuple[float, str], ...]
    latency_ticks: tuple[tuple[float, str], ...]


def draw(runs: Sequence[RunResult], names: Sequence[str]) -> Paces | None:
    """Lay out the runs that have a timeline of throughput and latency; None if no run has one."""
    known = [(run, name) for run, name in zip(runs, names, strict=True) if run.pace and run.pace.timeline.committed]
    if not known:
        return None
    rates = [_rates(run) for run, _ in known]
    seconds = max(steps[-1][1] for steps in rates)
    time = scale.Axis(0.0, seconds, _LEFT, WIDTH - _RIGHT)
    rate = scale.linear([value for steps in rates for _, _, value in steps], _MIDDLE, _TOP)
    latencies = [value / 1e3 for run, _ in known for value in _latencies(run) if value]
    latency = scale.logarithmic(latencies, _FLOOR, _LOWER)
    panels = []
    for (run, name), steps in zip(known, rates, strict=True):
        assert run.pace is not None
        timeline = run.pace.timeline
        outline = "".join(f"L{time.at(a):g} {rate.at(value):g}H{time.at(b):g}" for a, b, value in steps)
        highest, lowest = max(value for _, _, value in steps), min(value for _, _, value in steps)
        panels.append(
            Panel(
                name=name,
                commits=f"M{_LEFT} {_MIDDLE}{outline}V{_MIDDLE}Z",
                p50=_line(timeline.p50_us, timeline.interval_s, time, latency),
                p99=_line(timeline.p99_us, timeline.interval_s, time, latency),
                title=f"{name}: between {lowest:,.0f} and {highest:,.0f} commits a second",
            )
        )
    return Paces(
        panels=tuple(panels),
        interval_s=max(run.pace.timeline.interval_s for run, _ in known if run.pace),
        width=WIDTH,
        height=HEIGHT,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=_TOP,
        middle=_MIDDLE,
        lower=_LOWER,
        floor=_FLOOR,
        time_ticks=tuple((time.at(tick), f"{tick:g}") for tick in time.ticks(4)),
        rate_ticks=tuple((rate.at(tick), scale.number(tick)) for tick in rate.ticks(3) if tick),
        latency_ticks=tuple((latency.at(tick), scale.number(tick)) for tick in latency.ticks(3)),
    )


def _latencies(run: RunResult) -> list[float | None]:
    return [] if run.pace is None else [*run.pace.timeline.p50_us, *run.pace.timeline.p99_us]


def _rates(run: RunResult) -> list[tuple[float, float, float]]:
    """(from, to, commits a second) of each interval. The last ends with the run; if it is too short, it is left out."""
    assert run.pace is not None
    interval, committed = run.pace.timeline.interval_s, run.pace.timeline.committed
    end = run.seconds + run.load.warmup_s
    steps: list[tuple[float, float, float]] = []
    for at, count in enumerate(committed):
        first = at * interval
        last = min(first + interval, end) if at == len(committed) - 1 else first + interval
        if not steps or last - first >= _LEAST * interval:
            steps.append((first, last, count / max(last - first, _LEAST * interval)))
    return steps


def _line(values: Sequence[float | None], interval: float, time: scale.Axis, latency: scale.Axis) -> str:
    """A path through the middles of the intervals, interrupted where no operation began."""
    parts, drawing = [], False
    for at, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{time.at((at + 0.5) * interval):g} {latency.at(value / 1e3):g}")
        drawing = True
    return "".join(parts)
