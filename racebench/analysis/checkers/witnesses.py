"""The few rows and polls that witnesses show: every checker requests some, and one pass finds them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index import Index
from racebench.history.logs import is_one_of
from racebench.history.rows import Row, described
from racebench.history.spill import pieces

Array = npt.NDArray[Any]

#: The most witnesses of a kind.
WITNESSES = 3


class Lowest:
    """Keeps the first records by a key."""

    def __init__(self, most: int = WITNESSES) -> None:
        self._most = most
        self._keys = np.empty(0, np.int64)
        self.records: Array | None = None

    def add(self, keys: Array, records: Array) -> None:
        if not len(keys) or (len(self._keys) == self._most and int(keys.min()) >= int(self._keys[-1])):
            return
        if len(keys) > self._most:
            first = np.argpartition(keys, self._most - 1)[: self._most]
            keys, records = keys[first], records[first]
        if self.records is not None:
            keys, records = np.concatenate([self._keys, keys]), np.concatenate([self.records, records])
        order = np.argsort(keys, kind="stable")[: self._most]
        self._keys, self.records = keys[order], np.array(records[order])

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self) -> list[Row]:
        """ROW records that were kept."""
        return [] if self.records is None else described(self.records)

    def positions(self) -> list[int]:
        """Positions that were kept."""
        return [] if self.records is None else [int(position) for position in self.records]


@dataclass(slots=True)
class Copies:
    """The number of rows that have a version, and the first of them. `seen` were delivered to the first consumer."""

    count: int = 0
    seen: Lowest = field(default_factory=lambda: Lowest(2))
    unseen: Lowest = field(default_factory=lambda: Lowest(2))
    last: Row | None = None

    def first(self, most: int) -> list[Row]:
        """Those with the lowest ids, at most two."""
        return sorted([*self.seen.rows(), *self.unseen.rows()])[:most]

    def pair(self) -> list[Row]:
        """Two rows; if possible, one that was delivered and one that was not."""
        if self.seen and self.unseen:
            return sorted([self.seen.rows()[0], self.unseen.rows()[0]])
        return self.first(2)

    def add(self, records: Array, seen: Array) -> None:
        self.count += len(records)
        self.seen.add(records["id"][seen], records[seen])
        self.unseen.add(records["id"][~seen], records[~seen])
        (last,) = described(records[[int(np.argmax(records["id"]))]])
        self.last = last if self.last is None else max(self.last, last)


@dataclass(slots=True)
class WitnessRequests:
    """The requests of checkers: rows by id, by operation, by tenant (None: any) and number; and polls."""

    ids: set[int] = field(default_factory=set)
    operations: set[int] = field(default_factory=set)
    numbers: set[tuple[int | None, int]] = field(default_factory=set)
    polls: dict[int, set[int]] = field(default_factory=dict)


@dataclass(slots=True)
class WitnessData:
    """The rows and polls that were found."""

    by_id: dict[int, list[Row]]
    by_operation: dict[int, list[Row]]
    by_number: dict[tuple[int | None, int], Copies]
    polls: dict[int, dict[int, list[int]]]

    def rows(self, ids: Iterable[int]) -> list[Row]:
        return [row for identity in ids for row in self.by_id.get(identity, ())]


def fetch(wanted: WitnessRequests, index: Index) -> WitnessData:
    """Find everything that was requested: one pass over the rows, then one over each log with a request."""
    data = WitnessData({}, {}, {number: Copies() for number in wanted.numbers}, {})
    ids, operations, versions = (
        np.array(sorted(numbers), np.int64)
        for numbers in (wanted.ids, wanted.operations, {version for _, version in wanted.numbers})
    )
    if len(ids) or len(operations) or len(versions):
        for records in pieces(index.history.table, index.scratch.piece):
            _collect(data.by_id, "id", ids, records)
            _collect(data.by_operation, "operation", operations, records)
            mine = np.array(records[np.flatnonzero(is_one_of(records["version"], versions))])
            if len(mine):
                _count(data.by_number, mine, index)
    for rows in (*data.by_id.values(), *data.by_operation.values()):
        rows.sort()
    # After the rows, because some checkers request polls only when they know which rows they show.
    for copies in data.by_number.values():
        if copies.count > 1 and index.delivered:
            wanted.polls.setdefault(0, set()).update(row.id for row in copies.pair())
    for number, identities in wanted.polls.items():
        data.polls[number] = index.history.logs[number].polls_that_delivered(identities)
    return data


def _collect(rows: dict[int, list[Row]], name: str, wanted: Array, records: Array) -> None:
    for row in described(records[np.flatnonzero(is_one_of(records[name], wanted))]):
        rows.setdefault(getattr(row, name), []).append(row)


def _count(copies_of: dict[tuple[int | None, int], Copies], records: Array, index: Index) -> None:
    seen = index.chunk(records).first(0) != 0 if index.delivered else np.zeros(len(records), bool)
    for (tenant, version), copies in copies_of.items():
        which = records["version"] == version
        if tenant is not None:
            which &= records["tenant"] == tenant
        if which.any():
            copies.add(records[which], seen[which])
