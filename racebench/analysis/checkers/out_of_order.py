"""Out of order: rows delivered to a consumer in another order than they were committed.

Row B is delivered, and row A of the same tenant after it, though A's operation was acknowledged before B's began. Then
A was committed before B, whatever clock or log of commits the server keeps. Operations that overlapped may have been
committed in either order, so they accuse nobody. Only a row's first delivery counts, and only rows of acknowledged
operations.

Example: sessions draw numbers from a sequence in blocks of 32. Row A has number 33 and is acknowledged; then row B is
written with number 2. One poll finds both and delivers B first.

Operations of two machines are compared beyond the bounds of their clocks. What is possible within them is undecided.

Deliveries are read in their order. Of those before it, one number a tenant is enough: the latest start of an operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from racebench.analysis.checkers.checker import ConsumerChecker
from racebench.analysis.checkers.witnesses import WITNESSES, WitnessData, WitnessRequests
from racebench.analysis.index import Index
from racebench.analysis.index.row_times import Times
from racebench.core.results import Anomaly, Finding
from racebench.history.records import distinct
from racebench.history.spill import gather, pieces, scatter

Array = npt.NDArray[Any]

_BEFORE_ALL = -(2**62)
_MOST = 2**62


class _Delivered(NamedTuple):
    """A row's first delivery: its id and the number of the poll."""

    id: int
    poll: int


class OutOfOrder(ConsumerChecker):
    """Each witness has the row that came too early, the row that came after it, their operations and polls."""

    kind = "out-of-order"

    def __init__(self, index: Index, number: int) -> None:
        super().__init__(index, number)
        tenants = len(index.survey.tenants)
        #: Of each tenant's rows delivered so far, the latest start of an operation, and that row's delivery.
        self._latest = np.full(tenants, _BEFORE_ALL)
        self._latest_id = np.zeros(tenants, np.int64)
        self._latest_poll = np.zeros(tenants, np.int64)
        self._late = self._undecided = 0
        #: By so much an operation must have ended before another began, if they may have run on two machines.
        self._slack_ns = index.history.slack_ns()
        self._pairs: list[tuple[_Delivered, _Delivered]] = []

    def wants(self, wanted: WitnessRequests) -> None:
        for deliveries, times in self._first_deliveries():
            self._follow(deliveries, times)
        for pair in self._pairs:
            wanted.ids.update(delivered.id for delivered in pair)

    def finding(self, data: WitnessData) -> Finding:
        return Finding(
            kind=self.kind,
            count=self._late,
            chances=self.delivered.rows,
            witnesses=tuple(self._witness(data, *pair) for pair in self._pairs),
            undecided=self._undecided,
        )

    def _first_deliveries(self) -> Iterator[tuple[Array, Times]]:
        """DELIVERY records in order, without repeated ones and rows whose times are not known, with these times."""
        index, scratch = self.index, self.index.scratch
        again = self.delivered.deliveries > self.delivered.rows
        seen = scratch.zeros(index.identities.places if again else 0, np.bool_)
        for part in pieces(self.log.deliveries, scratch.piece):
            places = index.identities.index(np.ascontiguousarray(part["id"]))
            which = index.row_times.known(places)
            if again:
                first = np.zeros(len(places), bool)
                first[np.unique(places, return_index=True)[1]] = True
                which &= first
                which[which] = ~gather(seen, places[which])
                scatter(seen, places[which], True)
            if which.any():
                yield np.array(part[which]), index.row_times.of(places[which])

    def _follow(self, deliveries: Array, times: Times) -> None:
        """Count the rows whose operation had ended before that of an earlier row of their tenant began."""
        order = np.argsort(times.rank, kind="stable")  # by tenant, in the order of delivery
        rank, start, end = times.rank[order], times.start[order], times.end[order]
        low, span = int(start.min()), int(start.max()) - int(start.min()) + 1
        if int(rank[-1]) + 1 < _MOST // span:  # each tenant has a separate range on one line of times
            latest = np.maximum.accumulate(rank * span + (start - low)) - rank * span + low
        else:
            latest = np.concatenate([np.maximum.accumulate(start[rank == one]) for one in distinct(rank)])
        begins = np.append(True, rank[1:] != rank[:-1])
        before = np.where(begins, np.int64(_BEFORE_ALL), np.append(np.int64(_BEFORE_ALL), latest[:-1]))
        latest_before = np.maximum(before, self._latest[rank])
        some = latest_before > _BEFORE_ALL
        late = np.flatnonzero(some & (end < latest_before - self._slack_ns))
        self._late += len(late)
        self._undecided += int((some & (end < latest_before + self._slack_ns)).sum()) - len(late)
        if late.size and len(self._pairs) < WITNESSES:
            for at in late[np.argsort(order[late])][: WITNESSES - len(self._pairs)].tolist():
                self._pairs.append(
                    (self._early(deliveries[order], rank, start, at, int(before[at])), _of(deliveries[order[at]]))
                )
        for at in np.flatnonzero(np.append(begins[1:], True)).tolist():  # the last of each tenant
            mine = int(rank[at])
            if latest[at] > self._latest[mine]:
                first = int(np.searchsorted(rank, mine))
                where = deliveries[order[first + int(np.argmax(start[first : at + 1]))]]
                self._latest[mine], self._latest_id[mine], self._latest_poll[mine] = (
                    latest[at],
                    where["id"],
                    where["poll"],
                )

    def _early(self, deliveries: Array, rank: Array, start: Array, at: int, before: int) -> _Delivered:
        """The delivery, before the one at a place, of the row of its tenant whose operation began last."""
        mine = int(rank[at])
        if before <= self._latest[mine]:
            return _Delivered(int(self._latest_id[mine]), int(self._latest_poll[mine]))
        first = int(np.searchsorted(rank, mine))
        return _of(deliveries[first + int(np.argmax(start[first:at]))])

    def _witness(self, data: WitnessData, early: _Delivered, late: _Delivered) -> Anomaly:
        history, log = self.history, self.index.log(self.log)
        rows = data.rows([early.id, late.id])
        operations = history.operations_of(rows)
        apart = ""
        if len(operations) == len(rows) == 2:
            apart = f" {(operations[0]['start_us'] - operations[1]['end_us']) / 1e3:.3f} ms"
        where = f"later in the same poll {late.poll}" if early.poll == late.poll else f"by poll {late.poll}"
        return Anomaly(
            kind=self.kind,
            explanation=f"'{log.name}' was given row {early.id} by poll {early.poll} and row {late.id} {where}, "
            f"though the operation of row {late.id} had ended{apart} before that of row {early.id} began",
            rows=tuple(history.describe_row(row) for row in rows),
            operations=operations,
            polls=tuple(history.describe_poll(log, poll) for poll in dict.fromkeys((early.poll, late.poll))),
            consumer=log.name,
        )


def _of(delivery: Any) -> _Delivered:
    return _Delivered(int(delivery["id"]), int(delivery["poll"]))
