"""What a lane shows of a long statement: the list of columns is cut, never FROM … FOR UPDATE, and no word."""

from __future__ import annotations

import pytest

from racebench.core.plain_text import one_line
from racebench.exploration.schedules import Step
from racebench.reports import short_statements
from racebench.reports.terminal import lanes, tables

_COLUMNS = ", ".join(
    f'"shop_order"."{name}"' for name in ("id", "customer_id", "number", "created", "name", "a_from", "b")
)


@pytest.mark.parametrize(
    "end",
    [
        ' FROM "shop_order" WHERE "shop_order"."customer_id" = %s ORDER BY "shop_order"."number" LIMIT 1 FOR UPDATE',
        " FROM (SELECT max(extract(year FROM made)) AS made FROM shop) AS last WHERE made = '(FROM' FOR NO KEY UPDATE",
    ],
)
def test_only_the_columns_of_a_long_statement_are_cut(end: str) -> None:
    assert short_statements.statement(f"SELECT {_COLUMNS}{end}") == f'SELECT "shop_order"."id", …{end}'


def test_a_list_of_columns_ends_where_its_own_parenthesis_ends() -> None:
    end = "SELECT (SELECT max(id) FROM made), id FROM shop"
    text = f"WITH made AS (INSERT INTO shop VALUES (%s) RETURNING {_COLUMNS}) {end}"
    assert short_statements.statement(text) == (
        'WITH made AS (INSERT INTO shop VALUES (%s) RETURNING "shop_order"."id", …) ' + end
    )


def test_a_longer_statement_loses_its_middle_and_no_word_is_cut() -> None:
    words = [f"column_{number}" for number in range(60)]
    shown = short_statements.statement(f"UPDATE shop SET {', '.join(words)} WHERE id = %s RETURNING id")
    assert len(shown) < 300
    assert shown.startswith("UPDATE shop SET column_0, column_1,")
    assert shown.endswith(" WHERE id = %s RETURNING id")
    assert {word.strip(",") for word in shown.split()} <= {
        *words,
        "…",
        "UPDATE",
        "shop",
        "SET",
        "WHERE",
        "id",
        "=",
        "%s",
        "RETURNING",
    }


def test_a_lane_shows_the_lock_and_the_whole_detail() -> None:
    step = Step(
        session="s1",
        sent=f"SELECT {_COLUMNS} FROM shop_order WHERE id = %s FOR UPDATE",
        answered=(
            'ERROR 23505: duplicate key value violates unique constraint "shop_order_customer_id_number_uniq" '
            "DETAIL: Key (customer_id, number)=(1, 1) already exists.",
        ),
    )
    drawn = tables.plain(lambda console: tables.show(console, [lanes.draw([step])]), width=80)
    words = " ".join(drawn.split())
    assert "… FROM shop_order WHERE id = %s FOR UPDATE → ERROR 23505: duplicate" in words
    assert "DETAIL: Key (customer_id, number)=(1, 1) already exists." in words


def test_the_question_of_libpq_is_apart_from_what_failed() -> None:
    said = "port 1 failed: Connection refused\n\tIs the server running on that host?"
    assert one_line(said) == "port 1 failed: Connection refused; is the server running on that host?"


def test_the_caret_below_a_line_of_the_statement_is_left_out() -> None:
    said = 'column "numbr" does not exist\nLINE 1: SELECT numbr FROM orders\n               ^\nHINT:  Perhaps number.'
    assert one_line(said) == 'column "numbr" does not exist LINE 1: SELECT numbr FROM orders HINT: Perhaps number.'
    assert one_line("SELECT 2\n^\n3") == "SELECT 2 ^ 3"  # an operator of a statement stays
