"""Duplicates: rows whose (tenant, version) another row already has; rows − distinct (tenant, version).

NULL versions are not numbers and are left to unnumbered.py.
"""

from __future__ import annotations

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import WITNESSES, WitnessData, WitnessRequests
from racebench.core.results import Anomaly, Finding

_POLLS = 4


class Duplicates(Checker):
    """Counts duplicates. A witness is a pair of rows; pairs of which only one row was delivered come first."""

    kind = "duplicates"

    def wants(self, wanted: WitnessRequests) -> None:
        wanted.numbers.update(self._numbers())

    def finding(self, data: WitnessData) -> Finding:
        numbered = self.index.survey.numbered
        return Finding(
            kind=self.kind,
            count=numbered - self.index.numbers.distinct,
            chances=numbered,
            witnesses=tuple(self._witness(data, number) for number in self._numbers()),
        )

    def _numbers(self) -> list[tuple[int, int]]:
        numbers, tenants = self.index.numbers, self.index.survey.tenants.values
        chosen = dict.fromkeys([*numbers.repeated(halved=True), *numbers.repeated(halved=False)])
        return [(int(tenants[rank]), version) for rank, version in list(chosen)[:WITNESSES]]

    def _witness(self, data: WitnessData, number: tuple[int, int]) -> Anomaly:
        """The two rows to show: if possible, one that was delivered to the consumer and one that was not."""
        history, copies = self.history, data.by_number[number]
        shown = copies.pair()
        operations = history.operations_of(shown)
        log = self.index.log(history.logs[0]) if history.logs else None
        polls = sorted({poll for row in shown for poll in data.polls[0][row.id]}) if log else []
        tenant, version = number[0], history.version(number[1])
        workers = " and ".join(f"worker {operation['worker']}" for operation in operations)
        both = f"{workers} both wrote" if len(operations) > 1 else "rows share"
        more = f" ({copies.count} rows have that version)" if copies.count > len(shown) else ""
        return Anomaly(
            kind=self.kind,
            explanation=f"{both} version {version} of tenant {tenant}: rows {shown[0].id} and {shown[1].id}{more}",
            rows=tuple(history.describe_row(row) for row in shown),
            operations=operations,
            polls=tuple(history.describe_poll(log, poll) for poll in polls[:_POLLS]) if log else (),
            consumer=log.name if log else None,
        )
