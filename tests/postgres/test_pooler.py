"""PgBouncer before the user's server: sessions are used as they are, or refused at once; no table of the user's own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from poolers import needs_pgbouncer, pgbouncer

from conftest import Command, Start, UsersServer, assert_one_line
from racebench.core.errors import DatabaseProblem
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.external import external, usable
from racebench.workloads import addresses
from waiting import finish, wait_for

pytestmark = needs_pgbouncer

#: What makes PgBouncer drop the search_path of the start-up packet in silence.
DROPS = {"ignore_startup_parameters": "options"}
ORDERS = "CREATE TABLE IF NOT EXISTS orders (number int)"
TWICE = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


@pytest.fixture(scope="module")
def session_pooler(users_server: UsersServer) -> Iterator[str]:
    with pgbouncer(users_server, "session", **DROPS) as dsn:
        yield dsn


@pytest.fixture(autouse=True)
def nothing_is_written_or_left(users_server: UsersServer) -> Iterator[None]:
    """The user has a table that the tests' own is named like; nothing is written to it, and no schema stays."""
    with users_server.connect() as connection:
        connection.execute("CREATE TABLE public.orders (number int); CREATE TABLE public.events (version bigint)")
    try:
        yield
        with users_server.connect() as connection:
            question = "SELECT (SELECT count(*) FROM public.orders) + (SELECT count(*) FROM public.events)"
            assert connection.execute(question).fetchone() == (0,)
            tables = connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid > 16383").fetchall()
            assert sorted(name for (name,) in tables) == ["events", "orders"]
        assert users_server.schemas() == []
    finally:
        with users_server.connect() as connection:
            connection.execute("DROP TABLE public.orders, public.events")


@pytest.fixture
def insert(tmp_path: Path) -> str:
    (tmp_path / "insert.sql").write_text(
        "INSERT INTO orders (number) SELECT coalesce(max(number), 0) + 1 FROM orders;\n"
    )
    return "./insert.sql"


@pytest.mark.parametrize(("strategy", "verdict"), [("naive", "INVALID"), ("advisory", "VALID")])
def test_strategies_are_judged_as_ever_in_session_pooling(
    racebench: Command, session_pooler: str, strategy: str, verdict: str
) -> None:
    done = racebench(
        "run", "-s", strategy, "-n", "400", "--hold", "1", "--json", "-", "--no-save", "--dsn", session_pooler
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["verdict"] == verdict


def test_the_users_own_sql_writes_to_racebenchs_schema_in_session_pooling(
    racebench: Command, session_pooler: str, insert: str
) -> None:
    arguments = ("--setup", ORDERS, "--invariant", TWICE, "-n", "80", "--fail-on", "none", "--json", "-", "--no-save")
    done = racebench("run", insert, *arguments, "--dsn", session_pooler)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["counts"]["committed"] == 80


def test_pgbouncer_as_it_is_installed_refuses_options_and_is_used_without(
    racebench: Command, users_server: UsersServer
) -> None:
    with pgbouncer(users_server, "session") as dsn:
        done = racebench("run", "-s", "advisory", "-n", "40", "--fail-on", "any", "--no-save", "--dsn", dsn)
    assert done.returncode == 0, done.stderr


def test_own_sql_that_resets_its_session_is_refused(racebench: Command, session_pooler: str, tmp_path: Path) -> None:
    (tmp_path / "reset.sql").write_text("DISCARD ALL;\nINSERT INTO orders VALUES (1);\n")
    done = racebench("run", "./reset.sql", "--setup", ORDERS, "-n", "8", "--no-save", "--dsn", session_pooler)
    assert_one_line(done, 6, "DISCARD would lead the session to the application's own tables")


@pytest.mark.parametrize("command", ["run", "explore"])
def test_python_that_would_connect_to_its_own_tables_is_refused(
    racebench: Command, session_pooler: str, tmp_path: Path, command: str
) -> None:
    (tmp_path / "shop.py").write_text(
        "import os, psycopg\n\ndef order():\n    with psycopg.connect(os.environ['DATABASE_URL']) as connection:\n"
        "        connection.execute('INSERT INTO orders VALUES (1)')\n"
    )
    done = racebench(command, "--call", "shop:order", "--setup", ORDERS, "--no-save", "--dsn", session_pooler)
    assert_one_line(done, 6, "the pooler drops the search_path of the URI; give a DSN of the server itself")


def test_exploring_is_refused_because_the_servers_processes_are_hidden(racebench: Command, session_pooler: str) -> None:
    done = racebench("explore", "-s", "naive", "--no-save", "--dsn", session_pooler)
    assert_one_line(done, 6, "is a pooler, which hides the server's process of each session")


@pytest.mark.parametrize(
    ("mode", "settings", "command"),
    [
        ("transaction", {}, ("run", "-s", "naive", "-n", "40")),
        ("transaction", DROPS, ("explore", "-s", "naive")),
        ("transaction", {**DROPS, "server_round_robin": 1}, ("server", "clean")),
        ("statement", {}, ("compare", "-s", "naive", "-s", "advisory", "-n", "40")),
        ("statement", DROPS, ("run", "-s", "naive", "-n", "40")),
    ],
)
def test_shared_sessions_are_refused_in_one_line(
    racebench: Command, users_server: UsersServer, mode: str, settings: dict[str, object], command: tuple[str, ...]
) -> None:
    with pgbouncer(users_server, mode, **settings) as dsn:
        done = racebench(*command, "--dsn", dsn)
        assert_one_line(done, 6, "shares the server's sessions among its clients (transaction or statement pooling)")
        assert "pool_mode = session" in done.stderr


def test_transaction_pooling_is_recognized_when_other_sessions_are_idle(users_server: UsersServer) -> None:
    """Round robin gives the next idle session: clients may seem to have one each."""
    with pgbouncer(users_server, "transaction", server_round_robin=1) as dsn:
        others = [psycopg.connect(dsn) for _ in range(7)]
        for other in others:
            other.execute("SELECT 1")  # each is in a transaction, and so has a session of the server
        for other in others:
            other.rollback()
        for needed in (2, 7, 11):
            with pytest.raises(DatabaseProblem, match="transaction or statement pooling"):
                usable(external(dsn), needed)
        for other in others:
            other.close()


def test_a_pool_that_is_too_small_is_said_before_the_run_waits_for_it(
    racebench: Command, users_server: UsersServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("racebench.postgres.pooler._ANSWER_SECONDS", 0.5)
    with pgbouncer(users_server, "session", default_pool_size=4, **DROPS) as dsn:
        with pytest.raises(DatabaseProblem, match="has 4 sessions to give, 5 are needed; use fewer --workers"):
            usable(external(dsn), 5)
        assert usable(external(dsn), 4).pooled


def test_a_pooler_that_does_not_reset_sessions_is_refused(users_server: UsersServer) -> None:
    with (
        pgbouncer(users_server, "session", server_reset_query="", **DROPS) as dsn,
        pytest.raises(DatabaseProblem, match="does not reset a session after a client"),
    ):
        usable(external(dsn), 4)


def test_a_search_path_that_is_lost_is_noticed_on_any_connection(
    session_pooler: str, users_server: UsersServer
) -> None:
    """Also where it could not be known before: the target was asked when another pooler was there."""
    for dsn, lost in ((session_pooler, True), (users_server.dsn(), False)):
        unaware = external(dsn)
        with users_server.connect() as connection:
            connection.execute("CREATE SCHEMA racebench_0123456789ab")
        try:
            if lost:
                with pytest.raises(DatabaseProblem, match="would work in schema 'public', not in racebench's"):
                    connect(unaware, schema="racebench_0123456789ab")
            else:
                connect(unaware, schema="racebench_0123456789ab").close()
        finally:
            with users_server.connect() as connection:
                connection.execute("DROP SCHEMA racebench_0123456789ab")


def test_what_a_server_itself_is_found_to_be(users_server: UsersServer) -> None:
    target = usable(external(users_server.dsn()), 4)
    assert (target.pooled, target.keeps_search_path) == (False, True)
    assert addresses.variables(target, "racebench_0123456789ab", "test")


def test_a_killed_run_behind_a_pooler_is_named_and_cleaned(
    racebench: Command, start: Start, session_pooler: str, users_server: UsersServer
) -> None:
    process = start("run", "-s", "advisory", "-w", "2", "-d", "30", "--hold", "5", "--dsn", session_pooler)
    wait_for(lambda: users_server.schemas() and users_server.sessions() >= 4, "the run never connected")
    used = racebench("server", "clean", "--dsn", session_pooler)
    assert "dropped" not in used.stdout
    process.send_signal(signal.SIGKILL)
    finish(process)
    wait_for(lambda: users_server.sessions() == 0, "the workers do not end")
    done = racebench("server", "clean", "--dsn", session_pooler)
    assert "dropped schema racebench_" in done.stdout


def test_an_embedded_target_asks_nothing_when_it_connects(embedded: Target) -> None:
    assert (embedded.pooled, embedded.keeps_search_path, embedded.settings) == (False, True, {})
