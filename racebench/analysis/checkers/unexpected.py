"""Unexpected: operations reported failed, whose row is present.

An UNKNOWN operation with a row is not unexpected: its COMMIT may have succeeded before the reply was lost.
"""

from __future__ import annotations

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import Lowest, WitnessData, WitnessRequests
from racebench.analysis.index import Index
from racebench.core.model import Outcome
from racebench.core.results import Anomaly, Finding
from racebench.history import Chunk

_ROWS = 3


class Unexpected(Checker):
    """Failed operations that a row names."""

    kind = "unexpected"

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._failed = 0
        self._present = 0
        self._first = Lowest()

    def operations(self, chunk: Chunk) -> None:
        failed = chunk.outcome == Outcome.FAIL
        count = int(failed.sum())
        self._failed += count
        if count:
            present = failed & self.index.written.present(chunk)
            self._present += int(present.sum())
            self._first.add(chunk.position[present], chunk.position[present])

    def wants(self, wanted: WitnessRequests) -> None:
        wanted.operations.update(self.history.operations.at(position).id for position in self._first.positions())

    def finding(self, data: WitnessData) -> Finding:
        witnesses = []
        for position in self._first.positions():
            operation = self.history.operations.at(position)
            rows = data.by_operation[operation.id][:_ROWS]
            described = self.history.describe_operation(operation)
            witnesses.append(
                Anomaly(
                    kind=self.kind,
                    explanation=f"worker {operation.worker} was told that operation {operation.id} had failed "
                    f"({described['sqlstate']}), and its row {rows[0].id} is there",
                    rows=tuple(self.history.describe_row(row) for row in rows),
                    operations=(described,),
                )
            )
        return Finding(kind=self.kind, count=self._present, chances=self._failed, witnesses=tuple(witnesses))
