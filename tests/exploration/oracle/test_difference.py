"""The sentence about a schedule says what it leaves, and what the serial orders leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from racebench.exploration.oracle.difference import difference
from racebench.exploration.oracle.effects import Effect, Oracle, SessionEffect
from racebench.exploration.oracle.labels import Labels
from racebench.exploration.oracle.values import leaves
from racebench.postgres.copied_rows import Row, TableChange

LABELS = Labels({("", "items", "id"): "items_id_seq", ("", "items", "parent"): "items_id_seq"}, dict)
#: The rows that are no more, and the new ones; of updated rows the versions.
Rows = tuple[Sequence[Row], Sequence[Row]]


def effect(rows: Rows = ((), ()), *returned: object, columns: Sequence[str] = ("id", "n"), failed: int = 0) -> Effect:
    removed, added = rows
    change = TableChange(table=("", "items"), columns=tuple(columns), added=tuple(added), removed=tuple(removed))
    sessions = [
        SessionEffect(ok=number != failed, error="", returned=leaves(value), told=())
        for number, value in enumerate(returned or (None, None), 1)
    ]
    return Effect(tables=(change,) if added or removed else (), sessions=tuple(sessions))


def said(own: Effect, *serial: Effect, oracle: Oracle = Oracle.RETURNS) -> str:
    return difference(own, {(number,): other for number, other in enumerate(serial)}, LABELS, oracle)


@pytest.mark.parametrize(
    ("own", "serial", "sentence"),
    [
        # new rows
        (["1", "1"], [["1", "2"]], "2 rows of items have n 1; one after the other they have 1 and 2"),
        (["1", "1"], [["1"]], "2 rows of items have n 1; one after the other there is 1"),
        (["1", "1"], [["3"], ["1"]], "2 rows of items have n 1; one after the other there is 1 or is none"),
        (["1", "2"], [["1"], ["2"]], "items has 2 new rows, with n 1 and 2; one after the other it has 1"),
        (["1"], [["1", "2"]], "items has 1 new row; one after the other it has 2"),
        ([], [["1"]], "items has no new row; one after the other it has 1"),
        (["5"], [["6"], ["7"]], "n of the new row of items is 5; one after the other it is 6 or 7"),
        (["a b"], [["c"]], "n of the new row of items is 'a b'; one after the other it is c"),
    ],
)
def test_new_rows_are_compared_by_what_the_application_wrote(
    own: Sequence[str], serial: Sequence[Sequence[str]], sentence: str
) -> None:
    effects = [effect(((), [(str(key), n) for key, n in enumerate(rows, 10)])) for rows in (own, *serial)]
    assert said(*effects) == sentence


def changed(*values: tuple[str, str, str | None]) -> Effect:
    """Rows by name, each with its value before and after; None: it was deleted."""
    removed = [(name, before) for name, before, after in values if before != after]
    added = [(name, after) for name, before, after in values if after not in (before, None)]
    return effect((removed, added), columns=("name", "n"))


@pytest.mark.parametrize(
    ("own", "serial", "sentence"),
    [
        (
            changed(("a", "10", "9")),
            [changed(("a", "10", "8"))],
            "n of items is 9 (name a); one after the other it is 8",
        ),
        (
            changed(("a", "t", "f"), ("b", "t", "f")),
            [changed(("a", "t", "f")), changed(("b", "t", "f"))],
            "n of items is f (name a) and f (b); one after the other it is f and t or t and f",
        ),
        (
            changed(("a", "t", None), ("b", "t", None)),
            [changed(("a", "t", None))],
            "items has lost 2 rows; one after the other it has lost 1",
        ),
        (changed(), [changed(("a", "t", None))], "items has lost no row; one after the other it has lost 1"),
        (
            changed(("a", "t", None)),
            [changed(("b", "t", None))],
            "items has lost (name a, n t); one after the other it has lost (name b, n t)",
        ),
    ],
)
def test_rows_that_were_there_are_told_by_what_no_change_touches(
    own: Effect, serial: Sequence[Effect], sentence: str
) -> None:
    assert said(own, *serial) == sentence


@pytest.mark.parametrize(
    ("own", "serial", "sentence"),
    [
        (
            effect(((), ()), True, True),
            effect(((), ()), True, False),
            "both calls return True; one after the other they return True and False",
        ),
        (
            effect(((), ()), 1, 3),
            effect(((), ()), 1, 2),
            "s1 returns 1 and s2 returns 3; one after the other they return 1 and 2",
        ),
        (
            effect(((), ()), 210, None),
            effect(((), ()), 200, None),
            "s1 returns 210; one after the other it returns 200",
        ),
        (
            effect(((), ()), (1, "x"), None),
            effect(((), ()), (1, "y"), None),
            "s1 returns (1, x); one after the other it returns (1, y)",
        ),
    ],
)
def test_what_calls_return_is_said_where_the_tables_are_those_of_a_serial_order(
    own: Effect, serial: Effect, sentence: str
) -> None:
    assert said(own, serial) == sentence


def test_rows_that_the_consumer_never_gets_are_counted() -> None:
    own, few, none = (replace(effect(), undelivered=("1", "2", "3")[:count]) for count in (2, 1, 0))
    assert said(own, none) == "the consumer never gets 2 rows that every serial order delivers"
    assert said(own, few) == "the consumer never gets 2 rows; one after the other it never gets 1"


def test_sessions_that_failed_are_left_out_of_the_serial_orders() -> None:
    own, serial = effect(((), [("1", "3")]), None, None, failed=2), effect(((), [("1", "2")]), None, None, failed=2)
    assert said(own, serial) == "n of the new row of items is 3; with s1 alone it is 2"


def test_a_reference_to_another_row_is_said_to_be_one() -> None:
    columns = ("id", "parent")
    own = effect(((), [("1", "1"), ("2", "1")]), columns=columns)
    serial = effect(((), [("1", "1"), ("2", "2")]), columns=columns)
    assert said(own, serial) == "rows of items refer to others, or are numbered, as in no serial order"
    fewer = effect(((), [("1", "1")]), columns=columns)
    assert said(own, fewer) == "2 rows of items have the same parent; one after the other there is 1"


def test_a_sentence_is_short_however_many_outcomes_there_are() -> None:
    outcomes = [effect(((), [("1", f"{number} {'x' * 100}")])) for number in range(9)]
    assert said(*outcomes) == (
        f"n of the new row of items is '0 {'x' * 28}…'; one after the other it is '1 {'x' * 28}…' or something else"
    )
    assert said(effect(((), [("1", "a")]))) == ""
