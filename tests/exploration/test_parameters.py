"""The values of psycopg's parameters as text: what is known is shown, and no code of the application's is run."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Generator
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from racebench.core.model import Statement
from racebench.exploration.sessions import parameters
from racebench.exploration.steps import values_of


class Color(Enum):
    RED = 1


class Lazy:
    """Its text would send a statement, as that of a lazy object of Django's does."""

    def __repr__(self) -> str:
        raise AssertionError("the text of an application's value was asked for")

    __str__ = __repr__


class Boastful(str):
    __slots__ = ()
    __repr__ = __str__ = Lazy.__repr__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (None, "NULL"),
        (True, "true"),
        (Decimal("1.50"), "1.50"),
        ("it's\n\x1b[31m", '"it\'s\\n\\x1b[31m"'),
        (Boastful("plain"), "'plain'"),
        (b"\x00" * 3000, "3000 bytes"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Color.RED, "Color.RED"),
        (Jsonb({"a": [1, None]}), "{'a': [1, NULL]}"),
        (Range(1, 5), "[1, 5)"),
        ([1, "b", Lazy(), 4, 5, 6], "[1, 'b', <Lazy>, 4, 5, …]"),
        (Lazy(), "<Lazy>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_if_its_text_is_known(value: Any, text: str) -> None:
    assert parameters.as_texts([value]) == (text,)
    assert parameters.as_texts({"name": value}) == (f"name={text}",)


def test_long_values_and_many_values_are_shortened() -> None:
    (text,) = parameters.as_texts(("x" * 100_000,))
    assert len(text) == 60
    texts = parameters.as_texts(list(range(500)))
    assert texts[:2] == ("0", "1")
    assert texts[-1] == "488 more"
    assert len(texts) == 13


def test_the_rows_of_executemany_are_not_used_up() -> None:
    def round_trip(params_seq: Any) -> Generator[None, None, None]:
        yield

    assert parameters.sent_by(round_trip([(1, "a")])) == ("1", "'a'")
    assert parameters.sent_by(round_trip([(1,), (2,)])) == ("2 rows",)
    rows = iter([(1,)])
    assert parameters.sent_by(round_trip(rows)) == ()
    assert list(rows) == [(1,)]
    assert parameters.sent_by(None) == ()


def test_a_scripts_variables_have_their_names_but_for_those_that_racebench_sets() -> None:
    slots = ("tenant", "version", "version", "note", "operation")
    statement = Statement(line=1, text="", sql="", parameters=(), slots=slots)
    variables = {"tenant": b"17", "version": b"1", "note": None, "operation": b"4294967297", "other": b"2"}
    assert values_of([statement], variables) == ("version=1", "note=NULL")
