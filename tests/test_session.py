"""Outcomes: what is known when a statement fails, a transaction was aborted, or the connection is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conftest import wait_for
from racebench import script
from racebench.errors import DatabaseProblem, ScenarioProblem
from racebench.model import Outcome
from racebench.session import Session, connect
from racebench.targets import Target


@pytest.fixture
def admin(embedded: Target) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with connect(embedded) as connection:
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute("CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY IMMEDIATE)")
        yield connection
        connection.execute("DROP TABLE t")


def session(target: Target, text: str) -> Session:
    return Session(connect(target, application_name="racebench-test"), script.parse(text, Path("s.sql")))


def test_a_script_that_succeeds_is_ok_and_sets_its_variables(embedded: Target, admin: object) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (:x) RETURNING a AS got \\gset\n\\set y :got * 2\nCOMMIT;")
    variables: dict[str, bytes | None] = {"x": b"21"}
    assert made.run(variables) is Outcome.OK
    assert variables["y"] == b"42"
    made.close()


def test_a_refused_statement_is_fail_with_its_sqlstate_and_the_session_goes_on(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (:x);\nCOMMIT;")
    assert made.run({"x": b"1"}) is Outcome.OK
    assert made.run({"x": b"1"}) is Outcome.FAIL
    assert made.sqlstate == "23505"
    made.rollback()
    assert made.run({"x": b"2"}) is Outcome.OK
    made.close()
    assert admin.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_constraint_that_fails_at_commit_is_fail(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(
        embedded, "BEGIN;\nSET CONSTRAINTS ALL DEFERRED;\nINSERT INTO t VALUES (1);\nINSERT INTO t VALUES (1);\nCOMMIT;"
    )
    assert made.run({}) is Outcome.FAIL
    assert made.sqlstate == "23505"
    made.close()
    assert admin.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize(
    ("text", "outcome", "rows"),
    [
        ("BEGIN;\nINSERT INTO t VALUES (1);\nROLLBACK;", Outcome.FAIL, 0),
        ("BEGIN;\nINSERT INTO t VALUES (1);\nROLLBACK;\nCOMMIT;", Outcome.FAIL, 0),
        ("BEGIN;\nABORT;\nBEGIN;\nINSERT INTO t VALUES (1);\nCOMMIT;", Outcome.OK, 1),
        ("BEGIN;\nINSERT INTO t VALUES (1);\nSAVEPOINT s;\nROLLBACK TO s;\nCOMMIT;", Outcome.OK, 1),
    ],
)
def test_a_script_that_rolls_itself_back_is_not_taken_for_success(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]], text: str, outcome: Outcome, rows: int
) -> None:
    made = session(embedded, text)
    assert made.run({}) is outcome
    made.close()
    assert admin.execute("SELECT count(*) FROM t").fetchone() == (rows,)


def test_a_connection_lost_before_commit_was_sent_is_fail(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (1);\nSELECT pg_sleep(60);\nCOMMIT;")
    assert _killed_while_running(made, admin) is Outcome.FAIL
    assert not made.alive
    assert admin.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT 1 FROM pg_sleep(60);",
        "BEGIN;\nINSERT INTO t VALUES (1);\nSAVEPOINT s;\nCOMMIT;\nSELECT pg_sleep(60);",
    ],
)
def test_a_connection_lost_when_a_commit_may_have_happened_is_unknown(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]], text: str
) -> None:
    assert _killed_while_running(session(embedded, text), admin) is Outcome.UNKNOWN


def test_a_connection_lost_during_commit_is_unknown(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    admin.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'"
    )
    admin.execute(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    try:
        made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (1);\nCOMMIT;")
        assert _killed_while_running(made, admin) is Outcome.UNKNOWN
    finally:
        admin.execute("DROP FUNCTION slow CASCADE")


def _killed_while_running(made: Session, admin: psycopg.Connection[tuple[object, ...]]) -> Outcome:
    """Run a script that sleeps on the server, terminate its backend there, and return the outcome."""
    outcomes: list[Outcome] = []
    pid = made.connection.info.backend_pid
    thread = threading.Thread(target=lambda: outcomes.append(made.run({})))
    thread.start()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    wait_for(lambda: admin.execute(asleep, (pid,)).fetchone() == (1,), "the script never slept")
    admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
    thread.join()
    made.close()
    return outcomes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT :x;", "s.sql:1: variable :x is not set"),
        ("SELECT 1;\n\\sleep :x us", "s.sql:2: variable :x is not set"),
        ("\\set y 1 / 0\nSELECT 1;", "s.sql:1: /: "),
        ("SELECT a FROM t \\gset", "s.sql:1: \\gset needs exactly one row, the statement returned 0"),
        ("BEGIN;\nSELECT 1;", "s.sql:2: the script ends inside a transaction"),
    ],
)
def test_a_script_at_fault_is_a_problem_with_file_and_line(
    embedded: Target, admin: object, text: str, message: str
) -> None:
    made = session(embedded, text)
    with pytest.raises(ScenarioProblem) as caught:
        made.run({})
    assert str(caught.value).startswith(message)
    made.close()


def test_a_statement_the_server_cannot_prepare_is_a_problem_with_file_and_line(embedded: Target, admin: object) -> None:
    with pytest.raises(ScenarioProblem, match=r's\.sql:2: the server refuses this statement: column "b" does not'):
        session(embedded, "SELECT 1;\nSELECT b FROM t;")


def test_isolation_and_schema_reach_the_session(embedded: Target) -> None:
    with connect(embedded, schema="abc", settings={"default_transaction_isolation": "repeatable read"}) as made:
        row = made.execute("SELECT current_setting('search_path'), current_setting('transaction_isolation')").fetchone()
    assert row == ("abc", "repeatable read")


def test_the_users_own_options_are_kept() -> None:
    from racebench.targets.external import external

    target = external("postgresql://u:secret@127.0.0.1:1/d?options=-c%20work_mem%3D1MB&connect_timeout=1")
    with pytest.raises(DatabaseProblem) as caught:
        connect(target, schema="abc")
    assert "127.0.0.1:1/d" in str(caught.value)
    assert "secret" not in str(caught.value) + repr(target)


def test_libpqs_environment_does_not_reach_the_embedded_server(
    embedded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGSERVICE": "nowhere",
        "PGHOST": "192.0.2.1",
        "PGUSER": "nobody-here",
        "PGOPTIONS": "-c work_mem=77MB",
        "PGTARGETSESSIONATTRS": "standby",
    }.items():
        monkeypatch.setenv(name, value)
    with connect(embedded) as made:
        row = made.execute("SELECT current_user, current_setting('work_mem') <> '77MB'").fetchone()
    assert row == ("postgres", True)
