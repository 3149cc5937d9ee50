"""A snapshot restores every table, wherever it is in a tree of tables, and leaves triggers as they are."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from racebench.core.errors import DatabaseProblem
from racebench.core.target import Target
from racebench.postgres import definitions, materialized_views
from racebench.postgres.connection import connect
from racebench.postgres.embedded import as_superuser
from racebench.postgres.large_objects import LargeObjects
from racebench.postgres.materialized_views import MaterializedViews
from racebench.postgres.snapshot import Snapshot
from racebench.postgres.storage import Care

Connection = psycopg.Connection[Any]

TABLES = """
CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY, a int NOT NULL, twice int GENERATED ALWAYS AS (2 * a) STORED);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent (a) VALUES (1);
INSERT INTO child (id, a, b) VALUES (7, 2, 3);
CREATE TABLE halves (a int PRIMARY KEY, b text) PARTITION BY RANGE (a);
CREATE TABLE low PARTITION OF halves FOR VALUES FROM (0) TO (10);
CREATE TABLE high PARTITION OF halves FOR VALUES FROM (10) TO (20) PARTITION BY LIST (a);
CREATE TABLE eleven PARTITION OF high FOR VALUES IN (11);
INSERT INTO halves VALUES (1, 'x'), (11, 'y');
CREATE TABLE refers (a int REFERENCES halves);
INSERT INTO refers VALUES (11);
"""
READ = (
    "SELECT tableoid::regclass::text, id, a, twice FROM parent ORDER BY 1, 2",
    "SELECT tableoid::regclass::text, a, b FROM halves ORDER BY 2",
    "SELECT a FROM refers",
    "SELECT last_value, is_called FROM parent_id_seq",
)
TRIGGERS = """
CREATE TABLE written (a int);
CREATE TABLE log (how text);
INSERT INTO written VALUES (1);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO log VALUES (TG_NAME); RETURN NULL; END $$;
CREATE TRIGGER origin AFTER INSERT ON written FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER INSERT ON written FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER replica AFTER INSERT ON written FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER disabled AFTER INSERT ON written FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE written ENABLE ALWAYS TRIGGER always;
ALTER TABLE written ENABLE REPLICA TRIGGER replica;
ALTER TABLE written DISABLE TRIGGER disabled;
"""


@pytest.fixture(params=["postgres", "racebench", "owner"])
def owner(request: pytest.FixtureRequest, embedded: Target) -> Iterator[tuple[Connection, str]]:
    """A connection of a role, and the schema that the role owns."""
    schema = f"racebench_{secrets.token_hex(4)}"
    with connect(as_superuser(embedded)) as superuser:
        superuser.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(schema)))
        superuser.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(*[sql.Identifier(schema)] * 2))
        superuser.execute(sql.SQL("GRANT {} TO racebench").format(sql.Identifier(schema)))
        user = schema if request.param == "owner" else request.param
        target = replace(embedded, parameters={**embedded.parameters, "user": user})
        with connect(target, schema=schema) as connection:
            yield connection, schema
        superuser.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        superuser.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(schema)))


def read(connection: Connection) -> list[list[tuple[Any, ...]]]:
    return [connection.execute(query.encode()).fetchall() for query in READ]


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO parent (a) VALUES (5)",
        "DELETE FROM ONLY parent",
        "DELETE FROM child",
        "UPDATE parent SET a = a + 1",
        "TRUNCATE parent RESTART IDENTITY CASCADE",
        "UPDATE halves SET b = 'z'",
        "DELETE FROM refers; UPDATE halves SET a = 2 WHERE a = 11",
        "TRUNCATE halves CASCADE",
        "SELECT nextval('parent_id_seq')",
        "ALTER TABLE parent ADD COLUMN more int DEFAULT 1; UPDATE parent SET a = 9",
    ],
)
def test_every_table_of_a_tree_is_restored(owner: tuple[Connection, str], change: str) -> None:
    connection, schema = owner
    connection.execute(TABLES.encode())
    before = read(connection)
    snapshot = Snapshot(connection, schema)
    for _ in range(2):
        connection.execute(change.replace("ADD COLUMN", "ADD COLUMN IF NOT EXISTS").encode())
        snapshot.restore()
        assert read(connection) == before


def test_what_changes_after_the_changes_were_read_is_restored_too(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute(TABLES)
    snapshot, before = Snapshot(connection, schema), read(connection)
    for more in (
        "INSERT INTO parent (a) VALUES (4)",
        "DELETE FROM refers",
        "SELECT nextval('parent_id_seq')",
        "SELECT",
    ):
        connection.execute("UPDATE halves SET b = 'z' WHERE a = 1")
        assert [change.table[1] for change in snapshot.changes()] == ["low"]
        connection.execute(more)
        snapshot.restore()
        assert read(connection) == before
        assert snapshot.changes() == ()


def test_changes_are_those_since_the_last_restore(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute(TABLES)
    snapshot = Snapshot(connection, schema)
    for tables in (["parent"], ["parent", "refers"], ["refers"], [], ["parent"]):
        for table in tables:
            connection.execute(sql.SQL("INSERT INTO {} (a) VALUES (11)").format(sql.Identifier(table)))
        changed = {change.table[1]: len(change.added) for change in snapshot.changes()}
        assert changed == dict.fromkeys(tables, 1)
        snapshot.restore()


def test_a_restore_fires_no_trigger_and_leaves_each_as_it_was(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute(TRIGGERS.encode())
    modes = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'written'::regclass ORDER BY 1"
    before = connection.execute(modes.encode()).fetchall()
    snapshot = Snapshot(connection, schema)
    connection.execute("DELETE FROM written")
    snapshot.restore()
    assert connection.execute("SELECT a FROM written").fetchall() == [(1,)]
    assert connection.execute("SELECT how FROM log").fetchall() == []
    assert connection.execute(modes.encode()).fetchall() == before


def test_a_table_whose_rows_a_rule_keeps_is_an_error_and_no_wrong_restore(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute("CREATE TABLE kept (a int); CREATE RULE keep AS ON DELETE TO kept DO INSTEAD NOTHING")
    snapshot = Snapshot(connection, schema)
    connection.execute("INSERT INTO kept VALUES (1)")
    if connection.info.user in ("postgres", "racebench"):
        snapshot.restore()  # rules do not apply in the restore of a role that may set session_replication_role
        assert connection.execute("SELECT a FROM kept").fetchall() == []
    else:
        with pytest.raises(DatabaseProblem, match=r"kept.* has 1 row after it was restored, not 0"):
            snapshot.restore()


def test_tables_and_sequences_of_other_schemas_are_restored_where_that_is_asked(embedded: Target) -> None:
    with connect(embedded) as connection:
        connection.execute("CREATE SCHEMA beside; CREATE TABLE beside.t (a int); CREATE SEQUENCE beside.s")
        try:
            snapshot = Snapshot(connection, "racebench_none", others=True)
            connection.execute("INSERT INTO beside.t VALUES (1); SELECT nextval('beside.s')")
            snapshot.restore()
            assert connection.execute("SELECT a FROM beside.t").fetchall() == []
            assert connection.execute("SELECT is_called FROM beside.s").fetchone() == (False,)
        finally:
            connection.execute("DROP SCHEMA beside CASCADE")


def test_a_materialized_view_is_restored_unless_it_was_out_of_date(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1);"
        "CREATE MATERIALIZED VIEW fresh AS SELECT a, '{}'::json AS j FROM t;"
        "CREATE MATERIALIZED VIEW empty AS SELECT a FROM fresh WITH NO DATA;"
        "CREATE MATERIALIZED VIEW stale AS SELECT a FROM t; INSERT INTO t VALUES (2);"
        "REFRESH MATERIALIZED VIEW fresh"
    )
    snapshot, views = Snapshot(connection, schema), MaterializedViews(connection, schema)
    assert views.changed() == ()
    connection.execute("INSERT INTO t VALUES (3)")
    for name in ("fresh", "empty", "stale"):
        connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(name)))
    assert len(views.changed()) == 3
    changes = {change.table[1]: (change.columns, change.added, change.removed) for change in views.changes()}
    assert changes["fresh"] == (("a", "j"), (("3", "{}"),), ())
    assert changes["stale"] == (("a",), (("2",), ("3",)), ())
    assert changes["empty"] == (("a",), (("1",), ("2",), ("3",)), ())
    snapshot.restore()
    (left,) = views.restore()
    assert left.endswith('"stale"')
    assert connection.execute("SELECT a FROM fresh ORDER BY a").fetchall() == [(1,), (2,)]
    assert connection.execute("SELECT relispopulated FROM pg_class WHERE oid = 'empty'::regclass").fetchone() == (
        False,
    )


def test_of_a_materialized_view_with_too_many_rows_a_digest_is_compared(
    owner: tuple[Connection, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialized_views, "MOST_ROWS", 1)
    connection, schema = owner
    connection.execute(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); CREATE MATERIALIZED VIEW large AS SELECT a FROM t"
    )
    views = MaterializedViews(connection, schema)
    assert (views.rows(), views.changes()) == ({}, ())
    connection.execute("UPDATE t SET a = 3 WHERE a = 2; REFRESH MATERIALIZED VIEW large")
    (change,) = views.changes()
    assert change.columns == ("number of rows", "digest")
    assert [row[0] for row in (*change.added, *change.removed)] == ["2", "2"]


def test_large_objects_are_restored(embedded: Target) -> None:
    with connect(embedded) as connection:
        for identity in (501, 502):
            connection.execute("SELECT lo_from_bytea(%s, 'before')", (identity,))
        objects = LargeObjects(connection)
        connection.execute("SELECT lo_put(501, 0, 'after'), lo_unlink(502), lo_create(503)")
        assert objects.changed() == (501, 502, 503)
        objects.restore()
        assert objects.changed() == ()
        assert connection.execute("SELECT lo_get(501), lo_get(502)").fetchone() == (b"before", b"before")
        connection.execute("SELECT lo_unlink(501), lo_unlink(502)")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("CREATE TABLE IF NOT EXISTS t (a int)", ()),
        ("INSERT INTO t VALUES (1); TRUNCATE t; ANALYZE t; REINDEX TABLE t", ()),
        ("DROP TABLE u; CREATE TABLE u ()", ()),
        ("CREATE TABLE extra (a int PRIMARY KEY)", ("index extra_pkey was added", "table extra was added")),
        ("DROP TABLE u", ("table u was dropped",)),
        ("ALTER TABLE t ADD COLUMN b int", ("column t.b was added",)),
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 3", ("column t.a was changed",)),
        ("ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE ROW LEVEL SECURITY", ("table t was changed",)),
        ("ALTER TABLE t ADD CHECK (a > 0)", ("constraint t.t_a_check was added",)),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'", ("function f() was changed",)),
        ("ALTER TYPE e ADD VALUE 'two'", ("type e was changed",)),
        ("ALTER SEQUENCE s INCREMENT 2", ("sequence s was changed",)),
        ("SELECT nextval('s')", ()),
        ("CREATE OR REPLACE VIEW v AS SELECT 2 AS a", ("view v was changed",)),
        ("GRANT SELECT ON t TO PUBLIC", ("table t was changed",)),
    ],
)
def test_definitions_differ_if_ddl_changed_something(
    owner: tuple[Connection, str], change: str, expected: tuple[str, ...]
) -> None:
    connection, schema = owner
    connection.execute(
        "CREATE TABLE t (a int); CREATE TABLE u (); CREATE SEQUENCE s; CREATE VIEW v AS SELECT 1 AS a;"
        "CREATE TYPE e AS ENUM ('one'); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    before = definitions.read(connection, schema)
    for statement in change.split("; "):
        connection.execute(statement.encode())
    assert before.differences(definitions.read(connection, schema)) == expected


STORED = """
CREATE TABLE rooms (id int PRIMARY KEY, name text);
INSERT INTO rooms VALUES (1, 'one');
CREATE TABLE stays (room int REFERENCES rooms, during int8range NOT NULL);
CREATE INDEX before ON stays USING gist (during);
INSERT INTO stays SELECT 1, int8range(i * 10, i * 10 + 5) FROM generate_series(1, 300) AS i;
CREATE INDEX after ON stays (lower(during));
ANALYZE stays;
CREATE TABLE never (room int REFERENCES rooms);
CREATE TABLE halves (a int PRIMARY KEY, room int REFERENCES rooms) PARTITION BY RANGE (a);
CREATE TABLE low PARTITION OF halves FOR VALUES FROM (0) TO (10);
INSERT INTO halves VALUES (1, 1);
"""
#: What is stored in files of their own, and the server's knowledge of it.
FILES = """
SELECT relname, relfilenode FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i') ORDER BY 1
"""
KNOWN = "SELECT reltuples, relpages FROM pg_class WHERE oid = 'stays'::regclass"


def test_tables_that_are_made_anew_keep_nothing_of_what_was_undone(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute(STORED.encode())
    size = "SELECT pg_relation_size('before'), pg_relation_size('after'), pg_relation_size('stays')"
    known, sizes = connection.execute(KNOWN).fetchone(), connection.execute(size.encode()).fetchone()
    rows = connection.execute("SELECT ctid, * FROM stays").fetchall()
    snapshot = Snapshot(connection, schema, physical=True)
    # Rolled back: no row shows it.
    connection.execute(
        "BEGIN; INSERT INTO stays SELECT 1, int8range(i, i + 1) FROM generate_series(1, 300) AS i; ROLLBACK"
    )
    files = dict(connection.execute(FILES.encode()).fetchall())
    snapshot.restore(care=Care.ALL)
    changed = {name for name, file in connection.execute(FILES.encode()).fetchall() if files[name] != file}
    assert snapshot.not_anew == ""
    assert changed >= {"rooms", "stays", "before", "after", "low"}
    assert connection.execute(KNOWN).fetchone() == known
    assert connection.execute(size.encode()).fetchone() == sizes
    assert connection.execute("SELECT ctid, * FROM stays").fetchall() == rows
    assert connection.execute("SELECT * FROM halves").fetchall() == [(1, 1)]


def test_a_table_of_another_schema_that_refers_to_a_table_is_not_emptied(embedded: Target) -> None:
    schema = f"racebench_{secrets.token_hex(4)}"
    with connect(embedded) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    try:
        with connect(embedded, schema=schema) as connection:
            connection.execute("CREATE TABLE rooms (id int PRIMARY KEY); CREATE SCHEMA beside")
            connection.execute(f"CREATE TABLE beside.stays (room int REFERENCES {schema}.rooms)".encode())
            snapshot = Snapshot(connection, schema, physical=True)
            connection.execute("INSERT INTO rooms VALUES (1); INSERT INTO beside.stays VALUES (1)")
            snapshot.restore(care=Care.ALL)
            assert "beside" in snapshot.not_anew
            assert connection.execute("SELECT count(*) FROM beside.stays").fetchone() == (1,)
    finally:
        with connect(embedded) as connection:
            connection.execute(
                sql.SQL("DROP SCHEMA beside CASCADE; DROP SCHEMA {} CASCADE").format(sql.Identifier(schema))
            )


def test_a_role_that_may_not_truncate_restores_the_rows_and_says_so(owner: tuple[Connection, str]) -> None:
    connection, schema = owner
    connection.execute("CREATE TABLE t (a int)")
    snapshot = Snapshot(connection, schema, physical=True)
    connection.execute("REVOKE TRUNCATE ON t FROM CURRENT_USER; INSERT INTO t VALUES (1)")
    snapshot.restore(care=Care.ALL)
    refused = connection.info.user != "postgres"
    assert snapshot.not_anew == ("permission denied for table t" if refused else "")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_sequences_are_moved_on_by_numbers_that_tell_them_apart(
    embedded: Target, owner: tuple[Connection, str]
) -> None:
    connection, schema = owner
    connection.execute("CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY); CREATE SEQUENCE short MAXVALUE 30")
    with connect(as_superuser(embedded), schema=schema) as superuser:
        superuser.execute("CREATE SEQUENCE of_another; GRANT USAGE, SELECT ON of_another TO PUBLIC")
    snapshot = Snapshot(connection, schema)
    its_own = {(schema, "a_id_seq"): 1_000}
    may_set = connection.info.user == "postgres"
    assert snapshot.shift(1_000) == its_own | ({(schema, "of_another"): 2_000} if may_set else {})
    connection.execute("INSERT INTO a DEFAULT VALUES")
    assert connection.execute("TABLE a").fetchall() == [(1_001,)]
    assert connection.execute("SELECT nextval('short'), nextval('of_another')").fetchone() == (
        1,
        2_001 if may_set else 1,
    )
