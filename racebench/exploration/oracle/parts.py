"""A text taken apart: numbers, times and identifiers, which may have been made up, and what stands between them.

`ORD-0007` is `ORD-` and a number; an array or a JSON document is its numbers and texts. labels.py says which of the
parts were made up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TIME_OF_DAY = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?"
_PART = re.compile(
    rf"(?P<time>\d{{4,}}-\d\d-\d\d(?:[T ]{_TIME_OF_DAY})?|(?<!\d){_TIME_OF_DAY}(?!\d))"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    # A token: letters and digits, too long for a word with a number.
    r"|(?<![0-9A-Za-z])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[0-9A-Za-z]{16,}(?![0-9A-Za-z])"
    r"|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
)
#: In a frame it stands for a part; PostgreSQL's texts cannot have it.
_HOLE = "\0"
#: The frame of a text that is one part.
ALONE = _HOLE


def apart(text: str) -> tuple[str, tuple[str, ...]]:
    """The frame of a text, which has a mark in place of each part, and the parts."""
    parts: list[str] = []

    def take(found: re.Match[str]) -> str:
        parts.append(found[0])
        return _HOLE

    return _PART.sub(take, text.replace(_HOLE, "")), tuple(parts)


def frame(text: str) -> str:
    """The frame of a text alone."""
    return apart(text)[0]


def between(of: str) -> Sequence[str]:
    """What stands before, between and after the parts of a frame."""
    return of.split(_HOLE)


def is_time(part: str) -> bool:
    """Whether a part is a time of day, a date, or both."""
    found = _PART.fullmatch(part)
    return found is not None and found["time"] is not None


def number(part: str) -> int | None:
    """The whole number that a part is, or None; leading zeros do not count."""
    return int(part) if part.isascii() and part.isdigit() else None
