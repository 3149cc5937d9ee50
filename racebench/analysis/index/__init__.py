"""An index of a history for the checkers, built in one pass over its rows and one over each log.

It has the operations that have rows (`written`), the rows that were delivered and the times (`delivered`), the numbers
that were used (`numbers`), the times of the rows' operations (`row_times`), and the cursor after each poll (`log`). Its
large parts are in scratch space, not in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.analysis.index.cursors import cursors
from racebench.analysis.index.delivered import Delivered
from racebench.analysis.index.identities import Identities
from racebench.analysis.index.numbers import Numbers, numbers_of
from racebench.analysis.index.row_chunk import Lookups, RowChunk
from racebench.analysis.index.row_times import RowTimes
from racebench.analysis.index.survey import Survey
from racebench.analysis.index.written import Written
from racebench.core.model import Numbering
from racebench.history import History, Log
from racebench.history.spill import Scratch, pieces

__all__ = ["Index", "RowChunk"]

Array = npt.NDArray[Any]


class Index:
    """The index. The survey and the deliveries are built at once, the rest while `chunks` is read."""

    def __init__(self, history: History, scratch: Scratch) -> None:
        self.history = history
        self.scratch = scratch
        rows, logs = history.table, history.logs
        self.survey = survey = Survey(rows, scratch)
        self.identities = Identities(survey, logs, scratch)
        self.delivered = tuple(Delivered(log, self.identities, scratch) for log in logs)
        self.written = Written(history.operations, survey, scratch)
        self.row_times = RowTimes(self.identities.places if logs else 0, scratch)
        #: The numbers used in each tenant, and in each scope that can have gaps: a tenant, or the table.
        self.numbers: Numbers = numbers_of(survey, scratch, apart=True)
        together = history.numbering is Numbering.TABLE and len(survey.tenants) > 1
        self.dense_numbers: Numbers = numbers_of(survey, scratch, apart=False) if together else self.numbers
        self._logs = {log.name: log for log in logs}
        self._lookups = Lookups(
            operations=history.operations,
            tenants=survey.tenants,
            identities=self.identities,
            delivered=self.delivered,
        )

    def chunks(self) -> Iterator[RowChunk]:
        """The rows, a piece at a time, in the order of the table's pages; afterwards the index is complete."""
        for records in pieces(self.history.table, self.scratch.piece):
            chunk = self.chunk(records)
            self.written.add(chunk)
            if self.delivered:
                self.row_times.add(chunk)
            seen = chunk.first(0) != 0 if self.delivered else np.zeros(len(chunk), bool)
            numbered = chunk.numbered
            scope, version = chunk.rank[numbered], chunk.version[numbered]
            self.numbers.add(scope, version, seen[numbered], chunk.id[numbered])
            if self.dense_numbers is not self.numbers:
                self.dense_numbers.add(np.zeros_like(scope), version, seen[numbered], chunk.id[numbered])
            yield chunk
        self.written.settle(lambda: (self.chunk(records) for records in pieces(self.history.table, self.scratch.piece)))
        self.numbers.settle()
        if self.dense_numbers is not self.numbers:
            self.dense_numbers.settle()

    def chunk(self, records: Array) -> RowChunk:
        """Some ROW records, with the columns that checkers need."""
        return RowChunk(self._lookups, records)

    def log(self, log: Log) -> Log:
        """A log with its cursors, which are computed at the first use."""
        known = self._logs[log.name]
        if known.after is None:
            after = cursors(known, self.history.table, self.identities, self.scratch)
            self._logs[log.name] = known = known.with_cursors(after)
        return known
