"""Safety against cost: each run a point, commits a second across, anomalies in a thousand operations upwards.

Geometry only; page.html draws it. "None found" is a separate band below the logarithmic axis, because zero has no
logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports.page import scale

_TOP, _RIGHT, _BOTTOM, _LEFT = 26, 18, 46, 58
_BAND = 44  # the height of "none found"
_LETTER = 6.9  # a wide average of a letter's width at 12 px
_LINE = 15
_RADIUS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A run's mark. `label_x` is None if its label has no room. `leader`: a line from the label to the point."""

    name: str
    verdict: Verdict
    x: float
    y: float
    title: str
    label_x: float | None = None
    label_y: float = 0.0
    anchor: str = "start"
    leader: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """A chart of that size; ticks are (where, text)."""

    width: int
    height: int
    left: float
    right: float
    top: float
    floor: float
    band: float
    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    unlabeled: int


def rate(run: RunResult) -> float:
    """Forbidden anomalies in a thousand operations."""
    return 1000 * sum(run.counts[kind] for kind in run.found) / max(run.counts["attempts"], 1)


def draw(runs: Sequence[RunResult], names: Sequence[str], *, width: int) -> Scatter:
    """Lay out the chart in that width, and find a place for each name that touches no point and no other name."""
    height = 360 if width > 500 else 380
    left, right, floor = _LEFT, width - _RIGHT, height - _BOTTOM
    band = floor - _BAND
    across = scale.fitting([run.throughput_per_s for run in runs], left + 12, right - 12)
    rates = [rate(run) for run in runs]
    upwards = scale.logarithmic(rates, band - 10, _TOP + 6)
    placed = [
        Point(
            name=name,
            verdict=run.verdict,
            x=across.at(run.throughput_per_s),
            y=upwards.at(rate) if rate > 0 else round(floor - _BAND / 2, 1),
            title=f"{name}: {run.verdict.value}, {run.throughput_per_s:,.0f} commits a second, "
            + (f"{rate:.3g} anomalies in 1,000 operations" if rate > 0 else "no anomaly found"),
        )
        for run, name, rate in zip(runs, names, rates, strict=True)
    ]
    points = _labeled(placed, left, right, _TOP, floor)
    return Scatter(
        width=width,
        height=height,
        left=left,
        right=right,
        top=_TOP,
        floor=floor,
        band=band,
        points=tuple(points),
        x_ticks=tuple((across.at(tick), scale.number(tick)) for tick in across.ticks(max(2, width // 130))),
        y_ticks=tuple((upwards.at(tick), scale.number(tick)) for tick in upwards.ticks(6) if any(rates)),
        unlabeled=sum(point.label_x is None for point in points),
    )


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labeled(points: Sequence[Point], left: float, right: float, top: float, floor: float) -> list[Point]:
    """The points with their labels, each at the nearest free place. Points with anomalies choose first."""
    taken: list[Box] = [(p.x - _RADIUS, p.y - _RADIUS, p.x + _RADIUS, p.y + _RADIUS) for p in points]
    labeled: dict[int, Point] = {}
    for at in sorted(range(len(points)), key=lambda at: (points[at].verdict is Verdict.VALID, points[at].x)):
        point = points[at]
        labeled[at] = point
        wide = _LETTER * len(point.name)
        for x, y, anchor, far in _places(point):
            begin = x if anchor == "start" else x - wide if anchor == "end" else x - wide / 2
            box = (begin - 2, y - _LINE + 3, begin + wide + 2, y + 4)
            if box[0] < left or box[2] > right or box[1] < top - 8 or box[3] > floor:
                continue
            if any(_meet(box, other) for other in taken):
                continue
            taken.append(box)
            leader = (min(max(point.x, begin), begin + wide), y + 3 if y < point.y else y - _LINE + 5) if far else None
            labeled[at] = Point(
                name=point.name,
                verdict=point.verdict,
                x=point.x,
                y=point.y,
                title=point.title,
                label_x=round(x, 1),
                label_y=round(y, 1),
                anchor=anchor,
                leader=leader,
            )
            break
    return [labeled[at] for at in range(len(points))]


def _places(point: Point) -> list[tuple[float, float, str, bool]]:
    """The places for a label, in order: beside the point, above, below, then further away."""
    x, y = point.x, point.y
    near = [
        (x + 11, y + 4, "start", False),
        (x - 11, y + 4, "end", False),
        (x, y - 11, "middle", False),
        (x, y + 21, "middle", False),
    ]
    far = [
        (x + side * 10, y + lift, anchor, True)
        for distance in range(1, 8)
        for lift in (-16 - 14 * distance, 22 + 14 * distance)
        for side, anchor in ((1, "start"), (-1, "end"), (0, "middle"))
    ]
    return near + far


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
