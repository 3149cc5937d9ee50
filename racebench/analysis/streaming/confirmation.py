"""A duplicate that was known while the run went on, looked up in the table at the end: only then it is reported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from racebench.analysis.checkers import Pass
from racebench.analysis.index import RowChunk
from racebench.core.results import FirstDuplicate
from racebench.history import Chunk, History
from racebench.history.operations import NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDuplicate:
    """A number that several committed rows had when the table was asked; `known_ns`: when the answer was there."""

    tenant: int
    version: int
    known_ns: int


class Confirmation(Pass):
    """Finds the rows of a number that was known as a duplicate, None for none, and when two of them were acknowledged.

    Rows can be changed or deleted after they were seen. Then there is nothing to report: the table at the end decides.
    """

    def __init__(self, history: History, known: KnownDuplicate | None) -> None:
        self._history = history
        self._known = known if history.labels is None else None  # the rows' versions are ranks
        self._rows = 0
        self._acknowledged = np.full(2, NEVER)

    def rows(self, chunk: RowChunk) -> None:
        if self._known is None:
            return
        its = (chunk.version == self._known.version) & (chunk.tenant == self._known.tenant)
        if its.any():
            self._rows += int(np.count_nonzero(its))
            self._acknowledged = np.sort(np.concatenate((self._acknowledged, chunk.acknowledged[its])))[:2]

    def operations(self, chunk: Chunk) -> None:
        """Do nothing: rows are enough."""

    def first_duplicate(self) -> FirstDuplicate | None:
        """The duplicate with its times; None if the table does not have it."""
        if self._known is None or self._rows < 2:
            return None
        second = int(self._acknowledged[1])
        return FirstDuplicate(
            tenant=self._known.tenant,
            version=self._known.version,
            acknowledged_us=None if second == NEVER else self._history.microseconds(second),
            known_us=self._history.microseconds(self._known.known_ns),
        )
