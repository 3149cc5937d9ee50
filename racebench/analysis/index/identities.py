"""A place for each row id: the id minus the first one or, if ids are far apart, the id's rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.survey import Survey
from racebench.history import Log
from racebench.history.external_sort import in_order
from racebench.history.records import distinct
from racebench.history.spill import Scratch, pieces, release

Array = npt.NDArray[Any]

_ID = np.dtype([("id", "<i8")])


class Identities:
    """The ids of the rows and of the deliveries."""

    def __init__(self, survey: Survey, logs: Sequence[Log], scratch: Scratch) -> None:
        low, high, count = survey.first_id, survey.last_id, survey.rows
        for log in logs:
            count += len(log.deliveries)
            for part in pieces(log.deliveries, scratch.piece):
                low, high = min(low, int(part["id"].min())), max(high, int(part["id"].max()))
        self._low = low
        self._sorted: Array | None = None
        self.places = max(0, high - low + 1)
        if not scratch.dense(self.places, count):
            self._sorted = _distinct(survey, logs, scratch)
            self.places = len(self._sorted)

    def index(self, identities: Array) -> Array:
        """The places of ids; −1 for an id that has no row and no delivery."""
        if self._sorted is None:
            at = identities - np.int64(self._low) if self.places else np.full(len(identities), -1)
            return at if _within(at, self.places) else np.where((at >= 0) & (at < self.places), at, -1)
        if not self.places:
            return np.full(len(identities), -1)
        order = np.argsort(identities, kind="stable")
        inside = np.minimum(np.searchsorted(self._sorted, identities[order]), self.places - 1)
        places = np.empty(len(identities), np.int64)
        places[order] = np.where(self._sorted[inside] == identities[order], inside, -1)
        release(self._sorted)
        return places

    def identity(self, place: int) -> int:
        """The id at a place."""
        return self._low + place if self._sorted is None else int(self._sorted[place])


def _within(at: Array, places: int) -> bool:
    return not len(at) or (int(at.min()) >= 0 and int(at.max()) < places)


def _distinct(survey: Survey, logs: Sequence[Log], scratch: Scratch) -> Array:
    def parts() -> Iterator[Array]:
        for records in [survey.table, *(log.deliveries for log in logs)]:
            for part in pieces(records, scratch.piece):
                ids = np.empty(len(part), _ID)
                ids["id"] = part["id"]
                yield ids

    column = scratch.column(np.int64)
    last: int | None = None
    for block in in_order(scratch, parts(), ("id",)):
        ids = distinct(block["id"])
        if len(ids) and last is not None and ids[0] == last:
            ids = ids[1:]
        if len(ids):
            last = int(ids[-1])
            column.append(ids)
    return column.array()
