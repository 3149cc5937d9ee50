"""What several checkers need to know of a history, found out in one pass over its rows and one over each log.

Which operations have rows (`written`), which rows were delivered and when (`delivered`), which numbers were used
(`numbers`), and where each poll left its cursor (`log`). Its size is in scratch space, not in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.cursors import cursors
from racebench.analysis.index.delivered import Delivered
from racebench.analysis.index.identities import Identities
from racebench.analysis.index.numbers import Numbers, numbers_of
from racebench.analysis.index.survey import Survey
from racebench.analysis.index.written import Written
from racebench.core.model import Numbering, Outcome
from racebench.history import History, Log
from racebench.history.operations import NEVER
from racebench.history.records import NO_VERSION, outcomes
from racebench.history.spill import Scratch, pieces

__all__ = ["Evidence", "RowChunk"]

Array = npt.NDArray[Any]


class Evidence:
    """Built in order: the survey and the deliveries at once, the rest while `chunks` is read."""

    def __init__(self, history: History, scratch: Scratch) -> None:
        self.history = history
        self.scratch = scratch
        rows, logs = history.table, history.logs
        self.survey = survey = Survey(rows, scratch)
        self.identities = Identities(survey, logs, scratch)
        self.delivered = tuple(Delivered(log, self.identities, scratch) for log in logs)
        self.written = Written(history.operations, survey, scratch)
        #: The numbers used by each tenant, and by whatever has gaps: each tenant, or the table.
        self.numbers: Numbers = numbers_of(survey, scratch, apart=True)
        together = history.numbering is Numbering.TABLE and len(survey.tenants) > 1
        self.dense_numbers: Numbers = numbers_of(survey, scratch, apart=False) if together else self.numbers
        self._logs = {log.name: log for log in logs}

    def chunks(self) -> Iterator[RowChunk]:
        """The rows, a piece at a time, in the order of the table's pages; afterwards the evidence is complete."""
        for records in pieces(self.history.table, self.scratch.piece):
            chunk = RowChunk(self, records)
            self.written.add(chunk)
            seen = chunk.first(0) != 0 if self.delivered else np.zeros(len(chunk), bool)
            numbered = chunk.numbered
            scope, version = chunk.rank[numbered], chunk.version[numbered]
            self.numbers.add(scope, version, seen[numbered], chunk.id[numbered])
            if self.dense_numbers is not self.numbers:
                self.dense_numbers.add(np.zeros_like(scope), version, seen[numbered], chunk.id[numbered])
            yield chunk
        self.written.settle(
            lambda: (RowChunk(self, records) for records in pieces(self.history.table, self.scratch.piece))
        )
        self.numbers.settle()
        if self.dense_numbers is not self.numbers:
            self.dense_numbers.settle()

    def log(self, log: Log) -> Log:
        """A log with its cursors; found out when they are first asked for."""
        known = self._logs[log.name]
        if known.after is None:
            after = cursors(known, self.history.table, self.identities, self.scratch)
            self._logs[log.name] = known = known.with_cursors(after)
        return known


class RowChunk:
    """Some rows, and what is known of each; columns are made when they are first asked for."""

    def __init__(self, evidence: Evidence, records: Array) -> None:
        self._evidence = evidence
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
        found: Array = self.version != NO_VERSION
        return found

    @cached_property
    def rank(self) -> Array:
        """The place of each row's tenant among the tenants."""
        return self._evidence.survey.tenants.rank(self.tenant)

    @cached_property
    def index(self) -> Array:
        """The place of each row among all ids."""
        return self._evidence.identities.index(self.id)

    @cached_property
    def _operation(self) -> tuple[Array, Array, Array]:
        operations = self._evidence.history.operations
        slots, index = operations.slots(np.ascontiguousarray(self.records["operation"]))
        known = slots >= 0
        return known, slots[known], index[known]

    @property
    def known(self) -> Array:
        """Whether each row was written by an operation that is here."""
        return self._operation[0]

    @cached_property
    def position(self) -> Array:
        """The positions of those operations (of known rows only)."""
        return self._evidence.history.operations.positions(*self._operation[1:])

    @cached_property
    def acknowledged(self) -> Array:
        """When the success of each row's operation was acknowledged; NEVER if it was not."""
        known, slots, index = self._operation
        end, status = self._evidence.history.operations.gather(("end", "status"), slots, index)
        found = np.full(len(self), NEVER)
        found[known] = np.where(outcomes(status) == Outcome.OK, end, NEVER)
        return found

    def first(self, log: int) -> Array:
        """When each row was first delivered to a consumer; 0 if it never was."""
        if log not in self._first:
            self._first[log] = self._evidence.delivered[log].first_of(self.index)
        return self._first[log]
