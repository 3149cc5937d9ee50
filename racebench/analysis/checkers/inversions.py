"""Inversions: operations that began after another of their tenant had ended and got a smaller version.

The order in time and the order of the numbers differ: a later, acknowledged write sorts before an earlier one.
The version is that of the row in the table that the operation wrote.

Sessions on several machines have several clocks. The order of two operations is known on one machine exactly, and
between two machines only beyond the bounds of both clocks. What would be an inversion within the bounds is undecided.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.real_time import NONE, Pool, RealTime
from racebench.analysis.checkers.witnesses import WITNESSES, WitnessData
from racebench.analysis.index import Index
from racebench.core.model import Outcome
from racebench.core.results import Anomaly, Finding
from racebench.history import Chunk, Operation, Row
from racebench.history.records import NO_VERSION
from racebench.history.session_clocks import SessionClocks

Array = npt.NDArray[Any]


class Inversions(Checker):
    """Each witness has the later operation and an earlier one with a larger version."""

    kind = "inversions"

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        tenants = len(index.survey.tenants)
        self._real_time = RealTime(tenants)
        self._machines = _Machines(index, tenants) if len(index.history.clocks) > 1 else None
        self._operations = 0
        self._inverted = 0
        self._first: list[tuple[tuple[int, int, int], tuple[int, int, int]]] = []

    def operations(self, chunk: Chunk) -> None:
        version = self.index.written.version(chunk)
        which = (version != NO_VERSION) & (chunk.outcome == Outcome.OK)
        if not which.any():
            return
        mine = Pool(chunk.start, chunk.end, version, self.index.written.rank(chunk), chunk.position)
        workers = chunk.worker if self._machines is not None else chunk.start
        if not which.all():
            mine, workers = mine[which], workers[which]
        order = np.argsort(mine.group, kind="stable")  # by tenant, then by start, because lookups in order are fast
        mine, workers = mine[order], workers[order]
        self._operations += len(mine)
        last_start = int(chunk.start[-1])  # no later chunk begins earlier
        if self._machines is None:
            self._real_time.add(mine)
            self._take(self._real_time, mine, np.zeros(len(mine), bool))
            self._real_time.forget(last_start)
            return
        clocks = self._machines.clocks
        machine, bound = clocks.look_up(workers)
        wide = replace(mine, start=mine.start - bound, end=mine.end + bound)
        self._real_time.add(wide)
        inverted = self._take(self._real_time, wide, np.zeros(len(mine), bool))
        self._real_time.forget(last_start - clocks.largest_ns)
        alone = replace(mine, group=mine.group.astype(np.int64) * clocks.count + machine)
        self._machines.each.add(alone)
        inverted |= self._take(self._machines.each, alone, inverted, parts=clocks.count)
        self._machines.each.forget(last_start)
        self._machines.look_for_undecided(mine, machine, bound, inverted, last_start)

    def finding(self, data: WitnessData) -> Finding:  # noqa: ARG002 - the operations are known
        return Finding(
            kind=self.kind,
            count=self._inverted,
            chances=self._operations,
            witnesses=tuple(self._witness(*pair) for pair in self._first),
            undecided=0 if self._machines is None else self._machines.undecided(),
        )

    def _take(self, real_time: RealTime, mine: Pool, known: Array, *, parts: int = 1) -> Array:
        """Count the inverted that are not known yet, with the first of them as witnesses; return which are inverted.

        `parts`: into how many groups each tenant is divided.
        """
        found = real_time.compare(mine, WITNESSES)
        new = found.inverted & ~known
        self._inverted += int(new.sum())
        for at, (position, version) in sorted(found.earlier.items()):
            if len(self._first) < WITNESSES and new[at]:
                rank = int(mine.group[at]) // parts
                later = int(mine.position[at]), int(mine.version[at]), rank
                self._first.append(((position, version, rank), later))
        return found.inverted

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


class _Machines:
    """What is compared where sessions have several clocks. `each`: operations of one machine with each other."""

    def __init__(self, index: Index, tenants: int) -> None:
        self.clocks = SessionClocks(index.history.clocks)
        self.each = RealTime(tenants * self.clocks.count)
        #: For each machine the operations of all others.
        self._others = [RealTime(tenants) for _ in range(self.clocks.count)]
        self._waiting, self._machine, self._inverted = NONE, np.empty(0, np.int64), np.empty(0, bool)
        self._undecided = 0

    def look_for_undecided(self, mine: Pool, machine: Array, bound: Array, inverted: Array, last_start: int) -> None:
        """Count those that are not inverted, and would be if the clocks were as wrong as they can be.

        An operation is compared when everything that may have ended before it is there.
        """
        narrow = replace(mine, start=mine.start + bound, end=mine.end - bound)
        for number, others in enumerate(self._others):
            others.add(narrow[machine != number])
        self._waiting = self._waiting + narrow
        self._machine = np.concatenate([self._machine, machine])
        self._inverted = np.concatenate([self._inverted, inverted])
        self._decide(last_start - self.clocks.largest_ns)

    def undecided(self) -> int:
        """How many are undecided, when all operations were given."""
        self._decide(2**63 - 1)
        return self._undecided

    def _decide(self, until: int) -> None:
        due = self._waiting.start <= until
        for number, others in enumerate(self._others):
            theirs = due & (self._machine == number)
            found = others.compare(self._waiting[theirs], 0)
            self._undecided += int((found.inverted & ~self._inverted[theirs]).sum())
            others.forget(until)
        self._waiting, self._machine, self._inverted = self._waiting[~due], self._machine[~due], self._inverted[~due]
