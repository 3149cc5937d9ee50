"""The server knows whether a client has worked, whatever the client is."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from racebench.core.target import Target
from racebench.postgres.client_sessions import ClientSessions, transactions
from racebench.postgres.connection import connect
from waiting import wait_for

SCHEMA = "racebench_of_nobody"


def client(target: Target) -> psycopg.Connection[tuple[object, ...]]:
    return connect(target, application_name="a client")


def test_only_what_a_client_does_counts(embedded: Target) -> None:
    with connect(embedded) as own, client(embedded) as idle:
        idle.execute("SELECT 1")
        sessions = ClientSessions(own, SCHEMA)
        assert not sessions.worked()
        idle.execute("SELECT 1")
        assert sessions.worked(), "an old session has sent a statement"


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_a_new_session_counts_and_one_of_racebenchs_own_does_not(embedded: Target, closed: bool) -> None:
    with connect(embedded) as own:
        sessions = ClientSessions(own, SCHEMA)
        session = client(embedded)
        pid = session.info.backend_pid
        if closed:
            session.close()
            assert not sessions.worked(own=[pid])
            client(embedded).close()
            assert sessions.worked(own=[pid]), "another one"
        else:
            assert sessions.worked()
            session.close()


def test_clients_of_another_database_do_not_count(embedded: Target) -> None:
    elsewhere = replace(embedded, parameters={**embedded.parameters, "dbname": "elsewhere"})
    with connect(embedded) as admin:
        admin.execute("CREATE DATABASE elsewhere TEMPLATE postgres")
        try:
            with connect(embedded) as own:
                sessions = ClientSessions(own, SCHEMA)
                with client(elsewhere) as session:
                    session.execute("SELECT 1")
                    assert not sessions.worked()
                assert not sessions.worked()
        finally:
            admin.execute("DROP DATABASE elsewhere WITH (FORCE)")


def test_a_session_that_has_ended_may_have_worked(embedded: Target) -> None:
    old = client(embedded)
    with connect(embedded) as own:
        sessions = ClientSessions(own, SCHEMA)
        assert not sessions.worked()
        old.close()
        left = "SELECT FROM pg_stat_activity WHERE application_name = 'a client'"
        wait_for(lambda: own.execute(left).fetchone() is None, "the session stays")
        assert sessions.worked()


def test_the_transactions_of_a_session_are_counted_by_the_server(embedded: Target) -> None:
    with connect(embedded, autocommit=False) as connection:
        first = transactions(connection)
        assert transactions(connection) == first + 1
        connection.commit()
        connection.rollback()
        assert transactions(connection) == first + 2
        connection.execute("SELECT 1")
        connection.commit()
        assert transactions(connection) == first + 4
