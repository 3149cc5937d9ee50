"""A consumer's log: its polls and the rows that they delivered, as the consumer recorded them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.records import DELIVERY, NO_VERSION, POLL, QUIET, read_records
from racebench.history.spill import pieces, release

Array = npt.NDArray[Any]

_PIECE = 1 << 18
_FEW = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The polls of one consumer (POLL) and its deliveries (DELIVERY), in order; arrays or mapped files.

    `after`: the cursor's version after each poll (NO_VERSION if it is not known), an array as long as `polls`. None: it
    is the version of the last delivered row, which is in the table (analysis.index.cursors).
    `ordered`: the cursor is the version alone. `drained`: the consumer read to the end after the last write. `quiet`:
    stretches of polls that brought no new row (QUIET), in any order; None if they are not known, as of a history.
    """

    name: str
    deliveries: Array
    polls: Array
    after: Array | None = None
    ordered: bool = True
    drained: bool = True
    longest_poll_ns: int | None = None
    quiet: Array | None = None

    def with_cursors(self, after: Array) -> Log:
        """The same log, with the cursor's version after each poll."""
        return replace(self, after=after)

    def polls_that_delivered(self, identities: Iterable[int]) -> dict[int, list[int]]:
        """The numbers of the polls that delivered each of a few rows, by the row's id."""
        wanted = np.array(sorted(identities), np.int64)
        polls: dict[int, list[int]] = {int(identity): [] for identity in wanted}
        if len(wanted):
            for part in pieces(self.deliveries, _PIECE):
                for at in np.flatnonzero(is_one_of(part["id"], wanted)).tolist():
                    polls[int(part["id"][at])].append(int(part["poll"][at]))
        return polls

    def delivered_by(self, number: int, most: int) -> list[int]:
        """The ids that a poll delivered, in order, at most `most` of them."""
        poll = self.deliveries["poll"]
        first, last = (int(np.searchsorted(poll, np.uint32(number), side=side)) for side in ("left", "right"))
        identities: list[int] = self.deliveries["id"][first : min(last, first + most)].tolist()
        release(self.deliveries)
        return identities

    def poll_before(self, number: int) -> int | None:
        """The previous poll of the same tenant."""
        tenant = self.polls["tenant"][number]
        for last in range(number, 0, -_PIECE):
            first = max(0, last - _PIECE)
            earlier = np.flatnonzero(self.polls["tenant"][first:last] == tenant)
            release(self.polls)
            if len(earlier):
                return first + int(earlier[-1])
        return None

    def poll_that_passed(self, tenant: int, version: int) -> int | None:
        """The first poll after which the cursor of a tenant (or of all) was at or above a version."""
        if not self.ordered or self.after is None:
            return None
        for first in range(0, len(self.polls), _PIECE):
            theirs = self.polls["tenant"][first : first + _PIECE].astype(np.int64)
            after = self.after[first : first + _PIECE]
            passing = np.flatnonzero(((theirs == tenant) | (theirs == 0)) & (after >= version))
            release(self.polls)
            release(self.after)
            if len(passing):
                return first + int(passing[0])
        return None

    def cursor(self, number: int | None) -> int:
        """The cursor's version after a poll; NO_VERSION for no poll, or if it is not known."""
        return NO_VERSION if number is None or self.after is None else int(self.after[number])


def read_log(
    name: str,
    deliveries: Path,
    polls: Path,
    *,
    ordered: bool,
    drained: bool,
    longest_poll_ns: int | None,
    quiet: Path | None = None,
) -> Log:
    """Read a consumer's log files; `quiet`: None if that file does not hold all."""
    return Log(
        name=name,
        deliveries=read_records(deliveries, DELIVERY),
        polls=read_records(polls, POLL),
        ordered=ordered,
        drained=drained,
        longest_poll_ns=longest_poll_ns,
        quiet=None if quiet is None else read_records(quiet, QUIET),
    )


def is_one_of(values: Array, wanted: Array) -> Array:
    """A mask of the values that are among a few sorted ones; faster than np.isin if few values match."""
    values = np.ascontiguousarray(values)
    if not len(wanted):
        return np.zeros(len(values), bool)
    matches: Array
    if len(wanted) <= _FEW:
        matches = values == wanted[0]
        for one in wanted[1:]:
            matches |= values == one
        return matches
    near = np.flatnonzero((values >= wanted[0]) & (values <= wanted[-1]))
    matches = np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(wanted, values[near]), len(wanted) - 1)
    matches[near] = wanted[at] == values[near]
    return matches
