"""What a checker is: it is shown every row and every operation once, asks for what its witnesses need, and reports.

Passes that only measure (analysis.verdicts) are shown the same.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from racebench.analysis.checkers.witnesses import WitnessData, WitnessRequests
from racebench.analysis.index import Index, RowChunk
from racebench.core.results import Finding
from racebench.history import Chunk


class Pass(Protocol):
    """Something that looks at a whole history: first every row, then every operation by start."""

    def rows(self, chunk: RowChunk) -> None: ...

    def operations(self, chunk: Chunk) -> None: ...


class Checker:
    """One kind of anomaly. The index is complete when the operations come."""

    kind: ClassVar[str]

    def __init__(self, index: Index) -> None:
        self.index = index
        self.history = index.history

    def rows(self, chunk: RowChunk) -> None:
        """Look at some rows."""

    def operations(self, chunk: Chunk) -> None:
        """Look at some operations."""

    def wants(self, wanted: WitnessRequests) -> None:
        """Ask for what the witnesses show."""

    def finding(self, data: WitnessData) -> Finding:
        """Report, with at most three witnesses."""
        raise NotImplementedError


class ConsumerChecker(Checker):
    """One kind of anomaly in what one consumer was given; `number` counts the logs from 0."""

    def __init__(self, index: Index, number: int) -> None:
        super().__init__(index)
        self.number = number
        self.log = index.history.logs[number]
        self.delivered = index.delivered[number]
