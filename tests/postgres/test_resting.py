"""A session that rests between two runs has nothing of the first, and what cannot be restored does not rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from racebench.core.errors import ScenarioProblem
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.control import Control
from racebench.postgres.resting import Resting
from racebench.postgres.schemas import empty_schema, new_name, quiesce

#: What a session may keep, and a question whose answer then differs from that of a new session.
_LEFT = {
    "a setting": ("SET work_mem = '9MB'", "SHOW work_mem"),
    "the schema": ("SET search_path = pg_catalog", "SHOW search_path"),
    "an application name": ("SET application_name = 'left'", "SHOW application_name"),
    "a role": ("SET ROLE pg_monitor", "SELECT current_user"),
    "an isolation level": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW transaction_isolation",
    ),
    "a temporary table": ("CREATE TEMPORARY TABLE kept ()", "SELECT to_regclass('pg_temp.kept')"),
    "a prepared statement": ("PREPARE kept AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"),
    "an advisory lock": ("SELECT pg_advisory_lock(97)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    "a cursor": ("DECLARE kept CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors"),
    "a channel": ("LISTEN kept", "SELECT count(*) FROM pg_listening_channels()"),
    "a sequence's last number": (
        "CREATE TEMPORARY SEQUENCE kept; SELECT nextval('kept')",
        "DO $$BEGIN PERFORM lastval(); RAISE 'left'; EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END$$",
    ),
}


@pytest.fixture
def schema(embedded: Target) -> Iterator[str]:
    with empty_schema(embedded, name := new_name()):
        yield name


def _opened(resting: Resting, target: Target, schema: str, settings: dict[str, str] | None = None) -> Any:
    name = f"{schema} worker"
    return resting.connect(target, schema=schema, application_name=name, settings=settings or {}, rests=True)


def _rest(resting: Resting, connection: psycopg.Connection[Any], target: Target, schema: str) -> None:
    resting.rest(connection, target, schema=schema, application_name=f"{schema} worker")


def _answer(connection: psycopg.Connection[Any], question: str) -> object:
    answer = connection.execute(question.encode())
    return answer.fetchall() if answer.description else None


@pytest.mark.parametrize(("left", "question"), _LEFT.values(), ids=_LEFT)
def test_a_session_that_has_rested_is_as_a_new_one(embedded: Target, schema: str, left: str, question: str) -> None:
    resting = Resting()
    first = _opened(resting, embedded, schema)
    pid, new = first.info.backend_pid, _answer(first, question)
    first.execute(left.encode())
    _rest(resting, first, embedded, schema)
    with _opened(resting, embedded, schema) as second:
        assert second.info.backend_pid == pid
        assert _answer(second, question) == new


def test_a_session_in_a_transaction_does_not_rest(embedded: Target, schema: str) -> None:
    resting = Resting()
    first = _opened(resting, embedded, schema)
    first.execute("BEGIN")
    _rest(resting, first, embedded, schema)
    assert first.closed


def test_a_session_that_was_opened_with_other_arguments_is_closed(embedded: Target, schema: str) -> None:
    resting = Resting()
    first = _opened(resting, embedded, schema)
    _rest(resting, first, embedded, schema)
    with resting.connect(embedded, schema=schema, application_name="another", settings={}, rests=True):
        assert first.closed


def test_a_session_that_rests_takes_the_isolation_level_of_each_run(embedded: Target, schema: str) -> None:
    resting, levels, pids = Resting(), [], set()
    for wanted in ("serializable", "", "repeatable read", ""):
        connection = _opened(resting, embedded, schema, {"default_transaction_isolation": wanted} if wanted else None)
        levels.append(connection.execute("SHOW transaction_isolation").fetchone()[0])
        pids.add(connection.info.backend_pid)
        _rest(resting, connection, embedded, schema)
    assert levels == ["serializable", "read committed", "repeatable read", "read committed"]
    assert len(pids) == 1
    _opened(resting, embedded, schema).close()


def test_a_session_that_will_not_rest_begins_with_its_settings(embedded: Target, schema: str) -> None:
    level = {"default_transaction_isolation": "serializable"}
    with Resting().connect(embedded, schema=schema, application_name="once", settings=level, rests=False) as once:
        once.execute("RESET default_transaction_isolation")
        assert once.execute("SHOW transaction_isolation").fetchone() == ("serializable",)


@pytest.mark.parametrize(("left", "question"), _LEFT.values(), ids=_LEFT)
def test_a_control_session_is_as_new_behind_each_use(embedded: Target, left: str, question: str) -> None:
    with Control(embedded) as control, empty_schema(embedded, name := new_name()):
        with control.session(name) as connection:
            pid, new = connection.info.backend_pid, _answer(connection, question)
            connection.execute(left.encode())
        with control.session(name) as connection:
            assert connection.info.backend_pid == pid
            assert _answer(connection, question) == new


def test_a_control_session_is_replaced_after_a_failure_an_open_transaction_and_doubt(embedded: Target) -> None:
    def pid(control: Control, statement: str = "SELECT 1") -> int:
        with control.session("pg_catalog") as connection:
            connection.execute(statement.encode())
            return connection.info.backend_pid

    with Control(embedded) as control:
        pids = [pid(control, "BEGIN")]
        with pytest.raises(ScenarioProblem), control.session("pg_catalog"):
            raise ScenarioProblem("refused")
        pids.append(pid(control))
        control.distrust()
        pids.append(pid(control))
        with connect(embedded) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pids[-1],))
        with pytest.raises(Exception, match=r"terminat|lost"):
            pid(control)
        pids.append(pid(control))
    assert len(set(pids)) == 4


def test_only_the_sessions_that_rest_are_left_when_the_others_have_ended(embedded: Target, schema: str) -> None:
    resting = Resting()
    first, other = _opened(resting, embedded, schema), connect(embedded, application_name=f"{schema} worker")
    pid = first.info.backend_pid
    other.execute("BEGIN")
    other.execute("CREATE TEMPORARY TABLE in_flight ()")
    _rest(resting, first, embedded, schema)
    with connect(embedded) as monitor:
        quiesce(monitor, schema, role="worker", wait_seconds=0.0, resting=[pid])
    with pytest.raises(psycopg.OperationalError):
        other.execute("COMMIT")
    with _opened(resting, embedded, schema) as second:
        assert second.execute("SELECT pg_backend_pid()").fetchone() == (pid,)
