"""The order in time of operations: which began after another of their group had ended with a larger version.

Operations are given in the order of their starts, piece by piece. For those that ended before everything that is still
to come, one number a group is enough, the highest. The others are kept; they are at most one for each session, and
those that ended within the bounds of the clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.records import NO_VERSION, distinct

Array = npt.NDArray[Any]

_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Pool:
    """Columns of operations that have a numbered row; `group` is what they are compared within, a number from 0."""

    start: Array
    end: Array
    version: Array
    group: Array
    position: Array

    def __getitem__(self, which: Array) -> Pool:
        return Pool(*(getattr(self, column.name)[which] for column in fields(self)))

    def __len__(self) -> int:
        return len(self.end)

    def __add__(self, other: Pool) -> Pool:
        if not len(self):
            return other
        columns = (column.name for column in fields(self))
        return Pool(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns))


NONE = Pool(*(np.empty(0, np.int64) for _ in range(5)))


@dataclass(slots=True)
class _Found:
    """Which operations are inverted, and an earlier one of each of the first: its position and version, by place."""

    inverted: Array
    earlier: dict[int, tuple[int, int]]


class RealTime:
    """Compares operations with those that ended before they began. `groups`: how many there are."""

    def __init__(self, groups: int) -> None:
        self._highest = np.full(groups, NO_VERSION)
        self._highest_at = np.zeros(groups, np.int64)
        self._kept = NONE

    def add(self, ended: Pool) -> None:
        """Add operations that later ones are compared with."""
        self._kept = self._kept + ended

    def forget(self, before: int) -> None:
        """Forget the times of what ended before: nothing that is still to come began earlier."""
        ended = self._kept.end < before
        self._raise(self._kept[ended])
        self._kept = self._kept[~ended]

    def compare(self, mine: Pool, witnesses: int) -> _Found:
        """Find those of `mine` that began after an added one of their group had ended with a larger version.

        An earlier operation is given for the first so many.
        """
        found = _Found(self._highest[mine.group] > mine.version, {})
        pool = self._kept
        if not len(mine) or not len(pool):
            self._note_highest(mine, found, witnesses)
            return found
        low, high = int(min(pool.version.min(), mine.version.min())), int(max(pool.version.max(), mine.version.max()))
        first, last = min(int(pool.end.min()), int(mine.start.min())), max(int(pool.end.max()), int(mine.start.max()))
        highest_group = max(int(pool.group.max()), int(mine.group.max()))
        if highest_group + 1 < _MOST // max(high - low + 1, last - first + 1):
            everything = np.arange(len(pool)), np.arange(len(mine))
            self._compare(found, mine, everything, (low, high - low + 1), (first, last - first + 1), witnesses)
        else:  # numbers or times are too far apart to put all groups on one line
            for group in distinct(mine.group):
                theirs, ours = np.flatnonzero(pool.group == group), np.flatnonzero(mine.group == group)
                if len(theirs):
                    self._compare(found, mine, (theirs, ours), None, None, witnesses)
        self._note_highest(mine, found, witnesses)
        return found

    def _compare(
        self,
        found: _Found,
        mine: Pool,
        which: tuple[Array, Array],
        versions: tuple[int, int] | None,
        times: tuple[int, int] | None,
        witnesses: int,
    ) -> None:
        """Compare operations on one line of times and one of numbers, on which each group has a range of its own."""
        pool, ours = self._kept[which[0]], mine[which[1]]
        ends, starts, theirs, numbers = pool.end, ours.start, pool.version, ours.version
        if versions is not None and times is not None:
            ends, starts = (
                group.astype(np.int64) * times[1] + (time - times[0])
                for group, time in ((pool.group, ends), (ours.group, starts))
            )
            theirs, numbers = (
                group.astype(np.int64) * versions[1] + (version - versions[0])
                for group, version in ((pool.group, theirs), (ours.group, numbers))
            )
        order = np.argsort(ends, kind="stable")
        # What stands before on the line is of this group or an earlier one, and those are below all of its numbers.
        highest = np.maximum.accumulate(theirs[order])
        before = np.searchsorted(ends[order], starts, side="left")
        in_pool = (before > 0) & (highest[np.maximum(before - 1, 0)] > numbers)
        found.inverted[which[1]] |= in_pool
        for at in np.flatnonzero(in_pool)[:witnesses].tolist():  # the first that ended with the highest version
            where = int(order[np.searchsorted(highest, highest[before[at] - 1], side="left")])
            found.earlier[int(which[1][at])] = int(pool.position[where]), int(pool.version[where])

    def _note_highest(self, mine: Pool, found: _Found, witnesses: int) -> None:
        """The earlier operation of those that are inverted by one whose time is forgotten."""
        for at in np.flatnonzero(found.inverted)[:witnesses].tolist():
            group = int(mine.group[at])
            found.earlier.setdefault(at, (int(self._highest_at[group]), int(self._highest[group])))

    def _raise(self, ended: Pool) -> None:
        """Move operations from those with times to the highest version of their groups."""
        if not len(ended):
            return
        order = np.argsort(ended.group, kind="stable")
        group, version = ended.group[order], ended.version[order]
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        best = np.full(len(self._highest), NO_VERSION)
        best[group[starts]] = np.maximum.reduceat(version, starts)
        higher = np.flatnonzero((best[ended.group] == ended.version) & (ended.version > self._highest[ended.group]))
        self._highest[ended.group[higher]] = ended.version[higher]
        self._highest_at[ended.group[higher]] = ended.position[higher]
