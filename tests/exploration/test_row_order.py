"""The order in which the server returns rows without ORDER BY accuses no schedule, and acquits none."""

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

#: Two rows fill a page. Dead rows leave room, so that a session's row may come to stand before an older one.
NOTES = "CREATE TABLE notes (what int, pad text STORAGE PLAIN)"
ADD, READ = "INSERT INTO notes VALUES (%s, repeat('-', 3000))", "SELECT what FROM notes"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def rows(connection: Connection) -> list[int]:
    return [what for (what,) in connection.execute(READ).fetchall()]


def one_waits_for_the_other(number: int, read: Callable[[Connection], object] = rows) -> Call:
    def waits(connection: Connection) -> object:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(1)")
            connection.execute(ADD, (number,))
            return read(connection)

    return waits


def both_read_first(number: int) -> Call:
    def reads(connection: Connection) -> list[int]:
        with connection.transaction():
            read = rows(connection)
            connection.execute(ADD, (number,))
            return read

    return reads


def first(connection: Connection) -> object:
    """One of the rows, whichever the server returns first."""
    return connection.execute(f"{READ} LIMIT 1").fetchone()


@pytest.mark.parametrize(
    ("calls", "verdicts"),
    [
        ([one_waits_for_the_other(1), one_waits_for_the_other(2)], {Verdict.VALID}),
        # Which row is the first may differ each time that the schedule is run.
        ([one_waits_for_the_other(1, first), one_waits_for_the_other(2, first)], {Verdict.VALID, Verdict.UNKNOWN}),
        ([both_read_first(1), both_read_first(2)], {Verdict.INVALID}),
    ],
)
def test_where_the_schedules_before_have_left_room_for_rows_accuses_nobody(
    bench: Bench, calls: list[Call], verdicts: set[Verdict]
) -> None:
    assert bench.explore(*calls, setup=NOTES).verdict in verdicts


def adds_two(connection: Connection) -> None:
    with connection.transaction():
        for number in (1, 2):
            connection.execute(ADD, (number,))


def adds_one_and_reads(connection: Connection) -> list[int]:
    with connection.transaction():
        connection.execute(ADD, (3,))
        return rows(connection)


def adds_one_and_reads_in_order(connection: Connection) -> list[int]:
    return sorted(adds_one_and_reads(connection))


def test_rows_that_were_inserted_between_others_are_not_judged_by_their_order(bench: Bench) -> None:
    """The second call reads [3, 1, 2]. After the first it reads [1, 2, 3], alone [3]; all are what SQL allows."""
    setup = NOTES.replace("STORAGE PLAIN", "")  # the rows of all schedules fit into one page
    unordered = bench.explore(adds_two, adds_one_and_reads, setup=setup)
    assert (unordered.verdict, unordered.anomalous) == (Verdict.UNKNOWN, 0)
    assert "answered with the rows of a serial order in another order" in " ".join(str(unordered).split())
    assert bench.explore(adds_two, adds_one_and_reads_in_order, setup=setup).verdict is Verdict.VALID
