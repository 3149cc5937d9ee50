"""Missed: committed rows that a consumer's cursor passed and never delivered.

Example: rows 40 and 41 both have version 17. A poll sees only row 40 committed, delivers it and moves the cursor
to 17. Row 41 commits; `version > 17` never asks for it.
A consumer that has read to the end will not deliver any other row. A consumer that has not may still deliver rows above
its last cursor, so then only rows at or below it count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers.checker import ConsumerChecker
from racebench.analysis.checkers.witnesses import Lowest, WitnessData, WitnessRequests
from racebench.analysis.index import Index, RowChunk
from racebench.core.results import Anomaly, Finding
from racebench.history import Log, Row
from racebench.history.records import NO_VERSION
from racebench.history.spill import release

_INSTEAD = 10_000


class Missed(ConsumerChecker):
    """Each witness has the row, the poll that passed it, and what that poll delivered instead."""

    kind = "missed"

    def __init__(self, index: Index, number: int) -> None:
        super().__init__(index, number)
        self._missed = 0
        self._first = Lowest()
        self._cursors = None if self.log.drained else _highest(index.log(self.log), index)

    def rows(self, chunk: RowChunk) -> None:
        missed = chunk.numbered & (chunk.first(self.number) == 0)
        if self._cursors is not None:
            missed &= chunk.version <= self._cursors[chunk.rank]
        if missed.any():
            self._missed += int(missed.sum())
            self._first.add(chunk.id[missed], chunk.records[missed])

    def wants(self, wanted: WitnessRequests) -> None:
        for row in self._first.rows():
            number = self._passing(row)
            if number is not None:
                wanted.ids.update(self.log.delivered_by(number, _INSTEAD))

    def finding(self, data: WitnessData) -> Finding:
        return Finding(
            kind=self.kind,
            count=self._missed,
            chances=self.index.survey.numbered,
            witnesses=tuple(self._witness(data, row) for row in self._first.rows()),
        )

    def _passing(self, row: Row) -> int | None:
        return self.index.log(self.log).poll_that_passed(row.tenant, row.version)

    def _witness(self, data: WitnessData, row: Row) -> Anomaly:
        history, log = self.history, self.index.log(self.log)
        number = self._passing(row)
        shown = [row]
        described: tuple[Mapping[str, Any], ...] = ()
        how = f"'{log.name}' read to the end without it"
        if number is not None:
            poll = history.describe_poll(log, number)
            described = (poll,)
            before = "" if poll["cursor_before"] is None else f"from {poll['cursor_before']} "
            how = f"poll {number} of '{log.name}' moved the cursor {before}to {poll['cursor_after']} without it"
            instead = [other for other in data.rows(log.delivered_by(number, _INSTEAD)) if other.version != NO_VERSION]
            if instead:
                shown.append(min(instead, key=lambda other: (abs(other.version - row.version), other.id)))
        return Anomaly(
            kind=self.kind,
            explanation=f"row {row.id} (tenant {row.tenant}, version {history.version(row.version)}) is committed, "
            f"but {how}",
            rows=tuple(history.describe_row(other) for other in shown),
            operations=history.operations_of(shown),
            polls=described,
            consumer=log.name,
        )


def _highest(log: Log, index: Index) -> npt.NDArray[np.int64]:
    """The highest cursor of each tenant, by its rank; without one NO_VERSION, which is below every number."""
    tenants = index.survey.tenants
    highest = np.full(len(tenants), NO_VERSION)
    if log.ordered and log.after is not None and len(tenants):
        for at in range(0, len(log.polls), index.scratch.piece):
            theirs = log.polls["tenant"][at : at + index.scratch.piece].astype(np.int64)
            rank = tenants.rank(theirs)
            known = tenants.values[rank] == theirs
            np.maximum.at(highest, rank[known], log.after[at : at + index.scratch.piece][known])
            release(log.polls)
            release(log.after)
    return highest
