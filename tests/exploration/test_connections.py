"""What is asked of the names in statements: at once, or one by one, with the same answers."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from racebench.core.target import Target
from racebench.exploration.hidden_effects import Objects
from racebench.exploration.independence import names_in
from racebench.exploration.known import Names
from racebench.exploration.sessions.connections import Connections
from racebench.postgres.connection import connect
from racebench.postgres.schemas import empty_schema, new_name

TABLES = "CREATE TABLE t (n int DEFAULT 1); CREATE TABLE other (n int); CREATE SEQUENCE numbers;"
CODE = """
CREATE FUNCTION two() RETURNS void LANGUAGE plpgsql AS
    'BEGIN INSERT INTO t VALUES (1); PERFORM set_config(''my.own'', ''1'', false); UPDATE other SET n = 2; END';
CREATE FUNCTION who() RETURNS int LANGUAGE sql AS 'SELECT pg_backend_pid()';
CREATE FUNCTION locks() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN LOCK TABLE t; RETURN new; END';
CREATE TRIGGER locked BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION locks();
CREATE VIEW seen AS SELECT who() AS n;
"""
TEXTS = {
    "SELECT n FROM t",
    "INSERT INTO t VALUES (nextval('numbers'))",
    "INSERT INTO other VALUES (1)",
    "SELECT two()",
    "SELECT n FROM seen",
    "SET work_mem = '1MB'",
    "SELECT pg_advisory_lock(1), random()",
}


@pytest.fixture(params=[TABLES, TABLES + CODE], ids=["tables", "code"])
def place(embedded: Target, request: pytest.FixtureRequest) -> Iterator[tuple[psycopg.Connection[object], str]]:
    schema = new_name()
    with empty_schema(embedded, schema), connect(embedded, schema=schema) as monitor:
        monitor.execute(request.param)
        yield monitor, schema


def told(connections: Connections, text: str) -> tuple[object, ...]:
    """What is known of one text."""
    connections.read(text)
    return (
        connections.leaves(text),
        connections.volatile(names_in(text)),
        connections.writes_more(names_in(text)),
        connections.told_apart,
        connections.functions,
        connections.serializable,
        {name: sorted(getattr(connections.draws, name)) for name in type(connections.draws).__slots__},
        connections.leave_nothing,
        connections.may_change_names,
    )


def test_what_is_learned_at_once_is_what_is_asked_one_by_one(place: tuple[psycopg.Connection[object], str]) -> None:
    monitor, schema = place
    for text in sorted(TEXTS):
        alone = told(Connections(monitor, schema, "the server"), text)
        learned = Names(objects=Objects(monitor))
        Connections(monitor, schema, "the server", known=learned).learn(TEXTS)
        # A later search sends one of the texts alone.
        assert told(Connections(monitor, schema, "the server", known=learned), text) == alone


def test_a_write_that_a_statement_before_may_have_changed_is_asked_for_again(
    place: tuple[psycopg.Connection[object], str],
) -> None:
    monitor, schema = place
    known = Names(objects=Objects(monitor))
    connections = Connections(monitor, schema, "the server", known=known)
    assert known.objects is not None
    known.objects.load({"t"})
    trigger = "CREATE TRIGGER locked BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION locking()"
    monitor.execute(
        "CREATE FUNCTION locking() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN LOCK TABLE other; RETURN new; END'"
    )
    monitor.execute(trigger.encode())
    connections.leaves(trigger)
    assert connections.writes_more(names_in("INSERT INTO t VALUES (1)"))
