"""The timeline as a static picture: one anomaly, the operations in it, and the polls that delivered or passed its rows.

Geometry only; page/timeline_picture.svg draws it, in a page and by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from racebench.core import codes
from racebench.reports.excerpts import Bar, Excerpt, Mark, Poll
from racebench.reports.page import scale

WIDTH = 920
_LANES = 8
_CONSUMERS = 3
_LEFT, _RIGHT, _TOP = 104, 20, 12
_LANE, _BAR = 30, 20
_LETTER = 7.4
_LEGEND = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A bar or a poll as drawn. `kinds` are CSS classes, `over` a pattern; the legend explains its `badge`."""

    x: float
    y: float
    width: float
    height: float
    kinds: str
    label: str = ""
    badge: int | None = None
    over: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePicture:
    """The picture; lanes are (middle, name), ticks (where, text), joins (kind, path), the legend (number, text)."""

    width: int
    height: float
    left: float
    right: float
    top: float
    floor: float
    heading: str
    description: str
    lanes: tuple[tuple[float, str], ...]
    pieces: tuple[Piece, ...]
    joins: tuple[tuple[str, str], ...]
    ticks: tuple[tuple[float, str], ...]
    legend: tuple[tuple[int, str], ...]
    left_out: str


def draw(excerpt: Excerpt) -> TimelinePicture | None:
    """Draw the excerpt's first anomaly of the most serious kind; without one, its beginning. None if it has no bars."""
    if not excerpt.bars:
        return None
    mark = _first_mark(excerpt)
    focus = _focus(excerpt, mark)
    polls = _polls(excerpt, mark, focus)
    begin, end = _extent(excerpt, focus, polls)
    workers = _workers(excerpt, focus, begin, end)
    consumers = list(dict.fromkeys(excerpt.polls[at].consumer for at in polls))[:_CONSUMERS]
    time = scale.Axis(begin, end, _LEFT, WIDTH - _RIGHT)
    lanes = [f"worker {worker}" for worker in workers] + [_short(excerpt.consumers[place]) for place in consumers]
    middles = [_TOP + 26 + _LANE * at + (8 if at >= len(workers) else 0) for at in range(len(lanes))]
    floor = middles[-1] + _LANE / 2 + 4
    badges = {("bar", at): number for number, at in enumerate(focus, 1)}
    badges |= {("poll", at): number for number, at in enumerate(polls, len(focus) + 1)}
    kinds = kinds_of(excerpt)
    lane_of: dict[tuple[str, int], float] = {("bar", worker): middles[at] for at, worker in enumerate(workers)}
    lane_of |= {("poll", place): middles[len(workers) + at] for at, place in enumerate(consumers)}
    pieces = [
        _bar(excerpt, at, lane_of["bar", bar.worker], time, kinds.get(at, ()), badges.get(("bar", at)))
        for at, bar in enumerate(excerpt.bars)
        if bar.worker in workers and bar.start_us <= end and (bar.end_us is None or bar.end_us >= begin)
    ]
    pieces += [
        _poll(poll, lane_of["poll", poll.consumer], time, badges.get(("poll", at)))
        for at, poll in enumerate(excerpt.polls)
        if poll.consumer in consumers and poll.start_us <= end and poll.end_us >= begin
    ]
    others = {bar.worker for bar in excerpt.bars} - set(workers)
    legend = [(badges["bar", at], told(excerpt, at)) for at in focus]
    legend += [(badges["poll", at], told_poll(excerpt, at)) for at in polls]
    return TimelinePicture(
        width=WIDTH,
        height=round(floor + 34 + _LEGEND * len(legend) + (18 if others else 0) + 6, 1),
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=_TOP,
        floor=floor,
        heading="The first operations" if mark is None else f"{mark.kind}: {mark.text}",
        description="; ".join(text for _, text in legend) or "The first operations of the run.",
        lanes=tuple(zip(middles, lanes, strict=True)),
        pieces=tuple(pieces),
        joins=tuple(_joins(excerpt, mark, focus, polls, lane_of, time)),
        ticks=tuple((time.at(tick), milliseconds(tick)) for tick in time.ticks(7)),
        legend=tuple(legend),
        left_out=f"{len(others)} more workers are not drawn." if others else "",
    )


def kinds_of(excerpt: Excerpt) -> dict[int, tuple[str, ...]]:
    """Which kinds of anomalies each bar shows."""
    kinds: dict[int, tuple[str, ...]] = {}
    for mark in excerpt.marks:
        for at in mark.bars:
            if mark.kind not in kinds.get(at, ()):
                kinds[at] = (*kinds.get(at, ()), mark.kind)
    return kinds


def told(excerpt: Excerpt, at: int) -> str:
    """How an operation ended, in one line."""
    bar = excerpt.bars[at]
    who = f"worker {bar.worker}"
    if bar.outcome != "OK":
        state = "was refused" if bar.outcome == "FAIL" else "got no answer"
        wanted = "" if bar.version is None else f", wanting version {bar.version}"
        return f"{who} {state}{f' ({codes.shown(bar.sqlstate)})' if bar.sqlstate else ''}{wanted}"
    version = "" if bar.version is None else f" version {_short(str(bar.version))}"
    row = "" if bar.row is None else f" in row {bar.row}"
    return f"{who} committed{version}{row}{_fate(excerpt, at)}"


def told_poll(excerpt: Excerpt, at: int) -> str:
    """What a poll delivered and how it moved its cursor, in a line."""
    poll = excerpt.polls[at]
    moved = ""
    if poll.after is not None:
        before = "the start" if poll.before is None else _short(str(poll.before))
        moved = f" and moved its cursor from {before} to {_short(str(poll.after))}"
    rows = "1 row" if poll.rows == 1 else f"{poll.rows} rows"
    return f"poll {poll.number} of '{_short(excerpt.consumers[poll.consumer])}' delivered {rows}{moved}"


def milliseconds(us: float) -> str:
    return f"{us / 1e3:,.6g} ms"


def _fate(excerpt: Excerpt, at: int) -> str:
    missed = any(mark.kind == "missed" and at in mark.bars for mark in excerpt.marks)
    polls = [f"poll {number}" for _, number in sorted(excerpt.bars[at].delivered.items())]
    if missed:
        return ", which was never delivered" if not polls else f", delivered by {polls[0]}, but not to every consumer"
    return f", delivered by {polls[0]}" if polls else ""


def _first_mark(excerpt: Excerpt) -> Mark | None:
    """The mark to draw: if possible duplicates of which one was delivered and one was not; they show two anomalies."""
    missed = {at for mark in excerpt.marks if mark.kind == "missed" for at in mark.bars}
    if excerpt.first is not None and excerpt.first.kind == "duplicates":
        for mark in excerpt.marks:
            lost = missed & set(mark.bars)
            if mark.kind == "duplicates" and lost and any(excerpt.bars[at].delivered for at in set(mark.bars) - lost):
                return mark
    return excerpt.first


def _focus(excerpt: Excerpt, mark: Mark | None) -> list[int]:
    """The operations to explain. Of duplicates: two, if possible one that was delivered and one that was not."""
    if mark is None:
        return []
    bars = list(mark.bars)
    if mark.kind == "missed" and mark.polls:
        poll = excerpt.polls[mark.polls[0]]
        instead = [at for at, bar in enumerate(excerpt.bars) if bar.delivered.get(poll.consumer) == poll.number]
        bars += instead[-1:]
    if mark.kind == "duplicates":
        seen = [at for at in bars if excerpt.bars[at].delivered]
        unseen = [at for at in bars if not excerpt.bars[at].delivered]
        bars = [*seen[:1], *unseen[:1]] if seen and unseen else bars[:2]
    return sorted(dict.fromkeys(bars[:2]), key=lambda at: excerpt.bars[at].start_us)


def _polls(excerpt: Excerpt, mark: Mark | None, focus: Sequence[int]) -> list[int]:
    if mark is None:
        return []
    passing = [
        at for other in excerpt.marks if other.kind == "missed" and set(other.bars) & set(focus) for at in other.polls
    ]
    return sorted(dict.fromkeys([*mark.polls[:1], *passing[:1]]), key=lambda at: excerpt.polls[at].start_us)[:2]


def _extent(excerpt: Excerpt, focus: Sequence[int], polls: Sequence[int]) -> tuple[float, float]:
    bars = [excerpt.bars[at] for at in focus] or excerpt.bars[:24]
    times = [bar.start_us for bar in bars] + [bar.end_us for bar in bars if bar.end_us is not None]
    times += [time for at in polls for time in (excerpt.polls[at].start_us, excerpt.polls[at].end_us)]
    margin = max((max(times) - min(times)) * 0.08, 20.0)
    first = min(times)
    return max(first - margin, min(0.0, first)), max(times) + margin


def _workers(excerpt: Excerpt, focus: Sequence[int], begin: float, end: float) -> list[int]:
    """The workers of the operations in focus, and others that were active at the same time, by number."""
    first = [excerpt.bars[at].worker for at in focus]
    busy = [b.worker for b in excerpt.bars if b.start_us <= end and (b.end_us is None or b.end_us >= begin)]
    return sorted(list(dict.fromkeys([*first, *sorted(busy)]))[:_LANES])


def _bar(excerpt: Excerpt, at: int, middle: float, time: scale.Axis, kinds: Sequence[str], badge: int | None) -> Piece:
    bar = excerpt.bars[at]
    x = time.at(bar.start_us)
    width = round(max(time.at(time.high if bar.end_us is None else bar.end_us) - x, 2.0), 1)
    label = "" if bar.version is None else _short(str(bar.version))
    room = width - (28 if badge else 8)
    if badge and len(f"version {label}") * _LETTER < room and label:
        label = f"version {label}"
    dim = "" if badge else " dim"
    return Piece(
        x=x,
        y=middle - _BAR / 2,
        width=width,
        height=_BAR,
        kinds=f"{' '.join(kinds)} {bar.outcome.lower()}{dim}".strip(),
        label=label if len(label) * _LETTER < room else "",
        badge=badge,
        over="crossed" if bar.outcome == "FAIL" else "hatch" if "duplicates" in kinds else "",
        title=told(excerpt, at),
    )


def _poll(poll: Poll, middle: float, time: scale.Axis, badge: int | None) -> Piece:
    x = time.at(poll.start_us)
    return Piece(
        x=x,
        y=middle - _BAR / 2,
        width=round(max(time.at(poll.end_us) - x, 3.0), 1),
        height=_BAR,
        kinds="poll" + ("" if badge else " dim"),
        badge=badge,
        title=f"poll {poll.number}",
    )


def _joins(
    excerpt: Excerpt,
    mark: Mark | None,
    focus: Sequence[int],
    polls: Sequence[int],
    lane_of: dict[tuple[str, int], float],
    time: scale.Axis,
) -> list[tuple[str, str]]:
    """Lines between the two duplicates, and from a missed row's commit to the poll that passed it."""
    if mark is None:
        return []
    bars = [excerpt.bars[at] for at in focus]
    joins = []
    if mark.kind == "duplicates" and len(bars) == 2:
        one, two = (lane_of["bar", bar.worker] for bar in bars)
        joins.append(("duplicates", _line(time.at(_within(bars[0])), one, time.at(_within(bars[1])), two)))
    for other in excerpt.marks:
        if other.kind != "missed":
            continue
        for at in set(other.bars) & set(focus):
            for poll in set(other.polls) & set(polls):
                bar, passed = excerpt.bars[at], excerpt.polls[poll]
                if ("poll", passed.consumer) in lane_of:
                    end = time.at(time.high if bar.end_us is None else bar.end_us)
                    start = time.at((passed.start_us + passed.end_us) / 2)
                    joins.append(
                        ("missed", _line(end, lane_of["bar", bar.worker], start, lane_of["poll", passed.consumer]))
                    )
    return joins


def _within(bar: Bar) -> float:
    return bar.start_us if bar.end_us is None else bar.end_us


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A curve from the edge of one bar to the edge of another."""
    sign = 1 if y2 >= y1 else -1
    top, bottom = y1 + sign * _BAR / 2, y2 - sign * _BAR / 2
    bow = (bottom - top) / 2
    return f"M{x1:g} {top:g}C{x1:g} {top + bow:g} {x2:g} {bottom - bow:g} {x2:g} {bottom:g}"


def _short(text: str) -> str:
    return text if len(text) <= 14 else f"{text[:13]}…"
