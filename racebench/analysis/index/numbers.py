"""The numbers that were used in each tenant or in the whole table: their count, duplicates, and gaps.

If it is small enough, a table has a place for each number between the first and the last of its scope; else the numbers
are sorted. For each number it is known whether its row was delivered to the first consumer: of duplicates, the best
witness is one row that was delivered and one that was not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.survey import Survey
from racebench.history.external_sort import in_order
from racebench.history.spill import Scratch, gather, release, scatter

Array = npt.NDArray[Any]

_KEPT = 3
_USED, _AGAIN, _SEEN, _UNSEEN = 1, 2, 4, 8
_SCANNED = 1 << 22
_NUMBER = np.dtype([("scope", "<i8"), ("version", "<i8"), ("id", "<i8"), ("seen", "?")])

#: A tenant's rank (0 for the whole table) and a number.
Key = tuple[int, int]


class Numbers(Protocol):
    """Call `add` for all numbers, then `settle`, then read. All lists are sorted and have at most three entries."""

    distinct: int
    unused: int

    def add(self, scope: Array, version: Array, seen: Array, identity: Array) -> None: ...

    def settle(self) -> None: ...

    def repeated(self, *, halved: bool) -> list[Key]:
        """The first numbers that two rows have; `halved`: only if one row was delivered and one was not."""

    def gaps(self) -> list[tuple[int, int, int]]:
        """The first gaps: scope, the number before, the number after."""


def numbers_of(survey: Survey, scratch: Scratch, *, apart: bool) -> Numbers:
    """The numbers of each tenant, or (not `apart`) of the whole table."""
    used = survey.low <= survey.high
    low, high = survey.low, survey.high
    if not apart and used.any():
        low, high = np.array([low[used].min()]), np.array([high[used].max()])
        used = np.ones(1, bool)
    ranges = zip(low[used].tolist(), high[used].tolist(), strict=True)
    places = sum(last - first + 1 for first, last in ranges)  # Python's integers: a range may be too large for numpy's
    if scratch.dense(places, survey.rows):
        return _Table(low, np.where(used, high - low + 1, 0), scratch)
    return _Sorted(places, scratch)


class _Table:
    """A table with a byte for each number."""

    def __init__(self, low: Array, sizes: Array, scratch: Scratch) -> None:
        self._bases = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._low = low
        self._offset = self._bases[:-1] - np.where(sizes > 0, low, 0)
        self._flags = scratch.zeros(int(self._bases[-1]), np.uint8)
        self.distinct = 0
        self.unused = 0

    def add(self, scope: Array, version: Array, seen: Array, identity: Array) -> None:  # noqa: ARG002 - see _Sorted
        if not len(version):
            return
        # After sorting, equal numbers are adjacent, those of undelivered rows first.
        code = ((version + self._offset[scope]) << 1) | seen
        code.sort()
        key = code >> 1
        starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        ends = np.concatenate([starts[1:], [len(key)]]) - 1
        key = key[starts]
        before = gather(self._flags, key)
        flags = np.where((ends > starts) | (before != 0), np.uint8(_USED | _AGAIN), np.uint8(_USED))
        flags |= np.where(code[starts] & 1, np.uint8(0), np.uint8(_UNSEEN))
        flags |= np.where(code[ends] & 1, np.uint8(_SEEN), np.uint8(0))
        self.distinct += int(np.count_nonzero(before == 0))
        scatter(self._flags, key, before | flags)

    def settle(self) -> None:
        self.unused = len(self._flags) - self.distinct

    def repeated(self, *, halved: bool) -> list[Key]:
        wanted = np.uint8(_AGAIN | _SEEN | _UNSEEN if halved else _AGAIN)
        keys_found: list[Key] = []
        for at in range(0, len(self._flags), _SCANNED):
            part = self._flags[at : at + _SCANNED]
            keys = np.flatnonzero((part & wanted) == wanted)[: _KEPT - len(keys_found)]
            keys_found += [self._key(at + int(key)) for key in keys]
            release(self._flags)
            if len(keys_found) == _KEPT:
                break
        return keys_found

    def gaps(self) -> list[tuple[int, int, int]]:
        gaps: list[tuple[int, int, int]] = []
        at = 0
        while len(gaps) < _KEPT and (hole := self._next(at, used=False)) is not None:
            at = self._next(hole, used=True) or 0  # the last number of a scope is used
            scope, before = self._key(hole - 1)
            gaps.append((scope, before, self._key(at)[1]))
        return gaps

    def _next(self, at: int, *, used: bool) -> int | None:
        while at < len(self._flags):
            part = (self._flags[at : at + _SCANNED] != 0) == used
            release(self._flags)
            if part.any():
                return at + int(np.argmax(part))
            at += _SCANNED
        return None

    def _key(self, place: int) -> Key:
        scope = int(np.searchsorted(self._bases, place, side="right")) - 1
        return scope, place - int(self._bases[scope]) + int(self._low[scope])


class _Sorted:
    """All numbers, sorted; equal numbers form a group."""

    def __init__(self, places: int, scratch: Scratch) -> None:
        self._places = places
        self._scratch = scratch
        self._parts: list[Array] = []
        self._column = scratch.column(_NUMBER)
        self._repeated: list[Key] = []
        self._halved: list[Key] = []
        self._gaps: list[tuple[int, int, int]] = []
        self.distinct = 0
        self.unused = 0

    def add(self, scope: Array, version: Array, seen: Array, identity: Array) -> None:
        records = np.empty(len(version), _NUMBER)
        records["scope"], records["version"], records["id"], records["seen"] = scope, version, identity, seen
        self._column.append(records)

    def settle(self) -> None:
        numbers = self._column.array()
        parts = (numbers[at : at + self._scratch.piece] for at in range(0, len(numbers), self._scratch.piece))
        held = np.empty(0, _NUMBER)  # the first and, if it differs in `seen`, another of the last group
        held_rows = 0
        for block in in_order(self._scratch, parts, ("scope", "version", "id")):
            release(numbers)
            held, held_rows = self._take(np.concatenate([held, block]), held_rows - len(held))
        self._take_last(held, held_rows)
        self.unused = self._places - self.distinct

    def repeated(self, *, halved: bool) -> list[Key]:
        return self._halved if halved else self._repeated

    def gaps(self) -> list[tuple[int, int, int]]:
        return self._gaps

    def _take(self, block: Array, unseen_rows: int) -> tuple[Array, int]:
        """Process all groups but the last, which may continue; return the rest of the last group, and its rows."""
        if not len(block):
            return block, 0
        scope, version = block["scope"], block["version"]
        new = np.concatenate([[True], (scope[1:] != scope[:-1]) | (version[1:] != version[:-1])])
        starts = np.flatnonzero(new)
        rows = np.diff(starts, append=len(block))
        rows[0] += unseen_rows
        seen = np.add.reduceat(block["seen"].astype(np.int64), starts)
        held = np.diff(starts, append=len(block))
        halved = (seen > 0) & (seen < held)
        self._keep(block[starts][:-1], rows[:-1] > 1, halved[:-1])
        firsts = block[starts]
        holes = np.flatnonzero(
            (firsts["scope"][1:] == firsts["scope"][:-1]) & (firsts["version"][1:] - firsts["version"][:-1] != 1)
        )
        for at in holes[: _KEPT - len(self._gaps)].tolist():
            self._gaps.append((int(firsts["scope"][at]), int(firsts["version"][at]), int(firsts["version"][at + 1])))
        last = block[starts[-1] :]
        other = last[last["seen"] != last["seen"][0]][:1]
        return np.concatenate([last[:1], other]), int(rows[-1])

    def _take_last(self, held: Array, rows: int) -> None:
        if len(held):
            self._keep(held[:1], np.array([rows > 1]), np.array([len(held) > 1]))

    def _keep(self, groups: Array, repeated: Array, halved: Array) -> None:
        self.distinct += len(groups)
        for kept, which in ((self._repeated, repeated), (self._halved, repeated & halved)):
            for at in np.flatnonzero(which)[: _KEPT - len(kept)].tolist():
                kept.append((int(groups["scope"][at]), int(groups["version"][at])))
