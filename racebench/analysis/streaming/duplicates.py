"""Suspected duplicates while a run goes on: acknowledged operations that say they used a number that another used.

An operation records the version that its script *says* it used. A script may say another one than it stores, and may
say none. So what is found here is a suspicion until the table is asked. It is missed only where an operation does not
say the version that it stores, or the number was forgotten (number_set.py). A right strategy causes none: an operation
that failed, was rolled back or whose outcome is unknown does not count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.streaming.number_set import NumberSet
from racebench.core.model import Outcome
from racebench.history.records import NO_VERSION, outcomes

Array = npt.NDArray[Any]

#: Tenants' versions are this far apart in one space of 64 bits (2⁶⁴ by the golden ratio): those of a tenant that are
#: consecutive stay so. Versions of two tenants that differ by just this much are taken for one: a wrong suspicion.
_APART = np.int64(0x9E3779B97F4A7C15 - 2**64)


class SuspectedDuplicates:
    """Takes operations as they end, of all sessions. `acknowledged`, `numbered` and `suspected` count them.

    `numbered`: acknowledged, with a version; `suspected`: those whose number an operation before had.
    """

    def __init__(self) -> None:
        self.acknowledged = self.numbered = self.suspected = 0
        self._used = NumberSet()

    def take(self, records: Array) -> Array:
        """Take OPERATION records; return the suspected ones among them, in the order in which they ended."""
        acknowledged = outcomes(records["status"]) == Outcome.OK
        self.acknowledged += int(np.count_nonzero(acknowledged))
        places = np.flatnonzero(acknowledged & (records["version"] != NO_VERSION))
        self.numbered += len(places)
        records = records[places[np.argsort(records["end"][places], kind="stable")]]
        if not len(records):
            return records
        again = self._used.add(records["version"] + records["tenant"].astype(np.int64) * _APART)
        self.suspected += int(np.count_nonzero(again))
        return records[again]
