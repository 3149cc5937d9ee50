"""A step as text: the statements that a session sends at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from racebench.core.model import Statement
from racebench.core.plain_text import shortened
from racebench.exploration.choices import Cut
from racebench.postgres.transport import Text

#: The text of a step that sends nothing: a session goes on after a wait, before others that were released with it.
GOES_ON = "(goes on)"
#: What a session waits for that a pooler has no server session for.
WAITS_FOR_POOLER = "a server session"
#: The answer of a step at which the connection is cut.
CUT_ANSWERS = {
    Cut.BEFORE: "the connection is cut before the server gets this",
    Cut.AFTER: "the server has done this; the connection is cut, and the answer is lost",
}
#: The text of a step that begins an operation, where the order in which they begin matters.
STARTS = "(starts)"
#: Variables that racebench sets itself: the same in every step, or different in every schedule.
_EVERY_SCHEDULE = frozenset({"batch", "operation", "tenant"})
#: The longest text of a value, in characters; the longest of a step without its values.
_LONGEST, _LONGEST_STEP = 60, 200
#: What may differ from one run to the next: values, and names of savepoints (Django numbers them from the first on).
_LITERAL = re.compile(r"'(?:[^']|'')*'|(?i:(?<=savepoint )(?!to\b).+)|\b\d+\b")


def describe(statements: Sequence[Statement]) -> str:
    """A step on one line, as its script has it."""
    return "; ".join(" ".join(statement.text.split()) for statement in statements)


def without_values(text: str) -> str:
    """A statement with ? in place of what may differ from one run to the next."""
    return _LITERAL.sub("?", text)


def identity(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """What identifies a step of an application when its schedule is run again."""
    return (as_sent(without_values(describe(statements))[:_LONGEST_STEP]),)


@lru_cache(maxsize=512)
def as_sent(text: str) -> Statement:
    """A statement that an application sends as it stands."""
    return Statement(line=0, text=text, sql=text, parameters=(), fragments=(text,))


def values_of(statements: Sequence[Statement], variables: Mapping[str, bytes | None]) -> tuple[str, ...]:
    """The values of the variables in statements, each with its name, in the order in which they first occur."""
    names = dict.fromkeys(name for statement in statements for name in statement.slots if name not in _EVERY_SCHEDULE)
    return tuple(f"{name}={_text(variables.get(name))}" for name in names)


def _text(value: bytes | None) -> str:
    return "NULL" if value is None else shortened(value.decode(errors="replace"), _LONGEST)


def with_values(statements: Sequence[Statement], variables: Mapping[str, bytes | None]) -> str:
    """Statements with the variables' values in them, as text that any client can send."""
    texts = [
        Text(statement)([variables[name] for name in statement.slots]).decode(errors="replace").strip().rstrip(";")
        + ";"
        for statement in statements
    ]
    return " ".join(texts)
