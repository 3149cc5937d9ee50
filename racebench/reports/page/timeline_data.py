"""Each run's timeline: its excerpt as data for the page's script, and a static picture for a page without script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from racebench.core import codes
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports.excerpts import Bar, Excerpt
from racebench.reports.excerpts.lookup import Lookup, find
from racebench.reports.page import timeline_picture
from racebench.reports.results.sources import Source

#: Operations on a page, all timelines together, and of each timeline at most and at least.
_ALL, _MOST, _LEAST = 2000, 1000, 150
_CONSUMERS = 4
_TIMELINES = 6  # on a page; of many files one each, up to
_MOST_TIMELINES = 12
_TABLED = 40
_EXACT = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One run's timeline. `data` is for the script; `left_out`: what is not shown; `listed`: the first anomalies."""

    name: str
    verdict: Verdict
    data: dict[str, Any]
    still: timeline_picture.TimelinePicture
    left_out: tuple[str, ...]
    listed: tuple[tuple[str, str, str], ...]
    unlisted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timelines:
    """The timelines that are drawn, and a sentence about those that are not."""

    drawn: tuple[Timeline, ...]
    left_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The places of the runs of a part with a timeline, each of so many operations; `left_out`: runs without one."""

    places: tuple[int, ...]
    operations: int
    left_out: int


def share_out(parts: Sequence[Sequence[tuple[Source, RunResult]]]) -> list[Share]:
    """Which runs of the parts get a timeline: those that went wrong first, and one of each part before a second."""
    wanted: list[tuple[bool, int, int, int]] = []
    for part, runs in enumerate(parts):
        ranked = sorted((not run.found, place) for place, (_, run) in enumerate(runs) if run.found or run.history)
        wanted += [(right, rank, part, place) for rank, (right, place) in enumerate(ranked)]
    chosen = sorted(wanted)[: max(_TIMELINES, min(len(parts), _MOST_TIMELINES))]
    operations = min(_MOST, max(_LEAST, _ALL // max(len(chosen), 1)))
    return [
        Share(
            places=(places := tuple(sorted(place for _, _, of, place in chosen if of == part))),
            operations=operations,
            left_out=sum(of == part for _, _, of, _ in wanted) - len(places),
        )
        for part in range(len(parts))
    ]


def draw(runs: Sequence[tuple[Source, RunResult]], names: Sequence[str], share: Share) -> Timelines:
    """The timelines of a part."""
    drawn = []
    for at in share.places:
        source, run = runs[at]
        polls_too = 1 + len(run.consumers) // _CONSUMERS  # the deliveries to many consumers take space too
        timeline = _timeline(names[at], run, find(source.path, run, most=share.operations // polls_too))
        if timeline is not None:
            drawn.append(timeline)
    said = ""
    if share.left_out:
        more = f"{share.left_out} {'more ' if drawn else ''}{'run has' if share.left_out == 1 else 'runs have'}"
        said = f"{more} a timeline that is not on this page: give fewer files, or run fewer strategies at once."
    return Timelines(drawn=tuple(drawn), left_out=said)


def _timeline(name: str, run: RunResult, lookup: Lookup) -> Timeline | None:
    excerpt = lookup.excerpt
    picture = None if excerpt is None else timeline_picture.draw(excerpt)
    if excerpt is None or picture is None:
        return None
    return Timeline(
        name=name,
        verdict=run.verdict,
        data=_data(excerpt, run),
        still=picture,
        left_out=tuple(_left_out(excerpt, lookup.without)),
        listed=tuple(
            (timeline_picture.milliseconds(round(excerpt.bars[mark.bars[0]].start_us)), mark.kind, mark.text)
            for mark in excerpt.marks[:_TABLED]
        ),
        unlisted=max(0, len(excerpt.marks) - _TABLED),
    )


def _left_out(excerpt: Excerpt, without: str | None) -> list[str]:
    shown = len(excerpt.bars)
    if not excerpt.whole:
        return [
            f"Only the {shown} operations that the witnesses name are drawn, of {excerpt.operations:,}: {without}. "
            "`racebench run --history` keeps the history; leave it beside the result."
        ]
    if shown == excerpt.operations:
        said = [f"All {shown:,} operations of the run are here."]
    else:
        windows = len(excerpt.windows)
        where = "one window" if windows == 1 else f"{windows} windows"
        where = f"in {where} around the witnesses" if excerpt.marks else "from its beginning"
        said = [f"{shown:,} of the run's {excerpt.operations:,} operations are here, {where}."]
    if thin := sum(window.total - window.shown for window in excerpt.windows):
        said.append(f"{thin:,} operations within are left out.")
    if (lanes := len(excerpt.workers)) < excerpt.sessions:
        said.append(f"{lanes} of {excerpt.sessions} sessions have a lane.")
    if excerpt.polls_left_out:
        said.append(f"{excerpt.polls_left_out:,} polls within are left out.")
    said.append("Counts elsewhere on the page are of the whole run.")
    return said


def _data(excerpt: Excerpt, run: RunResult) -> dict[str, Any]:
    """The excerpt as short arrays, which page.js reads. Times are in microseconds; a duration of −1 means no end.

    The sentences of the first marks are in the page's table, not here.
    """
    lane_of = {worker: lane for lane, worker in enumerate(excerpt.workers)}
    pace = run.pace
    marked = {mark.kind for mark in excerpt.marks}
    return {
        "workers": list(excerpt.workers),
        "consumers": list(excerpt.consumers),
        "whole": excerpt.whole,
        "unmarked": [kind for kind in run.found if kind not in marked],
        "bars": [
            [
                lane_of[bar.worker],
                round(bar.start_us),
                -1 if bar.end_us is None else round(bar.end_us) - round(bar.start_us),
                _exact(bar.version),
                _exact(bar.row),
                [bar.delivered.get(place) for place in range(len(excerpt.consumers))],
                *([bar.outcome, codes.shown(bar.sqlstate), bar.tries, bar.tenant] if _unusual(bar) else []),
            ]
            for bar in excerpt.bars
        ],
        "polls": [
            [
                poll.consumer,
                round(poll.start_us),
                round(poll.end_us) - round(poll.start_us),
                poll.number,
                poll.rows,
                _exact(poll.before),
                _exact(poll.after),
            ]
            for poll in excerpt.polls
        ],
        "marks": [[mark.kind, list(mark.bars), list(mark.polls)] for mark in excerpt.marks],
        "windows": [[round(w.start_us), round(w.end_us), w.shown, w.total] for w in excerpt.windows],
        "end": round((run.seconds + run.load.warmup_s) * 1e6),
        "pace": None if pace is None else [round(pace.timeline.interval_s * 1e6), list(pace.timeline.committed)],
    }


def _exact(number: int | str | None) -> int | str | None:
    """A number, as text if a JavaScript number would round it."""
    return str(number) if isinstance(number, int) and abs(number) > _EXACT else number


def _unusual(bar: Bar) -> bool:
    return (bar.outcome, bar.sqlstate, bar.tries, bar.tenant) != ("OK", "", 1, 1)
