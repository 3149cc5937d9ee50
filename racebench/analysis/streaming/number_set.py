"""A set of 64-bit numbers that takes many at a time: ranges of consecutive numbers, in sorted runs.

Numbers that are given one after the other take no room: they are one range. Numbers that are far apart (times, random
numbers) take 16 bytes each, up to MOST_RANGES; then the oldest are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: How many ranges are kept, about: 16 MB.
MOST_RANGES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Run:
    """Ranges that do not touch each other, in order: the first and the last number of each (int64)."""

    firsts: Array
    lasts: Array

    def __len__(self) -> int:
        return len(self.firsts)

    def holds(self, numbers: Array) -> Array:
        """Whether each number is in one of the ranges."""
        at = np.searchsorted(self.firsts, numbers, side="right") - 1
        return (at >= 0) & (numbers <= self.lasts[at])  # at −1 is the last range: not counted

    def merged(self, other: _Run) -> _Run:
        """The ranges of both, which have no number in common."""
        firsts = np.concatenate((self.firsts, other.firsts))
        order = np.argsort(firsts, kind="stable")  # merges two sorted parts in one pass
        return _joined(firsts[order], np.concatenate((self.lasts, other.lasts))[order])


class NumberSet:
    """A set of int64 numbers. `most_ranges` bounds its memory: 16 bytes each, and as much again while runs merge."""

    def __init__(self, most_ranges: int = MOST_RANGES) -> None:
        self._most = most_ranges
        #: Each run has more than twice as many ranges as the next, so that there are few; the first is the oldest.
        self._runs: list[_Run] = []

    @property
    def ranges(self) -> int:
        """The number of ranges that are kept."""
        return sum(map(len, self._runs))

    def add(self, numbers: Array) -> Array:
        """Add numbers, in any order; whether each was in the set, or is further in front among them."""
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        known = np.zeros(len(ordered), bool)
        known[1:] = ordered[1:] == ordered[:-1]
        for run in self._runs:
            known |= run.holds(ordered)
        fresh = ordered[~known]
        if len(fresh):
            self._push(_joined(fresh, fresh))
        answers = np.empty(len(ordered), bool)
        answers[order] = known
        return answers

    def _push(self, run: _Run) -> None:
        runs = self._runs
        # A run of half of the most ranges is not merged any more: it is forgotten as a whole.
        while runs and len(runs[-1]) <= 2 * len(run) and len(runs[-1]) + len(run) <= self._most // 2:
            run = runs.pop().merged(run)
        runs.append(run)
        while len(runs) > 1 and self.ranges > self._most:
            del runs[0]


def _joined(firsts: Array, lasts: Array) -> _Run:
    """Sorted ranges without a number in common, with those that touch each other joined."""
    apart = np.flatnonzero(firsts[1:] != lasts[:-1] + 1)  # the largest number + 1 is the smallest: it begins no range
    return _Run(firsts[np.concatenate(([0], apart + 1))], lasts[np.concatenate((apart, [len(lasts) - 1]))])
