"""The sessions' operations, read from their records: single operations, or all of them merged by start time.

Records are OPERATION arrays, one a session, sorted by start; arrays in memory or mapped files. An operation's id is
session << bits | index. Its position is the number of operations of earlier sessions + index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.model import Outcome
from racebench.history.records import OPERATION_BITS, decode_status, distinct, outcomes
from racebench.history.spill import release

Array = npt.NDArray[Any]

#: The end of an operation that never ended.
NEVER = 2**63 - 1

_SAMPLES = 1 << 8  # records read from a mapped file before its memory is released
_TABLE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. Times are nanoseconds; `end` is None if it never ended; `version` is what its script set."""

    id: int
    worker: int
    tenant: int
    start: int
    end: int | None
    version: int
    tries: int
    status: int

    @property
    def outcome(self) -> Outcome:
        return decode_status(self.status)[0]

    @property
    def sqlstate(self) -> str:
        """The five characters, or "" for none."""
        return decode_status(self.status)[1]


class Operations:
    """The operations of all sessions (session number → OPERATION records, sorted by start)."""

    def __init__(self, sessions: Mapping[int, Array], bits: int = OPERATION_BITS) -> None:
        self.numbers = np.array(sorted(sessions), np.int64)
        self.bits = bits
        self._records = [sessions[int(number)] for number in self.numbers]
        self._counts = np.array([len(records) for records in self._records], np.int64)
        self._bases = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64)
        highest = int(self.numbers[-1]) if len(self.numbers) else 0
        self._slots: Array | None = None
        if highest < _TABLE:
            self._slots = np.full(highest + 2, -1, np.int32)  # the last one is for numbers that are too large
            self._slots[self.numbers] = np.arange(len(self.numbers))

    def __len__(self) -> int:
        return int(self._bases[-1])

    @property
    def sessions(self) -> Mapping[int, Array]:
        """The records of each session, by its number."""
        return dict(zip(self.numbers.tolist(), self._records, strict=True))

    def slots(self, identities: Array) -> tuple[Array, Array]:
        """Split ids into the session's place (−1 if the id has no operation here) and the operation's index."""
        number, index = identities >> self.bits, identities & ((1 << self.bits) - 1)
        if self._slots is not None:
            slot = self._slots[np.clip(number, -1, len(self._slots) - 1)]
        else:
            at = np.minimum(np.searchsorted(self.numbers, number), len(self.numbers) - 1)
            slot = np.where(self.numbers[at] == number, at, -1).astype(np.int32)
        if not len(self.numbers):
            return slot, index
        slot = np.where(index < self._counts[slot], slot, np.int32(-1))
        return slot, index

    def positions(self, slots: Array, index: Array) -> Array:
        """The positions of operations that are here."""
        positions: Array = self._bases[slots] + index
        return positions

    def at(self, position: int) -> Operation:
        """The operation at a position."""
        slot = int(np.searchsorted(self._bases, position, side="right")) - 1
        index = position - int(self._bases[slot])
        record = self._records[slot][index]
        number, end = int(self.numbers[slot]), int(record["end"])
        return Operation(
            id=(number << self.bits) + index,
            worker=number,
            tenant=int(record["tenant"]),
            start=int(record["start"]),
            end=None if end == 0 and decode_status(int(record["status"]))[0] is Outcome.UNKNOWN else end,
            version=int(record["version"]),
            tries=int(record["tries"]),
            status=int(record["status"]),
        )

    def find(self, identity: int) -> Operation | None:
        """The operation with that id, or None."""
        slots, index = self.slots(np.array([identity], np.int64))
        return None if slots[0] < 0 else self.at(int(self.positions(slots, index)[0]))

    def gather(self, fields: tuple[str, ...], slots: Array, index: Array) -> tuple[Array, ...]:
        """Fields of operations that are here, in the order given."""
        order = np.argsort(slots.astype(np.uint16) if len(self.numbers) < 1 << 16 else slots, kind="stable")
        ends = np.cumsum(np.bincount(slots, minlength=len(self._records)))
        columns = tuple(np.empty(len(slots), self._records[0].dtype[name]) for name in fields) if len(slots) else ()
        low = 0
        for records, high in zip(self._records, ends.tolist(), strict=True):
            if low < high:
                mine = order[low:high]
                for name, out in zip(fields, columns, strict=True):
                    out[mine] = records[name][index[mine]]
                release(records)
            low = high
        return columns or tuple(np.empty(0, np.int64) for _ in fields)

    def pieces(self, size: int) -> Iterator[Array]:
        """All records, at most `size` at a time, session by session, for uses that need no order."""
        waiting: list[Array] = []
        room = size
        for records in self._records:
            for at in range(0, len(records), size):
                part = records[at : at + size]
                if len(part) > room:
                    yield from _joined(waiting)
                    waiting, room = [], size
                waiting.append(part)
                room -= len(part)
        yield from _joined(waiting)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """All operations sorted by start, also across chunks, about `size` at a time.

        Operations with the same start are in the same chunk.
        """
        low = np.zeros(len(self._records), np.int64)
        for cut in [*self._cuts(size), None]:
            high = self._counts if cut is None else self._until(low, cut)
            if (high > low).any():
                yield Chunk(self, low, high)
                self.release()
            low = high

    def release(self) -> None:
        """Release the memory of mapped records."""
        for records in self._records:
            release(records)

    def segments(self, low: Array, high: Array) -> Iterator[tuple[int, int, Array]]:
        """For each session with operations from low to high: its number, the first position, and the records."""
        for slot in np.flatnonzero(high > low).tolist():
            first, last = int(low[slot]), int(high[slot])
            yield int(self.numbers[slot]), int(self._bases[slot]) + first, self._records[slot][first:last]

    def _until(self, low: Array, cut: int) -> Array:
        """For each session, the number of operations that began no later than `cut`."""
        ends = low.copy()
        for slot, records in enumerate(self._records):
            if low[slot] < len(records):
                ends[slot] += np.searchsorted(records["start"][low[slot] :], np.int64(cut), side="right")
        return ends

    def _cuts(self, size: int) -> Array:
        """Times that cut the history into chunks of at most about `size` operations, from a sample of the starts.

        Every n-th start of a session stands for the n operations up to it, so that a chunk is at most n operations a
        session larger than the sample says.
        """
        sessions = max(1, len(self._records))
        stride = max(1, size // (4 * sessions))
        samples = []
        for records in self._records:
            for at in range(0, len(records), stride * _SAMPLES):
                samples.append(records["start"][at + stride - 1 : at + stride * _SAMPLES : stride].copy())
                release(records)
        starts = np.sort(np.concatenate(samples)) if samples else np.empty(0, np.int64)
        step = size if stride == 1 else size // stride - sessions
        cuts: Array = distinct(starts[step - 1 :: step])
        return cuts


class Chunk:
    """Some operations of all sessions, sorted by start; each column is computed at its first use."""

    def __init__(self, operations: Operations, low: Array, high: Array) -> None:
        self._operations = operations
        self._segments = list(operations.segments(low, high))
        starts = np.concatenate([records["start"] for _, _, records in self._segments])
        self._order = np.argsort(starts, kind="stable")
        #: The start of each, in nanoseconds.
        self.start: Array = starts[self._order]

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def end(self) -> Array:
        """The end of each; NEVER for an operation that never ended."""
        end = self._column("end")
        return np.where(never_ended(end, self.status), np.int64(NEVER), end)

    @property
    def pending(self) -> Array:
        """Whether each never ended."""
        pending: Array = self.end == NEVER
        return pending

    @cached_property
    def tenant(self) -> Array:
        return self._column("tenant")

    @cached_property
    def version(self) -> Array:
        """The versions that the scripts set; NO_VERSION for none."""
        return self._column("version")

    @cached_property
    def tries(self) -> Array:
        return self._column("tries")

    @cached_property
    def status(self) -> Array:
        """Outcome and SQLSTATE, as records.encode_status packs them."""
        return self._column("status")

    @cached_property
    def outcome(self) -> Array:
        """The outcome of each; an operation that never ended is UNKNOWN."""
        return outcomes(self.status)

    @cached_property
    def position(self) -> Array:
        """The position of each."""
        ranges = [np.arange(first, first + len(records)) for _, first, records in self._segments]
        positions: Array = np.concatenate(ranges)[self._order]
        return positions

    @cached_property
    def worker(self) -> Array:
        """The session of each."""
        parts = [np.full(len(records), number, np.int64) for number, _, records in self._segments]
        workers: Array = np.concatenate(parts)[self._order]
        return workers

    def along(self, array: Array) -> Array:
        """The values of these operations in an array by position."""
        values: Array = np.concatenate([array[first : first + len(r)] for _, first, r in self._segments])[self._order]
        release(array)
        return values

    def _column(self, name: str) -> Array:
        column: Array = np.concatenate([records[name] for _, _, records in self._segments])[self._order]
        return column


def never_ended(end: Array, status: Array) -> Array:
    """A mask of the recorded operations that never ended: the end is 0, and the outcome is not known.

    An acknowledged operation has ended, even if its clock was 0.
    """
    pending: Array = end == 0
    if pending.any():
        pending &= outcomes(status) == Outcome.UNKNOWN
    return pending


def _joined(parts: list[Array]) -> Iterator[Array]:
    if parts:
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)
        for part in parts:
            release(part)
