"""Inversions: operations that began after another of their tenant had ended and got a smaller version.

The order in time and the order of the numbers differ: a later, acknowledged write sorts before an earlier one.
The version is that of the row in the table that the operation wrote.

Operations are read in the order of their starts. For the operations that ended before a chunk's first start, one number
a tenant is enough, the highest. The others are kept from chunk to chunk; they are at most one for each session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import WITNESSES, WitnessData
from racebench.analysis.index import Index
from racebench.core.model import Outcome
from racebench.core.results import Anomaly, Finding
from racebench.history import Chunk, Operation, Row
from racebench.history.records import NO_VERSION, distinct

Array = npt.NDArray[Any]

_MOST = 2**62


@dataclass(frozen=True, slots=True)
class _Pool:
    """Columns of the operations that have a numbered row."""

    end: Array
    version: Array
    rank: Array
    position: Array

    def __getitem__(self, which: Array) -> _Pool:
        return _Pool(self.end[which], self.version[which], self.rank[which], self.position[which])

    def __len__(self) -> int:
        return len(self.end)

    def __add__(self, other: _Pool) -> _Pool:
        return _Pool(
            np.concatenate([self.end, other.end]),
            np.concatenate([self.version, other.version]),
            np.concatenate([self.rank, other.rank]),
            np.concatenate([self.position, other.position]),
        )


_NONE = _Pool(*(np.empty(0, np.int64) for _ in range(4)))


class Inversions(Checker):
    """Each witness has the later operation and an earlier one with a larger version."""

    kind = "inversions"

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        tenants = len(index.survey.tenants)
        self._highest = np.full(tenants, NO_VERSION)
        self._highest_at = np.zeros(tenants, np.int64)
        self._carried = _NONE
        self._operations = 0
        self._inverted = 0
        self._first: list[tuple[tuple[int, int, int], tuple[int, int, int]]] = []

    def operations(self, chunk: Chunk) -> None:
        version = self.index.written.version(chunk)
        which = (version != NO_VERSION) & (chunk.outcome == Outcome.OK)
        if not which.any():
            return
        rank = self.index.written.rank(chunk)
        mine, start = _Pool(chunk.end, version, rank, chunk.position), chunk.start
        if not which.all():
            mine, start = mine[which], start[which]
        order = np.argsort(mine.rank, kind="stable")  # by tenant, then by start, because lookups in order are fast
        mine, start = mine[order], start[order]
        self._operations += len(mine)
        pool = self._carried + mine if len(self._carried) else mine
        self._compare(pool, mine, start)
        ended = pool.end < chunk.start[-1]  # no later chunk begins earlier
        self._raise(pool[ended])
        self._carried = pool[~ended]

    def finding(self, data: WitnessData) -> Finding:  # noqa: ARG002 - the operations are known
        witnesses = tuple(self._witness(*pair) for pair in self._first)
        return Finding(kind=self.kind, count=self._inverted, chances=self._operations, witnesses=witnesses)

    def _compare(self, pool: _Pool, mine: _Pool, start: Array) -> None:
        """Count the operations of `mine` that began after another had ended with a larger version.

        The other one is in the pool, or ended before it.
        """
        low, high = int(pool.version.min()), int(pool.version.max())
        first, last = min(int(pool.end.min()), int(start.min())), max(int(pool.end.max()), int(start.max()))
        if int(pool.rank.max()) + 1 < _MOST // max(high - low + 1, last - first + 1):
            self._compare_together(pool, mine, start, (low, high - low + 1), (first, last - first + 1))
            return
        for rank in distinct(pool.rank):  # numbers or times are too far apart to put all tenants on one line
            theirs, ours = pool[pool.rank == rank], mine.rank == rank
            if ours.any():
                self._compare_one(theirs, mine[ours], start[ours])

    def _compare_together(
        self, pool: _Pool, mine: _Pool, start: Array, versions: tuple[int, int], times: tuple[int, int]
    ) -> None:
        """All tenants at once: each has a separate range on one line of times and on one line of numbers."""
        rank = pool.rank.astype(np.int64)
        ends = rank * times[1] + (pool.end - times[0])
        order = np.argsort(ends)
        highest = np.maximum.accumulate((rank * versions[1] + (pool.version - versions[0]))[order])
        rank = mine.rank.astype(np.int64)
        before = np.searchsorted(ends[order], rank * times[1] + (start - times[0]), side="left")
        # What stands before on the line is of this tenant or an earlier one, and those are below all of its numbers.
        ours = rank * versions[1] + (mine.version - versions[0])
        self._note(pool, mine, (order, highest), before, (before > 0) & (highest[np.maximum(before - 1, 0)] > ours))

    def _compare_one(self, pool: _Pool, mine: _Pool, start: Array) -> None:
        order = np.argsort(pool.end, kind="stable")
        highest = np.maximum.accumulate(pool.version[order])
        before = np.searchsorted(pool.end[order], start, side="left")
        in_pool = (before > 0) & (highest[np.maximum(before - 1, 0)] > mine.version)
        self._note(pool, mine, (order, highest), before, in_pool)

    def _note(self, pool: _Pool, mine: _Pool, line: tuple[Array, Array], before: Array, in_pool: Array) -> None:
        """Count the inverted, by an earlier one of the pool (`in_pool`) or of before.

        `line` is the order in which the pool ended and the highest version so far; `before` how many of it had ended.
        """
        order, highest = line
        inverted = np.flatnonzero(in_pool | (self._highest[mine.rank] > mine.version))
        self._inverted += len(inverted)
        for at in inverted[: WITNESSES - len(self._first)].tolist():
            rank = int(mine.rank[at])
            one = (int(self._highest_at[rank]), int(self._highest[rank]), rank)
            if in_pool[at]:  # the first that ended with the highest version
                where = int(order[np.searchsorted(highest, highest[before[at] - 1], side="left")])
                one = (int(pool.position[where]), int(pool.version[where]), rank)
            self._first.append((one, (int(mine.position[at]), int(mine.version[at]), rank)))

    def _raise(self, ended: _Pool) -> None:
        """Move the operations that have ended from the pool to the highest version of their tenants."""
        if not len(ended):
            return
        order = np.argsort(ended.rank, kind="stable")
        rank, version = ended.rank[order], ended.version[order]
        starts = np.flatnonzero(np.append(True, rank[1:] != rank[:-1]))
        best = np.full(len(self._highest), NO_VERSION)
        best[rank[starts]] = np.maximum.reduceat(version, starts)
        higher = np.flatnonzero((best[ended.rank] == ended.version) & (ended.version > self._highest[ended.rank]))
        self._highest[ended.rank[higher]] = ended.version[higher]
        self._highest_at[ended.rank[higher]] = ended.position[higher]

    def _witness(self, earlier: tuple[int, int, int], later: tuple[int, int, int]) -> Anomaly:
        first, second = (self._described(*operation) for operation in (earlier, later))
        return Anomaly(
            kind=self.kind,
            explanation=f"worker {second['worker']} began after worker {first['worker']} had ended, and got version "
            f"{second['version']}, below {first['version']}",
            operations=(first, second),
        )

    def _described(self, position: int, version: int, rank: int) -> Any:
        """The operation with the version of its row."""
        tenant = int(self.index.survey.tenants.values[rank])
        operation: Operation = replace(self.history.operations.at(position), tenant=tenant)
        row = Row(id=0, tenant=tenant, version=version, operation=operation.id)
        return self.history.describe_operation(operation, row)
