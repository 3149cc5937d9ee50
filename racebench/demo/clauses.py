"""SQL on several lines: a line for each clause, and what is still too long broken where a reader would break it."""

from __future__ import annotations

import re
import textwrap

#: A string, a quoted identifier, a dollar-quoted text, a word, or any other character.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|[^\W\d]\w*|.", re.DOTALL)
_BEGINS = {"FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "VALUES", "RETURNING", "SET"}
#: Words that begin a clause only before or not after another.
_BEFORE = {"ON": {"CONFLICT"}, "FOR": {"UPDATE", "SHARE", "NO", "KEY"}}
_AFTER = {"FROM": "DISTINCT", "GROUP": "WITHIN"}
_SEAM = re.compile(r"(?<=[(,])|(?=::)")


def of(text: str) -> list[str]:
    """The clauses of a statement that is on one line; joined by spaces they are what it was."""
    words = [(found.start(), found[0].upper()) for found in _TOKEN.finditer(text) if not found[0].isspace()]
    cuts, depth = [0], 0
    for at, (start, word) in enumerate(words):
        depth += (word == "(") - (word == ")")
        before = words[at - 1][1] if at else ""
        after = words[at + 1][1] if at + 1 < len(words) else ""
        begins = (word in _BEGINS and _AFTER.get(word) != before) or after in _BEFORE.get(word, ())
        if begins and at and depth == 0 and text[start - 1] == " ":
            cuts.append(start)
    return [text[start:end].strip() for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most so many characters, a clause beginning one each."""
    return [line for clause in of(text) for line in plain(clause, width)] or [""]


def plain(text: str, width: int) -> list[str]:
    """Lines of at most so many characters, as few as will do."""
    return _Wrapper(width=width, break_on_hyphens=False).wrap(text) or [""]


class _Wrapper(textwrap.TextWrapper):
    """Breaks a word that is longer than a line behind ( and , and before :: if it can, else anywhere."""

    def _split(self, text: str) -> list[str]:
        chunks = super()._split(text)
        return [part for each in chunks for part in (_SEAM.split(each) if len(each) > self.width else [each]) if part]
