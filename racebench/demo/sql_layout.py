"""Lay a SQL statement out on several lines: one line for each clause; clauses that are too long are wrapped."""

from __future__ import annotations

import re
import textwrap

#: A string, a quoted identifier, a dollar-quoted text, a word, or any other character.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|[^\W\d]\w*|.", re.DOTALL)
_FIRST_WORDS = {"FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "VALUES", "RETURNING", "SET"}
#: Words that begin a clause only if one of these words follows.
_ONLY_BEFORE = {"ON": {"CONFLICT"}, "FOR": {"UPDATE", "SHARE", "NO", "KEY"}}
#: Words that begin no clause if this word precedes them.
_NOT_AFTER = {"FROM": "DISTINCT", "GROUP": "WITHIN"}
#: Where a word that is longer than a line is broken first.
_BREAK = re.compile(r"(?<=[(,])|(?=::)")


def clauses(text: str) -> list[str]:
    """Split a statement on one line into its clauses; joined by spaces they are the statement again."""
    words = [(token.start(), token[0].upper()) for token in _TOKEN.finditer(text) if not token[0].isspace()]
    cuts, depth = [0], 0
    for index, (start, word) in enumerate(words):
        depth += (word == "(") - (word == ")")
        before = words[index - 1][1] if index else ""
        after = words[index + 1][1] if index + 1 < len(words) else ""
        begins = (word in _FIRST_WORDS and _NOT_AFTER.get(word) != before) or after in _ONLY_BEFORE.get(word, ())
        if begins and index and depth == 0 and text[start - 1] == " ":
            cuts.append(start)
    return [text[start:end].strip() for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters; each clause begins a new line."""
    return [line for clause in clauses(text) for line in fill(clause, width)] or [""]


def fill(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, as few as possible."""
    return _Wrapper(width=width, break_on_hyphens=False).wrap(text) or [""]


class _Wrapper(textwrap.TextWrapper):
    """Breaks a word that is longer than a line after "(" and "," and before "::" if possible, else anywhere."""

    def _split(self, text: str) -> list[str]:
        chunks = super()._split(text)
        return [
            part for chunk in chunks for part in (_BREAK.split(chunk) if len(chunk) > self.width else [chunk]) if part
        ]
