"""The operations that have rows, with the number and tenant of each: those of its row with the lowest id."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.row_chunk import RowChunk
from racebench.analysis.index.survey import Survey
from racebench.history import Chunk, Operations
from racebench.history.records import NO_VERSION
from racebench.history.spill import Scratch, gather, scatter

Array = npt.NDArray[Any]


class Written:
    """Arrays by an operation's position. A version is stored with its sign bit inverted, so that 0 means none."""

    def __init__(self, operations: Operations, survey: Survey, scratch: Scratch) -> None:
        count = len(operations) if survey.rows else 0
        self._scratch = scratch
        self._first_id = survey.first_id
        self._present = scratch.zeros(count, np.bool_)
        self._version = scratch.zeros(count, np.int64)
        self._rank = scratch.zeros(count, np.uint16 if len(survey.tenants) < 1 << 16 else np.uint32)
        self._contested = False

    def add(self, chunk: RowChunk) -> None:
        """Add rows."""
        scatter(self._present, chunk.position, True)
        where, version, rank, _ = _numbered(chunk)
        version = version ^ np.int64(NO_VERSION)
        before = gather(self._version, where)
        again = before != 0
        if again.any() and not self._contested:
            theirs = gather(self._rank, where[again])
            self._contested = bool(((before[again] != version[again]) | (theirs != rank[again])).any())
        scatter(self._version, where, version)
        scatter(self._rank, where, rank)
        if not self._contested and len(where):
            # If two rows of one operation are in the same chunk, one of them does not find the number it wrote.
            self._contested = bool(
                (gather(self._version, where) != version).any() or (gather(self._rank, where) != rank).any()
            )

    def settle(self, chunks: Callable[[], Iterable[RowChunk]]) -> None:
        """Where an operation has rows with different numbers, let the row with the lowest id decide."""
        if not self._contested:
            return
        lowest = self._scratch.zeros(len(self._version), np.uint64)  # 1 + the id less the first; 0 for none
        for chunk in chunks():
            where, _, _, identity = _numbered(chunk)
            ids = self._place(identity)
            order = np.lexsort((ids, where))
            where, ids = where[order], ids[order]
            first = np.concatenate([[True], where[1:] != where[:-1]])[: len(where)]
            where, ids = where[first], ids[first]
            before = gather(lowest, where)
            scatter(lowest, where, np.where(before == 0, ids, np.minimum(before, ids)))
        for chunk in chunks():
            where, version, rank, identity = _numbered(chunk)
            wins = gather(lowest, where) == self._place(identity)
            scatter(self._version, where[wins], version[wins] ^ np.int64(NO_VERSION))
            scatter(self._rank, where[wins], rank[wins])

    def present(self, chunk: Chunk) -> Array:
        """Whether each operation has a row."""
        return chunk.along(self._present) if len(self._present) else np.zeros(len(chunk), bool)

    def version(self, chunk: Chunk) -> Array:
        """The number each operation's row has; NO_VERSION without a numbered row."""
        if not len(self._version):
            return np.full(len(chunk), NO_VERSION)
        return chunk.along(self._version) ^ np.int64(NO_VERSION)

    def rank(self, chunk: Chunk) -> Array:
        """The rank of the tenant of each operation's numbered row."""
        return chunk.along(self._rank)

    def _place(self, identity: Array) -> Array:
        return (identity - np.int64(self._first_id)).astype(np.uint64) + np.uint64(1)


def _numbered(chunk: RowChunk) -> tuple[Array, Array, Array, Array]:
    """Of the rows with a number and a known operation: its position, the number, the tenant's rank, the id."""
    numbered = chunk.numbered[chunk.known]
    if numbered.all() and len(numbered) == len(chunk):
        return chunk.position, chunk.version, chunk.rank, chunk.id
    both = chunk.known & chunk.numbered
    return chunk.position[numbered], chunk.version[both], chunk.rank[both], chunk.id[both]
