"""A schedule begins with tables whose indexes keep nothing of earlier schedules, where that may matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
import pytest

from conftest import UsersServer
from racebench import Bench, Search
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.isolation import Ground, RestoredTables
from racebench.exploration.leftovers import Leftover
from racebench.exploration.physical import Physical
from racebench.exploration.result import Beginning, ScheduleOutcome, Start, Unseen
from racebench.exploration.sessions.session import Session
from racebench.postgres.connection import connect
from racebench.postgres.storage import Care

pytestmark = pytest.mark.server

Connection = psycopg.Connection[Any]

#: A range that is outside of every key of the index. With 400 rows a GiST index has two levels. Wide rows make a scan
#: of the table dearer than one of the index.
GAP = "int8range(500000, 500005)"
BOOKINGS = """
CREATE TABLE bookings (during int8range NOT NULL, note text NOT NULL DEFAULT repeat('-', 500));
INSERT INTO bookings (during) SELECT int8range(i * 10, i * 10 + 5) FROM generate_series(1, 400) AS i;
CREATE INDEX bookings_during ON bookings USING {method} (during);
ANALYZE bookings;
"""
TWICE = f"SELECT during FROM bookings WHERE during = {GAP} GROUP BY during HAVING count(*) > 1"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def book(connection: Connection) -> None:
    """Book the gap if it is free, under SERIALIZABLE, and again if the server refuses it."""
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    while True:
        try:
            with connection.transaction():
                if not connection.execute(f"SELECT during FROM bookings WHERE during && {GAP}").fetchall():
                    connection.execute(f"INSERT INTO bookings (during) VALUES ({GAP})")
        except psycopg.errors.SerializationFailure:
            continue
        return


@pytest.mark.parametrize("reduce", [True, False])
def test_the_hole_of_gist_shows_in_every_schedule_in_which_both_read_first(bench: Bench, reduce: bool) -> None:
    search = Search(reduce=reduce)
    found = bench.explore(book, setup=BOOKINGS.format(method="gist"), invariant=TWICE, search=search)
    # BEGIN, SELECT, INSERT and COMMIT of two sessions have 70 orders. In 10 of them one commits before the other reads.
    assert (found.run, found.anomalous) == ((7, 6) if reduce else (70, 60))
    assert len(found.result.outcomes) == 2
    assert found.result.beginning == Beginning(
        start=Start.ANEW, reasons=("an index has the access method gist", "transactions are serializable")
    )
    assert "Each schedule began with tables made anew, as an index has the access method gist, and" in str(found)


@pytest.mark.parametrize(("method", "start"), [("btree", Start.PAGES), ("spgist", Start.ANEW)])
def test_the_same_over_another_index_is_refused_and_goes_right_at_the_second_try(
    bench: Bench, method: str, start: Start
) -> None:
    found = bench.explore(book, setup=BOOKINGS.format(method=method), invariant=TWICE)
    assert found.result.beginning is not None
    assert (found.verdict, found.anomalous, found.result.beginning.start) == (Verdict.VALID, 0, start)


def reads_1_and_writes_2(connection: Connection) -> None:
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with connection.transaction():
        connection.execute("SELECT note FROM seats WHERE id = 1").fetchall()
        connection.execute("UPDATE seats SET note = note WHERE id = 2")


def reads_3_and_writes_1(connection: Connection) -> None:
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with connection.transaction():
        connection.execute("SELECT note FROM seats WHERE id BETWEEN 3 AND 5").fetchall()
        connection.execute("UPDATE seats SET note = note WHERE id = 1")


def test_what_is_refused_does_not_depend_on_the_schedules_before(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicate locks are on pages: dead rows, and pages that were added for them, decide what is refused."""
    setup = """
    CREATE TABLE seats (id int PRIMARY KEY, note text STORAGE PLAIN);
    INSERT INTO seats SELECT i, repeat('-', 1200) FROM generate_series(1, 6) AS i;
    """

    def outcomes() -> Mapping[ScheduleOutcome, int]:
        found = bench.explore(reads_1_and_writes_2, reads_3_and_writes_1, setup=setup, invariant=())
        assert any(session.sqlstate == "40001" for outcome in found.result.outcomes for session in outcome.sessions)
        return found.result.outcomes

    by_pages = outcomes()
    monkeypatch.setattr(Physical, "care", property(lambda _: Care.ALL))
    assert by_pages == outcomes()


def test_the_server_does_not_vacuum_or_analyze_in_the_middle_of_a_search(bench: Bench) -> None:
    def watch(connection: Connection) -> None:
        query = "SELECT reloptions FROM pg_class WHERE oid = 'bookings'::regclass"
        with connection.transaction():
            assert connection.execute(query).fetchone() == (["autovacuum_enabled=false"],)

    assert bench.explore(watch, setup=BOOKINGS.format(method="btree"), invariant=()).verdict is Verdict.VALID


def test_ordinary_code_begins_with_restored_rows(bench: Bench) -> None:
    def book_at_read_committed(connection: Connection) -> None:
        connection.execute(f"INSERT INTO bookings (during) VALUES ({GAP})")
        connection.commit()

    found = bench.explore(book_at_read_committed, setup=BOOKINGS.format(method="btree"), invariant=())
    assert found.result.beginning == Beginning(start=Start.RESTORED)


def test_tables_of_the_application_are_made_anew_too_on_the_users_server(users_server: UsersServer) -> None:
    with Bench(users_server.dsn()) as bench:
        with psycopg.connect(bench.dsn, autocommit=True) as connection:
            connection.execute(BOOKINGS.format(method="gist").encode())
        found = bench.explore(book, invariant=TWICE)
        assert found.result.beginning is not None
        assert (found.run, found.anomalous, found.result.beginning.start) == (7, 6, Start.ANEW)
        with psycopg.connect(bench.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM bookings").fetchone() == (400,)


UNTRUNCATED = "REVOKE TRUNCATE ON bookings FROM CURRENT_USER;"


def test_where_the_tables_cannot_be_made_anew_the_hole_is_not_denied(bench: Bench) -> None:
    found = bench.explore(book, setup=BOOKINGS.format(method="gist") + UNTRUNCATED, invariant=TWICE)
    assert (found.verdict, found.result.unseen) == (Verdict.UNKNOWN, Unseen.PHYSICAL)
    assert "could not be made anew for each schedule (permission denied for table bookings)" in str(found)
    found = bench.explore(book, setup=BOOKINGS.format(method="btree") + UNTRUNCATED, invariant=TWICE)
    assert found.verdict is Verdict.VALID
    assert "The tables were not made anew for each schedule, though transactions are serializable" in str(found)


def test_code_that_is_serializable_only_after_a_race_is_noticed(bench: Bench) -> None:
    def book_once_more(connection: Connection) -> None:
        taken = connection.execute("SELECT FROM rooms").rowcount
        connection.commit()
        try:
            if not taken:
                connection.execute("INSERT INTO rooms VALUES (1)")
                connection.commit()
        except psycopg.errors.UniqueViolation:
            connection.rollback()
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.execute("INSERT INTO losers VALUES (1)")
            connection.commit()

    setup = "CREATE TABLE rooms (id int PRIMARY KEY); CREATE TABLE losers (id int)"
    found = bench.explore(book_once_more, setup=setup, invariant=())
    assert {len(outcome.sessions) for outcome in found.result.outcomes} == {2}
    assert found.result.complete
    assert found.result.beginning == Beginning(start=Start.PAGES, reasons=("transactions are serializable",))


@dataclass
class _Session:
    """Stands for a session of which it shows during a schedule that it is serializable."""

    serializable: bool = False
    leaves: Mapping[Leftover, str] = field(default_factory=dict)

    def clean(self) -> None:
        """Nothing is left."""


def test_a_schedule_in_which_that_shows_is_one_to_run_again(embedded: Target) -> None:
    with connect(embedded, schema="racebench_beginning") as connection:
        connection.execute("CREATE SCHEMA racebench_beginning; CREATE TABLE racebench_beginning.t (a int)")
        session = _Session()
        ground = Ground(
            connection=connection,
            schema="racebench_beginning",
            sessions=[cast("Session", session)],
            exclusive=False,
            remake=None,
            expected={},
        )
        isolation = RestoredTables(ground)
        isolation.renew()
        assert isolation.suffices
        session.serializable = True
        assert not isolation.suffices
        isolation.renew()
        assert isolation.suffices
        connection.execute("DROP SCHEMA racebench_beginning CASCADE")
