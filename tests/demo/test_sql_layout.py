"""The layout of SQL: a statement is broken at its clauses, and no character is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.demo import sql_layout


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT max(version) FROM events WHERE tenant = 1 ORDER BY id LIMIT 1 FOR UPDATE",
            ["SELECT max(version)", "FROM events", "WHERE tenant = 1", "ORDER BY id", "LIMIT 1", "FOR UPDATE"],
        ),
        (
            "INSERT INTO t (a) VALUES ('x FROM y') ON CONFLICT (a) DO NOTHING RETURNING a",
            ["INSERT INTO t (a)", "VALUES ('x FROM y')", "ON CONFLICT (a) DO NOTHING", "RETURNING a"],
        ),
        (
            "SELECT a IS DISTINCT FROM b FROM (SELECT 1 FROM x) t",
            ["SELECT a IS DISTINCT FROM b", "FROM (SELECT 1 FROM x) t"],
        ),
        ("SET LOCAL x = 1", ["SET LOCAL x = 1"]),
        ("DO $$ begin perform 1 from x; end $$", ["DO $$ begin perform 1 from x; end $$"]),
        ("", [""]),
    ],
)  # fmt: skip
def test_a_statement_is_broken_at_its_clauses(sql: str, expected: list[str]) -> None:
    assert sql_layout.clauses(sql) == expected


@given(text=st.text(st.sampled_from(" ()',:\"$abFROMWHEREé"), max_size=60), width=st.integers(3, 30))
def test_however_it_is_broken_not_a_letter_is_lost(text: str, width: int) -> None:
    sql = " ".join(text.split())
    lines = sql_layout.wrap(sql, width)
    assert "".join("".join(lines).split()) == "".join(sql.split())
    assert all(len(line) <= width for line in lines)


def test_a_long_word_is_broken_where_a_reader_would() -> None:
    lock = "SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant)"
    assert sql_layout.wrap(lock, 24) == ["SELECT", "pg_advisory_xact_lock(", "'events'::regclass::int,", ":tenant)"]
