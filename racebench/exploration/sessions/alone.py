"""What operations do without a race: they run one after the other in these orders, and this fails or breaks then."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import permutations
from typing import Any, Generic, Protocol, TypeVar

from racebench.core.errors import UsageProblem
from racebench.core.quantity import quantity

#: The most sessions whose operations are run in every order.
_MOST_PERMUTED = 3


class Running(Protocol):
    """A session. `runs`: equal for sessions that run the same."""

    runs: str


_Session = TypeVar("_Session", bound=Running)


class Alone(Generic[_Session]):
    """The sessions of an exploration, run one after the other. `orders`: no two of them run the same in the same order.

    With many sessions these are two: that of their numbers, and its reverse.
    """

    def __init__(self, sessions: Sequence[_Session]) -> None:
        self._sessions = sessions
        self._every = len(sessions) <= _MOST_PERMUTED
        every: Iterable[Sequence[_Session]] = permutations(sessions) if self._every else (sessions, sessions[::-1])
        distinct = {tuple(session.runs for session in order): order for order in every}
        self.orders: list[Sequence[_Session]] = list(distinct.values())
        self._failures: dict[str, set[Any]] = {session.runs: set() for session in sessions}

    def failed(self, session: _Session, failure: Hashable) -> None:
        """Note how an operation ended; something empty if it did not fail."""
        if failure:
            self._failures[session.runs].add(failure)

    def failures(self, session: _Session) -> set[Any]:
        """The failures of operations like the session's; of all, if one may not have run in every place."""
        return self._failures[session.runs] if self._every else set().union(*self._failures.values())


def refuse_broken(rows: int, what: str, code: str) -> None:
    """Raise UsageProblem if rows break the invariant after the operations (`what`: "the calls") have run so."""
    if rows:
        raise UsageProblem(
            f"{quantity(rows, 'row breaks', 'rows break')} the invariant when {what} run one after the other: that is "
            f"no race; look at {code}, or at the invariant"
        )
