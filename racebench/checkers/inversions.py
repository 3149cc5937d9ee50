"""Inversions: operations that began after another of their tenant had ended and got a smaller version.

Real-time order against number order: a later, acknowledged write that sorts before an earlier one.
The version is the table's, by the operation that wrote the row.

Operations come by start. What had ended before a chunk's first start is one number a tenant, the highest; what had not
is carried from chunk to chunk and is never more than is in flight at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.checkers.checker import Checker
from racebench.checkers.witnesses import WITNESSES, Found
from racebench.evidence import Evidence
from racebench.history import Chunk, Operation, Row
from racebench.model import Anomaly, Finding, Outcome
from racebench.recording import NO_VERSION

Array = npt.NDArray[Any]

_MOST = 2**62
_CARRIED = np.dtype([("end", "<i8"), ("version", "<i8"), ("rank", "<i8"), ("position", "<i8")])


class Inversions(Checker):
    """Each witness has the later operation and an earlier one with a larger version."""

    kind = "inversions"

    def __init__(self, evidence: Evidence) -> None:
        super().__init__(evidence)
        tenants = len(evidence.survey.tenants)
        self._highest = np.full(tenants, NO_VERSION)
        self._highest_at = np.zeros(tenants, np.int64)
        self._carried = np.empty(0, _CARRIED)
        self._operations = 0
        self._inverted = 0
        self._first: list[tuple[tuple[int, int, int], tuple[int, int, int]]] = []

    def operations(self, chunk: Chunk) -> None:
        version = self.evidence.written.version(chunk)
        which = (version != NO_VERSION) & (chunk.outcome == Outcome.OK)
        if not which.any():
            return
        mine = np.empty(int(np.count_nonzero(which)), _CARRIED)
        every = len(mine) == len(chunk)
        rank = self.evidence.written.rank(chunk)
        for name, column in (("end", chunk.end), ("version", version), ("rank", rank), ("position", chunk.position)):
            mine[name] = column if every else column[which]
        start = chunk.start if every else chunk.start[which]
        self._operations += len(mine)
        pool = np.concatenate([self._carried, mine])
        self._compare(pool, mine, start)
        ended = pool["end"] < chunk.start[-1]  # whatever comes begins no earlier
        self._raise(pool[ended])
        self._carried = pool[~ended]

    def finding(self, found: Found) -> Finding:  # noqa: ARG002 - the operations are known
        witnesses = tuple(self._witness(*pair) for pair in self._first)
        return Finding(kind=self.kind, count=self._inverted, chances=self._operations, witnesses=witnesses)

    def _compare(self, pool: Array, mine: Array, start: Array) -> None:
        """Count those of `mine` that began after one of the pool, or one before, had ended with a larger version."""
        low, high = int(pool["version"].min()), int(pool["version"].max())
        first, last = min(int(pool["end"].min()), int(start[0])), max(int(pool["end"].max()), int(start[-1]))
        if int(pool["rank"].max()) + 1 < _MOST // max(high - low + 1, last - first + 1):
            self._compare_together(pool, mine, start, (low, high - low + 1), (first, last - first + 1))
            return
        for rank in np.unique(pool["rank"]):  # numbers or times too far apart for all tenants to stand on one line
            theirs, ours = pool[pool["rank"] == rank], mine["rank"] == rank
            if ours.any():
                self._compare_one(theirs, mine[ours], start[ours])

    def _compare_together(
        self, pool: Array, mine: Array, start: Array, versions: tuple[int, int], times: tuple[int, int]
    ) -> None:
        """All tenants at once: each has a stretch of its own on one line of times, and on one line of numbers."""
        rank = pool["rank"]
        ends = rank * times[1] + (pool["end"] - times[0])
        order = np.argsort(ends)
        ends = ends[order]
        lifted = (rank * versions[1] + (pool["version"] - versions[0]))[order]
        highest = np.maximum.accumulate(lifted)
        began = mine["rank"] * times[1] + (start - times[0])
        before = np.searchsorted(ends, began, side="left")
        ours = mine["rank"] * versions[1] + (mine["version"] - versions[0])
        # What stands before on the line is of this tenant or an earlier one, and those are below all of its numbers.
        here = highest[np.maximum(before - 1, 0)]
        in_pool = (before > 0) & (here > ours)
        inverted = in_pool | (self._highest[mine["rank"]] > mine["version"])
        self._note(inverted, mine, pool, lambda at: _earliest(highest, order, int(before[at])) if in_pool[at] else None)

    def _compare_one(self, pool: Array, mine: Array, start: Array) -> None:
        order = np.argsort(pool["end"], kind="stable")
        highest = np.maximum.accumulate(pool["version"][order])
        before = np.searchsorted(pool["end"][order], start, side="left")
        in_pool = (before > 0) & (highest[np.maximum(before - 1, 0)] > mine["version"])
        inverted = in_pool | (self._highest[mine["rank"]] > mine["version"])
        self._note(inverted, mine, pool, lambda at: _earliest(highest, order, int(before[at])) if in_pool[at] else None)

    def _note(self, inverted: Array, mine: Array, pool: Array, earlier: Any) -> None:
        found = np.flatnonzero(inverted)
        self._inverted += len(found)
        for at in found[: WITNESSES - len(self._first)].tolist():
            later = mine[at]
            where = earlier(at)
            rank = int(later["rank"])
            if where is not None:
                one = (int(pool["position"][where]), int(pool["version"][where]), rank)
            else:
                one = (int(self._highest_at[rank]), int(self._highest[rank]), rank)
            self._first.append((one, (int(later["position"]), int(later["version"]), rank)))

    def _raise(self, ended: Array) -> None:
        """Let the operations that have ended count for their tenants."""
        if not len(ended):
            return
        order = np.lexsort((ended["version"], ended["rank"]))
        last = np.flatnonzero(np.append(np.diff(ended["rank"][order]) != 0, True))
        best = ended[order[last]]
        higher = best[best["version"] > self._highest[best["rank"]]]
        self._highest[higher["rank"]] = higher["version"]
        self._highest_at[higher["rank"]] = higher["position"]

    def _witness(self, earlier: tuple[int, int, int], later: tuple[int, int, int]) -> Anomaly:
        first, second = (self._described(*each) for each in (earlier, later))
        return Anomaly(
            kind=self.kind,
            explanation=f"worker {second['worker']} began after worker {first['worker']} had ended, and got version "
            f"{second['version']}, below {first['version']}",
            operations=(first, second),
        )

    def _described(self, position: int, version: int, rank: int) -> Any:
        """The operation as its row has it."""
        tenant = int(self.evidence.survey.tenants.values[rank])
        operation: Operation = replace(self.history.operations.at(position), tenant=tenant)
        row = Row(id=0, tenant=tenant, version=version, operation=operation.id)
        return self.history.describe_operation(operation, row)


def _earliest(highest: Array, order: Array, before: int) -> int:
    """Of those before, the first that ended with the highest version: where it is in the pool."""
    return int(order[np.searchsorted(highest, highest[before - 1], side="left")])
