"""The version of the cursor after each poll: that of the last delivered row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.identities import Identities
from racebench.history import Log
from racebench.history.records import NO_VERSION
from racebench.history.spill import Scratch, gather, pieces, scatter

Array = npt.NDArray[Any]


def cursors(log: Log, rows: Array, identities: Identities, scratch: Scratch) -> Array:
    """The cursor after each poll of a log; NO_VERSION if the row is missing or has no version."""
    # With the sign bit inverted, 0 means no version.
    versions = scratch.zeros(identities.places, np.int64)
    for records in pieces(rows, scratch.piece):
        places = identities.index(np.ascontiguousarray(records["id"]))
        scatter(versions, places, records["version"] ^ np.int64(NO_VERSION))
    after = scratch.column(np.int64)
    for polls in pieces(log.polls, scratch.piece):
        places = identities.index(np.ascontiguousarray(polls["last"]))
        known = places >= 0
        cursor = np.zeros(len(polls), np.int64)
        cursor[known] = gather(versions, places[known])
        after.append(cursor ^ np.int64(NO_VERSION))
    return after.array()
