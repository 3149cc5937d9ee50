"""The choices of a search as numbers: the session that takes a step, its strand, and whether its connection is cut.

The number of a choice without a strand or a cut is the session's own, so that a schedule is a sequence of numbers. A
strand is one of several statements that an application has under way at once, over several connections. A cut is the
end of the connection, before the server gets the step or after it did the work.

Where sessions do not begin in the order of their numbers, a schedule begins with their starts.

As text: `s1`, `s1b` (the second strand), `s1-cut` (before), `s1+cut` (after), `s1-start`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum

#: Sessions have at most nine digits; strands at most one letter, the first has none.
_SESSION_BITS, _STRAND_BITS = 30, 5
_SESSIONS, _STRANDS = (1 << _SESSION_BITS) - 1, (1 << _STRAND_BITS) - 1
_TEXT = re.compile(r"s([1-9]\d{0,8})([b-z]?)([-+]cut|-start)?")
#: In place of a cut: the session's operation begins.
_START = 3


class Cut(Enum):
    """When the connection is cut: BEFORE the server gets the step, or AFTER it did the work, whose answer is lost."""

    BEFORE = 1
    AFTER = 2


_MARKS = {None: "", Cut.BEFORE: "-cut", Cut.AFTER: "+cut"}
_STARTS = "-start"
_CUTS = {mark: cut for cut, mark in _MARKS.items()}


def choice(session: int, *, strand: int = 0, cut: Cut | None = None) -> int:
    """The number of a choice: a session from 1, its strand from 0, and the cut."""
    cuts = 0 if cut is None else cut.value
    return session | strand << _SESSION_BITS | cuts << _SESSION_BITS + _STRAND_BITS


def session_of(number: int) -> int:
    """The session that takes a choice's step."""
    return number & _SESSIONS


def strand_of(number: int) -> int:
    """The strand of the session that takes a choice's step."""
    return number >> _SESSION_BITS & _STRANDS


def cut_of(number: int) -> Cut | None:
    """The cut at a choice's step; None without one."""
    cuts = number >> _SESSION_BITS + _STRAND_BITS
    return Cut(cuts) if cuts not in (0, _START) else None


def start_of(session: int) -> int:
    """The number of the start of a session."""
    return session | _START << _SESSION_BITS + _STRAND_BITS


def is_start(number: int) -> bool:
    """Whether a number is that of a start."""
    return number >> _SESSION_BITS + _STRAND_BITS == _START


def divided(schedule: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sessions in the order in which a schedule begins with them (none: that of their numbers), and its steps."""
    order = tuple(session_of(number) for number in schedule if is_start(number))
    return order, tuple(number for number in schedule if not is_start(number))


def cuts(schedule: Iterable[int]) -> int:
    """How many connections are cut in a schedule."""
    return sum(cut_of(number) is not None for number in schedule)


def without_cut(number: int) -> int:
    """The choice of the same session and strand without a cut."""
    return number & (1 << _SESSION_BITS + _STRAND_BITS) - 1


def text_of(number: int) -> str:
    """A choice as text."""
    if is_start(number):
        return f"s{session_of(number)}{_STARTS}"
    strand = strand_of(number)
    letter = chr(ord("a") + strand) if strand else ""
    return f"s{session_of(number)}{letter}{_MARKS[cut_of(number)]}"


def place_of(name: str) -> tuple[int, int]:
    """The sort key of a session's or a strand's name: by session, then by strand."""
    number = parse(name)
    return session_of(number), strand_of(number)


def parse(text: str) -> int:
    """Read a choice; raises ValueError if the text is none."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(text)
    session, letter, mark = match.groups()
    if mark == _STARTS:
        if letter:
            raise ValueError(text)
        return start_of(int(session))
    return choice(int(session), strand=ord(letter) - ord("a") if letter else 0, cut=_CUTS[mark or ""])
