"""Several questions in one message: each is answered, also where another is refused or would wait."""

from __future__ import annotations

import psycopg
import pytest

from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.questions import Question, ask

Answers = list[list[list[tuple[str | None, ...]]] | None]


def answers(connection: psycopg.Connection[tuple[object, ...]], *questions: Question) -> Answers:
    return [None if found is None else [one.rows for one in found] for found in ask(connection, questions)]


def test_each_question_has_the_results_of_its_statements(embedded: Target) -> None:
    with connect(embedded) as connection:
        found = answers(connection, (b"SELECT 1 -- one", b"SELECT 2"), (b"SELECT 3 WHERE false",))
        assert found == [[[("1",)], [("2",)]], [[]]]
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert connection.execute("SHOW lock_timeout").fetchone() == ("0",)


@pytest.mark.parametrize(
    "refused",
    [
        b"SELECT 1 / 0",
        b"SELECT 'not ended",
        b"SELECT 1; SELECT 2",
        b"CREATE TABLE t ()",  # it would write
    ],
)
def test_the_others_are_answered_where_one_is_refused(embedded: Target, refused: bytes) -> None:
    with connect(embedded) as connection:
        assert answers(connection, (b"SELECT 1",), (refused,), (b"SELECT 3",)) == [[[("1",)]], None, [[("3",)]]]
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


def test_a_table_that_another_session_has_locked_is_not_waited_for(embedded: Target) -> None:
    with connect(embedded) as connection, connect(embedded, autocommit=False) as other:
        connection.execute("CREATE TABLE locked ()")
        try:
            other.execute("LOCK TABLE locked")
            assert answers(connection, (b"SELECT FROM locked",), (b"SELECT 3",)) == [None, [[("3",)]]]
        finally:
            other.rollback()
            connection.execute("DROP TABLE locked")


def test_a_lost_connection_is_no_refusal(embedded: Target) -> None:
    with connect(embedded) as connection, connect(embedded) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            ask(connection, [(b"SELECT 1",)])
