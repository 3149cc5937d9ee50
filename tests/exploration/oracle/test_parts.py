"""A text is taken apart into numbers, times and identifiers, and what stands between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.exploration.oracle.parts import ALONE, apart, between, is_time, number

UUID = "0190163d-8694-739b-aea5-966c26f8ad91"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("7", ["7"]),
        ("ORD-0007", ["0007"]),
        ("{1,2,30}", ["1", "2", "30"]),
        ("-1.5 and 2e-05", ["1.5", "2e-05"]),
        ("2026-11-29 13:50:00.12345+00 x\n", ["2026-11-29 13:50:00.12345+00"]),
        ("2026-11-29T13:50:00Z", ["2026-11-29T13:50:00Z"]),
        ("created at 13:50:00 by 7", ["13:50:00", "7"]),
        (f'{{"id": "{UUID}", "n": 1}}', [UUID, "1"]),
        ("token 5d41402abc4b2a76b9719d911017c592.", ["5d41402abc4b2a76b9719d911017c592"]),
        ("plain text", []),
    ],
)
def test_a_text_has_its_numbers_times_and_identifiers_as_parts(text: str, parts: list[str]) -> None:
    assert list(apart(text)[1]) == parts


@given(st.text(alphabet="0123456789abZ-:. {}T"))
def test_a_text_can_be_put_together_again(text: str) -> None:
    frame, parts = apart(text)
    texts = between(frame)
    assert "".join(piece for pair in zip(texts, [*parts, ""], strict=True) for piece in pair) == text
    assert (frame == ALONE) == (list(parts) == [text])


def test_times_and_whole_numbers_are_told_from_others() -> None:
    assert [is_time(part) for part in ("2026-11-29", "13:50:00.5", "2026-11-29 13:50+01", "7", UUID)] == [
        *(True, True, True, False, False),
    ]
    assert [number(part) for part in ("0007", "7", "7.0", "x", "٧")] == [7, 7, None, None, None]
