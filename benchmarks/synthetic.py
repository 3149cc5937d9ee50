"""A synthetic history of any size with a known number of anomalies: 16 tenants, 8 sessions, one consumer.

The files are those of a run: `worker-1` … `worker-8` (OPERATION), `rows` (ROW), `deliveries` and `polls`. They are
written in stretches with numpy, so memory does not grow with the size. Everything but the times follows from the
operation's number, g: blocks of 16 operations write one row for each tenant, in an order that rotates from block to
block; of each 8 operations every session does one. Every stretch of 10,000 operations contains each kind of anomaly
once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.model import Outcome
from racebench.history import ROW
from racebench.history.records import DELIVERY, NO_VERSION, OPERATION, OPERATION_BITS, POLL, encode_status

Array = npt.NDArray[Any]

TENANTS = 16
SESSIONS = 8
STRETCH = 10_000

_BLOCKS = STRETCH // TENANTS
_POLLED = 25  # blocks that one poll of a tenant covers; divides _BLOCKS
_AT_ONCE = 50  # stretches
_BEGIN = 1_000_000_000
_STEP = 100_000
_LASTS = 5 * _STEP  # an operation ends before its session's next and its tenant's next begin
#: One of each to a stretch, so far apart that they do not touch: kind n in block 40 + 64 n.
_KINDS = ("duplicates", "lost", "unexpected", "refused", "unnumbered", "inversions", "missed", "redelivered")
_FIRST_BLOCK, _APART = 40, 64
#: Anomalies of a stretch. A number is not used by a twin, a lost, a refused and an unnumbered operation.
_FOUND = {**dict.fromkeys(_KINDS, 1), "gaps": 4}


def expected(operations: int) -> dict[str, int]:
    """The number of each kind of anomaly in a history of that many operations."""
    return {kind: count * (operations // STRETCH) for kind, count in _FOUND.items()}


def write(folder: Path, operations: int) -> None:
    """Write a history of that many operations, a multiple of 10,000, to a folder."""
    stretches, rest = divmod(operations, STRETCH)
    if rest or not stretches:
        raise ValueError(f"{operations} is no multiple of {STRETCH:,}")
    with contextlib.ExitStack() as stack:

        def to(name: str) -> Any:
            return stack.enter_context((folder / name).open("wb"))

        workers = [to(f"worker-{number}") for number in range(1, SESSIONS + 1)]
        rows, deliveries, polls = to("rows"), to("deliveries"), to("polls")
        polled = 0
        for first in range(0, stretches, _AT_ONCE):
            part = _Part(first, min(_AT_ONCE, stretches - first))
            for file, records in zip(workers, part.sessions(), strict=True):
                records.tofile(file)
            part.rows().tofile(rows)
            delivered, records = part.deliveries(polled)
            delivered.tofile(deliveries)
            records.tofile(polls)
            polled += len(records)


def files(folder: Path) -> Mapping[int, Path]:
    """The sessions' record files by number."""
    return {number: folder / f"worker-{number}" for number in range(1, SESSIONS + 1)}


class _Part:
    """Some stretches: columns by operation, and the places of the anomalies among them."""

    def __init__(self, first: int, count: int) -> None:
        self.base = first * STRETCH
        self.number = np.arange(self.base, self.base + count * STRETCH, dtype=np.int64)
        block, place = np.divmod(self.number, TENANTS)
        self.tenant = (place + 5 * block) % TENANTS
        self.version = block + 1
        random = np.random.default_rng([1, first])
        jitter = random.integers(0, _STEP // 2, (2, len(self.number)))
        self.start = _BEGIN + self.number * _STEP + jitter[0]
        self.end = self.start + _LASTS + jitter[1]
        stretch = np.arange(first, first + count, dtype=np.int64)
        self.at = {kind: self._place(stretch, n) - self.base for n, kind in enumerate(_KINDS)}
        self.version[self.at["duplicates"]] -= 1
        earlier = self.at["inversions"]
        later = self._same_tenant_next(earlier + self.base) - self.base
        self.version[earlier], self.version[later] = self.version[later], self.version[earlier]

    @staticmethod
    def _place(stretch: Array, kind: int) -> Array:
        block = stretch * _BLOCKS + _FIRST_BLOCK + _APART * kind
        numbers: Array = block * TENANTS + (stretch * 3 + kind) % TENANTS
        return numbers

    @staticmethod
    def _same_tenant_next(number: Array) -> Array:
        block, place = np.divmod(number, TENANTS)
        numbers: Array = (block + 1) * TENANTS + (place - 5) % TENANTS
        return numbers

    def sessions(self) -> Iterator[Array]:
        """Each session's records: of every 8 operations one, another place each time."""
        records = np.zeros(len(self.number), OPERATION)
        for name, values in (("start", self.start), ("end", self.end), ("version", self.version)):
            records[name] = values
        records["tenant"] = self.tenant + 1
        records["tries"] = 1
        records["status"] = encode_status(Outcome.OK, "")
        records["status"][self.at["unexpected"]] = encode_status(Outcome.FAIL, "57014")
        records["status"][self.at["refused"]] = encode_status(Outcome.FAIL, "23505")
        eight = np.arange(self.base // SESSIONS, (self.base + len(self.number)) // SESSIONS)
        for session in range(SESSIONS):
            yield records[eight * SESSIONS - self.base + (session - eight) % SESSIONS]

    def rows(self) -> Array:
        """The table, in the order of its ids: the operation's number from 1."""
        table = np.empty(len(self.number), ROW)
        eight, place = np.divmod(self.number, SESSIONS)
        session = (place + eight) % SESSIONS + 1
        table["id"] = self.number + 1
        table["tenant"] = self.tenant + 1
        table["version"] = self.version
        table["version"][self.at["unnumbered"]] = NO_VERSION
        table["operation"] = (session << OPERATION_BITS) + eight
        there = np.ones(len(table), bool)
        there[self.at["lost"]] = there[self.at["refused"]] = False
        return table[there]

    def deliveries(self, polled: int) -> tuple[Array, Array]:
        """What the consumer was given: every tenant polled in turn, 25 rows at a time. `polled` polls came before."""
        block = np.arange(self.base // TENANTS, (self.base + len(self.number)) // TENANTS)[:, None]
        tenant = np.arange(TENANTS)[None, :]
        number = block * TENANTS + (tenant - 5 * block) % TENANTS
        order = number.reshape(-1, _POLLED, TENANTS).transpose(0, 2, 1).reshape(-1) - self.base
        times = np.ones(len(self.number), np.int64)
        for kind in ("lost", "refused", "unnumbered", "missed"):
            times[self.at[kind]] = 0
        times[self.at["redelivered"]] = 2
        poll = np.arange(len(order)) // _POLLED
        poll, places = np.repeat(poll, times[order]), np.repeat(order, times[order])
        count = np.bincount(poll)
        polls = np.zeros(len(count), POLL)
        turn = np.arange(len(count))
        behind = self.base + (turn // TENANTS + 1) * _POLLED * TENANTS + 10
        polls["start"] = _BEGIN + behind * _STEP + turn % TENANTS * (_STEP // 2)
        polls["end"] = polls["start"] + _STEP // 4
        polls["last"] = self.number[places[np.cumsum(count) - 1]] + 1
        polls["rows"] = count
        polls["tenant"] = turn % TENANTS + 1
        deliveries = np.zeros(len(places), DELIVERY)
        deliveries["at"] = polls["end"][poll]
        deliveries["id"] = self.number[places] + 1
        deliveries["poll"] = polled + poll
        deliveries["tenant"] = polls["tenant"][poll]
        return deliveries, polls
