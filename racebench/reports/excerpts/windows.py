"""The stretches of a history that an excerpt shows: as wide as possible around the witnesses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history import Operations
from racebench.history.operations import NEVER, never_ended

Array = npt.NDArray[Any]
Span = tuple[int, int]

_HALVINGS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One window, in nanoseconds, and the ids of the operations that are shown of the `total` in it."""

    span: Span
    chosen: tuple[int, ...]
    total: int


def cut(operations: Operations, anchors: Sequence[Sequence[Span]], *, sessions: Sequence[int], most: int) -> list[Cut]:
    """Windows around the anchors, in order of time, with at most about `most` operations of the given sessions.

    Anchors that belong together are in one group. The first groups matter most: a group for which there is no room is
    left out. Without anchors, the window begins with the run. If there is no room even for the first group, the
    operations nearest to its ends are chosen.
    """
    records = {number: operations.sessions[number] for number in sessions}
    extent = _extent(records)
    if extent is None:
        return []
    if sum(map(len, records.values())) <= most:
        return [_chosen(operations, records, extent, most)]
    kept: list[Span] = []
    for together in anchors:
        if _count(records, _around([*kept, *together], 0, extent)) <= most:
            kept += together
    kept = kept or next((list(together) for together in anchors if together), [(extent[0], extent[0])])
    low, high = 0, extent[1] - extent[0]
    for _ in range(_HALVINGS):
        middle = (low + high) // 2
        if _count(records, _around(kept, middle, extent)) <= most:
            low = middle
        else:
            high = middle
    return [_chosen(operations, records, span, most) for span in _around(kept, low, extent)]


def _extent(records: Mapping[int, Array]) -> Span | None:
    starts = [int(session["start"][0]) for session in records.values() if len(session)]
    last = [max(int(session["start"][-1]), int(session["end"][-1])) for session in records.values() if len(session)]
    return (min(starts), max(last)) if starts else None


def _around(anchors: Sequence[Span], pad: int, extent: Span) -> list[Span]:
    """The anchors, widened by that time on either side, within the run; anchors that touch become one."""
    spans: list[Span] = []
    for first, last in sorted(anchors):
        low, high = max(first - pad, extent[0]), min(last + pad, extent[1])
        if spans and low <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], high)
        else:
            spans.append((low, max(low, high)))
    return spans


def _count(records: Mapping[int, Array], spans: Sequence[Span]) -> int:
    return sum(
        last - first for session in records.values() for span in spans for first, last in [_within(session, span)]
    )


def _within(records: Array, span: Span) -> tuple[int, int]:
    """The range of a session's operations that overlap a span. A session has one operation at a time."""
    starts = records["start"]
    first = max(bisect_right(starts, span[0]) - 1, 0)
    if first < len(records):
        end, status = records["end"][first], records["status"][first]
        if int(end) < span[0] and not never_ended(np.array([end]), np.array([status]))[0]:
            first += 1
    return first, max(first, bisect_right(starts, span[1]))


def _chosen(operations: Operations, records: Mapping[int, Array], span: Span, most: int) -> Cut:
    identities, distances = [], []
    for number, session in records.items():
        first, last = _within(session, span)
        identities.append((number << operations.bits) + np.arange(first, last, dtype=np.int64))
        start, end = session["start"][first:last], session["end"][first:last]
        end = np.where(never_ended(end, session["status"][first:last]), NEVER, end)
        distances.append(np.minimum(np.abs(start - span[0]), np.abs(end - span[1])))
    every, near = np.concatenate(identities), np.concatenate(distances)
    chosen = every if len(every) <= most else every[np.argsort(near, kind="stable")[:most]]
    return Cut(span=span, chosen=tuple(np.sort(chosen).tolist()), total=len(every))
