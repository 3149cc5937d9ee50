"""Lost: operations whose success was acknowledged and whose row is absent.

An UNKNOWN operation without a row is not lost: its success was never acknowledged.
"""

from __future__ import annotations

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import Lowest, WitnessData
from racebench.analysis.index import Index
from racebench.core.model import Outcome
from racebench.core.results import Anomaly, Finding
from racebench.history import Chunk


class Lost(Checker):
    """Acknowledged operations that no row names."""

    kind = "lost"

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._acknowledged = 0
        self._lost = 0
        self._first = Lowest()

    def operations(self, chunk: Chunk) -> None:
        acknowledged = chunk.outcome == Outcome.OK
        lost = acknowledged & ~self.index.written.present(chunk)
        self._acknowledged += int(acknowledged.sum())
        if lost.any():
            self._lost += int(lost.sum())
            self._first.add(chunk.position[lost], chunk.position[lost])

    def finding(self, data: WitnessData) -> Finding:  # noqa: ARG002 - it shows no rows
        witnesses = []
        for position in self._first.positions():
            operation = self.history.operations.at(position)
            witnesses.append(
                Anomaly(
                    kind=self.kind,
                    explanation=f"worker {operation.worker} was told that operation {operation.id} had succeeded, "
                    "and there is no row of it",
                    operations=(self.history.describe_operation(operation),),
                )
            )
        return Finding(kind=self.kind, count=self._lost, chances=self._acknowledged, witnesses=tuple(witnesses))
