"""Refused: operations that failed only because another session was at work.

Their last error is of SQLSTATE class 23 (integrity constraint) or 40 (serialization failure, deadlock), or it says that
another session has just created the same object (42701, 42710, 42P07): without the other session, the statement would
have succeeded. In an application's own code every exception, HTTP status and exit code counts, unless calls that run
alone end with it too. For the application each is an intermittent error, an HTTP 500.
Errors of other classes (a full disk, a canceled query) are counted by SQLSTATE, but the strategy does not cause them.
"""

from __future__ import annotations

import numpy as np

from racebench.analysis.checkers.checker import Checker
from racebench.analysis.checkers.witnesses import Lowest, WitnessData, WitnessRequests
from racebench.analysis.index import Index
from racebench.core import codes, refusals
from racebench.core.model import Outcome
from racebench.core.results import Anomaly, Finding
from racebench.history import Chunk, Operation
from racebench.history.records import NO_VERSION, encode_status

_RANGES = tuple(
    (encode_status(Outcome.FAIL, f"{letters}000"), encode_status(Outcome.FAIL, f"{letters}ZZZ"))
    for letters in refusals.CLASSES
)
_APPLICATION = tuple(
    (encode_status(Outcome.FAIL, low), encode_status(Outcome.FAIL, high)) for low, high in codes.OF_APPLICATIONS
)
_ALREADY_THERE = [encode_status(Outcome.FAIL, code) for code in refusals.ALREADY_MADE]


class Refused(Checker):
    """Each witness has the operation and the row that holds the number it wanted."""

    kind = "refused"

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._refused = 0
        self._first = Lowest()

    def operations(self, chunk: Chunk) -> None:
        failed = chunk.outcome == Outcome.FAIL
        if not failed.any():
            return
        status = chunk.status[failed]
        refused = np.isin(status, _ALREADY_THERE)
        for low, high in _RANGES:
            refused |= (status >= low) & (status <= high)
        if self.history.alone is not None:
            for low, high in _APPLICATION:
                refused |= (status >= low) & (status <= high)
            refused &= ~np.isin(status, [encode_status(Outcome.FAIL, code) for code in self.history.alone])
        self._refused += int(refused.sum())
        positions = chunk.position[failed][refused]
        self._first.add(positions, positions)

    def wants(self, wanted: WitnessRequests) -> None:
        wanted.numbers.update(
            (operation.tenant, operation.version) for operation in self._operations() if operation.version != NO_VERSION
        )

    def finding(self, data: WitnessData) -> Finding:
        witnesses = tuple(self._witness(data, operation) for operation in self._operations())
        return Finding(kind=self.kind, count=self._refused, chances=len(self.history.operations), witnesses=witnesses)

    def _operations(self) -> list[Operation]:
        return [self.history.operations.at(position) for position in self._first.positions()]

    def _witness(self, data: WitnessData, operation: Operation) -> Anomaly:
        described = self.history.describe_operation(operation)
        copies = data.by_number.get((operation.tenant, operation.version))
        holders = [] if copies is None else copies.first(1)
        wanted = "" if described["version"] is None else f" wanted version {described['version']} and"
        held = f"; row {holders[0].id} has that version" if holders else ""
        return Anomaly(
            kind=self.kind,
            explanation=f"worker {operation.worker}{wanted} was refused with {codes.shown(str(described['sqlstate']))} "
            f"after {operation.tries} {'try' if operation.tries == 1 else 'tries'}{held}",
            rows=tuple(self.history.describe_row(row) for row in holders),
            operations=(*self.history.operations_of(holders), described),
        )
