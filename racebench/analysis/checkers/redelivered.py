"""Redelivered: deliveries of a row beyond its first, by one consumer."""

from __future__ import annotations

from racebench.analysis.checkers.checker import ConsumerChecker
from racebench.analysis.checkers.witnesses import WitnessData, WitnessRequests
from racebench.core.results import Anomaly, Finding

_POLLS = 3


class Redelivered(ConsumerChecker):
    """Each witness has the row and the polls that delivered it."""

    kind = "redelivered"

    def wants(self, wanted: WitnessRequests) -> None:
        wanted.ids.update(self.delivered.repeated)
        wanted.polls.setdefault(self.number, set()).update(self.delivered.repeated)

    def finding(self, data: WitnessData) -> Finding:
        count = self.delivered.deliveries - self.delivered.rows
        witnesses = tuple(self._witness(data, identity) for identity in self.delivered.repeated)
        return Finding(kind=self.kind, count=count, chances=self.delivered.deliveries, witnesses=witnesses)

    def _witness(self, data: WitnessData, identity: int) -> Anomaly:
        history, log = self.history, self.index.log(self.log)
        rows = data.rows([identity])
        polls = data.polls[self.number][identity]
        return Anomaly(
            kind=self.kind,
            explanation=f"row {identity} was delivered {len(polls)} times to '{log.name}', by polls {polls[:5]}",
            rows=tuple(history.describe_row(row) for row in rows),
            operations=history.operations_of(rows),
            polls=tuple(history.describe_poll(log, number) for number in polls[:_POLLS]),
            consumer=log.name,
        )
