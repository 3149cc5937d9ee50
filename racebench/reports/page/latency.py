"""Latency distributions: for each run a line from the median to the largest, with its percentiles marked.

Geometry only; page.html draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from racebench.core.results import RunResult
from racebench.reports.page import scale

_ROW, _TOP, _BOTTOM = 30, 10, 40
_LETTER = 7.8
_WIDEST = 210


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A run's percentiles; the places of p50, p90, p99, p99.9 (None if too few) and the largest."""

    name: str
    y: float
    p50: float
    p90: float
    p99: float
    p999: float | None
    largest: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A chart of that size. `above`: names stand above their lines, because there is no room beside them."""

    width: int
    height: int
    left: float
    right: float
    floor: float
    above: bool
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]


def draw(runs: Sequence[RunResult], names: Sequence[str], *, width: int) -> Latency | None:
    """Lay out the runs that have a latency, in a chart of that width; None if no run has one."""
    measured = [(run.latency_us, name) for run, name in zip(runs, names, strict=True) if run.latency_us["p50"]]
    if not measured:
        return None
    above = width < 500
    step = 44 if above else _ROW
    left = 12 if above else min(_WIDEST, 24 + _LETTER * max(len(name) for _, name in measured))
    values = [value / 1e3 for latency, _ in measured for value in latency.values() if value]
    axis = scale.logarithmic(values, left, width - 24)
    rows = []
    for at, (latency, name) in enumerate(measured):
        ms = {key: value / 1e3 for key, value in latency.items() if value is not None}
        rows.append(
            Row(
                name=_short(name, width - 24 if above else _WIDEST - 24),
                y=_TOP + step * at + (30 if above else step / 2),
                p50=axis.at(ms["p50"]),
                p90=axis.at(ms["p90"]),
                p99=axis.at(ms["p99"]),
                p999=axis.at(ms["p999"]) if "p999" in ms else None,
                largest=axis.at(ms["max"]),
                title=f"{name}: " + ", ".join(f"{key} {value:.3g} ms" for key, value in sorted(ms.items())),
            )
        )
    floor = _TOP + step * len(rows) + 4
    return Latency(
        width=width,
        height=round(floor + _BOTTOM),
        left=left,
        right=width - 24,
        floor=floor,
        above=above,
        rows=tuple(rows),
        ticks=tuple((axis.at(tick), scale.number(tick)) for tick in axis.ticks(max(3, width // 90))),
    )


def _short(name: str, room: float) -> str:
    """The part of a name that there is room for; the row's title has the whole name."""
    most = int(room / _LETTER)
    return name if len(name) <= most else f"{name[: most - 1]}…"
