"""Twenty kinds of programs, each with its race and without: every verdict is right, and none needs an invariant.

What the database makes up is no difference, and hides none; right programs that are not serializable can be allowed.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import UniqueViolation

from exploration import programs
from exploration.programs import Connection, value
from racebench.api import Bench
from racebench.core.verdict import Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "without-invariant.md").read_text()


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as server:
        yield server


#: The classical names of the races that have one.
RACES = {
    "booking_overlap": "phantom",
    "counter_with_f": "lost update",
    "follower_count": "phantom",
    "get_or_create": "phantom",
    "invoice_number": "duplicate number",
    "job_locks": "write skew",
    "lock_in_a_pooler": "phantom",
    "lock_never_taken": "lost update",
    "lock_on_missing_rows": "phantom",
    "lock_on_the_wrong_key": "phantom",
    "status_machine": "lost update",
    "version_column": "lost update",
    "voucher": "lost update",
}


@pytest.mark.parametrize("name", programs.NAMES)
def test_a_race_is_found_and_its_fix_proved_without_an_invariant(bench: Bench, name: str) -> None:
    program = programs.load(name)
    buggy = bench.explore(*program.buggy, setup=program.schema, stop_at_first=True)
    assert buggy.verdict is Verdict.INVALID
    assert buggy.counts["non-serializable"] == 1
    assert buggy.result.witness is not None
    assert buggy.result.witness.named == RACES.get(name, "")
    assert f"/{name}.py) | {buggy.result.witness.findings[0]} |\n" in PAGE
    fixed = bench.explore(*program.fixed, setup=program.schema + program.fixed_schema, budget=math.inf)
    assert (fixed.verdict, fixed.complete, fixed.anomalous) == (Verdict.VALID, True, 0)
    if program.invariant:  # a cross-check: a query that was written for this program agrees
        assert buggy.schedule is not None
        again = bench.replay(*program.buggy, schedule=buggy.schedule, setup=program.schema, invariant=program.invariant)
        assert again.counts["violations"] == 1


# What the database makes up

MADE_UP = """
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int UNIQUE, code text,
  key uuid DEFAULT gen_random_uuid(), token uuid, at timestamptz DEFAULT now(), second int, history jsonb, xid xid8);
"""
HISTORY = """
CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE histories (id int PRIMARY KEY, items int[], log text);
INSERT INTO histories VALUES (1, '{}', '');
"""
PARENTS = """
CREATE TABLE parents (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE children (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent int REFERENCES parents);
"""


def create_order(connection: Connection) -> dict[Any, Any]:
    """Right; where its number was taken, an identity is lost, and it draws another token."""
    for _ in range(3):
        try:
            with connection.transaction():
                number = value(connection, "SELECT coalesce(max(number), 0) + 1 FROM orders")
                row = connection.execute(
                    "INSERT INTO orders (number, token, second, history, xid)"
                    " VALUES (%s, %s, extract(epoch FROM now()), jsonb_build_array(now()), pg_current_xact_id())"
                    " RETURNING id, key, at",
                    [number, uuid.uuid4()],
                ).fetchone()
                assert row is not None
                connection.execute("UPDATE orders SET code = 'ORD-' || id WHERE id = %s", [row[0]])
        except UniqueViolation:
            continue
        return {row[0]: f"order {number} ({row[1]}) at {row[2]:%H:%M:%S}", "now": datetime.now()}
    raise RuntimeError("every number was taken")


def add_item(connection: Connection) -> None:
    with connection.transaction():
        item = value(connection, "INSERT INTO items DEFAULT VALUES RETURNING id")
        items = value(connection, "SELECT items FROM histories")
        connection.execute("UPDATE histories SET items = %s", [[*items, item]])


def add_line(connection: Connection) -> None:
    with connection.transaction():
        log = value(connection, "SELECT log FROM histories")
        connection.execute("UPDATE histories SET log = %s", [f"{log}{datetime.now()} called\n"])


def add_child(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO parents DEFAULT VALUES")
    with connection.transaction():
        connection.execute("INSERT INTO children (parent) SELECT max(id) FROM parents")


def test_what_the_database_makes_up_is_no_difference(bench: Bench) -> None:
    found = bench.explore(create_order, setup=MADE_UP, budget=math.inf)
    assert (found.verdict, found.complete) == (Verdict.VALID, True), found
    assert found.run > 2


@pytest.mark.parametrize(
    ("call", "setup"), [(add_item, HISTORY), (add_line, HISTORY), (add_child, PARENTS)], ids=["array", "text", "parent"]
)
def test_what_the_database_makes_up_hides_no_race(bench: Bench, call: programs.Subject, setup: str) -> None:
    found = bench.explore(call, setup=setup, stop_at_first=True)
    assert (found.verdict, found.counts["non-serializable"]) == (Verdict.INVALID, 1)


# What a materialized view holds

COUNTED = """
CREATE TABLE counted (id int PRIMARY KEY, n int);
CREATE MATERIALIZED VIEW seen AS SELECT n FROM counted;
"""


def count_ten(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO counted VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = counted.n + 10")


def show_and_count(connection: Connection) -> None:
    """Wrong: another may count in between, so that the view shows less than what this one adds to."""
    with connection.transaction():
        connection.execute("REFRESH MATERIALIZED VIEW seen")
        connection.execute("INSERT INTO counted VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = counted.n + 1")


def lock_show_and_count(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("LOCK TABLE counted IN EXCLUSIVE MODE")
        show_and_count(connection)


def test_what_a_materialized_view_shows_belongs_to_the_outcome(bench: Bench) -> None:
    wrong = bench.explore(count_ten, show_and_count, setup=COUNTED)
    assert (wrong.verdict, wrong.counts["non-serializable"] > 0) == (Verdict.INVALID, True)
    right = bench.explore(count_ten, lock_show_and_count, setup=COUNTED)
    assert (right.verdict, right.complete) == (Verdict.VALID, True)


# Right programs that are not serializable

RUNS = """
CREATE TABLE pages (id int PRIMARY KEY, views int NOT NULL);
CREATE TABLE runs (id int GENERATED ALWAYS AS IDENTITY);
INSERT INTO pages VALUES (1, 0);
"""


def view_and_read_again(connection: Connection) -> int:
    """Another view may be counted before the number is read."""
    with connection.transaction():
        connection.execute("UPDATE pages SET views = views + 1 WHERE id = 1")
    with connection.transaction():
        return int(value(connection, "SELECT views FROM pages WHERE id = 1"))


def run_unless_it_runs(connection: Connection) -> bool:
    """Does nothing while another session is at it."""
    with connection.transaction():
        if not value(connection, "SELECT pg_try_advisory_xact_lock(9)"):
            return False
        connection.execute("INSERT INTO runs DEFAULT VALUES")
    return True


def test_a_right_program_that_is_not_serializable_can_be_allowed(bench: Bench) -> None:
    assert bench.explore(view_and_read_again, setup=RUNS, stop_at_first=True).verdict is Verdict.INVALID
    assert bench.explore(view_and_read_again, setup=RUNS, oracle="state").verdict is Verdict.VALID
    assert bench.explore(run_unless_it_runs, setup=RUNS, stop_at_first=True).verdict is Verdict.INVALID
    allowed = bench.explore(run_unless_it_runs, setup=RUNS, allow=("non-serializable",))
    assert allowed.verdict is Verdict.VALID
    assert allowed.counts["non-serializable"] > 0
