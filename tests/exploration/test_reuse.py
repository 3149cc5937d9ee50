"""What an exploration leaves open for the next: used again where nothing is left in it, and made anew where it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from racebench.api import Bench
from racebench.core.verdict import Verdict
from racebench.exploration.known import Known, Names
from racebench.postgres.connection import connect

SETUP = "CREATE TABLE orders (number int); CREATE SEQUENCE numbers CACHE 20;"
OTHER = "CREATE TABLE orders (number int, note text); CREATE SEQUENCE numbers CACHE 20;"
WITH_ROWS = SETUP + "INSERT INTO orders VALUES (1), (2);"
DATED = "CREATE TABLE orders (made timestamptz); CREATE SEQUENCE numbers; INSERT INTO orders VALUES (now());"
#: Whatever a session may hold that a new one does not; and which backend, and which table, it works with.
HELD = """
SELECT current_setting('work_mem'), to_regclass('pg_temp.leftover') IS NULL, current_setting('my.own', true),
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_cursors), pg_my_temp_schema()::int, current_user = session_user
"""
NOTHING = ("4MB", True, None, 0, 0, 0, 0, 0, True)
WHERE = "SELECT pg_backend_pid(), 'orders'::regclass::oid::int, (SELECT count(*) FROM orders)"
Where = tuple[int, int, int]


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as made:
        yield made


def look(seen: list[Where], held: list[tuple[Any, ...]] | None = None) -> Callable[[], None]:
    """A call that notes where it works, and what its session holds."""

    def looks() -> None:
        with psycopg.connect(os.environ["RACEBENCH_DSN"]) as connection:
            if held is not None:
                held.append(connection.execute(HELD).fetchone() or ())
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), connection.transaction():
                    connection.execute("SELECT lastval()")
            seen.append(connection.execute(WHERE).fetchone() or (0, 0, 0))

    return looks


def sends(statement: str) -> Callable[[], None]:
    def send() -> None:
        with psycopg.connect(os.environ["RACEBENCH_DSN"], autocommit=True) as connection:
            connection.execute(statement.encode())

    return send


def places(bench: Bench, setup: Any = SETUP, **options: Any) -> tuple[set[int], set[int]]:
    """The backends and the tables of an exploration of a call that only looks."""
    seen: list[Where] = []
    found = bench.explore(look(seen), setup=setup, sessions=2, **options)
    assert found.verdict is Verdict.VALID
    assert len({rows for *_, rows in seen}) == 1
    return {pid for pid, *_ in seen}, {table for _, table, _ in seen}


def test_the_next_exploration_has_the_same_schema_and_the_same_backends(bench: Bench) -> None:
    assert places(bench) == places(bench) == places(bench, invariant="SELECT number FROM orders WHERE number < 0")


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '1MB'",
        "SET my.own = '1'",
        "SELECT set_config('my.own', '1', true)",
        "CREATE TEMP TABLE leftover (a int)",
        "PREPARE leftover AS SELECT 1",
        "LISTEN leftover",
        "SELECT pg_advisory_lock(7)",
        "SELECT nextval('numbers')",
        "BEGIN; DECLARE leftover CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "DO $$ BEGIN PERFORM set_config('my.own', '1', false); END $$",
    ],
)
def test_nothing_that_a_session_held_is_left_for_the_next_exploration(bench: Bench, statement: str) -> None:
    """What a session holds at its first statement is seen in one schedule as in all of them."""
    bench.explore(sends(statement), setup=SETUP, sessions=2)
    seen: list[Where] = []
    held: list[tuple[Any, ...]] = []
    bench.explore(look(seen, held), setup=SETUP, sessions=2, max_schedules=3)
    assert {*held} == {NOTHING}


def test_a_cached_number_of_a_sequence_is_not_left_for_the_next_exploration(bench: Bench) -> None:
    drawn: list[int] = []

    def draws() -> None:
        with psycopg.connect(os.environ["RACEBENCH_DSN"]) as connection:
            drawn.append((connection.execute("SELECT nextval('numbers')").fetchone() or (0,))[0])

    every = []
    for _ in range(2):
        drawn.clear()
        bench.explore(draws, setup=SETUP, sessions=2)
        every.append([*drawn])
    assert every[0] == every[1]


@pytest.mark.parametrize("statement", ["SELECT setseed(0.5)", "SELECT random()"])
def test_a_backend_whose_random_numbers_were_seeded_is_not_used_again(bench: Bench, statement: str) -> None:
    before, _ = places(bench)
    bench.explore(sends(statement), setup=SETUP, sessions=2)
    after, _ = places(bench)
    assert not before & after


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE orders ADD COLUMN more int",
        "CREATE INDEX ON orders (number)",
        "ANALYZE orders",
        "CREATE TABLE more ()",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "GRANT SELECT ON orders TO PUBLIC",
    ],
)
def test_a_schema_that_was_changed_in_between_is_made_anew(bench: Bench, change: str) -> None:
    _, before = places(bench, WITH_ROWS)
    with connect(bench._up(), schema=bench._schema) as connection:
        connection.execute(change.encode())
    _, after = places(bench, WITH_ROWS)
    assert not before & after


def test_rows_and_sequences_that_were_changed_in_between_are_restored(bench: Bench) -> None:
    _, before = places(bench, WITH_ROWS)
    with connect(bench._up(), schema=bench._schema) as connection:
        connection.execute("DELETE FROM orders WHERE number = 1; SELECT nextval('numbers')")
    seen: list[Where] = []
    bench.explore(look(seen), setup=WITH_ROWS, sessions=2)
    assert {(table, rows) for _, table, rows in seen} == {(next(iter(before)), 2)}
    with connect(bench._up(), schema=bench._schema) as connection:
        assert connection.execute("SELECT last_value, is_called FROM numbers").fetchone() == (1, False)


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("CREATE TABLE IF NOT EXISTS public.outside ()", False),
        ("ALTER TABLE orders ADD COLUMN IF NOT EXISTS more int", False),
        ("SELECT lo_create(0)", True),  # large objects are restored by themselves
    ],
)
def test_what_calls_change_besides_rows_is_not_left_for_the_next_exploration(
    bench: Bench, statement: str, *, kept: bool
) -> None:
    _, before = places(bench)
    bench.explore(sends(statement), setup=SETUP, sessions=2, max_schedules=3)
    _, after = places(bench)
    assert bool(before & after) is kept
    with connect(bench._up()) as connection:
        assert connection.execute("SELECT to_regclass('public.outside') IS NULL").fetchone() == (True,)
        assert connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)


@pytest.mark.parametrize(("first", "second"), [(SETUP, OTHER), (DATED, DATED)])
def test_another_setup_and_rows_of_another_time_are_made_anew(bench: Bench, first: str, second: str) -> None:
    _, before = places(bench, first)
    _, after = places(bench, second)
    assert not before & after


def test_what_else_needs_the_schema_has_it_to_itself(cache_folder: Path) -> None:
    insert = sends("INSERT INTO orders VALUES (1)")
    with Bench() as bench:
        places(bench)
        assert bench.hammer(insert, setup=SETUP, workers=2, operations=10).verdict is not Verdict.INVALID
        places(bench)
        found = bench.explore(insert, setup=SETUP, sessions=2)
        assert bench.explore(insert, setup=sets_up, sessions=2).verdict is Verdict.VALID
        places(bench)
        with psycopg.connect(bench.dsn, autocommit=True) as connection:
            connection.execute(SETUP)
        places(bench, setup=())
        assert found.verdict is Verdict.VALID


def sets_up(connection: psycopg.Connection[Any]) -> None:
    connection.execute(SETUP)


def test_a_fork_of_the_process_uses_no_connection_of_it(bench: Bench) -> None:
    before = places(bench)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, repr(places(bench)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    pids, tables = eval(text.decode())
    assert not pids & before[0]
    assert not tables & before[1]
    assert places(bench) == before


def test_an_exploration_that_fails_leaves_nothing(bench: Bench) -> None:
    _, before = places(bench)
    with pytest.raises(Exception, match="fails when it runs alone"):
        bench.explore(sends("SELECT 1 / 0"), setup=SETUP, sessions=2)
    _, after = places(bench)
    assert not before & after


def known(bench: Bench) -> Known:
    """What the bench keeps of its last exploration for the next."""
    assert bench._reuse is not None
    assert bench._reuse._kept is not None
    return bench._reuse._kept.place.known


def test_what_the_catalogs_said_is_kept_until_they_change(bench: Bench) -> None:
    places(bench)
    before = known(bench)
    places(bench)
    assert known(bench) is before
    # It could be volatile, or write: no definition that is compared has it.
    with connect(bench._up(), schema=bench._schema) as connection:
        connection.execute("CREATE OPERATOR === (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int)")
    places(bench)
    assert known(bench) is not before
    assert known(bench).names.volatile


def test_names_that_a_call_may_have_changed_are_asked_for_again(bench: Bench) -> None:
    places(bench)
    assert known(bench).names.volatile
    bench.explore(sends("CREATE TABLE IF NOT EXISTS orders ()"), setup=SETUP, sessions=2, max_schedules=3)
    assert known(bench).names == Names()


NUMBERED = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


def numbers(pids: set[int], *, lock: bool) -> Callable[[], None]:
    """A call that numbers a row, with statements that are prepared; `lock`: alone."""

    def inserts() -> None:
        with psycopg.connect(os.environ["RACEBENCH_DSN"]) as connection:
            pids.add(connection.info.backend_pid)
            if lock:
                connection.execute("SELECT pg_advisory_xact_lock(1)", prepare=True)
            rows = connection.execute("SELECT * FROM orders ORDER BY number DESC", prepare=True).fetchall()
            number = 1 + (int(rows[0][0]) if rows else 0)
            connection.execute("INSERT INTO orders (number) VALUES (%s)", (number,), prepare=True)

    return inserts


@pytest.mark.parametrize(("lock", "verdict"), [(False, Verdict.INVALID), (True, Verdict.VALID)])
def test_statements_that_were_prepared_on_other_tables_change_no_verdict(
    bench: Bench, *, lock: bool, verdict: Verdict
) -> None:
    pids: list[set[int]] = []
    for setup in (SETUP, SETUP, OTHER, SETUP):  # of the same tables, and of tables with other columns
        pids.append(set())
        found = bench.explore(numbers(pids[-1], lock=lock), setup=setup, invariant=NUMBERED, sessions=2)
        assert found.verdict is verdict
    assert set.intersection(*pids)


def test_a_function_is_planned_anew_where_another_setup_defines_it(bench: Bench) -> None:
    pids: set[int] = set()

    def inserts() -> None:
        with psycopg.connect(os.environ["RACEBENCH_DSN"]) as connection:
            pids.add(connection.info.backend_pid)
            connection.execute("INSERT INTO orders VALUES (next_number())")

    bodies = {
        Verdict.INVALID: "(SELECT coalesce(max(number), 0) + 1 FROM orders)",
        Verdict.VALID: "nextval('numbers')",
    }
    for verdict in (Verdict.INVALID, Verdict.VALID, Verdict.INVALID, Verdict.VALID):
        function = "CREATE FUNCTION next_number() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN {}; END $$;"
        setup = SETUP + function.format(bodies[verdict])
        found = bench.explore(inserts, setup=setup, invariant=NUMBERED, sessions=2)
        assert found.verdict is verdict
    assert len(pids) == 2


def test_other_calls_and_invariants_on_the_same_tables_are_judged_by_themselves(bench: Bench) -> None:
    never = "SELECT number FROM orders WHERE number < 0"
    for lock, invariant, verdict in (
        (False, NUMBERED, Verdict.INVALID),
        (True, NUMBERED, Verdict.VALID),
        (False, NUMBERED, Verdict.INVALID),
        (True, "SELECT number FROM orders WHERE number > 1 AND number < 2", Verdict.VALID),
        (True, never, Verdict.VALID),
    ):
        found = bench.explore(numbers(set(), lock=lock), setup=SETUP, invariant=invariant, sessions=2)
        assert found.verdict is verdict
