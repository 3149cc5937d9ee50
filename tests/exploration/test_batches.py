"""Several statements in one string, and comments: what a call sends touches all that its statements touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from racebench.api import Bench, Exploration, Search
from racebench.core.model import Statement
from racebench.core.verdict import Verdict
from racebench.exploration import batches, explorer
from racebench.exploration.independence import Footprint, footprint
from racebench.exploration.result import Unseen
from racebench.workloads import scripts

Call = Callable[[psycopg.Connection[Any]], None]

SCHEMA = """
CREATE TABLE stock (item int PRIMARY KEY, left_over int NOT NULL);
INSERT INTO stock VALUES (1, 5), (2, 5);
CREATE TABLE bad (reason text);
"""
BAD = "SELECT reason FROM bad"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", ("SELECT 1",)),
        ("", ()),
        (" ; -- nothing\n", ()),
        ("BEGIN; UPDATE t SET a = 1 ; COMMIT;", ("BEGIN", "UPDATE t SET a = 1", "COMMIT")),
        ("SELECT ';', \";\", $$;$$, $a$ ; $$ ; $a$, E'\\';'; TRUNCATE t", None),
        ("SELECT FOR/**/UPDATE", ("SELECT FOR UPDATE",)),
        ("/* ; /* ; */ SELECT */ TRUNCATE t -- ; SELECT", ("TRUNCATE t",)),
        ("SELECT 1 -- a\n; SELECT 2", ("SELECT 1", "SELECT 2")),
        ("SELECT name'; SELECT 2", None),
        ("SELECT '\\'; TRUNCATE t; --'", None),
        ("SELECT E'a'\n'\\'; TRUNCATE t; --'", None),
        ("SELECT a$$; SELECT 1; $$", None),
        ("SELECT 1 /* ; SELECT 2", None),
    ],
)
def test_a_text_is_split_as_the_server_does_or_not_at_all(text: str, expected: tuple[str, ...] | None) -> None:
    if text.endswith("TRUNCATE t") and expected is None:
        expected = (text.rpartition("; ")[0], "TRUNCATE t")
    assert batches.split(text) == expected


@pytest.mark.parametrize("gap", ["/**/", "/* a /* b */ c */", "--\n", " "])
@pytest.mark.parametrize("lock", ["FOR UPDATE", "FOR SHARE", "FOR KEY SHARE", "FOR NO KEY UPDATE"])
def test_a_comment_separates_the_words_of_a_locking_read(lock: str, gap: str) -> None:
    text = f"SELECT n FROM log {lock.replace(' ', gap)}"
    (statement,) = scripts.parse(text, Path("s.sql")).statements
    assert statement.sql.split() == f"SELECT n FROM log {lock}".split()
    as_written = Statement(line=0, text=text, sql=text, parameters=())
    for locking in (statement, as_written):
        assert footprint([locking], isolation=None, volatile=()) is Footprint.ANYTHING


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def same(bench: Bench, *calls: Call) -> Exploration:
    """Explore with and without reduction; both have the same outcomes. Returns the reduced."""
    every, reduced = (
        bench.explore(*calls, setup=SCHEMA, invariant=BAD, search=Search(reduce=reduce), max_schedules=500)
        for reduce in (False, True)
    )
    assert isinstance(every, Exploration)
    assert isinstance(reduced, Exploration)
    assert every.complete
    assert reduced.complete
    assert set(every.result.outcomes) == set(reduced.result.outcomes)
    assert every.verdict is reduced.verdict
    assert reduced.run <= every.run
    return reduced


def reads_twice(connection: psycopg.Connection[Any]) -> None:
    """Wrong if something is committed between its two reads, each of which is autocommitted."""
    connection.autocommit = True
    rows = [connection.execute("SELECT sum(left_over) FROM stock").fetchone() for _ in range(2)]
    if rows[0] != rows[1]:
        connection.execute("INSERT INTO bad VALUES ('another sum')")


def sending(text: str, *, autocommit: bool = True) -> Call:
    def send(connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = autocommit
        connection.execute(text.encode())
        connection.rollback()

    return send


@pytest.mark.server
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "BEGIN; UPDATE stock SET left_over = 4 WHERE item = 1; COMMIT",
        "/* a */ BEGIN; UPDATE stock SET left_over = 4 WHERE item = 1; COMMIT; SELECT 1",
        "SELECT 1; UPDATE stock SET left_over = 4 WHERE item = 1; COMMIT",
        "SELECT 1; TRUNCATE stock; COMMIT",
        "/* /* */ SELECT */ TRUNCATE stock; COMMIT",
    ],
)
def test_a_commit_inside_a_string_is_seen_between_two_reads(bench: Bench, text: str, autocommit: bool) -> None:
    assert same(bench, sending(text, autocommit=autocommit), reads_twice).verdict is Verdict.INVALID


@pytest.mark.server
@pytest.mark.parametrize("text", ["SELECT 1; TRUNCATE stock", "SELECT 1; UPDATE stock SET left_over = 4"])
def test_a_string_without_a_transaction_commits_at_its_end(bench: Bench, text: str) -> None:
    assert same(bench, sending(text), reads_twice).verdict is Verdict.INVALID


@pytest.mark.server
@pytest.mark.parametrize("text", ["SELECT 1; SELECT 2", "SELECT ';', $$; TRUNCATE stock; $$ -- ; COMMIT"])
def test_a_string_that_only_reads_is_reduced_as_a_read_is(bench: Bench, text: str) -> None:
    found = same(bench, sending(text), reads_twice)
    assert found.verdict is Verdict.VALID
    assert found.run == 1


@pytest.mark.server
def test_what_a_string_writes_is_unseen_if_it_is_rolled_back(bench: Bench) -> None:
    text = "BEGIN; UPDATE stock SET left_over = 4 WHERE item = 1; ROLLBACK"
    assert same(bench, sending(text), reads_twice).verdict is Verdict.VALID


def shares_and_writes(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("SELECT FROM stock WHERE item = 1 FOR/**/SHARE")
        connection.execute("UPDATE stock SET left_over = 4 WHERE item = 2")


def writes_both(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("UPDATE stock SET left_over = 3 WHERE item = 2")
        connection.execute("UPDATE stock SET left_over = 3 WHERE item = 1")


def reads_and_writes(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("SELECT 'FOR/**/SHAR' FROM stock WHERE item = 1 /* FOR SHARE; */")
        connection.execute("UPDATE stock SET left_over = 4 WHERE item = 2")


@pytest.mark.server
def test_a_locking_read_with_comments_between_its_words_is_no_plain_read(bench: Bench) -> None:
    """It deadlocks with the writes, which a plain read does not."""
    guilty = same(bench, writes_both, shares_and_writes)
    assert guilty.verdict is Verdict.INVALID
    innocent = same(bench, writes_both, reads_and_writes)
    assert innocent.verdict is Verdict.VALID
    assert innocent.run < guilty.run


# Several statements at once are steps of their own, or the verdict is at most UNKNOWN

WRITES = "UPDATE stock SET left_over = 1 WHERE item = {}; UPDATE stock SET left_over = 1 WHERE item = {}"
ROW = "UPDATE stock SET left_over = left_over + 1 WHERE item = %s"


def in_bulk(*items: int, autocommit: bool = False, lock: bool = False) -> Call:
    def update(connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = autocommit
        if lock:
            connection.execute("SELECT pg_advisory_xact_lock(7)")
        with connection.cursor() as cursor:
            cursor.executemany(ROW, ([item] for item in items))
            assert cursor.rowcount == len(items)
        connection.commit()

    return update


@pytest.mark.server
@pytest.mark.parametrize("autocommit", [True, False])
def test_rows_in_opposite_orders_deadlock(bench: Bench, autocommit: bool) -> None:
    up, down = in_bulk(1, 2, autocommit=autocommit), in_bulk(2, 1, autocommit=autocommit)
    guilty = same(bench, up, down)
    assert guilty.verdict is Verdict.INVALID
    assert guilty.counts["refused"]
    assert same(bench, up, up).verdict is Verdict.VALID


@pytest.mark.server
def test_rows_in_opposite_orders_under_a_lock_do_not(bench: Bench) -> None:
    assert same(bench, in_bulk(1, 2, lock=True), in_bulk(2, 1, lock=True)).verdict is Verdict.VALID


@pytest.mark.server
@pytest.mark.parametrize(
    ("text", "autocommit"),
    [
        (
            f"BEGIN; {WRITES}; COMMIT",
            1,
        ),
        (WRITES, 1),
        (f"{WRITES}; COMMIT", 0),
    ],
)
def test_statements_in_one_string_in_opposite_orders_deadlock(bench: Bench, text: str, autocommit: int) -> None:
    up, down = (sending(text.format(*items), autocommit=bool(autocommit)) for items in ((1, 2), (2, 1)))
    guilty = same(bench, up, down)
    assert guilty.verdict is Verdict.INVALID
    assert guilty.counts["refused"]
    assert same(bench, up, up).verdict is Verdict.VALID


@pytest.mark.server
def test_statements_that_cannot_be_sent_one_by_one_prove_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "_BURSTS", 30)
    text = "UPDATE stock SET left_over = 4 WHERE item = 1; COMMIT; UPDATE stock SET left_over = 4 WHERE item = 2"
    found = same(bench, sending(text), sending(text))
    assert (found.verdict, found.result.unseen) == (Verdict.UNKNOWN, Unseen.BATCH)
    assert "sends several statements at once" in str(found)


@pytest.mark.server
def test_a_cursor_has_the_results_of_all_statements_and_rows(bench: Bench) -> None:
    def fetches(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT 1; SELECT 2, 3; UPDATE stock SET left_over = 4")
            assert cursor.fetchall() == [(1,)]
            assert cursor.nextset()
            assert cursor.fetchall() == [(2, 3)]
            assert cursor.nextset()
            assert cursor.rowcount == 2
            assert not cursor.nextset()
            cursor.executemany("SELECT %s::int", [(1,), (2,)], returning=True)
            assert cursor.fetchall() == [(1,)]
            assert cursor.nextset()
            assert cursor.fetchall() == [(2,)]
            cursor.executemany(ROW, [])

    found = bench.explore(fetches, setup=SCHEMA, invariant=BAD, max_schedules=20)
    assert isinstance(found, Exploration)
    assert found.run > 1
    assert found.anomalous == 0
