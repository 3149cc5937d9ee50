"""How long a consumer delivered nothing although it polled and a committed row was there, and who was open meanwhile.

A poll that begins after a row was acknowledged can see it. If it brings nothing new, and the consumer's cursor has not
passed the row, the consumer holds the row back: behind a transaction that is in progress, or behind a missing number.
Of two machines, the poll has to begin later by what their clocks can be wrong. A consumer that does not poll is slow or
is not run; that is no stall. Nor is a row that was missed: no poll brings it.

The row's writer took its xid, and its number, before it committed. What holds the row back took its own before that. So
of the transactions that were open, only those that began before the stretch can be the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers import Pass
from racebench.analysis.index import RowChunk
from racebench.core.liveness import Holder, Sighting
from racebench.core.model import Consumer, Load
from racebench.history import Chunk, Log
from racebench.history.operations import NEVER
from racebench.history.records import NO_VERSION, distinct
from racebench.history.spill import Scratch

Array = npt.NDArray[Any]

#: A consumer is called stalled from this time on, beyond what it may hold rows back and operations were asked to take.
STALLED_MS = 250.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A consumer's longest stretch without a new row, of polls that could have brought one; 0 ms if there is none.

    `start_ns`: its beginning, on the clock of the operations. `behind`: the transactions that were open from its
    beginning to the last answer of the server in it, the oldest first; None if the server was not asked in it.
    `long`: it is so long that the consumer is called stalled.
    """

    ms: float
    start_ns: int
    behind: tuple[Holder, ...] | None
    long: bool


def limit_ms(consumer: Consumer, load: Load) -> float:
    """The length from which on a stretch is called a stall, in ms: longer than what was asked for explains."""
    return STALLED_MS + consumer.settle_ms + 2 * load.longest_us / 1e3


class Stretches(Pass):
    """Finds the longest stretch of one consumer's log. Without the log's `quiet` nothing is known.

    `slack_ns`: how wrong a difference between the consumer's times and those of operations can be.
    """

    def __init__(self, log: Log, number: int, scratch: Scratch, slack_ns: int = 0) -> None:
        self._log, self._number, self._slack_ns = log, number, slack_ns
        self._known = log.quiet is not None
        self._quiet: Array | None = None
        if log.quiet is None or not len(log.quiet):
            return
        self._quiet = quiet = np.sort(log.quiet, order=("tenant", "start"))
        self._tenants = distinct(quiet["tenant"]).astype(np.int64)
        self._together = not self._tenants[-1]  # one poll reads all tenants
        self._rank = np.searchsorted(self._tenants, quiet["tenant"]).astype(np.int64)
        self._zero = int(quiet["start"].min()) - 1
        self._span = int(quiet["end"].max()) - self._zero + 2
        #: The earliest acknowledgement of a row that begins to wait in a stretch; changes of how many wait all along.
        self._first = np.full(len(quiet), NEVER)
        self._waiting = np.zeros(len(quiet) + 1, np.int64)
        self._highest = np.full(len(self._tenants), NO_VERSION)
        self._undelivered = tuple(scratch.column(np.int64) for _ in range(3))

    def rows(self, chunk: RowChunk) -> None:
        """Take rows: those that were delivered after a stretch waited in it."""
        if self._quiet is None:
            return
        rank, known = self._ranks(chunk.tenant)
        delivered = chunk.first(self._number)
        np.maximum.at(self._highest, rank[known & (delivered != 0)], chunk.version[known & (delivered != 0)])
        known &= (chunk.acknowledged != NEVER) & chunk.numbered
        late = known & (delivered != 0)
        self._wait(rank[late], chunk.acknowledged[late] + self._slack_ns, delivered[late])
        never = known & (delivered == 0)
        for column, values in zip(
            self._undelivered, (rank, chunk.acknowledged + self._slack_ns, chunk.version), strict=True
        ):
            column.append(values[never])

    def operations(self, chunk: Chunk) -> None:
        """Do nothing: rows are enough."""

    def longest(self, consumer: Consumer, load: Load, sightings: Sequence[Sighting]) -> Stall | None:
        """The longest stretch; None if it is not known, because the consumer did not come to its end."""
        if not self._known:
            return None
        if self._quiet is None:
            return Stall(ms=0.0, start_ns=0, behind=None, long=False)
        if not self._log.drained:  # what it has neither delivered nor passed waits to the end
            rank, acknowledged, version = (column.array() for column in self._undelivered)
            held = version > self._highest[rank] if self._log.ordered else np.ones(len(rank), bool)
            self._wait(rank[held], acknowledged[held], np.full(int(held.sum()), NEVER))
        start, end = self._quiet["start"], self._quiet["end"]
        begins = np.where(np.cumsum(self._waiting)[:-1] > 0, start, np.maximum(start, self._first))
        lasts = np.maximum(end - np.minimum(begins, end), 0)
        at = int(np.argmax(lasts))
        first, last = int(min(begins[at], end[at])), int(end[at])
        ms = (last - first) / 1e6
        held_by = behind(sightings, first, last) if ms else None
        # What a standby has not replayed yet waits there, too; that is its delay, and the row's lateness.
        long = ms > limit_ms(consumer, load) and (bool(held_by) or not consumer.on_standby)
        return Stall(ms=ms, start_ns=first, behind=held_by, long=long)

    def _ranks(self, tenant: Array) -> tuple[Array, Array]:
        """The place of each row's tenant among those with a stretch, and a mask of those that have one."""
        if self._together:
            return np.zeros(len(tenant), np.int64), np.ones(len(tenant), bool)
        rank = np.minimum(np.searchsorted(self._tenants, tenant), len(self._tenants) - 1)
        return rank, self._tenants[rank] == tenant

    def _wait(self, rank: Array, acknowledged: Array, delivered: Array) -> None:
        """Rows wait from their acknowledgement to their delivery, in the stretches between.

        Each tenant has a separate range on one line of times; its stretches are in order and do not overlap.
        """
        assert self._quiet is not None
        quiet, line = self._quiet, self._rank * self._span
        begin = np.searchsorted(line + (quiet["last"] - self._zero), self._on_line(rank, acknowledged), side="right")
        until = np.searchsorted(line + (quiet["end"] - self._zero), self._on_line(rank, delivered), side="left")
        waits = begin < until
        np.minimum.at(self._first, begin[waits], acknowledged[waits])
        np.add.at(self._waiting, begin[waits] + 1, 1)
        np.add.at(self._waiting, until[waits], -1)

    def _on_line(self, rank: Array, times: Array) -> Array:
        """The places of times on the line: those before or after all stretches are at the ends of a tenant's range."""
        places: Array = rank * self._span + np.clip(times, self._zero, self._zero + self._span - 1) - self._zero
        return places


def behind(sightings: Sequence[Sighting], first_ns: int, last_ns: int) -> tuple[Holder, ...] | None:
    """The transactions open from a time to the last answer of the server before another; None without an answer."""
    within = [one for one in sightings if one.last_ns >= first_ns and one.first_ns <= last_ns]
    return within[-1].older_than(first_ns) if within else None
