"""A step as text: the statements that a session sends at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from racebench.core.model import Statement
from racebench.postgres.transport import Text

#: The text of a step that sends nothing: a session goes on after a wait, before others that were released with it.
GOES_ON = "(goes on)"


def describe(statements: Sequence[Statement]) -> str:
    """A step on one line, as its script has it."""
    return "; ".join(" ".join(statement.text.split()) for statement in statements)


def with_values(statements: Sequence[Statement], variables: Mapping[str, bytes | None]) -> str:
    """Statements with the variables' values in them, as text that any client can send."""
    texts = [
        Text(statement)([variables[name] for name in statement.slots]).decode(errors="replace").strip().rstrip(";")
        + ";"
        for statement in statements
    ]
    return " ".join(texts)
