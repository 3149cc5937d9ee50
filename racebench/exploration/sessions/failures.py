"""Whether two exceptions of an application are the same failure: of one type, for one reason.

A call may raise an exception of the same type both alone and in a race, each time for another reason. So the messages
are compared too, and the exceptions that led there, but without what differs from one row to the next: numbers, quoted
text, and words with digits in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from racebench.core.plain_text import message_of

#: What an exception says, and what led to it: type, SQLSTATE, constraint and message of each, the last one first.
Failure = tuple[tuple[str, ...], ...]

#: The class of SQLSTATEs of violated constraints.
_CONSTRAINT = "23"
_VARYING = re.compile(
    r"""(?<!\w)'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.)*" | (?<==)\([^()]*\) | \S*\d\S*""",
    re.VERBOSE,
)


def failure(error: BaseException) -> Failure:
    """The failure that an exception stands for; equal for exceptions that differ only in values."""
    return tuple(_described(one) for one in _chain(error))


def expected(found: Failure, alone: Set[Failure]) -> bool:
    """Whether a failure is one of those that calls raise when they run one after the other.

    An application may find out from a constraint that another session was first, and say so as it does without a race:
    `raise Taken from UniqueViolation` is then the same failure as `raise Taken`. What is raised from another error,
    such as a deadlock, is not.
    """
    states = [state for _, state, _, _ in found[1:] if state]
    translated = bool(states) and all(state.startswith(_CONSTRAINT) for state in states)
    return found in alone or (translated and found[:1] in alone)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _described(error: BaseException) -> tuple[str, ...]:
    kind = type(error)
    diagnosis = getattr(error, "diag", None)
    constraint = str(getattr(diagnosis, "constraint_name", None) or "")
    text = _VARYING.sub("?", message_of(error))
    return f"{kind.__module__}.{kind.__qualname__}", str(getattr(error, "sqlstate", None) or ""), constraint, text
