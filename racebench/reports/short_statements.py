"""Statements and answers made short for a lane of a few dozen columns; what is shorter than the limit is not touched.

The list of columns after SELECT or RETURNING says least, and an ORM writes every column of a table there. It is cut
first; FROM, WHERE and FOR UPDATE stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

#: The longest statement that is not cut, in characters.
_LONGEST = 100
#: The longest of all, and the longest list of columns that is never cut, in characters.
_MOST, _SHORT_LIST = 280, 40
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|[();]""")
_AFTER_LIST = frozenset({"FROM", "INTO", "WHERE", "GROUP", "HAVING", "WINDOW", "UNION", "ORDER", "LIMIT", "OFFSET"})


def statement(text: str) -> str:
    """A statement with shorter lists of columns if it is long, and without its middle if that is not enough."""
    if len(text) <= _LONGEST:
        return text
    lists = list(_lists(text))
    rest = len(text) - sum(end - begin for begin, end in lists)
    for begin, end in reversed(lists):
        room = max(_SHORT_LIST, (_LONGEST - rest) // len(lists))
        text = text[:begin] + cut(text[begin:end], room) + text[end:]
    if len(text) <= _MOST:
        return text
    _, _, tail = text[-(_MOST // 2) :].partition(" ")
    return f"{cut(text, _MOST // 2)} {tail}"


def cut(text: str, most: int = _MOST) -> str:
    """The begin of a text that is too long, up to the end of a word; a first word without end is cut inside."""
    if len(text) <= most:
        return text
    end = text.rfind(" ", 0, most - 1)
    if end <= 0:
        end = text.find(" ", 0, 3 * most)
    return f"{text[:end].rstrip()} …" if end > 0 else f"{text[: most - 1]}…"


def _lists(text: str) -> Iterator[tuple[int, int]]:
    """Where each list of columns begins and ends; not those inside another one."""
    depth, begin, opened = 0, None, 0
    for token in _TOKEN.finditer(text):
        word = token.group().upper()
        ends = word in _AFTER_LIST or word in (")", ";", "RETURNING")
        if begin is not None and depth == opened and ends:
            yield begin, len(text[: token.start()].rstrip())
            begin = None
        depth += (word == "(") - (word == ")")
        if begin is None and word in ("SELECT", "RETURNING"):
            begin, opened = min(token.end() + 1, len(text)), depth
    if begin is not None:
        yield begin, len(text)
