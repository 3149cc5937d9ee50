"""Every schedule begins in the same state: what earlier schedules left is removed, or the verdict is UNKNOWN."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import UsersServer
from racebench.api import Bench, Exploration
from racebench.core.errors import UsageProblem
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.explorer import explore
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration as ExplorationResult
from racebench.workloads import catalog

Connection = psycopg.Connection[Any]
Call = Callable[[Connection], None]

SETUP = """
CREATE TABLE orders (number int NOT NULL);
CREATE TABLE bad (reason text);
"""
HAS_DRAWN = """
CREATE SEQUENCE numbers;
CREATE FUNCTION has_drawn() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    PERFORM currval('numbers');
    RETURN 1;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN 0;
END $$;
"""
HIDDEN_SET = """
CREATE FUNCTION sets_and_hides_it() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SE' || 'T work_mem = ''1MB''';
END $$;
"""
HIDDEN_CREATE = """
CREATE FUNCTION makes_a_table_and_hides_it() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CRE' || 'ATE TABLE IF NOT EXISTS extra ()';
END $$;
"""
OTHER_ROLE = """
GRANT ALL ON orders, bad TO pg_monitor;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO pg_monitor', current_schema()); END $$;
"""
TOTALS = "CREATE MATERIALIZED VIEW totals AS SELECT count(*)::int AS n FROM orders;"
CHILD = "CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent); INSERT INTO child VALUES (1);"
HALVES = """
CREATE TABLE halves (a int) PARTITION BY LIST (a);
CREATE TABLE half PARTITION OF halves FOR VALUES IN (1);
INSERT INTO halves VALUES (1);
"""
ELSEWHERE = "CREATE SCHEMA IF NOT EXISTS elsewhere; CREATE TABLE IF NOT EXISTS elsewhere.marks (a int);"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"
BAD = "SELECT reason FROM bad"


@dataclass(frozen=True)
class Mark:
    """Something that code leaves: a query of whether it is there, and the statement that leaves it if it is not."""

    name: str
    there: str
    leave: str
    setup: str = ""


#: What a session leaves to itself.
OF_A_SESSION = [
    Mark("setting", "SELECT (current_setting('work_mem') = '1MB')::int", "SET work_mem = '1MB'"),
    Mark(
        "own setting",
        "SELECT (coalesce(current_setting('app.mark', true), '') = 'x')::int",
        "SELECT set_config('app.mark', 'x', false)",
    ),
    Mark("role", "SELECT (current_user <> session_user)::int", "SET ROLE pg_monitor", OTHER_ROLE),
    Mark("currval", "SELECT has_drawn()", "SELECT nextval('numbers')", HAS_DRAWN),
    Mark("temporary table", "SELECT (to_regclass('pg_temp.mine') IS NOT NULL)::int", "CREATE TEMP TABLE mine ()"),
    Mark(
        "prepared statement",
        "SELECT count(*)::int FROM pg_prepared_statements WHERE name = 'mine'",
        "PREPARE mine AS SELECT 1",
    ),
    Mark(
        "cursor",
        "SELECT count(*)::int FROM pg_cursors WHERE name = 'mine'",
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
    ),
    Mark(
        "advisory lock",
        "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND objid = 9 AND pid = pg_backend_pid()",
        "SELECT pg_try_advisory_lock_shared(9)",
    ),
    Mark("channel", "SELECT count(*)::int FROM pg_listening_channels()", "LISTEN mine"),
    Mark(
        "hidden setting", "SELECT (current_setting('work_mem') = '1MB')::int", "SELECT sets_and_hides_it()", HIDDEN_SET
    ),
]
LO_CREATE = "SELECT lo_create(77) WHERE NOT EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = 77)"
#: What all sessions see.
OF_THE_DATABASE = [
    Mark("materialized view", "SELECT n FROM totals", "REFRESH MATERIALIZED VIEW totals", TOTALS),
    Mark("large object", "SELECT count(*)::int FROM pg_largeobject_metadata WHERE oid = 77", LO_CREATE),
    Mark(
        "other schema", "SELECT count(*)::int FROM elsewhere.marks", "INSERT INTO elsewhere.marks VALUES (1)", ELSEWHERE
    ),
    Mark("child", "SELECT 1 - count(*)::int FROM child", "INSERT INTO parent VALUES (2)", CHILD),
    Mark("partition", "SELECT count(*)::int - 1 FROM halves", "INSERT INTO halves VALUES (1)", HALVES),
    Mark("table", "SELECT (to_regclass('extra') IS NOT NULL)::int", "CREATE TABLE IF NOT EXISTS extra ()"),
    Mark(
        "hidden table",
        "SELECT (to_regclass('extra') IS NOT NULL)::int",
        "SELECT makes_a_table_and_hides_it()",
        HIDDEN_CREATE,
    ),
    Mark(
        "column",
        "SELECT count(*)::int FROM pg_attribute WHERE attrelid = to_regclass('orders') AND attname = 'note'",
        "ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text DEFAULT 'x'",
    ),
]
SEEN_BY_OTHERS = [mark for mark in OF_THE_DATABASE if mark.name != "child"]
#: Whether its own mark is there at the start is bad.
SUSPICIOUS = """
SELECT ({there}) AS mark \\gset
\\if :mark
INSERT INTO bad VALUES ('left');
\\else
{leave};
\\endif
"""
#: Careful only if its mark is there: then it takes a lock before it takes the next number.
CAREFUL_IF_MARKED = """
SELECT ({there}) AS mark \\gset
\\if :mark = 0
{leave};
\\endif
BEGIN;
\\if :mark
SELECT pg_advisory_xact_lock(1);
\\endif
SELECT coalesce(max(number), 0) + 1 AS next FROM orders \\gset
INSERT INTO orders (number) VALUES (:next);
COMMIT;
"""
#: Under a lock: with an order there is a mark, without one there is none.
LOCKED = """
BEGIN;
SELECT pg_advisory_xact_lock(1);
SELECT ({there}) AS mark \\gset
SELECT count(*) AS orders FROM orders \\gset
\\if :mark > 0 AND :orders = 0
INSERT INTO bad VALUES ('left');
\\endif
INSERT INTO orders (number) VALUES (1);
{leave};
COMMIT;
"""
#: An order of the other session may have no mark yet.
UNLOCKED = """
SELECT ({there}) AS mark \\gset
SELECT count(*) AS orders FROM orders \\gset
\\if :mark = 0 AND :orders > 0
INSERT INTO bad VALUES ('not yet');
\\endif
INSERT INTO orders (number) VALUES (1);
{leave};
"""


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as bench:
        yield bench
        with psycopg.connect(bench.dsn) as connection:
            connection.execute("DROP SCHEMA IF EXISTS elsewhere CASCADE")


def named(mark: Mark) -> str:
    return mark.name


def run_script(bench: Bench, folder: Path, template: str, mark: Mark, invariant: str) -> Exploration:
    path = folder / "it.sql"
    path.write_text(template.format(there=mark.there, leave=mark.leave))
    guilty = template in (CAREFUL_IF_MARKED, UNLOCKED)
    return bench.explore(path, setup=SETUP + mark.setup, invariant=invariant, stop_at_first=guilty)


@pytest.mark.parametrize("mark", OF_A_SESSION, ids=named)
def test_what_a_script_leaves_in_its_session_does_not_accuse_the_innocent(
    bench: Bench, tmp_path: Path, mark: Mark
) -> None:
    found = run_script(bench, tmp_path, SUSPICIOUS, mark, BAD)
    assert (found.verdict, found.result.leftovers) == (Verdict.VALID, ())


@pytest.mark.parametrize("mark", OF_A_SESSION, ids=named)
def test_what_a_script_leaves_in_its_session_does_not_acquit_the_guilty(
    bench: Bench, tmp_path: Path, mark: Mark
) -> None:
    found = run_script(bench, tmp_path, CAREFUL_IF_MARKED, mark, TWINS)
    assert (found.verdict, found.result.leftovers) == (Verdict.INVALID, ())


@pytest.mark.parametrize("mark", OF_THE_DATABASE, ids=named)
def test_what_a_script_leaves_in_the_database_does_not_accuse_the_innocent(
    bench: Bench, tmp_path: Path, mark: Mark
) -> None:
    found = run_script(bench, tmp_path, LOCKED, mark, BAD)
    assert found.complete
    assert (found.anomalous, found.result.leftovers) == (0, ())


@pytest.mark.parametrize("mark", SEEN_BY_OTHERS, ids=named)
def test_what_a_script_leaves_in_the_database_does_not_acquit_the_guilty(
    bench: Bench, tmp_path: Path, mark: Mark
) -> None:
    found = run_script(bench, tmp_path, UNLOCKED, mark, BAD)
    assert (found.verdict, found.result.leftovers) == (Verdict.INVALID, ())


def is_there(connection: Connection, mark: Mark) -> bool:
    row = connection.execute(mark.there.encode()).fetchone()
    assert row is not None
    return row[0] > 0


def suspicious(mark: Mark) -> Call:
    def call(connection: Connection) -> None:
        if is_there(connection, mark):
            connection.execute("INSERT INTO bad VALUES ('left')")
        else:
            connection.execute(mark.leave.encode())
        connection.commit()

    return call


def careful_if_marked(mark: Mark) -> Call:
    def call(connection: Connection) -> None:
        marked = is_there(connection, mark)
        if not marked:
            connection.execute(mark.leave.encode())
        connection.commit()
        if marked:
            connection.execute("SELECT pg_advisory_xact_lock(1)")
        row = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", row)
        connection.commit()

    return call


def locked(mark: Mark) -> Call:
    def call(connection: Connection) -> None:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        marked = is_there(connection, mark)
        row = connection.execute("SELECT count(*) FROM orders").fetchone()
        if marked and row == (0,):
            connection.execute("INSERT INTO bad VALUES ('left')")
        connection.execute("INSERT INTO orders (number) VALUES (1)")
        connection.execute(mark.leave.encode())
        connection.commit()

    return call


def unlocked(mark: Mark) -> Call:
    def call(connection: Connection) -> None:
        connection.autocommit = True
        marked = is_there(connection, mark)
        row = connection.execute("SELECT count(*) FROM orders").fetchone()
        if not marked and row != (0,):
            connection.execute("INSERT INTO bad VALUES ('not yet')")
        connection.execute("INSERT INTO orders (number) VALUES (1)")
        connection.execute(mark.leave.encode())

    return call


def run_call(bench: Bench, call: Call | Callable[[], None], mark: Mark, invariant: str) -> Exploration:
    return bench.explore(call, setup=SETUP + mark.setup, invariant=invariant, stop_at_first=invariant == TWINS)


@pytest.mark.parametrize("mark", OF_A_SESSION, ids=named)
def test_what_a_call_leaves_in_its_connection_does_not_accuse_the_innocent(bench: Bench, mark: Mark) -> None:
    found = run_call(bench, suspicious(mark), mark, BAD)
    assert (found.verdict, found.result.leftovers) == (Verdict.VALID, ())


@pytest.mark.parametrize("mark", OF_A_SESSION, ids=named)
def test_what_a_call_leaves_in_its_connection_does_not_acquit_the_guilty(bench: Bench, mark: Mark) -> None:
    found = run_call(bench, careful_if_marked(mark), mark, TWINS)
    assert (found.verdict, found.result.leftovers) == (Verdict.INVALID, ())


@pytest.mark.parametrize("mark", OF_THE_DATABASE, ids=named)
def test_what_a_call_leaves_in_the_database_does_not_accuse_the_innocent(bench: Bench, mark: Mark) -> None:
    found = run_call(bench, locked(mark), mark, BAD)
    assert found.complete
    assert (found.anomalous, found.result.leftovers) == (0, ())


@pytest.mark.parametrize("mark", SEEN_BY_OTHERS, ids=named)
def test_what_a_call_leaves_in_the_database_does_not_acquit_the_guilty(bench: Bench, mark: Mark) -> None:
    found = bench.explore(unlocked(mark), setup=SETUP + mark.setup, invariant=BAD, stop_at_first=True)
    assert (found.verdict, found.result.leftovers) == (Verdict.INVALID, ())


class Pool:
    """A connection that the application keeps for each thread, as a pool does."""

    def __init__(self) -> None:
        self._kept: dict[int, Connection] = {}

    def of(self, call: Call) -> Callable[[], None]:
        def pooled() -> None:
            me = threading.get_ident()
            if me not in self._kept:
                self._kept[me] = psycopg.connect(os.environ["RACEBENCH_DSN"])
                self._kept[me].execute("SET application_name = 'of the pool'")
                self._kept[me].commit()
            call(self._kept[me])

        return pooled

    def close(self) -> None:
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


@pytest.mark.parametrize(
    "mark", [mark for mark in OF_A_SESSION if mark.name in ("currval", "cursor", "advisory lock")], ids=named
)
def test_what_a_call_leaves_in_a_pools_connection_is_removed_if_it_is_no_pools_own(
    bench: Bench, pool: Pool, mark: Mark
) -> None:
    assert run_call(bench, pool.of(suspicious(mark)), mark, BAD).verdict is Verdict.VALID
    pool.close()
    assert run_call(bench, pool.of(careful_if_marked(mark)), mark, TWINS).verdict is Verdict.INVALID


def test_a_pools_connection_begins_every_schedule_with_the_settings_that_it_had_after_the_calls_ran_alone(
    bench: Bench, pool: Pool
) -> None:
    seen: list[tuple[Any, ...]] = []

    def count_up(connection: Connection) -> None:
        row = connection.execute(
            "SELECT coalesce(nullif(current_setting('app.count', true), ''), '0')::int,"
            " current_setting('application_name')"
        ).fetchone()
        assert row is not None
        seen.append(row)
        connection.execute("SELECT set_config('app.count', %s, false)", [str(row[0] + 1)])
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.commit()

    found = bench.explore(pool.of(count_up), setup=SETUP, invariant=BAD)
    assert (found.verdict, found.run > 1) == (Verdict.VALID, True)
    assert seen == [(0, "of the pool")] * 2 + [(1, "of the pool")] * (len(seen) - 2)


@pytest.mark.parametrize("name", ["temporary table", "prepared statement", "channel"])
def test_what_may_be_a_pools_own_is_named_and_the_verdict_is_unknown(bench: Bench, pool: Pool, name: str) -> None:
    (mark,) = (mark for mark in OF_A_SESSION if mark.name == name)

    def leave_once(connection: Connection) -> None:
        if not is_there(connection, mark):
            connection.execute(mark.leave.encode())
        connection.commit()

    found = bench.explore(pool.of(leave_once), setup=SETUP, invariant=BAD)
    assert found.verdict is Verdict.UNKNOWN
    assert any(f"{name} mine" in line and "keeps open" in line for line in found.result.leftovers)
    assert "did not begin in the same state" in " ".join(str(found).split())


def test_a_temporary_table_that_ends_with_its_transaction_leaves_nothing_in_a_pool(bench: Bench, pool: Pool) -> None:
    def call(connection: Connection) -> None:
        connection.execute("CREATE TEMP TABLE mine (a int) ON COMMIT DROP")
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.commit()

    assert bench.explore(pool.of(call), setup=SETUP, invariant=BAD).verdict is Verdict.VALID


def test_a_call_is_given_its_connection_as_it_was_the_first_time(bench: Bench) -> None:
    def call(connection: Connection) -> None:
        if connection.autocommit or connection.isolation_level is not None:
            connection.execute("INSERT INTO bad VALUES ('left')")
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.commit()
        connection.autocommit = True
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE

    assert bench.explore(call, setup=SETUP, invariant=BAD).verdict is Verdict.VALID


def test_numbers_of_a_cached_sequence_that_a_call_has_left_are_not_used(bench: Bench) -> None:
    """The sequence is restored, so what a session keeps of it would be given twice."""

    def call(connection: Connection) -> None:
        connection.execute("INSERT INTO orders SELECT nextval('cached')")
        connection.commit()

    setup = SETUP + "CREATE SEQUENCE cached CACHE 10; ALTER TABLE orders ADD UNIQUE (number);"
    assert bench.explore(call, setup=setup, invariant=TWINS).verdict is Verdict.VALID


@pytest.fixture
def adopted(cache_folder: Path) -> Iterator[Bench]:
    """A bench whose tables the application has made."""
    with Bench() as bench, psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute(SETUP.encode())
        yield bench


def look_then_alter(connection: Connection) -> None:
    query = "SELECT FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'note'"
    there = connection.execute(query).fetchone() is not None
    connection.commit()
    if not there:
        connection.execute("ALTER TABLE orders ADD COLUMN note text")
        connection.commit()


def test_a_column_that_is_looked_for_and_added_is_looked_for_and_added_in_every_schedule(bench: Bench) -> None:
    found = bench.explore(look_then_alter, setup=SETUP)
    assert (found.verdict, found.counts["refused"] > 0) == (Verdict.INVALID, True)


def test_definitions_of_the_applications_own_tables_are_not_restored_but_named(adopted: Bench) -> None:
    found = adopted.explore(look_then_alter)
    assert found.verdict is Verdict.UNKNOWN
    (line,) = found.result.leftovers
    assert "ALTER TABLE orders ADD COLUMN note text" in line
    assert "column orders.note was added" in line
    assert "--setup" in line


def test_ddl_that_changes_nothing_leaves_the_applications_own_tables_alone(adopted: Bench) -> None:
    def call(connection: Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (number int)")
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.commit()

    assert adopted.explore(call).result.leftovers == ()


def test_a_table_of_the_application_that_is_dropped_ends_the_search_with_one_line(adopted: Bench) -> None:
    def call(connection: Connection) -> None:
        connection.execute("DROP TABLE IF EXISTS bad")
        connection.commit()

    with pytest.raises(UsageProblem, match=r"DROP TABLE IF EXISTS bad.*--setup"):
        adopted.explore(call)


def test_on_a_server_with_other_programs_what_is_outside_the_schema_is_named(users_server: UsersServer) -> None:
    with Bench(users_server.dsn()) as bench:
        for name in ("large object", "other schema"):
            (mark,) = (mark for mark in OF_THE_DATABASE if mark.name == name)
            found = bench.explore(locked(mark), setup=SETUP + mark.setup, max_schedules=4)
            assert found.verdict is Verdict.UNKNOWN
            assert found.result.leftovers
            assert "embedded server" in found.result.leftovers[0]
    with users_server.connect() as connection:
        connection.execute("DROP SCHEMA elsewhere CASCADE; SELECT lo_unlink(77)")


def test_statements_go_on_after_the_types_that_they_name_were_made_again(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "sized.sql"
    path.write_text(
        "INSERT INTO sized VALUES ('small');\nSELECT s AS size FROM sized LIMIT 1 \\gset\n"
        "UPDATE sized SET s = :size;\nCREATE TABLE IF NOT EXISTS extra ();\n"
    )
    setup = "CREATE TYPE size AS ENUM ('small', 'large'); CREATE TABLE sized (s size);"
    found = bench.explore(path, setup=setup, invariant="SELECT s FROM sized WHERE s = 'large'", max_schedules=20)
    assert found.result.leftovers == ()
    assert {session.sqlstate for outcome in found.result.outcomes for session in outcome.sessions} <= {
        "",
        "42P07",
        "23505",
    }


MANIFEST = """
summary = "made for a test"
schema = "schema.sql"
forbid = ["violations"]
[invariants]
broken = "{invariant}"
[strategies.it]
summary = "it"
script = "it.sql"
"""
#: As above, each schedule with a tenant of its own.
OF_A_TENANT = (
    ("(number int NOT NULL)", "(tenant int, number int NOT NULL)"),
    ("(reason text)", "(tenant int, reason text)"),
    ("orders (number) VALUES (", "orders (tenant, number) VALUES (:tenant, "),
    ("bad VALUES (", "bad VALUES (:tenant, "),
    ("FROM orders \\gset", "FROM orders WHERE tenant = :tenant \\gset"),
    ("GROUP BY number", "GROUP BY tenant, number"),
)


def with_tenants(text: str) -> str:
    for old, new in OF_A_TENANT:
        text = text.replace(old, new)
    return text


def run_scenario(embedded: Target, folder: Path, template: str, mark: Mark, invariant: str) -> ExplorationResult:
    script = with_tenants(template.format(there=mark.there, leave=mark.leave))
    (folder / "scenario.toml").write_text(MANIFEST.format(invariant=with_tenants(invariant)))
    (folder / "schema.sql").write_text(with_tenants(SETUP) + mark.setup)
    (folder / "it.sql").write_text(script)
    scenario = catalog.find_scenario(str(folder))
    guilty = template in (CAREFUL_IF_MARKED, UNLOCKED)
    request = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], stop_at_first=guilty)
    return explore(embedded, request)


@pytest.mark.parametrize("mark", [*OF_A_SESSION, *SEEN_BY_OTHERS[:2], *SEEN_BY_OTHERS[-1:]], ids=named)
def test_what_a_scenarios_script_leaves_does_not_matter_either(embedded: Target, tmp_path: Path, mark: Mark) -> None:
    innocent, guilty = (
        ((SUSPICIOUS, BAD), (CAREFUL_IF_MARKED, TWINS)) if mark in OF_A_SESSION else ((LOCKED, BAD), (UNLOCKED, BAD))
    )
    found = run_scenario(embedded, tmp_path, innocent[0], mark, innocent[1])
    assert (found.anomalous, found.complete, found.leftovers) == (0, True, ())
    found = run_scenario(embedded, tmp_path, guilty[0], mark, guilty[1])
    assert (found.verdict, found.leftovers) == (Verdict.INVALID, ())


def test_hidden_definitions_of_a_scenarios_script_are_named(embedded: Target, tmp_path: Path) -> None:
    (mark,) = (mark for mark in OF_THE_DATABASE if mark.name == "hidden table")
    found = run_scenario(embedded, tmp_path, "SELECT ({there});\n{leave};", mark, BAD)
    assert found.verdict is Verdict.UNKNOWN
    assert any("table extra was added" in line for line in found.leftovers)
