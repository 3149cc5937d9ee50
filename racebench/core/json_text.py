"""JSON as racebench reads and writes it: strict, with one short message for what is not JSON, and safe to print.

What a document must contain is checked by racebench.core.json_schema.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from racebench.core.plain_text import printable


class JsonProblem(ValueError):  # noqa: N818 - "error" is what a program makes
    """A text is not JSON. `line`: where, counted from 1."""

    def __init__(self, what: str, line: int = 1) -> None:
        super().__init__(what)
        self.line = line


def loads(text: str) -> Any:
    """Read a document; raises JsonProblem, also for NaN, Infinity, too deep nesting and integers of 4,300 digits."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as problem:
        raise JsonProblem(problem.msg, problem.lineno) from None
    except RecursionError:
        raise JsonProblem("it is nested too deeply") from None
    except JsonProblem:
        raise
    except ValueError:  # the interpreter's limit for the conversion of integers
        raise JsonProblem("it has an integer of too many digits") from None


def dumps(data: Any, *, indent: int | None = 2) -> str:
    """Write a document in UTF-8's characters; those that a terminal would obey are escaped, as JSON allows."""
    separators = None if indent is not None else (",", ":")
    return printable(json.dumps(data, indent=indent, separators=separators, ensure_ascii=False))


def _refuse(constant: str) -> NoReturn:
    raise JsonProblem(f"{constant} is no number in JSON")
