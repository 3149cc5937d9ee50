"""A run's history: what the workers recorded, the table as it was afterwards, and the consumer's log.

Reads; does not judge. Checkers are pure functions of a History.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from racebench.errors import DatabaseProblem, ScenarioProblem, one_line
from racebench.model import NumberedRows, Numbering, Outcome, Scenario
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
class Log:
    """What one consumer was given. deliveries: DELIVERY, polls: POLL, in its order.

    `after` is the version each poll left the cursor at (NO_VERSION if that is not known), as an array beside `polls`.
    `ordered`: its cursor is the version. `drained`: it read to the end after the last write.
    """

    name: str
    deliveries: Array
    polls: Array
    after: Array
    ordered: bool = True
    drained: bool = True
    longest_poll_ns: int | None = None

    def polls_that_delivered(self, identity: int) -> list[int]:
        """The numbers of the polls that delivered a row."""
        return [int(number) for number in self.deliveries["poll"][self.deliveries["id"] == identity]]

    def delivered_by(self, number: int) -> Array:
        """The ids that a poll delivered, in order."""
        found: Array = self.deliveries["id"][self.deliveries["poll"] == number]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What an invariant's query returned: how many rows, and the first of them."""

    invariant: str
    count: int
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything a checker may look at. Times are nanoseconds of one clock; `start` is the common start.

    operations: HISTORY_OPERATION, sorted by id; rows: ROW, sorted by id, None if the scenario numbers no rows; `labels`
    are the versions' own texts if they are not integers: row versions are then ranks, from 1.
    """

    start: int
    operations: Array
    rows: Array | None
    logs: tuple[Log, ...] = ()
    violations: tuple[Violation, ...] = ()
    measures: Mapping[str, Any] = field(default_factory=dict)
    numbering: Numbering = Numbering.TENANT
    labels: Sequence[str] | None = None

    @property
    def table(self) -> Array:
        """The rows, or none."""
        return np.empty(0, ROW) if self.rows is None else self.rows

    def operation(self, identity: int) -> Any | None:
        """Return the operation of that id, or None."""
        at = int(np.searchsorted(self.operations["id"], identity))
        found = at < len(self.operations) and self.operations["id"][at] == identity
        return self.operations[at] if found else None

    def microseconds(self, ns: int) -> float:
        """A time as microseconds since the common start."""
        return (int(ns) - self.start) / 1e3

    def version(self, version: int) -> int | str | None:
        """A version as published: an integer or its own text, None for NULL."""
        if version == NO_VERSION:
            return None
        if self.labels is None:
            return int(version)
        return self.labels[int(version) - 1] if 0 < version <= len(self.labels) else None

    def describe_row(self, row: Any) -> Mapping[str, Any]:
        """A row as published: id, tenant, version (None for NULL), operation, worker."""
        operation = self.operation(int(row["operation"]))
        return {
            "id": int(row["id"]),
            "tenant": int(row["tenant"]),
            "version": self.version(row["version"]),
            "operation": int(row["operation"]),
            "worker": None if operation is None else int(operation["worker"]),
        }

    def describe_operation(self, operation: Any, row: Any | None = None) -> Mapping[str, Any]:
        """An operation as published, its times in microseconds since the common start; a pending one has no end.

        Its version is its row's, if that is given, else what the script said.
        """
        outcome, sqlstate = decode_status(int(operation["status"]))
        said = NO_VERSION if self.labels is not None else operation["version"]
        return {
            "worker": int(operation["worker"]),
            "operation": int(operation["id"]),
            "tenant": int(operation["tenant"]),
            "version": self.version(said if row is None else row["version"]),
            "start_us": self.microseconds(operation["start"]),
            "end_us": None if operation["pending"] else self.microseconds(operation["end"]),
            "outcome": outcome.name,
            "sqlstate": sqlstate or None,
            "tries": int(operation["tries"]),
        }

    def describe_poll(self, log: Log, number: int) -> Mapping[str, Any]:
        """A poll as published, with the ids it delivered (at most 20)."""
        poll = log.polls[number]
        earlier = np.flatnonzero(log.polls["tenant"][:number] == poll["tenant"])
        before = int(log.after[earlier[-1]]) if len(earlier) else NO_VERSION
        return {
            "poll": number,
            "tenant": int(poll["tenant"]),
            "start_us": self.microseconds(poll["start"]),
            "end_us": self.microseconds(poll["end"]),
            "cursor_before": self.version(before) if log.ordered else None,
            "cursor_after": self.version(int(log.after[number])) if log.ordered else None,
            "rows": int(poll["rows"]),
            "delivered": [int(identity) for identity in log.delivered_by(number)[:20]],
        }

    def operations_of(self, rows: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
        """The operations that wrote the rows, as published; a row written by no known operation has none."""
        found = [(self.operation(int(row["operation"])), row) for row in rows]
        return tuple(self.describe_operation(operation, row) for operation, row in found if operation is not None)


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


def read_log(
    name: str, deliveries: Path, polls: Path, rows: Array, *, ordered: bool, drained: bool, longest_poll_ns: int | None
) -> Log:
    """Read a consumer's two log files; the table tells at which version each poll left its cursor."""
    records = read_records(polls, POLL)
    at = np.minimum(np.searchsorted(rows["id"], records["last"]), max(len(rows) - 1, 0))
    after = np.full(len(records), NO_VERSION)
    if len(rows):
        after = np.where(rows["id"][at] == records["last"], rows["version"][at], NO_VERSION)
    return Log(
        name=name,
        deliveries=read_records(deliveries, DELIVERY),
        polls=records,
        after=after,
        ordered=ordered,
        drained=drained,
        longest_poll_ns=longest_poll_ns,
    )


_INTEGERS = frozenset({"smallint", "integer", "bigint"})


def read_rows(connection: psycopg.Connection[Any], table: NumberedRows) -> tuple[Array, list[str] | None]:
    """Read the table once, by binary COPY: ROW, sorted by id, and the versions' texts if they are not integers.

    NULL versions are NO_VERSION; versions that are not integers become their ranks, from 1.
    Raises ScenarioProblem if the columns are not there or the other ones are not integers.
    """
    name, version = sql.Identifier(table.table), sql.Identifier(table.version)
    try:
        described = connection.execute(sql.SQL("SELECT pg_typeof({}) FROM {} LIMIT 1").format(version, name)).fetchone()
        labels: list[str] | None = None
        number = sql.SQL("{}::bigint").format(version)
        if described is not None and described[0] not in _INTEGERS:
            distinct = "SELECT {0}::text FROM (SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL) AS v ORDER BY {0}"
            labels = [row[0] for row in connection.execute(sql.SQL(distinct).format(version, name))]
            rank = "CASE WHEN {0} IS NOT NULL THEN dense_rank() OVER (ORDER BY {0}) END"
            number = sql.SQL(rank).format(version)  # NULLs sort last, so that ranks of the others begin at 1
        columns = sql.SQL(", ").join(
            [
                *(sql.SQL("{}::bigint").format(sql.Identifier(column)) for column in (table.id, table.tenant)),
                sql.SQL("coalesce({}, {})").format(number, sql.Literal(NO_VERSION)),
                sql.SQL("coalesce({}::bigint, 0)").format(sql.Identifier(table.operation)),
            ]
        )
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(columns, name)
        with connection.cursor().copy(query) as copy:
            data = b"".join(copy)
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable, psycopg.errors.CannotCoerce) as problem:
        raise ScenarioProblem(f"[rows] does not fit the table: {one_line(str(problem).splitlines()[0])}") from None
    except psycopg.Error as problem:
        raise DatabaseProblem(f"cannot read table {table.table} after the run: {one_line(str(problem))}") from None
    return parse_copy(data), labels


def ask_invariants(connection: psycopg.Connection[Any], scenario: Scenario) -> tuple[Violation, ...]:
    """Ask each invariant's query for the rows that break it; raises ScenarioProblem if the server refuses one."""
    found = []
    for name, query in scenario.invariants.items():
        with connection.cursor(row_factory=dict_row) as cursor:
            _ask(cursor, scenario, f"invariants.{name}", query)
            rows = tuple({key: _plain(value) for key, value in row.items()} for row in cursor.fetchmany(_SHOWN))
            found.append(Violation(invariant=name, count=cursor.rowcount, rows=rows))
    return tuple(found)


def ask_measures(connection: psycopg.Connection[Any], scenario: Scenario) -> dict[str, Any]:
    """Ask each measure's query for its one value; raises ScenarioProblem if the server refuses one."""
    measured: dict[str, Any] = {}
    for name, query in scenario.measures.items():
        with connection.cursor() as cursor:
            _ask(cursor, scenario, f"measures.{name}", query)
            row = cursor.fetchone()
            measured[name] = None if row is None else _plain(row[0])
    return measured


_SHOWN = 5


def _ask(cursor: psycopg.Cursor[Any], scenario: Scenario, where: str, query: str) -> None:
    try:
        cursor.execute(query.encode())
    except psycopg.Error as problem:
        message = problem.diag.message_primary or str(problem)
        raise ScenarioProblem(f"{scenario.locate(where)}: the server refuses this query: {one_line(message)}") from None
    if cursor.description is None:
        raise ScenarioProblem(f"{scenario.locate(where)}: the query returns no rows; it must be a SELECT")


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


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
