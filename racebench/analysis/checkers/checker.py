"""The interface of a checker: it gets every row and every operation once, requests rows for its witnesses, and reports.

Passes that only measure (analysis.verdicts) get the same rows and operations.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from racebench.analysis.checkers.witnesses import WitnessData, WitnessRequests
from racebench.analysis.index import Index, RowChunk
from racebench.core.results import Finding
from racebench.history import Chunk


class Pass(Protocol):
    """Reads a whole history: first every row, then every operation, sorted by start."""

    def rows(self, chunk: RowChunk) -> None: ...

    def operations(self, chunk: Chunk) -> None: ...


class Checker:
    """Checks one kind of anomaly. The index is complete before the first operation."""

    kind: ClassVar[str]

    def __init__(self, index: Index) -> None:
        self.index = index
        self.history = index.history

    def rows(self, chunk: RowChunk) -> None:
        """Read some rows."""

    def operations(self, chunk: Chunk) -> None:
        """Read some operations."""

    def wants(self, wanted: WitnessRequests) -> None:
        """Request the rows and polls that the witnesses show."""

    def finding(self, data: WitnessData) -> Finding:
        """Return the count, with at most three witnesses."""
        raise NotImplementedError


class ConsumerChecker(Checker):
    """Checks one kind of anomaly in one consumer's log; `number` counts the logs from 0."""

    def __init__(self, index: Index, number: int) -> None:
        super().__init__(index)
        self.number = number
        self.log = index.history.logs[number]
        self.delivered = index.delivered[number]
