"""The queries that a statement runs are told from its text, without the locks that they take."""

from __future__ import annotations

import pytest

from racebench.exploration.oracle.searches import Query, queries


def part(text: str, *, locks: bool = False) -> Query:
    return Query(text=text, whole=False, locks=locks)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("SELECT a FROM t;", [Query(text="SELECT a FROM t", whole=True, locks=False)]),
        ("SELECT a FROM t FOR NO KEY UPDATE SKIP LOCKED", [Query(text="SELECT a FROM t", whole=True, locks=True)]),
        (
            "SELECT 'for update' FROM (SELECT 1) x -- FOR UPDATE",
            [Query(text="SELECT 'for update' FROM (SELECT 1) x -- FOR UPDATE", whole=True, locks=False)],
        ),
        ("INSERT INTO t (n) SELECT max(n) FROM t RETURNING n", [part("SELECT max(n) FROM t")]),
        (
            "INSERT INTO t SELECT 1 WHERE NOT EXISTS (SELECT FROM t) ON CONFLICT DO NOTHING",
            [part("SELECT 1 WHERE NOT EXISTS (SELECT FROM t)")],
        ),
        ("INSERT INTO t VALUES ((SELECT 1), (SELECT (SELECT 2)))", [part("SELECT 1"), part("SELECT (SELECT 2)")]),
        (
            "UPDATE t AS x SET n = (SELECT count(*) FROM u) WHERE id = 1 RETURNING n",
            [part("SELECT count(*) FROM u"), part("SELECT * FROM t AS x WHERE id = 1", locks=True)],
        ),
        ("UPDATE t SET n = 1", []),
        ("UPDATE t SET n = u.n FROM u WHERE u.id = t.id", []),
        ("DELETE FROM t WHERE done", [part("SELECT * FROM t WHERE done", locks=True)]),
        ("WITH x AS (DELETE FROM t RETURNING n) SELECT n FROM x", []),
        ("COMMIT", []),
        ("", []),
    ],
)
def test_a_statement_has_these_queries(statement: str, found: list[Query]) -> None:
    assert queries(statement) == found
