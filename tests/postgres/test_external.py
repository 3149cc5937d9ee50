"""The user's server: Debian's PostgreSQL over TCP with a password; nothing left there, no password anywhere."""

from __future__ import annotations

import json
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conftest import Command, Start, UsersServer
from racebench.core.errors import DatabaseProblem
from racebench.postgres.external import external, usable
from waiting import finish, wait_for


@pytest.fixture(autouse=True)
def nothing_is_left(users_server: UsersServer) -> Iterator[None]:
    yield
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


def counts(racebench: Command, server: UsersServer, strategy: str, *options: str) -> dict[str, int]:
    done = racebench("run", "-s", strategy, "--json", "-", "--no-save", *options, env={"RACEBENCH_DSN": server.dsn()})
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["environment"]["target"] == "external"
    assert document["environment"]["server_version"].startswith(server.version)
    assert document["runs"][0]["as_expected"], document["runs"][0]["counts"]
    assert server.password not in done.stdout
    (consumer,) = document["runs"][0]["consumers"]
    found: dict[str, int] = {**consumer["counts"], **document["runs"][0]["counts"]}
    return found


def test_naive_is_invalid_on_an_external_server(racebench: Command, users_server: UsersServer) -> None:
    found = counts(racebench, users_server, "naive", "-n", "1600")
    assert found["duplicates"] > 0
    assert found["missed"] > 0


@pytest.mark.parametrize("strategy", ["unique-retry", "advisory", "upsert"])
def test_a_right_strategy_is_valid_on_an_external_server(
    racebench: Command, users_server: UsersServer, strategy: str
) -> None:
    found = counts(racebench, users_server, strategy, "-n", "400")
    assert found["duplicates"] == found["missed"] == 0
    assert found["delivered"] == 400


@pytest.mark.parametrize("strategy", ["sequence", "identity"])
def test_a_consumer_misses_rows_of_a_sequence_on_an_external_server(
    racebench: Command, users_server: UsersServer, strategy: str
) -> None:
    found = counts(racebench, users_server, strategy, "-n", "1600", "--hold", "5")
    assert found["duplicates"] == 0
    assert found["missed"] > 0


def test_keep_leaves_the_schema_and_prints_its_name(racebench: Command, users_server: UsersServer) -> None:
    done = racebench("run", "-s", "naive", "-n", "80", "--keep", "--no-save", "--dsn", users_server.dsn())
    (schema,) = users_server.schemas()
    assert f"kept: schema {schema}" in done.stdout
    with users_server.connect() as connection:
        assert connection.execute(f'SELECT count(*) FROM "{schema}".events').fetchone() == (80,)  # type: ignore[arg-type]
        connection.execute(f'DROP SCHEMA "{schema}" CASCADE')  # type: ignore[arg-type]


def test_nothing_outside_the_schema_is_touched(racebench: Command, users_server: UsersServer) -> None:
    question = """SELECT
        coalesce(string_agg(c.oid::text || c.relname || coalesce(n_tup_ins, 0), ',' ORDER BY c.oid), '')
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE nspname NOT LIKE 'pg_%'
        AND nspname <> 'information_schema'"""
    with users_server.connect() as connection:
        connection.execute("CREATE TABLE public.events (version bigint); CREATE TABLE public.counters (tenant int)")
        before = connection.execute(question).fetchone()
        for strategy in ("naive", "upsert"):
            racebench("run", "-s", strategy, "-n", "80", "--no-save", "--dsn", users_server.dsn())
        assert connection.execute(question).fetchone() == before
        connection.execute("DROP TABLE public.events; DROP TABLE public.counters")


def test_a_stray_pghost_alone_does_not_choose_the_users_server(racebench: Command, users_server: UsersServer) -> None:
    stray = {"PGHOST": "127.0.0.1", "PGPORT": str(users_server.port), "PGUSER": "owner", "PGPASSWORD": "x"}
    done = racebench("run", "-s", "sequence", "-n", "40", "--json", "-", "--no-save", env=stray)
    assert json.loads(done.stdout)["environment"]["target"] == "embedded"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_on_an_external_server(
    users_server: UsersServer, start: Start, sign: signal.Signals
) -> None:
    process = start(
        "run",
        "-s",
        "naive",
        "-s",
        "advisory",
        "-w",
        "4",
        "-d",
        "30",
        "--hold",
        "50",
        env={"RACEBENCH_DSN": users_server.dsn()},
    )
    wait_for(lambda: users_server.sessions() >= 5, "the run never connected")
    process.send_signal(sign)
    output, errors = finish(process)
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert users_server.password not in output + errors


def test_what_was_finished_before_an_interruption_is_shown_and_saved(
    users_server: UsersServer, start: Start, tmp_path: Path
) -> None:
    process = start(
        "run", "-s", "naive", "-s", "advisory", "-w", "2", "-d", "1", env={"RACEBENCH_DSN": users_server.dsn()}
    )
    results = tmp_path / "results"
    wait_for(lambda: results.is_dir() and any(results.glob("*.json")), "nothing was saved")
    process.send_signal(signal.SIGINT)
    output, _ = finish(process)
    assert process.returncode == 130
    assert "naive is" in output
    assert "advisory is" not in output
    (saved,) = results.glob("*.json")
    document = json.loads(saved.read_text())
    assert [run["strategy"] for run in document["runs"]] == ["naive"]
    assert document["complete"] is False


# What cannot be used is said before anything starts


def refused(racebench: Command, dsn: str, *options: str) -> str:
    done = racebench("run", "-s", "naive", "--no-save", *options, env={"RACEBENCH_DSN": dsn})
    assert done.returncode == 6, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    return done.stderr


def test_a_wrong_password_is_one_line_without_the_password(racebench: Command, users_server: UsersServer) -> None:
    said = refused(racebench, users_server.dsn(password="wrong-secret"))
    assert f"cannot connect to 127.0.0.1:{users_server.port}/postgres" in said
    assert "password authentication failed" in said
    assert "wrong-secret" not in said


def test_an_unreachable_host_is_one_line(racebench: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        said = refused(racebench, f"postgresql://u:hidden@127.0.0.1:{taken.getsockname()[1]}/d")
    assert "Connection refused" in said
    assert "hidden" not in said


def test_a_missing_database_is_one_line(racebench: Command, users_server: UsersServer) -> None:
    assert 'database "nowhere" does not exist' in refused(racebench, users_server.dsn(dbname="nowhere"))


def test_a_role_that_may_not_create_a_schema_is_one_line(racebench: Command, users_server: UsersServer) -> None:
    with users_server.connect() as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
        try:
            said = refused(racebench, users_server.dsn(user="reader", password="reader"))
        finally:
            connection.execute("DROP ROLE reader")
    assert "role 'reader' may not create a schema in database 'postgres'; GRANT CREATE ON DATABASE" in said


def test_an_ordinary_role_with_its_own_database_is_enough(racebench: Command, users_server: UsersServer) -> None:
    with users_server.connect() as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'app'")
        connection.execute("CREATE DATABASE app OWNER app")
        try:
            dsn = users_server.dsn(user="app", password="app", dbname="app")
            done = racebench("run", "-s", "advisory", "-n", "80", "--no-save", "--fail-on", "any", "--dsn", dsn)
            assert done.returncode == 0, done.stderr
        finally:
            connection.execute("DROP DATABASE app")
            connection.execute("DROP ROLE app")


def test_a_read_only_database_is_one_line(racebench: Command, users_server: UsersServer) -> None:
    with users_server.connect() as connection:
        connection.execute("CREATE ROLE careful SUPERUSER LOGIN PASSWORD 'careful'")
        connection.execute("ALTER ROLE careful SET default_transaction_read_only = on")
        try:
            said = refused(racebench, users_server.dsn(user="careful", password="careful"))
        finally:
            connection.execute("DROP ROLE careful")
    assert "is read-only (has default_transaction_read_only on)" in said


def test_a_synchronous_standby_that_is_not_there_is_named_before_a_commit_waits_for_it(
    racebench: Command, users_server: UsersServer
) -> None:
    with users_server.connect() as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute("CREATE ROLE local SUPERUSER LOGIN PASSWORD 'local'")
        connection.execute("ALTER ROLE local SET synchronous_commit = local")
        try:
            _set_standby(connection, "absent")
            said = refused(racebench, users_server.dsn())
            own = users_server.dsn(user="local", password="local")
            innocent = racebench("run", "-s", "advisory", "-w", "2", "-n", "4", "--no-save", "--dsn", own)
        finally:
            _set_standby(connection, "")
            connection.execute("DROP ROLE local")
    assert "synchronous_standby_names is 'absent', and no standby is connected" in said
    assert 'ALTER ROLE "owner" SET synchronous_commit = local' in said
    assert innocent.returncode == 0, innocent.stderr


def _set_standby(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")  # type: ignore[arg-type]
    connection.execute("SELECT pg_reload_conf()")
    wait_for(
        lambda: connection.execute("SHOW synchronous_standby_names").fetchone() == (name,), "the setting is not taken"
    )


def test_more_workers_than_the_server_has_connections(racebench: Command, users_server: UsersServer) -> None:
    said = refused(racebench, users_server.dsn(), "--workers", "300")
    assert "free connections (max_connections less what is reserved and in use), 304 are needed" in said
    assert "use fewer --workers" in said


def test_more_workers_than_the_role_may_have(racebench: Command, users_server: UsersServer) -> None:
    with users_server.connect() as connection:
        connection.execute("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 4")
        connection.execute("GRANT CREATE ON DATABASE postgres TO few")
        try:
            said = refused(racebench, users_server.dsn(user="few", password="few"), "--workers", "4")
        finally:
            connection.execute("REVOKE CREATE ON DATABASE postgres FROM few")
            connection.execute("DROP ROLE few")
    assert "has 3 free connections (the role's CONNECTION LIMIT), 8 are needed" in said


def test_a_server_below_14_is_refused() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=_pretend, args=(listener, "13.22"), daemon=True)
        thread.start()
        target = external(f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/d?sslmode=disable&gssencmode=disable")
        with pytest.raises(DatabaseProblem, match="is PostgreSQL 13; racebench needs 14 or newer"):
            usable(target, 1)
        thread.join()


def _pretend(listener: socket.socket, version: str) -> None:
    """Answer a start-up packet as a server of that version, then hang up when the client does."""
    client, _ = listener.accept()
    with client:
        (length,) = struct.unpack("!I", client.recv(4))
        client.recv(length - 4)
        client.sendall(_message(b"R", struct.pack("!I", 0)))
        for name, value in {"server_version": version, "client_encoding": "UTF8"}.items():
            client.sendall(_message(b"S", name.encode() + b"\0" + value.encode() + b"\0"))
        client.sendall(_message(b"K", struct.pack("!II", 1, 2)) + _message(b"Z", b"I"))
        while client.recv(1024):
            pass


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body
