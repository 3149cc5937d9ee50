"""Text from elsewhere: what is escaped, and that nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import RAW

from racebench.core import json_text
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.plain_text import message_of, one_line, printable, shortened, shown

ANY = st.text(st.characters(codec=None))


@given(ANY)
def test_no_text_has_an_unsafe_character_once_it_is_printable(text: str) -> None:
    safe = printable(text)
    assert not RAW.search(safe)
    assert "##[" not in safe
    assert printable(safe) == safe
    safe.encode()


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp", "Cn", "Co"))))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text.replace("##[", "\\u0023#[")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | ANY, lambda inner: st.lists(inner) | st.dictionaries(ANY, inner)
    )
)
def test_a_json_document_is_safe_to_print_and_reads_as_what_was_written(data: object) -> None:
    text = json_text.dumps(data)
    assert not RAW.search(text)
    assert json.loads(text) == data == json_text.loads(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "it is nested too deeply"),
        ("NaN", "NaN is no number in JSON"),
        ("9" * 5000, "it has an integer of too many digits"),
        ('{"a": \n x}', "Expecting value"),
    ],
)
def test_what_is_not_json_is_said_in_a_few_words(text: str, said: str) -> None:
    with pytest.raises(json_text.JsonProblem) as problem:
        json_text.loads(text)
    assert str(problem.value) == said
    assert problem.value.line == (2 if "\n" in text else 1)


@given(ANY)
def test_every_error_is_one_line_of_limited_length(text: str) -> None:
    said = str(UsageProblem(text * 50))
    assert not RAW.search(said)
    assert "\n" not in said
    assert len(said) <= 500
    assert str(RacebenchError(said)) == said


def test_a_long_message_keeps_what_failed_and_the_next_move() -> None:
    assert shortened("x" * 1000 + "; do this", 40) == f"{'x' * 22} … {'x' * 6}; do this"
    assert shortened("short") == "short"


def test_a_value_is_shown_short_however_deep_it_is() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) < 50
    assert len(shown("x" * 10_000)) < 70
    assert [shown(value) for value in (None, True, 5, "a")] == ["null", "true", "5", "'a'"]


def test_an_exception_whose_str_raises_has_a_message() -> None:
    class Odd(Exception):  # noqa: N818 - an application's
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert message_of(Odd()) == "(its message cannot be read: __str__ raises RuntimeError)"
    assert message_of(ValueError("a\n b\x1b")) == one_line("a b\x1b") == "a b\\x1b"
