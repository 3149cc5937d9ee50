"""A connection of racebench's own that is lost in use is one problem, said in a line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psycopg
import pytest

from benchmarks.faults.moments import once
from benchmarks.faults.proxy import breaking
from conftest import UsersServer
from racebench.cli.servers import Server
from racebench.core.errors import DatabaseProblem
from racebench.core.model import SqlFile
from racebench.core.target import Target
from racebench.postgres import environment
from racebench.postgres.connection import asked, connect, naming_lost_connections, run_file
from racebench.postgres.external import external
from racebench.postgres.message import send


def _lose(server: UsersServer, connection: psycopg.Connection[tuple[object, ...]]) -> None:
    with server.connect() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
    try:
        connection.execute("SELECT 1")
    except psycopg.Error as problem:
        problem.add_note("a schema is left")
        raise


def test_a_lost_connection_is_a_problem_of_the_database_with_its_notes(users_server: UsersServer) -> None:
    target = external(users_server.dsn())
    connection = connect(target)
    with (
        pytest.raises(DatabaseProblem, match=r"was lost: .*terminat") as raised,
        naming_lost_connections(target),
    ):
        _lose(users_server, connection)
    assert raised.value.__notes__ == ["a schema is left"]
    assert "\n" not in str(raised.value)


def test_statements_are_prepared_where_that_is_asked_for_alone(embedded: Target) -> None:
    for prepares, prepared in ((True, ["SELECT 1"]), (False, [])):
        with connect(embedded, prepares=prepares) as connection:
            for _ in range(10):
                connection.execute("SELECT 1", prepare=True)
                connection.execute("SELECT 2")
            found = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
        assert [row[0] for row in found] == prepared


def test_other_exceptions_pass() -> None:
    target = Target(kind="external", parameters={}, label="here")
    with pytest.raises(psycopg.ProgrammingError), naming_lost_connections(target):
        raise psycopg.ProgrammingError


def test_a_connection_that_is_lost_when_the_environment_is_asked_for_is_one_problem(
    embedded: Target, tmp_path: Path
) -> None:
    with (
        breaking(tmp_path, embedded, once(lambda data, _: 0 if b"shared_buffers" in data else None)) as proxy,
        pytest.raises(DatabaseProblem, match="was lost"),
        Server(target=proxy.target, version=18).opened(1) as target,
    ):
        environment.describe(target)


def test_a_question_has_an_answer(users_server: UsersServer) -> None:
    with contextlib.closing(users_server.connect()) as connection:
        assert asked(connection.pgconn, b"SELECT 1; SELECT 'last'", limit_s=60) == "last"
        assert asked(connection.pgconn, b"SELECT NULL", limit_s=60) == ""
        with pytest.raises(psycopg.errors.DivisionByZero):
            asked(connection.pgconn, b"SELECT 1/0; SELECT 1", limit_s=60)
        assert asked(connection.pgconn, b"SELECT 1", limit_s=60) == "1"


def test_a_question_has_a_limit(users_server: UsersServer) -> None:
    with contextlib.closing(users_server.connect()) as connection:
        with pytest.raises(TimeoutError, match="no answer within 0 s"):
            asked(connection.pgconn, b"SELECT pg_sleep(60)", limit_s=0.1)
        with users_server.connect() as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))


@pytest.mark.parametrize("over", ["socket", "TCP"])
def test_a_file_longer_than_the_sockets_buffer_is_sent_whole(
    embedded: Target, users_server: UsersServer, over: str
) -> None:
    rows = ",\n".join(f"({number}, '{'x' * 200}')" for number in range(40_000))
    file = SqlFile(
        path=Path("setup.sql"),
        text=f"CREATE TEMP TABLE padded (n int, pad text);\nINSERT INTO padded VALUES\n{rows};\n",
    )
    with connect(embedded if over == "socket" else external(users_server.dsn())) as connection:
        run_file(connection, file)
        assert connection.execute("SELECT count(*) FROM padded").fetchone() == (40_000,)


def test_a_message_longer_than_the_sockets_buffer_is_sent_whole(embedded: Target) -> None:
    long = "x" * 8_000_000
    with connect(embedded) as connection:
        connection.execute("CREATE TEMP TABLE padded (pad text)")
        statements = [
            f"SELECT length('{long}')".encode(),
            b"COPY padded FROM STDIN",
            b"SELECT sum(length(pad)) FROM padded",
        ]
        answers = send(connection, statements, [f"{long}\n".encode()])
    assert [answer.rows for answer in answers] == [[("8000000",)], [], [("8000000",)]]
