"""EDN, the notation of Clojure and of Jepsen's histories, read value by value from a stream.

The elements of a vector or list at the top are read one at a time, so that a history is never in memory as a whole.
Tags are dropped and their values kept: #jepsen.history.Op{…} is a map.
Source: the EDN specification (edn-format). Libraries were tried: the one that reads all of EDN takes 60 µs an operation
and has the whole file in memory; this module takes a tenth of that time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""[\s,]+ | ;[^\n]*
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<open>\#\{|[\[({])
    | (?P<close>[\])}])
    | (?P<discard>\#_)
    | (?P<tag>\#[A-Za-z][^\s,"\[\](){};]*)
    | (?P<character>\\(?:newline|return|space|tab|formfeed|backspace|u[0-9A-Fa-f]{4}|.))
    | (?P<atom>[^\s,"\[\](){};\\\#][^\s,"\[\](){};]*)""",
    re.VERBOSE | re.DOTALL,
)
#: A map on one line without nested values: most lines of a history.
_FLAT = re.compile(r'\s*\{([^"#\\{}()\[\];]*)\}[\s,]*')
_INTEGER = re.compile(r"[+-]?\d+N?")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?M?")
_WORDS: dict[str, Any] = {"nil": None, "true": True, "false": False}
_CLOSES = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_STRING_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LONGEST = 1 << 26
_DEEPEST = 50
_DIGITS = 100


@dataclass(frozen=True, slots=True)
class Keyword:
    """:name"""

    name: str

    def __str__(self) -> str:
        return f":{self.name}"

    def __repr__(self) -> str:
        return str(self)


class _Open:
    """A collection that is not closed yet. `discards`: the values to discard; `dropped`: it is itself discarded."""

    __slots__ = ("bracket", "discards", "dropped", "items", "line")

    def __init__(self, bracket: str, line: int, dropped: bool) -> None:
        self.bracket = bracket
        self.line = line
        self.dropped = dropped
        self.items: list[Any] = []
        self.discards = 0


def values(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) for each value at the top, or in a vector or list at the top.

    Raises EdnProblem with the line of what is wrong.
    """
    top = _Open("", 1, dropped=False)
    stack = [top]
    keywords: dict[str, Keyword] = {}
    for line, kind, text in _tokens(lines):
        if kind == "open":
            if len(stack) == 1 and text in "[(" and not top.discards:
                stack.append(_Open(f"{text} at the top", line, dropped=False))
                continue
            holder = stack[-1]
            if len(stack) > _DEEPEST:
                raise EdnProblem(line, f"values are nested more than {_DEEPEST} deep")
            dropped = holder.discards > 0
            holder.discards -= dropped
            stack.append(_Open(text, line, dropped))
            continue
        if kind == "close":
            opened = stack.pop() if len(stack) > 1 else None
            if opened is None or _CLOSES[opened.bracket.split(" ")[0]] != text:
                raise EdnProblem(line, f"'{text}' closes nothing that is open")
            if opened.bracket.endswith("top"):
                continue
            if opened.dropped:
                continue
            value, begun = _collection(opened), opened.line
        elif kind == "discard":
            stack[-1].discards += 1
            continue
        elif kind == "tag":
            continue
        else:
            if stack[-1].discards:
                stack[-1].discards -= 1
                continue
            value, begun = _flat(line, text, keywords) if kind == "map" else _scalar(line, kind, text, keywords), line
        if len(stack) == 1 or stack[-1].bracket.endswith("top"):
            yield begun, value
        else:
            stack[-1].items.append(value)
    if len(stack) > 1:
        raise EdnProblem(stack[-1].line, f"'{stack[-1].bracket.split(' ')[0]}' is never closed; is the file whole?")


class EdnProblem(ValueError):  # noqa: N818 - "error" is what a program makes
    """A message that says what is wrong, and the line."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _tokens(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, text); a string may extend over several lines."""
    pending, first = "", 0
    for number, line in enumerate(lines, 1):
        if not pending and (flat := _FLAT.fullmatch(line)) is not None:
            yield number, "map", flat.group(1)
            continue
        text, begun = (pending + line, first) if pending else (line, number)
        pending, at = "", 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                if text[at] != '"' or len(text) > _LONGEST:
                    raise EdnProblem(begun, f"'{text[at : at + 20].strip()}' is not EDN")
                pending, first = text[at:], begun
                break
            at = match.end()
            if match.lastgroup is not None:
                yield begun, match.lastgroup, match.group()
    if pending:
        raise EdnProblem(first, "a string is never closed; is the file whole?")


def _collection(opened: _Open) -> Any:
    items = opened.items
    if opened.bracket != "{":
        return items
    if len(items) % 2:
        raise EdnProblem(opened.line, "a map has a key without a value")
    return {_key(items[at]): items[at + 1] for at in range(0, len(items), 2)}


def _flat(line: int, text: str, keywords: dict[str, Keyword]) -> dict[Any, Any]:
    """Read a map without nested values."""
    words = text.replace(",", " ").split()
    if len(words) % 2:
        raise EdnProblem(line, "a map has a key without a value")
    items = [
        keywords.get(word)
        or (int(word) if word.isdecimal() and len(word) <= _DIGITS else _scalar(line, "atom", word, keywords))
        for word in words
    ]
    return dict(zip(items[::2], items[1::2], strict=True))


def _key(item: Any) -> Any:
    if isinstance(item, list):
        return tuple(_key(part) for part in item)
    return str(item) if isinstance(item, dict) else item


def _scalar(line: int, kind: str, text: str, keywords: dict[str, Keyword]) -> Any:
    if kind == "string":
        return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", _unescape, text[1:-1], flags=re.DOTALL) if "\\" in text else text[1:-1]
    if kind == "character":
        return text
    if text[0] == ":":
        return keywords.get(text) or keywords.setdefault(text, Keyword(text[1:]))
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > _DIGITS:
            raise EdnProblem(line, f"a number has {len(text)} digits, and the most are {_DIGITS}")
        return int(text.rstrip("N"))
    if _NUMBER.fullmatch(text):
        return float(text.rstrip("M"))
    if text[0].isdigit():
        raise EdnProblem(line, f"'{text}' is not a number")
    return text  # a symbol


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    return chr(int(code[1:], 16)) if len(code) > 1 else _STRING_ESCAPES.get(code, code)
