"""Where the order in which rows are stored decides which rows are found, no schedule is accused of that order alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from racebench import Bench
from racebench.core.verdict import Verdict

pytestmark = pytest.mark.server

Connection = psycopg.Connection[Any]
Call = Callable[[Connection], object]

NOTES = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, what int)"
ADD = "INSERT INTO notes (what) VALUES (%s)"
PLACES = "CREATE TABLE places (n int UNIQUE)"
COUNTERS = "CREATE TABLE counters (id int, n int); INSERT INTO counters SELECT i, 0 FROM generate_series(1, {rows}) i"
JOBS = "CREATE TABLE jobs (id int, worker text); INSERT INTO jobs SELECT generate_series(1, 3)"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def adds(statement: str, *numbers: int) -> Call:
    def add(connection: Connection) -> None:
        with connection.transaction():
            for number in numbers:
                connection.execute(statement, (number,))

    return add


def adds_and_reads(reading: str, *, together: bool = False) -> Call:
    """Adds two rows, and returns two of those that are there then, sorted; `together`: in one transaction."""

    def add(connection: Connection) -> list[int]:
        with connection.transaction():
            adds(ADD, 1, 2)(connection)
            if together:
                return read(connection)
        with connection.transaction():
            return read(connection)

    def read(connection: Connection) -> list[int]:
        return sorted(what for (what,) in connection.execute(reading).fetchall())

    return add


@pytest.mark.parametrize("together", [False, True])
def test_which_rows_a_limit_leaves_is_not_judged_where_rows_were_inserted_by_turns(
    bench: Bench, together: bool
) -> None:
    """Rows stored in the order 1, 3, 2, 4: LIMIT 2 returns 1 and 3. In a serial order it returns 1 and 2, or 3 and 4,
    unless the server has put a row where there was room."""
    unordered, ordered = (
        adds_and_reads(f"SELECT what FROM notes {order} LIMIT 2", together=together) for order in ("", "ORDER BY what")
    )
    setup = f"{NOTES}; COMMENT ON TABLE notes IS 'new, together: {together}'"  # without room that others have left
    explored = bench.explore(unordered, adds(ADD, 3, 4), setup=setup)
    assert (explored.verdict, explored.anomalous) == (Verdict.UNKNOWN, 0)
    assert "only if rows are stored in the order in which" in " ".join(str(explored).split())
    assert bench.explore(ordered, adds(ADD, 3, 4), setup=setup).verdict is Verdict.VALID


def test_whether_an_update_meets_a_unique_constraint_is_not_judged_where_rows_were_inserted_by_turns(
    bench: Bench,
) -> None:
    """4, 3, 2, 1 in this order can be moved up by one each. 4, 2, 3, 1 cannot: 2 would become 3 while 3 is there."""

    def moves_up(connection: Connection) -> bool:
        adds("INSERT INTO places VALUES (%s)", 4, 2)(connection)
        try:
            with connection.transaction():
                connection.execute("UPDATE places SET n = n + 1")
        except psycopg.errors.UniqueViolation:
            return False
        return True

    explored = bench.explore(moves_up, adds("INSERT INTO places VALUES (%s)", 3, 1), setup=PLACES)
    assert (explored.verdict, explored.anomalous) == (Verdict.UNKNOWN, 0)


@pytest.mark.parametrize(("rows", "reading"), [(2, "ORDER BY id LIMIT 1"), (1, "LIMIT 1")])
def test_a_lost_update_is_accused_with_a_limit_too(bench: Bench, rows: int, reading: str) -> None:
    def count(connection: Connection) -> None:
        with connection.transaction():
            row = connection.execute(f"SELECT id, n FROM counters {reading}").fetchone()
            assert row is not None
            connection.execute("UPDATE counters SET n = %s WHERE id = %s", (row[1] + 1, row[0]))

    assert bench.explore(count, count, setup=COUNTERS.format(rows=rows)).verdict is Verdict.INVALID


def test_two_that_claim_one_job_are_accused_though_the_order_decides_which_job_it_is(bench: Bench) -> None:
    def claim(worker: str) -> Call:
        def claims(connection: Connection) -> object:
            with connection.transaction():
                row = connection.execute("SELECT id FROM jobs WHERE worker IS NULL LIMIT 1").fetchone()
                assert row is not None
                connection.execute("UPDATE jobs SET worker = %s WHERE id = %s", (worker, row[0]))
                return row[0]

        return claims

    explored = bench.explore(claim("one"), claim("two"), setup=JOBS)
    assert explored.verdict is Verdict.INVALID
