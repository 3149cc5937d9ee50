"""What code may leave behind, by its text."""

from __future__ import annotations

import pytest

from racebench.exploration.leftovers import Leftover, changes_catalog, custom_settings, leaves

NOTHING: set[Leftover] = set()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE TABLE IF NOT EXISTS t (a int)", {Leftover.CATALOG}),
        ("ALTER TABLE t ADD COLUMN IF NOT EXISTS a int", {Leftover.CATALOG}),
        ("create/**/unlogged -- and\ntable t ()", {Leftover.CATALOG}),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", {Leftover.CATALOG}),
        ("DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$", {Leftover.CATALOG, Leftover.HIDDEN}),
        ("SELECT a INTO b FROM c", {Leftover.CATALOG}),
        ("GRANT SELECT ON t TO PUBLIC", {Leftover.CATALOG}),
        ("CREATE TEMP TABLE t ()", {Leftover.TEMPORARY}),
        ("CREATE OR REPLACE LOCAL TEMPORARY VIEW v AS SELECT 1", {Leftover.TEMPORARY}),
        ("SELECT a INTO TEMP b FROM c", {Leftover.TEMPORARY}),
        ("SET work_mem = '1MB'", {Leftover.SETTINGS}),
        ("SET ROLE other", {Leftover.SETTINGS}),
        ("DO $$ BEGIN SET work_mem = '1MB'; END $$", {Leftover.SETTINGS}),
        ("SELECT set_config('a.b', 'c', false)", {Leftover.SETTINGS}),
        ("SELECT lastval()", {Leftover.NUMBERS}),
        ("PREPARE p AS SELECT 1", {Leftover.PREPARED}),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", {Leftover.CURSORS}),
        ("SELECT pg_try_advisory_lock_shared(1)", {Leftover.ADVISORY}),
        ("LISTEN c", {Leftover.LISTENING}),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", {Leftover.MATERIALIZED}),
        ("SELECT lo_from_bytea(1, 'a')", {Leftover.LARGE_OBJECTS}),
        ("INSERT INTO other.t VALUES (1)", {Leftover.ELSEWHERE}),
        ('DO $$ BEGIN UPDATE ONLY "Other" . t SET a = 1; END $$', {Leftover.ELSEWHERE}),
        ("DO $$ BEGIN EXECUTE 'CRE' || 'ATE TABLE t ()'; END $$", {Leftover.HIDDEN}),
        ("UPDATE own.t SET a = (SELECT a FROM other.t)", NOTHING),
        ("INSERT INTO pg_temp.t VALUES (1)", {Leftover.TEMPORARY}),
        ("UPDATE t SET a = 1", NOTHING),
        ("SET LOCAL work_mem = '1MB'", NOTHING),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", NOTHING),
        ("SELECT set_config('a.b', 'c', true)", NOTHING),
        ("SELECT pg_try_advisory_xact_lock(1)", NOTHING),
        ("WITH w AS (INSERT  INTO t VALUES (1) RETURNING a) SELECT a FROM w", NOTHING),
        ("SELECT nextval('s'), currency, lost FROM t WHERE created", NOTHING),
        ("TRUNCATE t", NOTHING),
        ("NOTIFY c", NOTHING),
    ],
)
def test_what_a_statement_may_leave_behind(statement: str, expected: set[Leftover]) -> None:
    assert leaves(statement, schema="own") == expected
    assert changes_catalog(statement) == (Leftover.CATALOG in expected)


def test_a_statement_leaves_what_the_code_leaves_that_it_runs() -> None:
    assert leaves("SELECT f()", ["BEGIN SELECT a INTO b FROM c; END"]) == NOTHING
    assert leaves("SELECT f()", ["BEGIN IF found THEN CREATE /* */ TABLE t (); END IF; END"]) == {Leftover.CATALOG}


def test_settings_of_the_code_itself_are_known_by_their_dot() -> None:
    texts = [
        "SET LOCAL app.one = 1",
        "SELECT set_config('app.two', 'x', true)",
        "SET work_mem = 1",
        "UPDATE a SET b = c.d",
    ]
    assert custom_settings(texts) >= {"app.one", "app.two"}
    assert "work_mem" not in custom_settings(texts)
