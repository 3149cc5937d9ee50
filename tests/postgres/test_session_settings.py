"""Settings of the user's role: replaced for strategies of scenarios, kept for the user's own code, and always named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from conftest import Command, UsersServer
from racebench.postgres.connection import connect
from racebench.postgres.external import external, usable

Role = Callable[..., str]


@pytest.fixture
def role(users_server: UsersServer) -> Iterator[Role]:
    """Make a role with settings of its own, and return a DSN of it; an ordinary role unless it is a superuser."""
    made = False

    def make(*, superuser: bool = False, **settings: str) -> str:
        nonlocal made
        with users_server.connect() as connection:
            kind = sql.SQL("SUPERUSER" if superuser else "NOSUPERUSER")
            connection.execute(sql.SQL("CREATE ROLE own {} LOGIN PASSWORD 'own'").format(kind))
            made = True
            connection.execute("GRANT CREATE ON DATABASE postgres TO own")
            for name, value in settings.items():
                command = sql.SQL("ALTER ROLE own SET {} = {}")
                connection.execute(command.format(sql.Identifier(name), sql.Literal(value)))
        return users_server.dsn(user="own", password="own")

    yield make
    if made:
        with users_server.connect() as connection:
            connection.execute("REVOKE CREATE ON DATABASE postgres FROM own")
            connection.execute("DROP ROLE own")


def document(racebench: Command, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = racebench(*arguments, "--json", "-", "--no-save")
    assert done.returncode == code, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_right_strategies_are_valid_whatever_the_isolation_of_the_role(
    racebench: Command, role: Role, level: str
) -> None:
    dsn = role(default_transaction_isolation=level)
    chosen = ("-s", "advisory", "-s", "upsert", "-s", "unique-retry", "-n", "200", "--dsn", dsn)
    found = document(racebench, "run", *chosen)
    assert {run["strategy"]: run["verdict"] for run in found["runs"]} == dict.fromkeys(
        ("advisory", "upsert", "unique-retry"), "VALID"
    )
    assert found["environment"]["role_settings"] == {"default_transaction_isolation": level}
    assert found["environment"]["server_settings"]["default_transaction_isolation"] == "read committed"


def test_a_wrong_strategy_is_invalid_under_a_serializable_role(racebench: Command, role: Role) -> None:
    dsn = role(default_transaction_isolation="serializable", lock_timeout="1ms")
    (run,) = document(racebench, "run", "-s", "naive", "-n", "400", "--hold", "1", "--dsn", dsn)["runs"]
    assert run["verdict"] == "INVALID"
    assert run["counts"]["duplicates"] > 0


def test_the_first_line_names_what_was_replaced(racebench: Command, role: Role) -> None:
    dsn = role(default_transaction_isolation="serializable", lock_timeout="5ms", DateStyle="German")
    done = racebench("run", "-s", "advisory", "-n", "40", "--no-save", "--dsn", dsn)
    first = " ".join(done.stdout.split("\n\n")[0].split())
    assert (
        "racebench replaced the role's default_transaction_isolation = 'serializable', lock_timeout = '5ms')" in first
    )


def test_an_innocent_strategy_is_explored_as_valid_under_a_serializable_role(racebench: Command, role: Role) -> None:
    dsn = role(default_transaction_isolation="serializable", idle_session_timeout="50ms")
    (found,) = document(racebench, "explore", "-s", "advisory", "--dsn", dsn)["explorations"]
    assert found["verdict"] == "VALID"


OWN = "INSERT INTO orders (number) SELECT coalesce(max(number), 0) + 1 FROM orders;\n"


@pytest.mark.parametrize("command", [("run", "-n", "200"), ("explore",)])
def test_own_code_keeps_the_roles_settings_and_the_first_line_names_them(
    racebench: Command, role: Role, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "insert.sql").write_text(OWN)
    dsn = role(default_transaction_isolation="serializable")
    name, *rest = command
    setup = ("--setup", "CREATE TABLE orders (number int)", "--invariant", "SELECT 1 FROM orders HAVING count(*) < 0")
    done = racebench(name, "./insert.sql", *rest, *setup, "--no-save", "--dsn", dsn)
    first = " ".join(done.stdout.split("\n\n")[0].split())
    assert "its sessions have default_transaction_isolation = 'serializable')" in first, done.stderr
    assert "40001" in done.stdout  # the role's isolation is what the code runs under


@pytest.mark.parametrize("kind", ["call", "sql"])
def test_the_roles_timeouts_end_no_session_that_is_explored(
    racebench: Command, role: Role, tmp_path: Path, kind: str
) -> None:
    """A session waits for as long as the others take their steps."""
    timeouts = ("idle_in_transaction_session_timeout", "idle_session_timeout", "statement_timeout", "lock_timeout")
    note = (
        f"INSERT INTO noted SELECT name, current_setting(name) FROM unnest('{{{','.join(timeouts)}}}'::text[]) AS name"
    )
    (tmp_path / "note.sql").write_text(f"{note};\n")
    (tmp_path / "shop.py").write_text(
        # The two calls that run one after the other before the search wait for no other session.
        "calls = 0\n\ndef note(connection):\n    global calls\n    calls += 1\n    with connection.transaction():\n"
        f"        connection.execute({note!r} if calls > 2 else 'SELECT 1')\n"
    )
    dsn = role(**dict.fromkeys(timeouts, "1min"))
    subject = ("--call", "shop:note") if kind == "call" else ("./note.sql",)
    given = ("--setup", "CREATE TABLE noted (name text, value text)")
    given += ("--invariant", "SELECT name, value FROM noted WHERE value <> '0'")
    (found,) = document(racebench, "explore", *subject, *given, "--fail-on", "none", "--dsn", dsn)["explorations"]
    assert found["counts"]["violations"] == 0


def test_a_given_connection_has_the_roles_settings(racebench: Command, role: Role, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "def order(connection):\n    (level,) = connection.execute('SHOW transaction_isolation').fetchone()\n"
        "    connection.execute('INSERT INTO levels VALUES (%s)', [level])\n    connection.commit()\n"
    )
    dsn = role(default_transaction_isolation="repeatable read")
    setup = (
        "--setup",
        "CREATE TABLE levels (level text)",
        "--invariant",
        "SELECT level FROM levels WHERE level <> 'repeatable read'",
    )
    found = document(racebench, "run", "--call", "shop:order", "-n", "8", "--fail-on", "none", *setup, "--dsn", dsn)
    assert found["runs"][0]["counts"]["violations"] == 0
    assert found["runs"][0]["counts"]["committed"] == 8
    assert found["environment"]["server_settings"]["default_transaction_isolation"] == "repeatable read"


@pytest.mark.parametrize(
    ("name", "value", "used"),
    [
        ("default_transaction_isolation", "serializable", "read committed"),
        ("default_transaction_deferrable", "on", "off"),
        ("synchronous_commit", "off", "local"),
        ("statement_timeout", "1min", "0"),
        ("lock_timeout", "1min", "0"),
        ("idle_in_transaction_session_timeout", "1min", "0"),
        ("idle_session_timeout", "1min", "0"),
        ("standard_conforming_strings", "off", "on"),
        ("transform_null_equals", "on", "off"),
        ("session_replication_role", "replica", "origin"),
        ("DateStyle", "SQL, DMY", "ISO, MDY"),
        ("bytea_output", "escape", "hex"),
        ("IntervalStyle", "iso_8601", "postgres"),
        ("client_encoding", "LATIN1", "UTF8"),
        ("search_path", "pg_catalog", "racebench_0123456789ab"),
    ],
)
def test_each_setting_is_replaced(role: Role, name: str, value: str, used: str) -> None:
    target = usable(external(role(superuser=name == "session_replication_role", **{name: value})), 1)
    with connect(target, schema="racebench_0123456789ab") as connection:
        assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == (used,)
    if name not in ("client_encoding", "search_path"):
        with connect(target, own_code=True) as connection:
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)


def test_a_server_with_the_defaults_is_set_nothing(users_server: UsersServer) -> None:
    target = usable(external(users_server.dsn()), 1)
    assert (target.found, target.settings) == ({}, {})


def test_pgoptions_apply_to_own_code_on_every_connection(
    users_server: UsersServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_isolation=serializable")
    target = usable(external(users_server.dsn()), 1)
    question = "SHOW default_transaction_isolation"
    for own_code, level in ((True, "serializable"), (False, "read committed")):
        with connect(target, schema="racebench_0123456789ab", own_code=own_code) as connection:
            assert connection.execute(question).fetchone() == (level,)


def test_a_date_style_of_the_environment_is_replaced(
    users_server: UsersServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATESTYLE", "German")
    target = usable(external(users_server.dsn()), 1)
    for own_code, style in ((True, "German, DMY"), (False, "ISO, MDY")):
        with connect(target, own_code=own_code) as connection:
            assert connection.execute("SHOW DateStyle").fetchone() == (style,)


# What a role may be denied, and databases of another encoding


@pytest.fixture
def denied(users_server: UsersServer) -> Iterator[None]:
    views = "pg_settings, pg_stat_gssapi, pg_stat_ssl, pg_stat_replication"
    with users_server.connect() as connection:
        connection.execute(f"REVOKE SELECT ON {views} FROM PUBLIC")  # type: ignore[arg-type]
        yield
        connection.execute(f"GRANT SELECT ON {views} TO PUBLIC")  # type: ignore[arg-type]


@pytest.mark.usefixtures("denied")
@pytest.mark.parametrize("arguments", [("run", "-n", "40"), ("explore",)], ids=["run", "explore"])
def test_a_role_needs_no_view_of_settings_or_connections(
    racebench: Command, role: Role, arguments: tuple[str, ...]
) -> None:
    name, *rest = arguments
    document(racebench, name, "-s", "advisory", *rest, "--dsn", role())


@pytest.fixture
def without_encoding(users_server: UsersServer) -> Iterator[str]:
    with users_server.connect() as connection:
        connection.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
        try:
            yield users_server.dsn(dbname="bytes")
        finally:
            connection.execute("DROP DATABASE bytes WITH (FORCE)")


@pytest.mark.parametrize("scenario", ["version-counter", "get-or-create"])
@pytest.mark.parametrize("command", [("run", "-n", "40"), ("explore", "--max-schedules", "20")], ids=["run", "explore"])
def test_results_of_a_database_without_an_encoding_are_texts(
    racebench: Command, without_encoding: str, scenario: str, command: tuple[str, ...]
) -> None:
    name, *rest = command
    document(racebench, name, scenario, "-s", "naive", *rest, "--dsn", without_encoding)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_the_users_client_encoding_changes_nothing(
    users_server: UsersServer, racebench: Command, tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "insert.sql").write_text("INSERT INTO names VALUES ('Ämter');\n")
    given = ("--setup", "CREATE TABLE names (name text)", "--invariant", "SELECT name FROM names WHERE name = 'Ämter'")
    environment = {"PGCLIENTENCODING": encoding, "RACEBENCH_DSN": users_server.dsn()}
    done = racebench("run", "./insert.sql", *given, "-n", "4", "-w", "2", "--no-save", "--json", "-", env=environment)
    assert done.returncode == 3, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["counts"]["violations"] == 4
    assert "Ämter" in json.dumps(run["witnesses"], ensure_ascii=False)
