"""Reads the numbered table from the server after a run, once, by binary COPY, and runs invariants and measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.rows import dict_row

from racebench.core.errors import DatabaseProblem, ScenarioProblem
from racebench.core.libpq import next_result, receive
from racebench.core.model import NumberedRows, Scenario
from racebench.core.plain_text import one_line
from racebench.core.quantity import quantity
from racebench.core.watching import beat
from racebench.history import Violation
from racebench.history.records import NO_VERSION
from racebench.history.rows import ROW, Labels
from racebench.history.spill import Scratch

Array = npt.NDArray[Any]

_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_SHOWN = 5
_BYTES = 8 << 20


def read_rows(
    connection: psycopg.Connection[Any], table: NumberedRows, scratch: Scratch
) -> tuple[Array, Labels | None]:
    """Read the table: ROW, in the order of its pages, and the versions' texts if they are not integers.

    NULL versions are NO_VERSION; versions that are not integers become their ranks, from 1. Rows go to scratch space as
    they arrive. Raises ScenarioProblem if a column is missing, or a column other than the version is not an integer.
    """
    name, version = sql.Identifier(table.table), sql.Identifier(table.version)
    try:
        described = connection.execute(sql.SQL("SELECT pg_typeof({}) FROM {} LIMIT 1").format(version, name)).fetchone()
        labels: Labels | None = None
        number = sql.SQL("{}::bigint").format(version)
        if described is not None and described[0] not in _INTEGERS:
            labels = _read_labels(connection, version, name, scratch)
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
        rows = scratch.column(ROW)
        for part in parse_copy(_copied(connection, query)):
            rows.append(part)
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable, psycopg.errors.CannotCoerce) as problem:
        raise ScenarioProblem(f"[rows] does not fit the table: {one_line(str(problem).splitlines()[0])}") from None
    except psycopg.Error as problem:
        raise DatabaseProblem(f"cannot read table {table.table} after the run: {one_line(str(problem))}") from None
    return rows.array(), labels


def ask_repeated(
    connection: psycopg.Connection[Any], table: NumberedRows, numbers: Sequence[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Those of some numbers, each a tenant and a version, that several committed rows have.

    One statement, which an index on tenant and version makes cheap. Raises psycopg.Error if the server refuses it, as
    where versions are not integers.
    """
    name, tenant, version = map(sql.Identifier, (table.table, table.tenant, table.version))
    asked = sql.SQL(", ").join(sql.SQL("({}, {})").format(*number) for number in numbers)
    query = sql.SQL(
        "SELECT {1}::bigint, {2}::bigint FROM {0} WHERE ({1}, {2}) IN ({3}) GROUP BY {1}, {2} HAVING count(*) > 1"
    ).format(name, tenant, version, asked)
    return {(int(row[0]), int(row[1])) for row in connection.execute(query)}


def _read_labels(
    connection: psycopg.Connection[Any], version: sql.Identifier, name: sql.Identifier, scratch: Scratch
) -> Labels:
    """The distinct versions in the server's order, as text, one a line."""
    distinct = "SELECT {0}::text FROM (SELECT DISTINCT {0} FROM {1} WHERE {0} IS NOT NULL) AS v ORDER BY {0}"
    query = sql.SQL("COPY ({}) TO STDOUT").format(sql.SQL(distinct).format(version, name))
    text, ends = scratch.column(np.uint8), scratch.column(np.int64)
    for block in _copied(connection, query):
        characters = np.frombuffer(block, np.uint8)
        ends.append(np.flatnonzero(characters == ord("\n")) + text.count)
        text.append(characters)
    return Labels(text=text.array(), ends=ends.array())


def _copied(connection: psycopg.Connection[Any], query: sql.Composed) -> Iterator[bytes]:
    """A COPY's stream in blocks of some megabytes. It calls libpq directly, twice as fast as reading row by row."""
    pgconn = connection.pgconn
    pgconn.send_query(query.as_bytes(connection))
    result = next_result(pgconn)
    if result is None or result.status != ExecStatus.COPY_OUT:
        _finish(pgconn, result)
    block = bytearray()
    more = pgconn.get_copy_data
    while True:
        size, row = more(1)
        if not size:
            receive(pgconn)
            continue
        if size < 0:
            break
        block += row
        if len(block) >= _BYTES:
            beat()
            yield bytes(block)
            block.clear()
    _finish(pgconn, None)  # an error during the COPY is raised here
    yield bytes(block)


def _finish(pgconn: Any, result: Any) -> None:
    """Read a statement's remaining results; raises the server's error if it failed."""
    problem: psycopg.Error | None = None
    while result is not None or (result := next_result(pgconn)) is not None:
        if result.status == ExecStatus.FATAL_ERROR:
            problem = psycopg.errors.error_from_result(result)
        result = None
    if problem is not None:
        raise problem


def ask_invariants(connection: psycopg.Connection[Any], scenario: Scenario) -> tuple[Violation, ...]:
    """Run each invariant's query, which returns the rows that break it; raises ScenarioProblem if one is refused."""
    violations = []
    for name, query in scenario.invariants.items():
        with connection.cursor(row_factory=dict_row) as cursor:
            _ask(cursor, scenario, f"invariants.{name}", query)
            rows = tuple({key: _plain(value) for key, value in row.items()} for row in cursor.fetchmany(_SHOWN))
            violations.append(Violation(invariant=name, count=cursor.rowcount, rows=rows))
    return tuple(violations)


def ask_measures(connection: psycopg.Connection[Any], scenario: Scenario) -> dict[str, Any]:
    """Run each measure's query, which returns one value; raises ScenarioProblem if the server refuses one."""
    measured: dict[str, Any] = {}
    for name, query in scenario.measures.items():
        with connection.cursor() as cursor:
            _ask(cursor, scenario, f"measures.{name}", query)
            if not cursor.description:
                where = scenario.locate(f"measures.{name}")
                raise ScenarioProblem(f"{where}: the query returns no column; it must return one value")
            row = cursor.fetchone()
            measured[name] = None if row is None else _plain(row[0])
    return measured


def _ask(cursor: psycopg.Cursor[Any], scenario: Scenario, where: str, query: str) -> None:
    try:
        cursor.execute(query.encode())
    except psycopg.Error as problem:
        message = problem.diag.message_primary or str(problem)
        raise ScenarioProblem(f"{scenario.locate(where)}: the server refuses this query: {one_line(message)}") from None
    if cursor.description is None:
        raise ScenarioProblem(f"{scenario.locate(where)}: the query returns no rows; it must be a SELECT")


def _plain(value: Any) -> Any:
    """The value in a form that JSON has: it has no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
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


def parse_copy(blocks: Iterable[bytes]) -> Iterator[Array]:
    """Parse a binary COPY stream of four bigint columns, none NULL, into ROW records; blocks may end anywhere.

    Raises DatabaseProblem if the stream is cut short. Source: PostgreSQL's documentation, COPY, "Binary Format".
    """
    left, taken, header = b"", 0, True
    for block in blocks:
        left += block
        if header and len(left) >= _HEADER:
            left, header = left[_HEADER:], False
        count = 0 if header else max(0, len(left) - _TRAILER) // _TUPLE.itemsize
        if count:
            tuples = np.frombuffer(left, _TUPLE, count)
            rows = np.empty(count, ROW)
            for n, name in enumerate(ROW.names or ()):
                rows[name] = tuples[f"value{n}"]
            yield rows
            taken += count
            left = left[count * _TUPLE.itemsize :]
    if header or left != b"\xff\xff":
        raise DatabaseProblem(f"the table's COPY stream is cut short after {quantity(taken, 'row')}; run again")
