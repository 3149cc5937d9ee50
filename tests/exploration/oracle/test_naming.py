"""A schedule gets a name only if what its sessions read and wrote meets the definition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from racebench.api import Bench
from racebench.exploration.oracle.accesses import Accesses, Alone, Answer, Commit, Search, Write
from racebench.exploration.oracle.effects import Effect, SessionEffect
from racebench.exploration.oracle.labels import Labels
from racebench.exploration.oracle.naming import Name, name_of
from racebench.postgres.copied_rows import TableChange

ACCOUNTS, ORDERS = ("", "accounts"), ("", "orders")
LABELS = Labels({(*ORDERS, "id"): "orders_id_seq"}, dict)
ENDED = SessionEffect(ok=True, error="", returned=(), told=())
Values = Mapping[str, str | None]


def left(table: tuple[str, str], *rows: Values, undelivered: Sequence[str] = ()) -> Effect:
    added = tuple(tuple(row.values()) for row in rows)
    change = TableChange(table=table, columns=tuple(rows[0]) if rows else (), added=added, removed=())
    return Effect(tables=(change,), sessions=(ENDED, ENDED), undelivered=tuple(undelivered))


def search(session: int, step: int, *, answered: int | None = None, told: str = "", latest: bool = False) -> Search:
    at = step if answered is None else answered
    return Search(session=session, query="SELECT …", sent=step, answered=at, told=told, latest=latest)


def answer(*rows: str, table: tuple[str, str] = ACCOUNTS, column: str | None = "balance") -> Answer:
    columns = [None if column is None else (table, column)]
    told = f"{column or 'count'} = {rows[-1]}" if rows else "SELECT 0"
    return Answer(columns=columns, rows=tuple((row,) for row in rows), tables=frozenset({table}), told=told)


def commit(session: int, step: int, *writes: Write, before: Sequence[Answer], after: Sequence[Answer]) -> Commit:
    return Commit(session=session, step=step, writes=writes, before=before, after=after)


def update(key: str, before: str, after: str) -> Write:
    rows = [{"id": key, "balance": balance} for balance in (before, after)]
    return Write(table=ACCOUNTS, key=(("id", key),), before=rows[0], after=rows[1])


def insert(key: str, **values: str) -> Write:
    return Write(table=ORDERS, key=(("id", key),), before=None, after={"id": key, **values})


def named(
    accesses: Accesses, effect: Effect, serial: Sequence[Effect] = (), alone: Sequence[Effect] = ()
) -> Name | None:
    def without(session: int, other: int) -> Iterator[Effect]:
        assert session != other
        yield from alone

    return name_of(accesses, effect, serial, LABELS, without)


def balance(value: str) -> Effect:
    return left(ACCOUNTS, {"id": "1", "balance": value})


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("900", "900", Name.LOST_UPDATE),  # also where the value that was there is written
        ("900", "800", None),  # it was computed from the row as it is, and nothing is lost
    ],
)
def test_an_update_is_lost_where_the_row_is_left_as_if_the_other_had_not_run(
    first: str, second: str, name: Name | None
) -> None:
    reads = [search(1, 0), search(2, 1)]
    start, middle, end = [answer("1000")] * 2, [answer(first)] * 2, [answer(second)] * 2
    commits = [
        commit(1, 3, update("1", "1000", first), before=start, after=middle),
        commit(2, 5, update("1", first, second), before=middle, after=end),
    ]
    assert named(Accesses(searches=reads, commits=commits), balance(second), alone=[balance("900")]) is name


def test_no_update_is_lost_by_a_session_that_read_another_row_or_read_after_the_commit() -> None:
    start, end = [answer("1000")], [answer("900")]
    commits = [
        commit(1, 3, update("1", "1000", "900"), before=start, after=end),
        commit(2, 5, update("1", "900", "900"), before=end, after=end),
    ]
    late = Accesses(searches=[search(2, 4, told="balance = 900")], commits=commits)
    assert named(late, balance("900"), alone=[balance("900")]) is None
    other = [commit(1, 3, update("1", "1000", "900"), before=[answer("5")], after=[answer("7")]), commits[1]]
    elsewhere = Accesses(searches=[search(2, 1)], commits=other)
    assert named(elsewhere, balance("900"), alone=[balance("900")]) is None


def overlooking(*writes: Write, table: tuple[str, str] = ACCOUNTS) -> Accesses:
    """Two sessions that count rows, and then write one each."""
    one, two, three = ([answer(count, table=table, column=None)] * 2 for count in ("2", "1", "0"))
    commits = [
        commit(1, 3, writes[0], before=one, after=two),
        commit(2, 4, writes[1], before=two, after=three),
    ]
    return Accesses(searches=[search(1, 0), search(2, 1)], commits=commits)


def test_two_sessions_that_overlook_each_other_show_write_skew_if_they_change_different_rows() -> None:
    different = overlooking(update("1", "yes", "no"), update("2", "yes", "no"))
    assert named(different, balance("no")) is Name.WRITE_SKEW
    prepared = commit(1, 0, update("2", "no", "yes"), before=[answer("2")] * 2, after=[answer("2")] * 2)
    seen = Accesses(searches=different.searches, commits=[prepared, *different.commits])
    assert named(seen, balance("no")) is Name.WRITE_SKEW
    same = overlooking(update("1", "2", "1"), update("1", "1", "0"))
    assert named(same, balance("0"), alone=[balance("1")]) is None


def test_two_sessions_that_overlook_each_other_show_a_phantom_if_a_row_is_new() -> None:
    both = overlooking(insert("1", name="docs"), insert("2", name="docs"), table=ORDERS)
    effect = left(ORDERS, {"id": "1", "name": "docs"}, {"id": "2", "name": "docs"})
    assert named(both, effect, [left(ORDERS, {"id": "1", "name": "docs"})]) is Name.PHANTOM
    one_way = Accesses(searches=both.searches[:1], commits=[_first_answers(one) for one in both.commits])
    assert named(one_way, effect) is None


def _first_answers(one: Commit) -> Commit:
    return commit(one.session, one.step, *one.writes, before=one.before[:1], after=one.after[:1])


@pytest.mark.parametrize(
    ("values", "serial", "name"),
    [
        (("7", "7"), ("7", "8"), Name.DUPLICATE_NUMBER),
        (("A-7", "A-7"), ("A-7", "A-8"), Name.DUPLICATE_NUMBER),
        (("7", "7"), ("7", "7"), Name.PHANTOM),  # the number is twice in a serial order too
        (("7", "7"), ("7",), Name.PHANTOM),  # one row alone is in a serial order
        (("open", "open"), ("open", "full"), Name.PHANTOM),  # it is no number
    ],
)
def test_a_number_is_duplicate_where_every_serial_order_has_as_many_rows_and_no_number_twice(
    values: Sequence[str], serial: Sequence[str], name: Name
) -> None:
    writes = [insert(key, number=value) for key, value in zip("12", values, strict=True)]
    effects = [
        left(ORDERS, *({"id": str(key), "number": number} for key, number in enumerate(numbers)))
        for numbers in (values, serial)
    ]
    assert named(overlooking(*writes, table=ORDERS), effects[0], effects[1:]) is name


def test_a_made_up_value_is_no_duplicate_number() -> None:
    writes = [insert("7", name="x"), insert("7", name="y")]
    effect = left(ORDERS, {"id": "7", "name": "x"}, {"id": "7", "name": "y"})
    serial = left(ORDERS, {"id": "1", "name": "x"}, {"id": "2", "name": "y"})
    assert named(overlooking(*writes, table=ORDERS), effect, [serial]) is Name.PHANTOM


def test_a_session_runs_alone_where_a_name_depends_on_what_it_changes_then() -> None:
    zero, one = ([answer(count, table=ORDERS, column=None)] * 2 for count in "01")
    reads = [search(1, 0), search(2, 1)]
    # What s1 has inserted keeps the commit of s2 from changing the answer.
    commits = [commit(1, 3, insert("1"), before=zero, after=one), commit(2, 5, insert("2"), before=one, after=one)]
    ran: list[int] = []

    def run(session: int) -> Sequence[Commit]:
        ran.append(session)
        return [commit(session, 1, insert("1"), before=zero, after=one)]

    accesses = Accesses(searches=reads, commits=commits, alone=Alone(commits, run))
    assert named(accesses, left(ORDERS)) is Name.PHANTOM
    assert ran == [2]
    fewer = Accesses(searches=reads, commits=commits, alone=Alone(commits, lambda _: []))
    assert named(fewer, left(ORDERS)) is None


def transfer(first: Answer, second: Answer, *, told: str, query: str = "SELECT …") -> Accesses:
    """A session reads before and after a commit that changes two rows."""
    reads = [search(2, 0, told="balance = 100"), replace(search(2, 5, told=told), query=query)]
    writes = (update("1", "100", "50"), update("2", "0", "50"))
    commits = [commit(1, 3, *writes, before=[answer("100"), first], after=[answer("50"), second])]
    return Accesses(searches=reads, commits=commits)


def test_read_skew_is_to_overlook_how_a_row_changed_and_to_see_how_another_did() -> None:
    skew = transfer(answer("0"), answer("50"), told="balance = 50")
    assert named(skew, balance("50")) is Name.READ_SKEW
    one_snapshot = transfer(answer("0"), answer("50"), told="balance = 0")
    assert named(one_snapshot, balance("50")) is None
    sums = [answer(text, column=None) for text in ("100", "150")]
    assert named(transfer(*sums, told="count = 150", query="SELECT sum(…) …"), balance("50")) is Name.READ_SKEW
    assert named(transfer(*sums, told="count = 150", query="SELECT …"), balance("50")) is None
    same_row = transfer(answer("100"), answer("50"), told="balance = 50")
    assert named(same_row, balance("50")) is None


def test_a_row_is_missed_if_the_consumer_never_got_it() -> None:
    nothing = Accesses(searches=[], commits=[])
    assert named(nothing, left(ORDERS, {"id": "1"}, undelivered=("1",))) is Name.MISSED_ROW
    assert named(nothing, left(ORDERS, {"id": "1"})) is None
    missing = left(ORDERS, {"id": "1"}, undelivered=("1",))
    assert named(nothing, missing, [missing]) is None


TWO_ACCOUNTS = """
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);
INSERT INTO accounts VALUES (1, 100), (2, 100);
"""


def report(connection: psycopg.Connection[tuple[int]]) -> int:
    balances = []
    with connection.transaction():
        for account in (1, 2):
            row = connection.execute("SELECT balance FROM accounts WHERE id = %s", [account]).fetchone()
            assert row is not None
            balances.append(row[0])
    return sum(balances)


def move(connection: psycopg.Connection[tuple[int]]) -> None:
    with connection.transaction():
        connection.execute("UPDATE accounts SET balance = balance + 10 * (2 * id - 3)")


def test_what_the_server_says_of_a_report_beside_a_transfer_is_read_skew(cache_folder: Path) -> None:
    with Bench() as bench:
        witness = bench.explore(report, move, setup=TWO_ACCOUNTS, stop_at_first=True).result.witness
        missing = bench.explore(
            "version-counter", strategy="sequence", consumer="cursor", oracle="state"
        ).result.witness
    assert witness is not None
    assert (witness.named, witness.difference) == (
        "read skew",
        "s1 returns 210; one after the other it returns 200",
    )
    assert missing is not None
    assert (missing.named, missing.difference) == (
        "missed row",
        "the consumer never gets 1 row that every serial order delivers",
    )
