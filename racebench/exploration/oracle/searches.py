"""The queries in a statement: a read itself, and what a write searches for, as queries that can be asked alone.

They are told from the statement's text, so some are not found; a query that is not one is refused by the server. Row
locks are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|[()]|[^\W\d][\w$]*""", re.DOTALL
)
_READS = frozenset({"SELECT", "VALUES", "TABLE", "WITH"})
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "INTO"})
_STRENGTHS = frozenset({"UPDATE", "SHARE", "NO", "KEY"})
#: What may follow a locking clause, after which no row is left out.
_AFTER_LOCKS = frozenset({"LIMIT", "OFFSET", "FETCH"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query of a statement. `whole`: it is the statement. `locks`: it locks the rows that it finds."""

    text: str
    whole: bool
    locks: bool


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    depth: int


def queries(statement: str) -> list[Query]:
    """The queries of one statement, without those inside others."""
    words = list(_words(statement))
    if not words:
        return []
    first = words[0].text
    if first in _READS and not any(word.text in _CHANGES and not _strength(words, at) for at, word in enumerate(words)):
        return [_query(statement, words[0].start, len(statement), whole=True)]
    found: list[Query] = []
    until = 0
    if first == "INSERT" and (select := _at(words, "SELECT", "WITH")) is not None:
        until = _first_of(words, select.start, "RETURNING", "ON") or len(statement)
        found.append(_query(statement, select.start, until))
    for start, end in _in_parentheses(statement, words):
        if start >= until:
            found.append(_query(statement, start, end))
            until = end
    if first in ("UPDATE", "DELETE") and (target := _of_target(statement, words)):
        found.append(Query(text=target, whole=False, locks=True))
    return found


def _query(statement: str, start: int, end: int, *, whole: bool = False) -> Query:
    text = statement[start:end].strip().rstrip(";")
    words = [word for word in _words(text) if not word.depth]
    for at, word in enumerate(words):
        if word.text == "FOR" and at + 1 < len(words) and words[at + 1].text in _STRENGTHS:
            rest = {later.text for later in words[at:]}
            kept = text if rest & _AFTER_LOCKS else text[: word.start]
            return Query(text=kept.strip(), whole=whole, locks=True)
    return Query(text=text, whole=whole, locks=False)


def _of_target(statement: str, words: list[_Word]) -> str:
    """The rows that an UPDATE or a DELETE of one table searches for; "" if they are not those of one table."""
    outer = [word for word in words if not word.depth]
    where = _at(outer, "WHERE")
    if where is None:
        return ""
    if outer[0].text == "UPDATE":
        set_ = _at(outer, "SET")
        if set_ is None or any(word.text == "FROM" for word in outer):
            return ""
        start, end = outer[0].end, set_.start
    else:
        if len(outer) < 2 or outer[1].text != "FROM" or any(word.text == "USING" for word in outer):
            return ""
        start, end = outer[1].end, where.start
    until = _first_of(outer, where.end, "RETURNING") or len(statement)
    return f"SELECT * FROM{statement[start:end]}WHERE{statement[where.end : until].rstrip().rstrip(';')}"


def _in_parentheses(statement: str, words: list[_Word]) -> Iterator[tuple[int, int]]:
    """Where each parenthesized query begins and ends."""
    for word in words:
        if word.text in ("SELECT", "WITH") and statement[: word.start].rstrip().endswith("("):
            # The word's depth is that of what the parentheses hold.
            closing = (end for kind, _, end, depth in _tokens(statement) if kind == ")" and depth == word.depth - 1)
            end = next((end for end in closing if end > word.start), None)
            if end is not None:
                yield word.start, end - 1


def _strength(words: list[_Word], at: int) -> bool:
    """Whether a word is the UPDATE of FOR UPDATE or FOR NO KEY UPDATE."""
    before = [word.text for word in words[max(0, at - 3) : at]]
    return before[-1:] == ["FOR"] or before == ["FOR", "NO", "KEY"]


def _at(words: list[_Word], *texts: str) -> _Word | None:
    return next((word for word in words if word.text in texts and not word.depth), None)


def _first_of(words: list[_Word], start: int, *texts: str) -> int | None:
    return next((word.start for word in words if word.start >= start and word.text in texts and not word.depth), None)


def _words(statement: str) -> Iterator[_Word]:
    for kind, start, end, depth in _tokens(statement):
        if kind[0].isalpha() or kind[0] == "_":
            yield _Word(kind.upper(), start, end, depth)


def _tokens(statement: str) -> Iterator[tuple[str, int, int, int]]:
    """Words, parentheses and quoted texts, with their places and how deep in parentheses they are."""
    depth = 0
    for match in _TOKEN.finditer(statement):
        token = match.group()
        depth -= token == ")"
        yield token, match.start(), match.end(), depth
        depth += token == "("
