"""A first pass over the rows: their number, the first and last id, and each tenant's first and last number."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.history.records import NO_VERSION, distinct
from racebench.history.spill import Scratch, pieces

Array = npt.NDArray[Any]

_TABLE = 1 << 20
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Tenants:
    """The distinct tenants, in order; a tenant's rank is its place among them."""

    def __init__(self) -> None:
        self.values = np.empty(0, np.int64)
        self._table: Array | None = None
        self._narrow: np.dtype[Any] = np.dtype(np.uint16)

    def __len__(self) -> int:
        return len(self.values)

    def add(self, tenants: Array) -> Array | None:
        """Add tenants; return the new places of those known before, or None if no tenant is new."""
        if len(self.values) and self._all_known(tenants):
            return None
        before = self.values
        self.values = distinct(np.concatenate([before, tenants]))
        if len(self.values) == len(before):
            return None
        self._narrow = np.dtype(np.uint16 if len(self.values) < 1 << 16 else np.uint32)
        low, high = int(self.values[0]), int(self.values[-1])
        self._table = None
        if high - low < _TABLE:
            self._table = np.zeros(high - low + 1, self._narrow)
            self._table[self.values - low] = np.arange(len(self.values))
        return np.searchsorted(self.values, before)

    def rank(self, tenants: Array) -> Array:
        """The ranks of known tenants; of others, any."""
        if self._table is not None:
            ranks: Array = self._table[np.clip(tenants - self.values[0], 0, len(self._table) - 1)]
            return ranks
        return np.minimum(np.searchsorted(self.values, tenants), max(0, len(self.values) - 1)).astype(self._narrow)

    def _all_known(self, tenants: Array) -> bool:
        return bool((self.values[self.rank(tenants)] == tenants).all())


class Survey:
    """The result of the first pass. `low` and `high` are the first and last number of each tenant, by its rank."""

    def __init__(self, rows: Array, scratch: Scratch) -> None:
        self.table = rows
        self.rows = len(rows)
        self.numbered = 0
        self.tenants = Tenants()
        self.first_id, self.last_id = _HIGHEST, _LOWEST
        self.low = np.empty(0, np.int64)
        self.high = np.empty(0, np.int64)
        for records in pieces(rows, scratch.piece):
            self.first_id = min(self.first_id, int(records["id"].min()))
            self.last_id = max(self.last_id, int(records["id"].max()))
            tenant, version = np.ascontiguousarray(records["tenant"]), np.ascontiguousarray(records["version"])
            if (moved := self.tenants.add(tenant)) is not None:
                self.low = _moved(self.low, moved, len(self.tenants), _HIGHEST)
                self.high = _moved(self.high, moved, len(self.tenants), _LOWEST)
            self._widen(tenant, version)

    def _widen(self, tenant: Array, version: Array) -> None:
        numbered = version != NO_VERSION
        if not numbered.all():
            tenant, version = tenant[numbered], version[numbered]
        self.numbered += len(version)
        if not len(version):
            return
        rank = self.tenants.rank(tenant)
        order = np.argsort(rank, kind="stable")
        rank, version = rank[order], version[order]
        starts = np.flatnonzero(np.concatenate([[True], rank[1:] != rank[:-1]]))
        mine = rank[starts]
        self.low[mine] = np.minimum(self.low[mine], np.minimum.reduceat(version, starts))
        self.high[mine] = np.maximum(self.high[mine], np.maximum.reduceat(version, starts))


def _moved(values: Array, where: Array, count: int, empty: int) -> Array:
    moved = np.full(count, empty, np.int64)
    moved[where] = values
    return moved
