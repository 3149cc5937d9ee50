"""A run's history as a value. Every part may be a mapped file and is read in place, never as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from racebench.core.model import Numbering
from racebench.history.clocks import MachineClock
from racebench.history.logs import Log
from racebench.history.operations import Operation, Operations
from racebench.history.records import NO_VERSION, OPERATION, OPERATION_BITS, read_records
from racebench.history.rows import ROW, Labels, Row

Array = npt.NDArray[Any]

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """The result of an invariant's query: the number of rows, and the first of them."""

    invariant: str
    count: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that a checker may read. Times are nanoseconds of one clock; `start` is the common start.

    `rows`: ROW records, in any order; None if the scenario numbers no rows. `labels`: the texts of versions that are
    not integers; the rows' versions are then ranks, from 1. `alone`: the SQLSTATEs with which an application's
    operations also fail when no other session is active; None for a script, where the class of the SQLSTATE decides.
    `clocks`: of the machines on which sessions and consumers ran, none if they had one clock.
    """

    start: int
    operations: Operations
    rows: Array | None
    logs: tuple[Log, ...] = ()
    violations: tuple[Violation, ...] = ()
    measures: Mapping[str, Any] = field(default_factory=dict)
    numbering: Numbering = Numbering.TENANT
    labels: Labels | None = None
    alone: frozenset[str] | None = None
    clocks: tuple[MachineClock, ...] = ()

    @property
    def table(self) -> Array:
        """The rows; an empty array if the scenario numbers none."""
        return np.empty(0, ROW) if self.rows is None else self.rows

    def slack_ns(self, consumer: str | None = None) -> int:
        """How wrong a difference between times of two machines can be: of any two, or of a consumer's and any other's.

        0 if all ran on one machine.
        """
        bounds = sorted(clock.bound_ns for clock in self.clocks)
        if len(bounds) < 2:
            return 0
        its = [clock.bound_ns for clock in self.clocks if consumer is not None and consumer in clock.consumers]
        return bounds[-1] + (its[0] if its else bounds[-2])

    def microseconds(self, ns: int) -> float:
        """A time as microseconds since the common start."""
        return (int(ns) - self.start) / 1e3

    def version(self, version: int) -> int | str | None:
        """A version as published: an integer or its own text, None for NULL."""
        if version == NO_VERSION:
            return None
        if self.labels is None:
            return int(version)
        return self.labels[version - 1] if 0 < version <= len(self.labels) else None

    def describe_row(self, row: Row) -> Mapping[str, Any]:
        """A row as published: id, tenant, version (None for NULL), operation, worker."""
        operation = self.operations.find(row.operation)
        return {
            "id": row.id,
            "tenant": row.tenant,
            "version": self.version(row.version),
            "operation": row.operation,
            "worker": None if operation is None else operation.worker,
        }

    def describe_operation(self, operation: Operation, row: Row | None = None) -> Mapping[str, Any]:
        """An operation as published, its times in microseconds since the common start; a pending one has no end.

        Its version is that of `row`, if one is given, else the version that the script set.
        """
        said = NO_VERSION if self.labels is not None else operation.version
        return {
            "worker": operation.worker,
            "operation": operation.id,
            "tenant": operation.tenant,
            "version": self.version(said if row is None else row.version),
            "start_us": self.microseconds(operation.start),
            "end_us": None if operation.end is None else self.microseconds(operation.end),
            "outcome": operation.outcome.name,
            "sqlstate": operation.sqlstate or None,
            "tries": operation.tries,
        }

    def describe_poll(self, log: Log, number: int) -> Mapping[str, Any]:
        """A poll as published, with the ids it delivered (at most 20)."""
        poll = log.polls[number]
        return {
            "poll": number,
            "tenant": int(poll["tenant"]),
            "start_us": self.microseconds(poll["start"]),
            "end_us": self.microseconds(poll["end"]),
            "cursor_before": self.version(log.cursor(log.poll_before(number))) if log.ordered else None,
            "cursor_after": self.version(log.cursor(number)) if log.ordered else None,
            "rows": int(poll["rows"]),
            "delivered": log.delivered_by(number, _SHOWN),
        }

    def operations_of(self, rows: Sequence[Row]) -> tuple[Mapping[str, Any], ...]:
        """The operations that wrote the rows, as published; a row written by no known operation has none."""
        operations = [(self.operations.find(row.operation), row) for row in rows]
        return tuple(self.describe_operation(operation, row) for operation, row in operations if operation is not None)


def read_operations(files: Mapping[int, Path], bits: int = OPERATION_BITS) -> Operations:
    """The operations in sessions' record files (session number → path), mapped and not copied."""
    return Operations({number: read_records(path, OPERATION) for number, path in files.items()}, bits)
