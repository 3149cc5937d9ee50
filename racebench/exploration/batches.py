"""Splits the text of a round trip into its statements, as PostgreSQL's lexer does.

An application may send several statements in one string. What they may touch is independence.py's; this module only
finds where each one begins and ends, and leaves comments out.
Source: PostgreSQL manual 4.1 (lexical structure).
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n\r]*|/\*)
    |(?P<escaped>(?<![\w$])[eE]'(?:[^'\\]|''|\\.)*')
    |(?P<plain>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*")
    |(?P<dollar>\$(?:[^\W\d]\w*)?\$)
    |(?P<end>;)
    |(?P<open>['"])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")


def split(text: str) -> tuple[str, ...] | None:
    """The statements of a text, each without comments and without its semicolon; None if that is not certain.

    A semicolon in the body of a function or a rule also ends a part: then the first part is a CREATE.
    """
    if not any(special in text for special in (";", "--", "/*")):
        return (text.strip(),) if text.strip() else ()
    parts = [""]
    at = 0
    while (match := _TOKEN.search(text, at)) is not None:
        parts[-1] += text[at : match.start()]
        at = match.end()
        token = match.group()
        if token == "/*":
            after = _after_comment(text, match.start())
            if after is None:
                return None
            at = after
            parts[-1] += " "
        elif match["comment"]:
            parts[-1] += " "
        elif match["end"]:
            parts.append("")
        elif match["dollar"]:
            closing = text.find(token, at)
            before = text[match.start() - 1 : match.start()]
            if closing < 0 or before == "$" or before.isalnum() or before == "_":
                return None
            at = closing + len(token)
            parts[-1] += text[match.start() : at]
        elif match["open"] or (match["plain"] and "\\'" in token):
            return None  # without standard_conforming_strings, or in the second line of E'…', \' does not end it
        else:
            parts[-1] += token
    parts[-1] += text[at:]
    return tuple(part.strip() for part in parts if part.strip())


def _after_comment(text: str, start: int) -> int | None:
    """The place after a comment, which may contain others; None if it is never closed."""
    depth = 0
    for match in _COMMENT.finditer(text, start):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return None
