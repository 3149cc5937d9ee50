"""When each delivered or stored row's operation began and was acknowledged, by the row's place among all ids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.row_chunk import RowChunk
from racebench.history.operations import NEVER
from racebench.history.spill import Scratch, gather, scatter

Array = npt.NDArray[Any]


class Times(NamedTuple):
    """Columns of some rows: times in nanoseconds, and the rank of each row's tenant."""

    start: Array
    end: Array
    rank: Array


class RowTimes:
    """Arrays by a row's place; only rows of acknowledged operations are known."""

    def __init__(self, places: int, scratch: Scratch) -> None:
        self._start = scratch.zeros(places, np.int64)
        self._end = scratch.zeros(places, np.int64)
        self._rank = scratch.zeros(places, np.uint32)  # 1 + the rank; 0 for a row that is not known

    def add(self, chunk: RowChunk) -> None:
        """Add rows."""
        acknowledged = chunk.acknowledged
        which = acknowledged != NEVER
        if not which.any():
            return
        where = chunk.index[which]
        scatter(self._start, where, chunk.began[which])
        scatter(self._end, where, acknowledged[which])
        scatter(self._rank, where, chunk.rank[which].astype(np.uint32) + np.uint32(1))

    def known(self, places: Array) -> Array:
        """A mask of the places whose rows are of acknowledged operations; a place of −1 is not."""
        known = np.zeros(len(places), bool)
        inside = places >= 0
        known[inside] = gather(self._rank, places[inside]) != 0
        return known

    def of(self, places: Array) -> Times:
        """The times of rows that are known."""
        rank = gather(self._rank, places).astype(np.int64) - 1
        return Times(gather(self._start, places), gather(self._end, places), rank)
