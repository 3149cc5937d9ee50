"""A run's history: what the workers recorded, the table as it was afterwards, and the consumer's log.

Reads; does not judge. Checkers are pure functions of a History.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from racebench.errors import DatabaseProblem, ScenarioProblem, one_line
from racebench.model import NumberedRows, Numbering, Outcome
from racebench.recording import DELIVERY, NO_VERSION, OPERATION, POLL, decode_status, outcomes, read_records

Array = npt.NDArray[Any]

#: An operation of any worker: its id, and OPERATION's fields with the status taken apart.
HISTORY_OPERATION = np.dtype(
    [
        ("id", "<i8"),
        ("worker", "<u4"),
        ("tenant", "<u4"),
        ("start", "<i8"),
        ("end", "<i8"),
        ("version", "<i8"),
        ("tries", "<u4"),
        ("outcome", "<u4"),
        ("status", "<u4"),
        ("pending", "?"),
    ]
)
#: A row of the numbered table; `version` is NO_VERSION for NULL.
ROW = np.dtype([("id", "<i8"), ("tenant", "<i8"), ("version", "<i8"), ("operation", "<i8")])


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything a checker may look at. Times are nanoseconds of one clock; `start` is the common start.

    operations: HISTORY_OPERATION, sorted by id; rows: ROW, sorted by id; deliveries: DELIVERY and polls: POLL,
    in the consumer's order. `drained`: the consumer read to the end after the last write.
    """

    start: int
    operations: Array
    rows: Array
    deliveries: Array
    polls: Array
    drained: bool = True
    numbering: Numbering = Numbering.TENANT

    def operation(self, identity: int) -> Any | None:
        """Return the operation of that id, or None."""
        at = int(np.searchsorted(self.operations["id"], identity))
        found = at < len(self.operations) and self.operations["id"][at] == identity
        return self.operations[at] if found else None

    def microseconds(self, ns: int) -> float:
        """A time as microseconds since the common start."""
        return (int(ns) - self.start) / 1e3

    def describe_row(self, row: Any) -> Mapping[str, Any]:
        """A row as published: id, tenant, version (None for NULL), operation, worker."""
        operation = self.operation(int(row["operation"]))
        return {
            "id": int(row["id"]),
            "tenant": int(row["tenant"]),
            "version": _version(row),
            "operation": int(row["operation"]),
            "worker": None if operation is None else int(operation["worker"]),
        }

    def describe_operation(self, operation: Any) -> Mapping[str, Any]:
        """An operation as published, its times in microseconds since the common start; a pending one has no end."""
        outcome, sqlstate = decode_status(int(operation["status"]))
        return {
            "worker": int(operation["worker"]),
            "operation": int(operation["id"]),
            "tenant": int(operation["tenant"]),
            "version": _version(operation),
            "start_us": self.microseconds(operation["start"]),
            "end_us": None if operation["pending"] else self.microseconds(operation["end"]),
            "outcome": outcome.name,
            "sqlstate": sqlstate or None,
            "tries": int(operation["tries"]),
        }

    def describe_poll(self, number: int) -> Mapping[str, Any]:
        """A poll as published, with the ids it delivered (at most 20)."""
        poll = self.polls[number]
        ids = self.deliveries["id"][self.deliveries["poll"] == number]
        return {
            "poll": number,
            "tenant": int(poll["tenant"]),
            "start_us": self.microseconds(poll["start"]),
            "end_us": self.microseconds(poll["end"]),
            "cursor_before": int(poll["before"]),
            "cursor_after": int(poll["after"]),
            "rows": int(poll["rows"]),
            "delivered": [int(identity) for identity in ids[:20]],
        }

    def operations_of(self, rows: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
        """The operations that wrote the rows, as published; a row written by no known operation has none."""
        found = [self.operation(int(row["operation"])) for row in rows]
        return tuple(self.describe_operation(operation) for operation in found if operation is not None)

    def polls_that_delivered(self, identity: int) -> list[int]:
        """The numbers of the polls that delivered a row."""
        return [int(number) for number in self.deliveries["poll"][self.deliveries["id"] == identity]]


def _version(record: Any) -> int | None:
    version = int(record["version"])
    return None if version == NO_VERSION else version


def read_operations(files: Mapping[int, Path], bits: int) -> Array:
    """Merge workers' record files (worker number → path) into HISTORY_OPERATION, sorted by id.

    An operation that never ended is UNKNOWN and `pending`; its end is the largest time there is.
    """
    parts = []
    for worker in sorted(files):
        records = read_records(files[worker], OPERATION)
        part = np.zeros(len(records), HISTORY_OPERATION)
        part["id"] = (worker << bits) + np.arange(len(records), dtype=np.int64)
        part["worker"] = worker
        for name in ("tenant", "start", "end", "version", "tries", "status"):
            part[name] = records[name]
        part["outcome"] = outcomes(records["status"])
        part["pending"] = records["end"] == 0
        part["end"][part["pending"]] = np.iinfo(np.int64).max
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, HISTORY_OPERATION)


def read_log(deliveries: Path, polls: Path) -> tuple[Array, Array]:
    """Read the consumer's two log files."""
    return read_records(deliveries, DELIVERY), read_records(polls, POLL)


def read_rows(connection: psycopg.Connection[Any], table: NumberedRows) -> Array:
    """Read the table once, by binary COPY; every column as a 64-bit integer, NULL versions as NO_VERSION.

    Raises ScenarioProblem if the columns are not there or not integers.
    """
    columns = sql.SQL(", ").join(
        [
            *(sql.SQL("{}::bigint").format(sql.Identifier(name)) for name in (table.id, table.tenant)),
            sql.SQL("coalesce({}::bigint, {})").format(sql.Identifier(table.version), sql.Literal(NO_VERSION)),
            sql.SQL("coalesce({}::bigint, 0)").format(sql.Identifier(table.operation)),
        ]
    )
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(columns, sql.Identifier(table.table))
    try:
        with connection.cursor().copy(query) as copy:
            data = b"".join(copy)
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable, psycopg.errors.CannotCoerce) as problem:
        raise ScenarioProblem(f"[rows] does not fit the table: {one_line(str(problem).splitlines()[0])}") from None
    except psycopg.Error as problem:
        raise DatabaseProblem(f"cannot read table {table.table} after the run: {one_line(str(problem))}") from None
    return parse_copy(data)


# One COPY tuple of four non-null bigints: a field count, then (length, value) four times, big-endian.
_TUPLE = np.dtype(
    [
        ("fields", ">i2"),
        *((part, code) for n in range(4) for part, code in ((f"length{n}", ">i4"), (f"value{n}", ">i8"))),
    ]
)
_HEADER = 19  # signature 11, flags 4, extension length 4
_TRAILER = 2


def parse_copy(data: bytes) -> Array:
    """Parse a binary COPY stream of four bigint columns, none NULL, into ROW, sorted by id.

    Source: PostgreSQL's documentation, COPY, "Binary Format".
    """
    count, rest = divmod(len(data) - _HEADER - _TRAILER, _TUPLE.itemsize)
    if rest:
        raise DatabaseProblem(f"the table's COPY stream is cut short at {len(data)} bytes; run again")
    tuples = np.frombuffer(data, _TUPLE, count, _HEADER)
    rows = np.empty(count, ROW)
    for n, name in enumerate(ROW.names or ()):
        rows[name] = tuples[f"value{n}"]
    return rows[np.argsort(rows["id"], kind="stable")]


def committed(operations: Array) -> Array:
    """The operations whose success was acknowledged."""
    found: Array = operations[operations["outcome"] == Outcome.OK]
    return found
