"""Some rows of the table with further columns: their operations, first deliveries, and the ranks of their tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.delivered import Delivered
from racebench.analysis.index.identities import Identities
from racebench.analysis.index.survey import Tenants
from racebench.core.model import Outcome
from racebench.history import Operations
from racebench.history.operations import NEVER
from racebench.history.records import NO_VERSION, outcomes

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups:
    """The sources of the columns of a chunk of rows. `delivered` has one entry for each consumer's log."""

    operations: Operations
    tenants: Tenants
    identities: Identities
    delivered: Sequence[Delivered]


class RowChunk:
    """Some rows with further columns; each column is computed at its first use."""

    def __init__(self, lookups: Lookups, records: Array) -> None:
        self._lookups = lookups
        self.records = records
        self._first: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def id(self) -> Array:
        return np.ascontiguousarray(self.records["id"])

    @cached_property
    def tenant(self) -> Array:
        return np.ascontiguousarray(self.records["tenant"])

    @cached_property
    def version(self) -> Array:
        return np.ascontiguousarray(self.records["version"])

    @cached_property
    def numbered(self) -> Array:
        """Whether each row has a version at all."""
        numbered: Array = self.version != NO_VERSION
        return numbered

    @cached_property
    def rank(self) -> Array:
        """The place of each row's tenant among the tenants."""
        return self._lookups.tenants.rank(self.tenant)

    @cached_property
    def index(self) -> Array:
        """The place of each row among all ids."""
        return self._lookups.identities.index(self.id)

    @cached_property
    def _operation(self) -> tuple[Array, Array, Array]:
        operations = self._lookups.operations
        slots, index = operations.slots(np.ascontiguousarray(self.records["operation"]))
        known = slots >= 0
        return known, slots[known], index[known]

    @property
    def known(self) -> Array:
        """Whether each row was written by an operation of the history."""
        return self._operation[0]

    @cached_property
    def position(self) -> Array:
        """The positions of those operations (of known rows only)."""
        return self._lookups.operations.positions(*self._operation[1:])

    @cached_property
    def acknowledged(self) -> Array:
        """The time at which the success of each row's operation was acknowledged; NEVER if it was not."""
        known, slots, index = self._operation
        end, status = self._lookups.operations.gather(("end", "status"), slots, index)
        acknowledged = np.full(len(self), NEVER)
        acknowledged[known] = np.where(outcomes(status) == Outcome.OK, end, NEVER)
        return acknowledged

    @cached_property
    def began(self) -> Array:
        """The time at which each row's operation began; NEVER of a row that was written by none of the history."""
        known, slots, index = self._operation
        began = np.full(len(self), NEVER)
        (began[known],) = self._lookups.operations.gather(("start",), slots, index)
        return began

    def first(self, log: int) -> Array:
        """The time at which each row was first delivered to a consumer; 0 for never."""
        if log not in self._first:
            self._first[log] = self._lookups.delivered[log].first_of(self.index)
        return self._first[log]
