"""Unnumbered: rows whose version is NULL; `NULL > :cursor` is not true, so no cursor ever reaches them."""

from __future__ import annotations

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import Lowest, WitnessData
from racebench.analysis.index import Index, RowChunk
from racebench.core.results import Anomaly, Finding


class Unnumbered(Checker):
    """Rows without a version; the witnesses are the first of them."""

    kind = "unnumbered"

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._first = Lowest()

    def rows(self, chunk: RowChunk) -> None:
        if not chunk.numbered.all():
            without = ~chunk.numbered
            self._first.add(chunk.id[without], chunk.records[without])

    def finding(self, data: WitnessData) -> Finding:  # noqa: ARG002 - its rows are known
        survey = self.index.survey
        witnesses = tuple(
            Anomaly(
                kind=self.kind,
                explanation=f"row {row.id} (tenant {row.tenant}) has no version",
                rows=(self.history.describe_row(row),),
                operations=self.history.operations_of([row]),
            )
            for row in self._first.rows()
        )
        return Finding(kind=self.kind, count=survey.rows - survey.numbered, chances=survey.rows, witnesses=witnesses)
