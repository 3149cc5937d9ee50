"""Sessions that something tells apart are not alike: a schedule in which they swap their places is run too."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from made_scenario import made
from racebench.api import Bench, Search
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.explorer import explore
from racebench.exploration.independence import Footprint, footprint
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.exploration.symmetry import tells_apart
from racebench.postgres.connection import connect
from racebench.workloads import scripts

SCHEMA = """
CREATE TABLE log (id bigserial, tenant int, n bigint);
CREATE TABLE bad (tenant int);
"""
NONE = "SELECT 1 FROM bad"
#: Wrong only if the session with the greater number goes first.
COMPARES = """
INSERT INTO bad SELECT :tenant FROM log WHERE tenant = :tenant AND n > {number};
INSERT INTO log (tenant, n) VALUES (:tenant, {number});
"""
TRIGGER = """
CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION compares();
"""
PLPGSQL = """
CREATE FUNCTION compares() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.n := {number};
  IF EXISTS (SELECT FROM log WHERE tenant = NEW.tenant AND n > NEW.n) THEN INSERT INTO bad VALUES (NEW.tenant); END IF;
  RETURN NEW;
END $$;
"""
INSERTS = "INSERT INTO log (tenant) VALUES (:tenant);\n"
NUMBERED = "INSERT INTO log (tenant, n) VALUES (:tenant, :operation);\n"
LATER_LOWER = "SELECT 1 FROM log a JOIN log b USING (tenant) WHERE a.id < b.id AND a.{n} > b.{n}"
ELSEWHERE = """
CREATE SCHEMA IF NOT EXISTS far_away;
CREATE OR REPLACE FUNCTION far_away.number() RETURNS bigint LANGUAGE sql AS 'SELECT pg_backend_pid()';
CREATE OR REPLACE FUNCTION far_away.deeper() RETURNS bigint LANGUAGE sql AS 'SELECT far_away.number()';
"""

Run = Callable[..., Exploration]


@pytest.fixture
def run(embedded: Target, tmp_path: Path) -> Iterator[Run]:
    def run(script: str, schema: str = "", invariant: str = NONE, *, reduce: bool = True) -> Exploration:
        scenario = made(tmp_path, script=script, schema=SCHEMA + schema, invariant=invariant, explore="SELECT 1;")
        return explore(
            embedded, ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], reduce=reduce)
        )

    yield run
    with connect(embedded) as connection:
        connection.execute("DROP SCHEMA IF EXISTS far_away CASCADE")


@pytest.mark.parametrize(
    ("script", "schema", "invariant"),
    [
        pytest.param(COMPARES.format(number="pg_backend_pid()"), "", NONE, id="script"),
        pytest.param(COMPARES.format(number='"pg_backend_pid"/**/()'), "", NONE, id="quoted"),
        pytest.param(INSERTS, PLPGSQL.format(number="pg_backend_pid()") + TRIGGER, NONE, id="trigger"),
        pytest.param(
            INSERTS,
            "CREATE FUNCTION inner_() RETURNS bigint LANGUAGE sql RETURN pg_backend_pid();"
            "CREATE FUNCTION outer_() RETURNS bigint LANGUAGE sql RETURN inner_();"
            + PLPGSQL.format(number="outer_()")
            + TRIGGER,
            NONE,
            id="function in a function in a trigger",
        ),
        pytest.param(
            INSERTS, ELSEWHERE + PLPGSQL.format(number="far_away.deeper()") + TRIGGER, NONE, id="in another schema"
        ),
        pytest.param(
            COMPARES.format(number="(SELECT number FROM v)"),
            "CREATE VIEW v AS SELECT pid AS number FROM pg_stat_activity WHERE pid = pg_backend_pid();",
            NONE,
            id="view",
        ),
        pytest.param(
            INSERTS,
            "ALTER TABLE log ALTER n SET DEFAULT pg_backend_pid();",
            LATER_LOWER.format(n="n"),
            id="default",
        ),
        pytest.param(
            INSERTS,
            "CREATE FUNCTION number() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN"
            " EXECUTE 'SELECT pg_back' || 'end_pid()' INTO n; RETURN n; END $$;"
            "ALTER TABLE log ALTER n SET DEFAULT number();",
            LATER_LOWER.format(n="n"),
            id="dynamic SQL",
        ),
        pytest.param(NUMBERED, "", LATER_LOWER.format(n="n"), id="operation in an invariant"),
        pytest.param(
            NUMBERED,
            "CREATE VIEW late AS " + LATER_LOWER.format(n="n") + ";",
            "SELECT * FROM late",
            id="operation in an invariant's view",
        ),
        pytest.param(
            "INSERT INTO log (tenant, n) VALUES (:tenant, :operation) RETURNING * \\gset\n"
            "\\if :n > 2 * 4294967296\nINSERT INTO bad SELECT :tenant WHERE NOT EXISTS"
            " (SELECT FROM log WHERE tenant = :tenant OFFSET 1);\n\\endif\n",
            "",
            NONE,
            id="operation read back as a whole row",
        ),
        pytest.param(
            "INSERT INTO log (tenant, n) VALUES (:tenant, :operation);\n",
            "CREATE TABLE copied (id bigint, tenant int, other bigint);"
            "CREATE FUNCTION copies() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO copied VALUES (NEW.*); RETURN NEW; END $$;"
            "CREATE TRIGGER t AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION copies();",
            "SELECT 1 FROM copied a JOIN copied b USING (tenant) WHERE a.id < b.id AND a.other > b.other",
            id="operation copied as a whole row",
        ),
    ],
)
def test_a_program_that_goes_wrong_only_if_the_other_session_is_first_is_invalid(
    run: Run, script: str, schema: str, invariant: str
) -> None:
    every, reduced = run(script, schema, invariant, reduce=False), run(script, schema, invariant)
    assert every.verdict is reduced.verdict is Verdict.INVALID
    assert set(every.outcomes) == set(reduced.outcomes)


@pytest.mark.parametrize(
    ("script", "schema", "invariant", "expected"),
    [
        pytest.param(INSERTS, "", NONE, 3, id="one statement"),
        pytest.param(
            NUMBERED, "", "SELECT * FROM log a JOIN log b USING (id) WHERE a.tableoid <> b.tableoid", 3, id="kept"
        ),
        pytest.param(
            f"BEGIN;\nSELECT pg_advisory_xact_lock(:tenant);\n{NUMBERED}COMMIT;\n",
            "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := 1; RETURN NEW; END $$;"
            "CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION keeps();",
            "SELECT id FROM log WHERE id < 0",
            2,  # one waits for the other, or begins after it
            id="lock and trigger",
        ),
    ],
)
def test_a_program_that_does_not_tell_its_sessions_apart_is_still_reduced(
    run: Run, script: str, schema: str, invariant: str, expected: int
) -> None:
    reduced = run(script, schema, invariant)
    assert (reduced.verdict, reduced.run) == (Verdict.VALID, expected)
    assert run(script, schema, invariant, reduce=False).run > expected


@pytest.mark.parametrize(
    "text",
    [
        *("pg_backend_pid()", "inet_client_port()", "txid_current()", "pg_current_xact_id()", "PG_LOCKS"),
        *("a.xmin <> b.xmin", "xmax::text", "ctid < '(0,2)'", "current_setting('application_name')"),
        *("SHOW application_name", "lastval()", "currval('s')", 'U&"\\0070g_backend_pid"()'),
    ],
)
def test_what_tells_sessions_apart(text: str) -> None:
    assert tells_apart([f"SELECT {text}"])


@pytest.mark.parametrize(
    "text", ["pg_advisory_xact_lock(1)", "pg_sleep(0.1)", "pg_catalog.now()", "nextval('s')", "shown", "pg_typeof(1)"]
)
def test_what_does_not_tell_sessions_apart(text: str) -> None:
    assert not tells_apart([f"SELECT {text}"])


def test_a_read_of_xmax_sees_a_write_that_is_not_committed() -> None:
    (statement,) = scripts.parse("SELECT xmax FROM t;", Path("s.sql")).statements
    assert footprint([statement], isolation=None, volatile=()) is Footprint.ANYTHING


# Python

CALL_SETUP = "CREATE TABLE log (n bigint); CREATE TABLE bad (n bigint);"


def race(connection: psycopg.Connection[Any], number: int) -> None:
    """Wrong only if both see no row, and the session with the greater number writes first."""
    seen = connection.execute("SELECT count(*) FROM log").fetchone()
    if seen == (0,):
        connection.execute("INSERT INTO bad SELECT 1 FROM log WHERE n > %s", [number])
    connection.execute("INSERT INTO log VALUES (%s)", [number])
    connection.commit()


def by_information(connection: psycopg.Connection[Any]) -> None:
    race(connection, connection.info.backend_pid)


def by_libpq(connection: psycopg.Connection[Any]) -> None:
    race(connection, connection.pgconn.backend_pid)


def by_socket(connection: psycopg.Connection[Any]) -> None:
    race(connection, connection.fileno())


def by_query(connection: psycopg.Connection[Any]) -> None:
    number = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert number is not None
    race(connection, number[0])


FIRST: list[int] = []


def number_of_thread() -> int:
    thread = threading.get_ident()
    if thread not in FIRST:
        FIRST.append(thread)
    return FIRST.index(thread)


def by_statement(connection: psycopg.Connection[Any]) -> None:
    seen = connection.execute("SELECT count(*) FROM log").fetchone()
    if seen == (0,):
        connection.execute("INSERT INTO bad SELECT 1 FROM log WHERE n > pg_backend_pid()")
    connection.execute("INSERT INTO log VALUES (pg_backend_pid())")
    connection.commit()


def only_in_a_race(connection: psycopg.Connection[Any]) -> None:
    """Asks only if another session writes between its reads, which is not so when it runs alone."""
    seen = [connection.execute("SELECT count(*) FROM log").fetchone() for _ in range(2)]
    if seen[0] != seen[1]:
        connection.execute(
            "INSERT INTO bad SELECT 1 WHERE pg_backend_pid() ="
            " (SELECT min(pid) FROM pg_stat_activity WHERE application_name LIKE 'racebench%session')"
        )
    connection.execute("INSERT INTO log VALUES (0)")
    connection.commit()


def by_thread(connection: psycopg.Connection[Any]) -> None:
    race(connection, number_of_thread())


def innocent(connection: psycopg.Connection[Any]) -> None:
    race(connection, os.getpid())


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def explored(bench: Bench, call: Callable[..., None], *, reduce: bool) -> Exploration:
    found = bench.explore(
        call, setup=CALL_SETUP, invariant="SELECT * FROM bad", budget=math.inf, search=Search(reduce=reduce)
    )
    return found.result


@pytest.mark.parametrize(
    "call", [by_information, by_libpq, by_socket, by_query, by_statement, by_thread, only_in_a_race]
)
def test_a_call_that_asks_which_session_it_is_is_like_no_other(bench: Bench, call: Callable[..., None]) -> None:
    every, reduced = (explored(bench, call, reduce=reduce) for reduce in (False, True))
    assert every.verdict is reduced.verdict is Verdict.INVALID


def test_a_call_that_does_not_ask_is_still_reduced(bench: Bench) -> None:
    every, reduced = (explored(bench, innocent, reduce=reduce) for reduce in (False, True))
    assert every.verdict is reduced.verdict is Verdict.VALID
    assert reduced.run < every.run
