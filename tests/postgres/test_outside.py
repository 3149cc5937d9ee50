"""What is made outside racebench's schema is named, and nothing that is in it or goes with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from conftest import Command, UsersServer
from racebench.core.target import Target
from racebench.postgres import outside, removal
from racebench.postgres.connection import connect
from racebench.postgres.control import Control
from racebench.postgres.embedded import as_superuser
from racebench.postgres.schemas import empty_schema

pytestmark = pytest.mark.server

SETUP = "CREATE TABLE IF NOT EXISTS public.orders (n int)"


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("CREATE TABLE public.outside (id bigserial PRIMARY KEY, note text)", "table public.outside"),
        ("CREATE FUNCTION public.outside() RETURNS int LANGUAGE sql RETURN 1", "function public.outside()"),
        ("CREATE TYPE public.outside AS ENUM ('a')", "type public.outside"),
        ("CREATE SCHEMA outside", "schema outside"),
        ("CREATE MATERIALIZED VIEW public.outside AS SELECT 1", "materialized view public.outside"),
        ("SELECT lo_create(4711)", "large object 4711"),
    ],
)
def test_each_kind_of_object_is_named_once(embedded: Target, made: str, named: str) -> None:
    with connect(embedded, schema="racebench_none") as connection, connection.transaction(force_rollback=True):
        marked = outside.mark(connection)
        assert outside.made_since(connection, marked) == ()
        connection.execute(made)
        assert outside.made_since(connection, marked) == (named,)


def test_what_is_in_a_schema_of_racebenchs_or_was_there_before_is_not_named(embedded: Target) -> None:
    with connect(embedded) as connection:
        connection.execute("CREATE TABLE public.before (n int)")
        try:
            marked = outside.mark(connection)
            with connection.transaction(force_rollback=True):
                connection.execute("CREATE SCHEMA racebench_test; CREATE TABLE racebench_test.t (n int)")
                connection.execute("CREATE TEMPORARY TABLE kept (n int)")
                connection.execute("CREATE TABLE public.dropped (n int); DROP TABLE public.dropped")
                connection.execute("INSERT INTO public.before VALUES (1)")
                assert outside.made_since(connection, marked) == ()
        finally:
            connection.execute("DROP TABLE public.before")


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(name: str) -> str:
        (tmp_path / name).write_text("INSERT INTO public.orders VALUES (1);\n")
        return name

    return write


def test_a_run_on_the_embedded_server_says_what_its_setup_made_outside(
    racebench: Command, script: Callable[[str], str]
) -> None:
    words = ("--setup", SETUP, "-w", "1", "-n", "5", "--no-save")
    done = racebench("run", script("one.sql"), *words)
    told = " ".join(done.stdout.split())
    assert "made or changed outside the schema: table public.orders; that was removed with the schema" in told
    count = ("--invariant", "SELECT 1 FROM (SELECT count(*) AS n FROM public.orders) AS c WHERE n > 5")
    again = racebench("run", script("one.sql"), *words, *count)
    assert again.returncode == 5, again.stderr
    assert "INVALID" not in again.stdout, "the next command begins without those rows"


MADE = """
CREATE TABLE public.t (a serial PRIMARY KEY, b text);
CREATE MATERIALIZED VIEW public.v AS SELECT a FROM public.t;
CREATE FUNCTION public.f() RETURNS int LANGUAGE sql RETURN 1;
CREATE TYPE public.e AS ENUM ('a');
CREATE COLLATION public.c FROM "C";
CREATE ROLE outsider;
GRANT ALL ON public.t TO outsider;
ALTER ROLE outsider SET work_mem = '1MB';
CREATE SCHEMA of_the_role AUTHORIZATION outsider;
ALTER DATABASE postgres SET work_mem = '2MB';
CREATE PUBLICATION outside;
SELECT lo_create(77);
SELECT pg_create_logical_replication_slot('outside', 'pgoutput');
BEGIN;
INSERT INTO public.t (b) VALUES ('x');
PREPARE TRANSACTION 'outside'
"""


def test_nothing_that_a_subject_has_made_on_the_embedded_server_is_left_for_the_next(embedded: Target) -> None:
    told: list[str] = []
    superuser = as_superuser(embedded)
    with connect(superuser) as connection:
        connection.execute("CREATE TABLE public.before (n int)")
        before = removal.take(connection)
        for target in (embedded, superuser):
            with empty_schema(target, "racebench_outside", tell=told.append), connect(target) as own:
                for statement in MADE.split(";"):
                    own.execute(statement.encode())
                if target is superuser:
                    own.execute("ALTER SYSTEM SET work_mem = '3MB'")
            assert removal.take(connection) == before
        connection.execute("DROP TABLE public.before")
    assert len(told) == 2
    assert all(line.endswith(" more; that was removed with the schema") for line in told)


def test_what_is_outside_is_listed_again_only_after_a_schema_that_left_something_there(
    embedded: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, told, taken = removal.take, list[str](), list[removal.Inventory]()

    def counted(connection: psycopg.Connection[tuple[object, ...]]) -> removal.Inventory:
        taken.append(take(connection))
        return taken[-1]

    monkeypatch.setattr(removal, "take", counted)
    with Control(embedded) as control, connect(embedded) as own:
        before = take(own)
        for made, lists in (("", 1), ("CREATE TABLE public.second (n int)", 1), ("", 2), ("", 2)):
            with empty_schema(embedded, "racebench_outside", tell=told.append, control=control):
                own.execute(made.encode())
            assert take(own) == before
            assert len(taken) == lists
    assert len(told) == 1
    assert "table public.second" in told[0]


def test_a_run_in_the_schema_says_nothing(racebench: Command) -> None:
    done = racebench("run", "-s", "sequence", "--consumer", "all", "-w", "1", "-n", "5", "--no-save")
    assert done.returncode == 0, done.stderr
    assert "outside the schema" not in done.stdout


def test_an_exploration_says_what_its_setup_made_outside(racebench: Command, script: Callable[[str], str]) -> None:
    done = racebench("explore", script("one.sql"), "--setup", SETUP, "--no-save")
    assert "outside the schema: table public.orders" in " ".join(done.stdout.split())


@pytest.mark.parametrize("broken", [False, True])
def test_on_a_users_server_it_is_named_and_left(
    racebench: Command, script: Callable[[str], str], users_server: UsersServer, broken: bool
) -> None:
    setup = SETUP + ("; SELECT nonsense" if broken else "")
    setup = setup.replace(";", "; COMMIT;") if broken else setup
    done = racebench(
        "run", script("one.sql"), "--setup", setup, "-w", "1", "-n", "5", "--no-save", "--dsn", users_server.dsn()
    )
    try:
        told = " ".join((done.stdout + done.stderr).split())
        assert "outside the schema: table public.orders; racebench does not drop that: it was left on 127.0.0.1" in told
        with psycopg.connect(users_server.dsn()) as connection:
            assert connection.execute("SELECT count(*) FROM public.orders").fetchone() == (0 if broken else 5,)
        assert users_server.schemas() == []
    finally:
        with users_server.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS public.orders")
