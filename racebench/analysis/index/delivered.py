"""The rows that were delivered to a consumer, the time of each first delivery, and the rows delivered repeatedly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.identities import Identities
from racebench.history import Log
from racebench.history.records import distinct
from racebench.history.spill import Scratch, gather, pieces, scatter

Array = npt.NDArray[Any]

_KEPT = 3


class Delivered:
    """The numbers of deliveries and of delivered rows of one log; `repeated`: the lowest ids delivered repeatedly."""

    def __init__(self, log: Log, identities: Identities, scratch: Scratch) -> None:
        self.deliveries = len(log.deliveries)
        self.rows = 0
        self._first = scratch.zeros(identities.places if self.deliveries else 0, np.int64)
        repeated = np.empty(0, np.int64)
        for part in pieces(log.deliveries, scratch.piece):
            index = identities.index(np.ascontiguousarray(part["id"]))
            places, again = _apart(index)
            before = gather(self._first, places)
            self.rows += int(np.count_nonzero(before == 0))
            repeated = distinct(np.concatenate([repeated, again, places[before != 0]]))[:_KEPT]
            # The earliest is written last, and stays; what came before this piece was earlier still.
            old = before if places is index else gather(self._first, index)
            scatter(self._first, index[::-1], np.where(old != 0, old, part["at"])[::-1])
        self.repeated = tuple(identities.identity(int(place)) for place in repeated)

    def first_of(self, index: Array) -> Array:
        """The times at which the rows at these places were first delivered; 0 for never."""
        return gather(self._first, index) if self.deliveries else np.zeros(len(index), np.int64)


def _apart(index: Array) -> tuple[Array, Array]:
    """The distinct places, in order, and the places that occur more than once."""
    if (index[1:] > index[:-1]).all():
        return index, index[:0]
    ordered = np.sort(index)
    same = ordered[1:] == ordered[:-1]
    return ordered[np.concatenate([[True], ~same])], ordered[1:][same]
