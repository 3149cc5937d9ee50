"""Gaps: unused numbers between the first and the last, in each tenant or, for a table-wide numbering, in the table.

Versions that need not be consecutive (a clock, a uuid) have no gaps. Every nextval() that is rolled back leaves a gap.
Gaps are harmless unless the scenario forbids them.
"""

from __future__ import annotations

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import WitnessData, WitnessRequests
from racebench.core.model import Numbering
from racebench.core.results import Anomaly, Finding


class Gaps(Checker):
    """Each witness has the rows on either side of a gap."""

    kind = "gaps"

    def wants(self, wanted: WitnessRequests) -> None:
        for tenant, before, after in self._gaps():
            wanted.numbers |= {(tenant, before), (tenant, after)}

    def finding(self, data: WitnessData) -> Finding:
        if not self._meant:
            return Finding(kind=self.kind, count=0, chances=0)
        witnesses = tuple(self._witness(data, *gap) for gap in self._gaps())
        unused = self.index.dense_numbers.unused
        return Finding(kind=self.kind, count=unused, chances=self.index.survey.numbered, witnesses=witnesses)

    @property
    def _meant(self) -> bool:
        return self.history.numbering is not Numbering.NONE and self.history.labels is None

    def _gaps(self) -> list[tuple[int | None, int, int]]:
        """The tenant (None: the whole table), the number before and the number after."""
        if not self._meant:
            return []
        tenants = self.index.survey.tenants.values
        together = self.history.numbering is Numbering.TABLE
        gaps = self.index.dense_numbers.gaps()
        return [(None if together else int(tenants[scope]), before, after) for scope, before, after in gaps]

    def _witness(self, data: WitnessData, tenant: int | None, low: int, high: int) -> Anomaly:
        before, after = data.by_number[tenant, low].last, data.by_number[tenant, high].first(1)[0]
        assert before is not None  # the numbers on both sides of a gap are used
        sides = (before, after)
        missing = f"version {low + 1} was" if high - low == 2 else f"versions {low + 1} to {high - 1} were"
        return Anomaly(
            kind=self.kind,
            explanation=f"{missing} never used (beside it: rows {before.id}, {after.id})",
            rows=tuple(self.history.describe_row(row) for row in sides),
            operations=self.history.operations_of(sides),
        )
