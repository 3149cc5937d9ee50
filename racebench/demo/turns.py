"""Whose turn it is, for a script that is another: the same turns as in the act before, and turns that overlap."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from racebench.demo.frames import Frame, clean
from racebench.demo.telling import TO_THE_END, Part, Turn
from racebench.exploration.actors import describe


def again(frames: Sequence[Frame], part: Part) -> tuple[Turn, ...]:
    """The same turns for another script: at each a session goes as far as it went, statement by statement alike."""
    taken = [frame.taken for frame in frames if frame.taken is not None]
    consumer = part.sessions + 1
    scripts = {each.session: frame for frame in frames for each in (frame.taken,) if each is not None}
    found = []
    for each in taken:
        if each.session == consumer:
            if part.consumer is not None:
                found.append(Turn(session=consumer))
            continue
        old = [line.text for line in scripts[each.session].lanes[each.session - 1].lines]
        found.append(Turn(session=each.session, until=alike(old, _texts(part))[each.line]))
    return tuple(found)


def _texts(part: Part) -> list[str]:
    return [clean(describe([statement])) for statement in part.strategy.script.statements]


def alike(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """For each statement the one of another script that goes as far: the alike one, or the one before it."""
    first = [text.split()[0].upper() for text in old]
    second = [text.split()[0].upper() for text in new]
    # A script without BEGIN is played in one (explore/scripts.py), so it is as if it had it.
    if "BEGIN" in first and "BEGIN" not in second:
        second = ["BEGIN", *second, "COMMIT"]
    places: dict[int, int] = {}
    for block in difflib.SequenceMatcher(a=first, b=second, autojunk=False).get_matching_blocks():
        places |= {block.a + at: block.b + at for at in range(block.size)}
    found, last = [], -1
    for at in range(len(old)):
        last = places.get(at, last)
        found.append(last)
    return found


def overlapping(sessions: int, lines: int, consumer: bool) -> Iterator[tuple[Turn, ...]]:
    """Orders in which the second session comes while the first is open, the first as far on as it goes first."""
    for until in range(max(lines - 2, 0), -1, -1):
        turns = [Turn(session=1, until=until), Turn(session=2, until=TO_THE_END), Turn(session=1, until=TO_THE_END)]
        turns += [Turn(session=sessions + 1)] if consumer else []
        turns += [Turn(session=each, until=TO_THE_END) for each in range(2, sessions + 1)]
        yield tuple([*turns, Turn(session=sessions + 1)] if consumer else turns)
