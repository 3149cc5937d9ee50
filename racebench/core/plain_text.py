"""Text from elsewhere (names, values, SQL, a server's messages), made safe to show: the rule is here once.

What a terminal would obey, what changes the order of the characters beside it, and what XML or UTF-8 cannot hold is
written as an escape, `\\x1b` or `\\u202e`. Consoles, reports, messages and JSON documents all pass through `printable`.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Any

# C0 but for tab and newline, DEL and C1; marks, embeddings, overrides and isolates of the bidirectional algorithm
# (UAX #9); line and paragraph separators; surrogates; what XML 1.0 excludes; the first character of "##[", which is a
# command of GitHub Actions anywhere in a line.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff\ufffe\uffff]"
    r"|#(?=#\[)"
)
# PostgreSQL's manual, PQresultErrorMessage: the statement's line, and a caret below its place. "LINE" is translated.
_POINTED = re.compile(r"^(\w+ \d+: [^\n]*)\n[ \t]*\^[ \t]*$", re.MULTILINE)
# The line that libpq adds to a connection that was refused.
_QUESTION = "\n\tIs the server running"
#: The longest message, in characters.
_LONGEST = 500


def printable(text: str) -> str:
    """The text with every unsafe character escaped; tabs and newlines stay.

    In a JSON document the escapes are JSON's own: those of the control characters below U+0020 never occur there,
    because JSON has no such character outside an escape.
    """
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    """A message (libpq's, an OS error's) on one line, with every unsafe character escaped.

    The caret that the server writes below its "LINE 1: …" points at nothing there, and is left out; libpq's question, a
    line of its own after what failed, follows a semicolon.
    """
    return printable(" ".join(_POINTED.sub(r"\1", text).replace(_QUESTION, f";{_QUESTION.lower()}").split()))


def shortened(text: str, most: int = _LONGEST) -> str:
    """The text without its middle if it is too long: its beginning says what failed, its end what to do."""
    if len(text) <= most:
        return text
    end = most * 3 // 8
    return f"{text[: most - end - 3].rstrip()} … {text[-end:].lstrip()}"


def row(values: Iterable[tuple[Any, Any]]) -> str:
    """The columns of a row and their values on one line: "number = 22, orders = 2"."""
    return shortened(one_line(", ".join(f"{column} = {value}" for column, value in values)))


def shown(value: Any) -> str:
    """A value of a document for a message, cut to a few dozen characters; it may be nested ever so deep."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _REPR.repr(value)


def message_of(error: BaseException) -> str:
    """What an exception of the user's code says, on one line; its own __str__ may raise another."""
    try:
        return one_line(str(error))
    except Exception as problem:  # noqa: BLE001 - whatever that code does
        return f"(its message cannot be read: __str__ raises {type(problem).__name__})"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 2, 60, 60, 40
