"""What the server said of the code under test, which is asked for once while the catalogs are the same.

An exploration has it for itself, or from the one before it on the same schema (reuse.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from racebench.exploration.hidden_effects import Objects
from racebench.exploration.leftovers import Leftover
from racebench.postgres import catalogs

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Names:
    """What was asked of the names in statements that sessions sent: while they run, and so not always after the setup.

    `volatile`: whether a name may do anything; `writes_more`: whether a write with it may do more than write; `left`:
    what the code may leave behind that it leads to. `indirect`: of a text, the functions that run several statements,
    and the code that it runs indirectly. `objects`: what was defined after the setup.
    """

    volatile: dict[str, bool] = field(default_factory=dict)
    writes_more: dict[str, bool] = field(default_factory=dict)
    left: dict[str, frozenset[Leftover]] = field(default_factory=dict)
    indirect: dict[str, tuple[frozenset[str], tuple[str, ...]]] = field(default_factory=dict)
    objects: Objects | None = None


class Known:
    """What is known while the catalogs are as they were when this was made: after the setup.

    `catalogs`: what postgres.catalogs said of them then; "" if it was not asked.
    """

    def __init__(self, state: str = "") -> None:
        self.catalogs = state
        self.names = Names()
        self._answers: dict[Hashable, Any] = {}

    def once(self, what: Hashable, ask: Callable[[], _Answer]) -> _Answer:
        """The answer of `ask`, which is called the first time; `what` must hold everything that it depends on."""
        if what not in self._answers:
            self._answers[what] = ask()
        answer: _Answer = self._answers[what]
        return answer

    def is_current(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether the catalogs are certainly as they were. Raises DatabaseProblem."""
        return bool(self.catalogs) and catalogs.state(connection) == self.catalogs

    def forget_names(self) -> None:
        """Ask for names again: they may have been asked for while a session had changed what they stand for."""
        self.names = Names()
