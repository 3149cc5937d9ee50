"""Outcomes: what is known when a statement fails, a transaction was aborted, or the connection is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from racebench.core.errors import DatabaseProblem, ScenarioProblem
from racebench.core.model import Outcome, Protocol
from racebench.core.target import Target
from racebench.postgres import transport
from racebench.postgres.connection import connect
from racebench.postgres.prepared import prepare
from racebench.postgres.session import Session
from racebench.workloads import scripts
from waiting import wait_for


@pytest.fixture
def admin(embedded: Target) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with connect(embedded) as connection:
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute("CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY IMMEDIATE)")
        yield connection
        connection.execute("DROP TABLE t")


Make = Callable[[Target, str], Session]


@pytest.fixture(params=["socket", "libpq"])
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of talking to a server."""
    if request.param == "libpq":
        monkeypatch.setattr(transport, "takes_socket", lambda _connection: False)
    return str(request.param)


@pytest.fixture(params=list(Protocol))
def session(request: pytest.FixtureRequest, line: str) -> Make:
    """Make a session on a script, by every protocol and either way."""

    def make(target: Target, text: str) -> Session:
        connection = connect(target, application_name="racebench-test")
        return Session(connection, scripts.parse(text, Path("s.sql")), protocol=request.param)

    return make


def test_a_script_that_succeeds_is_ok_and_sets_its_variables(embedded: Target, session: Make, admin: object) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (:x) RETURNING a AS got \\gset\n\\set y :got * 2\nCOMMIT;")
    variables: dict[str, bytes | None] = {"x": b"21"}
    assert made.run(variables) is Outcome.OK
    assert variables["y"] == b"42"
    made.close()


def test_a_refused_statement_is_fail_with_its_sqlstate_and_the_session_goes_on(
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
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
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
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
def test_a_script_that_rolls_back_is_not_ok(
    embedded: Target,
    session: Make,
    admin: psycopg.Connection[tuple[object, ...]],
    text: str,
    outcome: Outcome,
    rows: int,
) -> None:
    made = session(embedded, text)
    assert made.run({}) is outcome
    made.close()
    assert admin.execute("SELECT count(*) FROM t").fetchone() == (rows,)


def test_a_connection_lost_before_commit_was_sent_is_fail(
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (1);\nSELECT pg_sleep(60);\n\\sleep 1 us\nCOMMIT;")
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
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]], text: str
) -> None:
    assert _killed_while_running(session(embedded, text), admin) is Outcome.UNKNOWN


def test_a_connection_lost_during_commit_is_unknown(
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
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


def test_a_connection_lost_after_the_answer_to_commit_does_not_undo_it(
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (1);\n\\sleep 1 us\nCOMMIT;")
    steps = made.steps({})
    while next(steps) is None:
        made.ready()
    assert next(steps) is None  # COMMIT is sent
    made.ready()
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (made.connection.info.backend_pid,))
    assert made.wait(steps) is Outcome.OK
    assert admin.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert made.run({}) is Outcome.FAIL
    assert not made.alive
    made.close()


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
    embedded: Target, session: Make, admin: object, text: str, message: str
) -> None:
    made = session(embedded, text)
    with pytest.raises(ScenarioProblem) as caught:
        made.run({})
    assert str(caught.value).startswith(message)
    made.close()


def test_a_statement_the_server_cannot_prepare_is_a_problem_with_file_and_line(
    embedded: Target, session: Make, admin: object
) -> None:
    with pytest.raises(ScenarioProblem, match=r's\.sql:2: the server refuses this statement: column "b" does not'):
        session(embedded, "SELECT 1;\nSELECT b FROM t;")


def test_a_connection_lost_while_its_commit_travels_along_is_unknown(
    embedded: Target, line: str, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    text = scripts.parse("BEGIN;\nINSERT INTO t VALUES (1);\nSELECT pg_sleep(60);\nCOMMIT;", Path("s.sql"))
    made = Session(connect(embedded), text, protocol=Protocol.PIPELINED)
    assert _killed_while_running(made, admin) is Outcome.UNKNOWN


def test_a_connection_lost_between_two_runs_is_said_to_be_lost(
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(embedded, "BEGIN;\nSELECT 1;\nROLLBACK;")
    assert made.run({}) is Outcome.FAIL
    pid = made.connection.info.backend_pid
    admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert made.run({}) is Outcome.FAIL
    assert not made.alive
    assert made.sqlstate in ("57P01", "08006")
    made.close()


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("SELECT :x AS y \\gset", {"x": None}, None),
        ("SELECT :x::text || '' AS y \\gset", {"x": b""}, b""),
        ("SELECT :x::text AS y \\gset", {"x": "it's 100% \\ é".encode()}, "it's 100% \\ é".encode()),
        ("SELECT :x::bigint AS y \\gset", {"x": b"-5"}, b"-5"),
        ("SELECT 1 - :x::int AS y \\gset", {"x": b"-5"}, b"6"),
        ("SELECT repeat('a', 100000) AS y \\gset", {}, b"a" * 100_000),
        ("SELECT 1 AS a, 2 AS y \\gset", {}, b"2"),
        ("SELECT x AS y FROM generate_series(1, 3) AS x \\aset", {}, b"3"),
    ],
)
def test_values_are_sent_and_returned_unchanged_every_time(
    embedded: Target, session: Make, text: str, variables: dict[str, bytes | None], expected: bytes | None
) -> None:
    made = session(embedded, text)
    for _ in range(3):  # the second time an answer may be recognized, not taken apart
        seen = dict(variables)
        assert made.run(seen) is Outcome.OK
        assert seen["y"] == expected
    made.close()


def test_values_of_different_lengths_are_encoded_each_with_its_length(embedded: Target, session: Make) -> None:
    made = session(embedded, "SELECT repeat('7', :x::int) AS y \\gset")
    for length in (1, 2, 1, 30, 0, 300, 2):
        seen: dict[str, bytes | None] = {"x": b"%d" % length}
        assert made.run(seen) is Outcome.OK
        assert seen["y"] == b"7" * length
    made.close()


def test_notices_and_changed_settings_between_answers_are_read_past(embedded: Target, session: Make) -> None:
    made = session(
        embedded, "DO 'BEGIN RAISE WARNING $$careful$$; END';\nSET application_name = 'x';\nSELECT 4 AS y \\gset"
    )
    for _ in range(3):
        seen: dict[str, bytes | None] = {}
        assert made.run(seen) is Outcome.OK
        assert seen["y"] == b"4"
    made.close()


def test_an_aborted_transactions_commit_is_no_commit(embedded: Target, session: Make, admin: object) -> None:
    made = session(
        embedded, "BEGIN;\nINSERT INTO t VALUES (1);\nDO 'BEGIN EXECUTE $$SELECT 1/0$$; END';\n\\sleep 1 us\nCOMMIT;"
    )
    assert made.run({}) is Outcome.FAIL
    assert made.sqlstate == "22012"
    made.rollback()
    assert made.run({}) is Outcome.FAIL
    made.close()


def test_rolling_back_in_place_of_commit_leaves_no_row(
    embedded: Target, session: Make, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    made = session(embedded, "BEGIN;\nINSERT INTO t VALUES (:x);\nCOMMIT;")
    assert made.run({"x": b"1"}, roll_back=True) is Outcome.FAIL
    assert made.sqlstate == ""
    assert made.run({"x": b"2"}) is Outcome.OK
    made.close()
    assert admin.execute("SELECT a FROM t").fetchall() == [(2,)]


def test_the_first_statement_that_is_refused_is_named_and_the_connection_is_as_before(
    embedded: Target, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    connection = connect(embedded)
    lines = ["SELECT 1;", "SELECT a FROM t WHERE a = :x;", "SELECT 1 + 'x';", "SELECT no FROM t;", "SELECT 2;"]
    script = scripts.parse("\n".join(lines), Path("s.sql"))
    wanted = [(b"p%d" % at, statement) for at, statement in enumerate(script.statements)]
    with pytest.raises(ScenarioProblem, match=r"s\.sql:3: .*invalid input syntax"):
        prepare(connection.pgconn, script.path, wanted, planned=True)
    kept = connection.execute("SELECT name FROM pg_prepared_statements ORDER BY name").fetchall()
    assert kept == [("p0",), ("p1",), ("p4",)]
    connection.execute("DEALLOCATE ALL")
    good = [wanted[at] for at in (0, 1, 4)]
    known = prepare(connection.pgconn, script.path, good, planned=True)
    assert [one.columns for one in known] == [("?column?",), ("a",), ("?column?",)]
    connection.close()


def test_a_pipeline_is_one_round_trip_and_one_transaction(
    embedded: Target, line: str, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    text = "\\startpipeline\nINSERT INTO t VALUES (1);\nINSERT INTO t VALUES (:x);\n\\endpipeline\nSELECT 1;"
    made = Session(connect(embedded), scripts.parse(text, Path("s.sql")))
    assert made.run({"x": b"1"}) is Outcome.FAIL
    assert admin.execute("SELECT a FROM t").fetchall() == []
    assert made.run({"x": b"2"}) is Outcome.OK
    assert admin.execute("SELECT a FROM t ORDER BY a").fetchall() == [(1,), (2,)]
    made.close()


def test_a_pipeline_needs_a_protocol_that_has_them(embedded: Target) -> None:
    text = scripts.parse("\\startpipeline\nSELECT 1;\n\\endpipeline", Path("s.sql"))
    with pytest.raises(ScenarioProblem, match=r"s\.sql:1: .*simple"):
        Session(connect(embedded), text, protocol=Protocol.SIMPLE)


def test_a_prepared_transaction_is_not_an_open_one(embedded: Target, session: Make) -> None:
    made = session(embedded, "BEGIN;\nSELECT 1;\nSAVEPOINT s;\nROLLBACK TO s;\nCOMMIT;\nSELECT 2;")
    assert [made.run({}) for _ in range(3)] == [Outcome.OK] * 3
    made.close()


def test_isolation_and_schema_reach_the_session(embedded: Target) -> None:
    with connect(embedded, schema="abc", settings={"default_transaction_isolation": "repeatable read"}) as made:
        row = made.execute("SELECT current_setting('search_path'), current_setting('transaction_isolation')").fetchone()
    assert row == ("abc", "repeatable read")


def test_the_users_own_options_are_kept() -> None:
    from racebench.postgres.external import external

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
    assert row == ("racebench", True)
